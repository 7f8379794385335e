//! The population of a stack: copied from an earlier run's when one of the same shape was kept, else made, and kept.

use tokio_util::sync::CancellationToken;

use super::error::RunError;
use super::plan::Plan;
use super::progress::Progress;
use super::stages::Stages;
use crate::population::{self, GENERATOR_VERSION};
use crate::stack::{
    Keeping, PopulationKey, SETTINGS_VERSION, Seeded, Stack, StackError, StackSpec, backend_schema,
};
use crate::units::ByteSize;

/// Smaller populations are made in about the time that copying one takes.
pub const WORTH_KEEPING: u64 = 10_000;

/// Under what key a population is kept, and how much all may take; or why it is not to be.
pub(super) type Wish = Result<(PopulationKey, ByteSize), String>;

/// A population, and why it is not kept if it is not.
pub(super) struct Populated {
    /// Its stack, the primary stopped.
    pub(super) stack: Stack<Seeded>,
    /// Why no later run can start from it.
    pub(super) unkept: Option<String>,
}

/// What a plan asks for. Making, or starting from, a kept population needs a key of everything that shapes it.
pub(super) async fn wish(plan: &Plan, spec: &StackSpec) -> Wish {
    let limit = plan.keep_populations.ok_or("none is to be kept")?;
    let population = &plan.scenario.population;
    if population.organisations.get() < WORTH_KEEPING {
        return Err(format!("fewer than {WORTH_KEEPING} organisations are made anew as fast"));
    }
    let schema = backend_schema(&spec.backend).await;
    let schema = schema.ok_or("the backend does not say what shapes its databases")?;
    let key = PopulationKey::new([
        ("organisations", population.organisations.to_string()),
        ("history_months", population.history_months.to_string()),
        ("seed", plan.scenario.seed.to_string()),
        ("anchor", plan.anchor().to_string()),
        ("generator", GENERATOR_VERSION.to_string()),
        ("settings", SETTINGS_VERSION.to_string()),
        ("postgres", spec.binaries.version().to_owned()),
        ("machine", std::env::consts::ARCH.to_owned()),
        ("schema", schema),
    ]);
    Ok((key, limit))
}

/// A stack with the plan's population, its primary stopped.
pub(super) async fn populate(
    plan: &Plan,
    spec: StackSpec,
    wish: Wish,
    stages: &mut Stages,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Populated, RunError> {
    if let Ok((key, _)) = &wish
        && let Some(stack) = Stack::restore(spec.clone(), key, cancel.clone()).await?
    {
        progress
            .note("  from a population that an earlier run kept; `plimsoll stack list` shows them");
        return Ok(Populated { stack, unkept: None });
    }
    let mut stack = make(plan, spec, stages, progress, cancel).await?;
    let unkept = match wish {
        Ok((key, limit)) => {
            stages.begin("keep");
            let unkept = keep(&mut stack, &key, limit).await?;
            if let Some(why) = &unkept {
                progress.note(&format!("  the population was not kept for later runs: {why}"));
            }
            unkept
        }
        Err(why) => Some(why),
    };
    Ok(Populated { stack, unkept })
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

/// Why the population is not kept, if it is not. The run has its own and goes on, unless it was told to end.
async fn keep(
    stack: &mut Stack<Seeded>,
    key: &PopulationKey,
    limit: ByteSize,
) -> Result<Option<String>, StackError> {
    match stack.keep(key, limit).await {
        Ok(Keeping::Kept(_)) => Ok(None),
        Ok(Keeping::NoRoom { needed, room }) => Ok(Some(format!(
            "it takes {needed}, and there is room for {room}\n\
             help: allow more with --populations-max, or remove others: see `plimsoll stack list` and `plimsoll stack drop`"
        ))),
        Err(error @ StackError::Cancelled { .. }) => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}
