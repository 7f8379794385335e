//! `plimsoll seed`: builds a scenario's population, with its replicas in sync, and keeps it for later runs.

use super::args::{RunArgs, SeedArgs};
use super::exit::Exit;
use super::output::{complain, print};
use super::run::plan;
use super::watched::watched;
use crate::run::{self, Prepared, WORTH_KEEPING};

#[derive(Debug, thiserror::Error)]
#[error(
    "only the reference backend's population is ours to build\n\
     help: name a scenario with target.kind = \"reference\""
)]
struct NotOurs;

#[derive(Debug, thiserror::Error)]
#[error(
    "a population of {0} organisations is not kept: a run makes it anew as fast as it would copy it\n\
     help: ask for {WORTH_KEEPING} organisations or more, or add --fresh to build it and keep nothing"
)]
struct NotWorthKeeping(u64);

/// Runs the command.
pub(super) fn execute(args: SeedArgs) -> Exit {
    let plan = match plan(&RunArgs::from(args)) {
        Ok(plan) if plan.has_stack() => plan,
        Ok(_) => return complain(&NotOurs, Exit::Usage),
        Err(refusal) => return complain(&refusal, Exit::Usage),
    };
    let organisations = plan.scenario.population.organisations.get();
    if plan.keep_populations.is_some() && organisations < WORTH_KEEPING {
        return complain(&NotWorthKeeping(organisations), Exit::Usage);
    }
    match watched(async |progress, cancel| run::prepare(&plan, progress, cancel).await) {
        Ok(Prepared { stages, .. }) => {
            let line = |stage: &crate::archive::Stage| {
                format!("  {:<10} {:>7.1} s\n", stage.name, stage.seconds)
            };
            let total: f64 = stages.iter().map(|stage| stage.seconds).sum();
            let lines: String = stages.iter().map(line).collect();
            print(&format!("{lines}  {:<10} {total:>7.1} s\n", "total"));
            Exit::Pass
        }
        Err(exit) => exit,
    }
}
