//! The ground that a run stands on: a stack of its own, filled and opened, or a service that already runs.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::RunError;
use super::plan::Plan;
use super::populate::{Populated, populate, wish};
use super::progress::Progress;
use super::stages::Stages;
use crate::archive::{Environment, Incident, Yardstick};
use crate::scenario::{
    HttpTarget, LiveTarget, MetricsEndpoint, PopulationSpec, ReferenceTarget, Target,
};
use crate::stack::{
    LOGS, Limits, PopulationKey, Populations, PostgresBinaries, Ready, Requirements, Stack,
    StackError, StackSpec, Stopped, allow_open_files, preflight, reclaim, state_directory,
};

/// A running target, and the stack under it when it is ours.
pub(super) enum Ground {
    /// We started it and we stop it.
    Own {
        /// The processes.
        stack: Box<Stack<Ready>>,
        /// Version of its servers.
        postgres: String,
        /// Why its population is not kept for later runs, if it is not.
        unkept: Option<String>,
    },
    /// Somebody else's service; nothing of it is ours to stop.
    Foreign(LiveTarget),
}

/// Brings the scenario's target up, or reaches for one that already runs.
pub(super) async fn raise(
    plan: &Plan,
    stages: &mut Stages,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Ground, RunError> {
    match &plan.scenario.target {
        Target::Reference(target) => {
            let raised = raise_own(plan, target, stages, progress, cancel).await;
            // A step that was cancelled says so in its own words; to the user it is one thing.
            if raised.is_err() && cancel.is_cancelled() {
                return Err(RunError::Interrupted);
            }
            raised
        }
        Target::Http(target) => {
            allow_open_files(plan.scenario.load.in_flight_max)?;
            Ok(Ground::Foreign(foreign(target)))
        }
    }
}

async fn raise_own(
    plan: &Plan,
    target: &ReferenceTarget,
    stages: &mut Stages,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Ground, RunError> {
    stages.begin("provision");
    let population = &plan.scenario.population;
    let directory = state_directory();
    let binaries = PostgresBinaries::find()?;
    let postgres = binaries.version().to_owned();
    let spec = StackSpec {
        run: plan.id.clone(),
        binaries,
        replicas: target.replicas,
        backend: plan.backend.clone(),
        backend_port: target.port,
        backend_split: target.split.clone(),
        channel_manager: target.channel_manager,
        history_months: population.history_months,
        log_dir: directory.join(LOGS).join(plan.id.as_str()),
        directory,
        keep: plan.keep_stack,
        limits: Limits::default(),
    };
    let wish = wish(plan, &spec).await;
    let wanted = wish.as_ref().ok().map(|(key, _)| key);
    let needed = requirements(plan, target);
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(RunError::Interrupted),
        fits = make_fit(&needed, wanted, progress) => fits?,
    }
    let populated = populate(plan, spec, wish, stages, progress, cancel).await?;

    stages.begin("replicate");
    let Populated { stack, unkept } = populated;
    Ok(Ground::Own { stack: Box::new(stack.open().await?), postgres, unkept })
}

/// Makes sure that the machine can carry the stack, once what killed runs have left is gone. If it lacks nothing but disk, kept
/// populations make way: they are made again when they are wanted.
async fn make_fit(
    needed: &Requirements,
    wanted: Option<&PopulationKey>,
    progress: &dyn Progress,
) -> Result<(), StackError> {
    reclaim(&needed.directory).await?;
    let Err(error) = preflight(needed) else { return Ok(()) };
    if !error.lacks_disk_alone() {
        return Err(error);
    }
    let populations = Populations::below(&needed.directory);
    for removed in populations.make_way(needed.disk, wanted).await? {
        progress.note(&format!(
            "  removed a kept population that took {}, for the disk is needed: {}",
            removed.size, removed.id
        ));
    }
    preflight(needed)
}

/// What the machine must offer for a stack of our own.
pub(super) fn requirements(plan: &Plan, target: &ReferenceTarget) -> Requirements {
    Requirements::estimate(
        state_directory(),
        plan.scenario.population.organisations.get(),
        plan.scenario.population.history_months,
        target.replicas,
        target.port,
        plan.scenario.load.in_flight_max,
    )
}

fn endpoint(url: &str) -> MetricsEndpoint {
    MetricsEndpoint { process: "target".to_owned(), url: url.to_owned() }
}

/// A foreign service is reached by its address alone; a token of its own comes from the environment.
fn foreign(target: &HttpTarget) -> LiveTarget {
    LiveTarget {
        base_url: target.url.clone(),
        metrics: target.metrics.iter().map(|url| endpoint(url)).collect(),
        token_secret: None,
        postgres: Vec::new(),
        processes: Vec::new(),
    }
}

impl Ground {
    /// Where everything is.
    pub(super) fn live(&self) -> &LiveTarget {
        match self {
            Self::Own { stack, .. } => stack.live(),
            Self::Foreign(live) => live,
        }
    }

    /// Why the population is not kept for later runs, if it is not.
    pub(super) fn unkept(&self) -> Option<&str> {
        match self {
            Self::Own { unkept, .. } => unkept.as_deref(),
            Self::Foreign(_) => None,
        }
    }

    /// Deaths of the stack's processes as they happen; nothing for a foreign service.
    pub(super) fn deaths(&self) -> Option<watch::Receiver<Vec<Incident>>> {
        match self {
            Self::Own { stack, .. } => Some(stack.watch()),
            Self::Foreign(_) => None,
        }
    }

    /// Adds what the servers say of themselves.
    pub(super) async fn describe(&self, environment: &mut Environment) -> Result<(), RunError> {
        if let Self::Own { stack, postgres, .. } = self {
            environment.postgres = Some(postgres.clone());
            environment.backend = Some(stack.backend_version().to_owned());
            environment.postgres_settings = stack.settings().await?;
        }
        Ok(())
    }

    /// Adds what the servers say of themselves now that the load is over.
    pub(super) async fn describe_after(&self, environment: &mut Environment) {
        if let Self::Own { stack, .. } = self {
            environment.postgres_settings_after = stack.settings_that_are_told().await;
        }
    }

    /// What the servers take from another program; nothing where they are not ours.
    pub(super) async fn yardstick(&self, population: &PopulationSpec) -> Option<Yardstick> {
        match self {
            Self::Own { stack, .. } => {
                Some(stack.yardstick(population.organisations.get(), population.busy).await)
            }
            Self::Foreign(_) => None,
        }
    }

    /// Ends what is ours, in order. What went wrong on the way is told, not returned: the run is over.
    pub(super) async fn stop(self) -> Stopped {
        match self {
            Self::Own { stack, .. } => stack.stop().await,
            Self::Foreign(_) => Stopped { incidents: Vec::new(), directory: None },
        }
    }
}
