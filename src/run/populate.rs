//! The population of a stack: copied from an earlier run's when one of the same shape was kept, else made, and kept.

use tokio_util::sync::CancellationToken;

use super::error::RunError;
use super::plan::Plan;
use super::progress::Progress;
use super::stages::Stages;
use crate::population::{self, GENERATOR_VERSION};
use crate::stack::{Keeping, PopulationKey, Seeded, Stack, StackSpec, backend_schema};
use crate::units::ByteSize;

/// Smaller populations are made in about the time that copying one takes.
const WORTH_KEEPING: u64 = 10_000;

/// A stack with the plan's population, its primary stopped.
pub(super) async fn populate(
    plan: &Plan,
    spec: StackSpec,
    stages: &mut Stages,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Stack<Seeded>, RunError> {
    let kept = match plan.keep_populations {
        Some(limit) => key(plan, &spec).await.map(|key| (key, limit)),
        None => None,
    };
    if let Some((key, _)) = &kept
        && let Some(stack) = Stack::restore(spec.clone(), key, cancel.clone()).await?
    {
        progress
            .note("  from a population that an earlier run kept; `plimsoll stack list` shows them");
        return Ok(stack);
    }
    let mut stack = make(plan, spec, stages, progress, cancel).await?;
    if let Some((key, limit)) = kept {
        stages.begin("keep");
        keep(&mut stack, &key, limit, progress).await?;
    }
    Ok(stack)
}

async fn make(
    plan: &Plan,
    spec: StackSpec,
    stages: &mut Stages,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Stack<Seeded>, RunError> {
    let scenario = &plan.scenario;
    let seeding = Stack::provision(spec, cancel.clone()).await?;
    stages.begin("seed");
    let report = |done: population::Progress| progress.rows(done.rows_done, done.rows_total);
    let (seed, anchor) = (scenario.seed, plan.anchor());
    population::seed(&scenario.population, seed, anchor, seeding.primary(), report, cancel).await?;
    Ok(seeding.finish().await?)
}

async fn keep(
    stack: &mut Stack<Seeded>,
    key: &PopulationKey,
    limit: ByteSize,
    progress: &dyn Progress,
) -> Result<(), RunError> {
    if let Keeping::NoRoom { needed, room } = stack.keep(key, limit).await? {
        progress.note(&format!(
            "  the population was not kept for later runs: it takes {needed}, and there is room for {room}"
        ));
    }
    Ok(())
}

/// Everything that shapes the population. None when it is not worth keeping, or the backend does not say what shapes its tables.
async fn key(plan: &Plan, spec: &StackSpec) -> Option<PopulationKey> {
    let population = &plan.scenario.population;
    if population.organisations.get() < WORTH_KEEPING {
        return None;
    }
    let schema = backend_schema(&spec.backend).await?;
    Some(PopulationKey::new([
        ("organisations", population.organisations.to_string()),
        ("history_months", population.history_months.to_string()),
        ("seed", plan.scenario.seed.to_string()),
        ("anchor", plan.anchor().to_string()),
        ("generator", GENERATOR_VERSION.to_string()),
        ("postgres", spec.binaries.version().to_owned()),
        ("machine", std::env::consts::ARCH.to_owned()),
        ("schema", schema),
    ]))
}
