//! The session: the stages of a run in order, each owned, each ended on every way out.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::conclude::{Facts, Finished, conclude};
use super::environment::environment;
use super::error::RunError;
use super::ground::{self, Ground};
use super::measure::{Measured, measure};
use super::plan::Plan;
use super::progress::Progress;
use super::stages::Stages;
use crate::archive::{AuditCheck, Environment, RunDirectory, Stage, Yardstick};
use crate::audit::audit;

/// How long projections and replicas may take to catch up once the load is over.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// Runs a plan from nothing to a written report. When it returns, whatever it returns, nothing of it runs any more.
pub async fn run(
    plan: &Plan,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Finished, RunError> {
    let results = RunDirectory::create(&plan.out).map_err(RunError::Results)?;
    let mut stages = Stages::new(progress.clone());
    let ground = ground::raise(plan, &mut stages, progress.as_ref(), &cancel).await?;

    let outcome = on_ground(plan, &ground, &mut stages, progress.clone(), &cancel).await;
    stages.begin("tear down");
    let stopped = ground.stop().await;
    if let Some(kept) = &stopped.directory {
        progress.note(&format!("  the stack's data was kept in {}", kept.display()));
    }
    let Found { mut measured, audit, environment, yardstick } = outcome?;
    measured.add_late(stopped.incidents);

    let facts = Facts { measured, audit, environment, stages: stages.finish(), yardstick };
    conclude(plan, results, facts)
}

/// A population that was built.
#[derive(Debug)]
pub struct Prepared {
    /// What was done, and how long each took.
    pub stages: Vec<Stage>,
}

/// Builds the population of a plan with its replicas in sync, and keeps it for later runs. Nothing of it runs afterwards.
pub async fn prepare(
    plan: &Plan,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Prepared, RunError> {
    let mut stages = Stages::new(progress.clone());
    let ground = ground::raise(plan, &mut stages, progress.as_ref(), &cancel).await?;
    // Whoever wants none kept has been given what was asked for.
    let unkept = ground.unkept().filter(|_| plan.keep_populations.is_some()).map(str::to_owned);
    stages.begin("tear down");
    let stopped = ground.stop().await;
    if let Some(why) = unkept {
        return Err(RunError::NotKept(why));
    }
    match stopped.incidents.into_iter().next() {
        Some(incident) => Err(RunError::Died(incident)),
        None => Ok(Prepared { stages: stages.finish() }),
    }
}

/// What was found while the stack stood.
struct Found {
    measured: Measured,
    audit: Vec<AuditCheck>,
    environment: Environment,
    yardstick: Option<Yardstick>,
}

/// What happens while the stack stands.
async fn on_ground(
    plan: &Plan,
    ground: &Ground,
    stages: &mut Stages,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Found, RunError> {
    let mut environment = environment();
    ground.describe(&mut environment).await?;

    stages.begin("load");
    let measured = measure(plan, ground, &environment, progress, cancel).await?;
    tokio::select! {
        () = ground.describe_after(&mut environment) => {}
        () = cancel.cancelled() => return Err(RunError::Interrupted),
    }

    let mut checks = Vec::new();
    if plan.audit && plan.has_stack() {
        stages.begin("audit");
        checks = tokio::select! {
            checks = audit(ground.live(), &measured.ledger, DRAIN_WITHIN) => checks,
            () = cancel.cancelled() => return Err(RunError::Interrupted),
        };
    }
    // Last: what it writes must not stand in the way of what the load has written.
    let mut yardstick = None;
    if plan.scenario.load.yardstick.is_some() && plan.has_stack() {
        stages.begin("yardstick");
        yardstick = tokio::select! {
            found = ground.yardstick(&plan.scenario.population) => found,
            () = cancel.cancelled() => return Err(RunError::Interrupted),
        };
    }
    Ok(Found { measured, audit: checks, environment, yardstick })
}
