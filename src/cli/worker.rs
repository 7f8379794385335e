//! `plimsoll worker`: sends the arrivals of one plan. Started by a run, which tells it everything on stdin.

use std::process::ExitCode;

use chrono::Datelike;
use uuid::Uuid;

use crate::ids::OrgId;
use crate::load::{Directory, WorkerPlan, work};
use crate::population::Population;

/// Runs the command.
pub fn run() -> ExitCode {
    match work(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the load worker ends");
            ExitCode::FAILURE
        }
    }
}

fn directory(plan: &WorkerPlan) -> Result<Box<dyn Directory>, String> {
    let anchor = plan.today.with_day(1).ok_or("a month without a first day")?;
    let scenario = &plan.scenario;
    Ok(Box::new(Population::new(&scenario.population, scenario.seed, anchor)))
}

impl Directory for Population {
    fn pick(&self, u: f64) -> OrgId {
        self.pick(u)
    }

    fn property(&self, org: OrgId, u: f64) -> Uuid {
        self.property(org, u)
    }
}
