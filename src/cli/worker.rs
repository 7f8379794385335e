//! `plimsoll worker`: the process that makes the load. Joins the worker with the population that its plan speaks of.

use chrono::{Datelike, NaiveDate};
use uuid::Uuid;

use super::exit::Exit;
use crate::ids::OrgId;
use crate::load::{self, Directory, WorkerPlan};
use crate::population::Population;

/// The population as the load's templates ask for it.
struct Synthetic(Population);

impl Directory for Synthetic {
    fn pick(&self, u: f64) -> OrgId {
        self.0.pick(u)
    }

    fn property(&self, org: OrgId, u: f64) -> Uuid {
        self.0.property(org, u)
    }
}

/// Works off the plan on stdin; what goes wrong is told to the session, which prints it.
pub(super) fn execute() -> Exit {
    match load::work(directory) {
        Ok(()) => Exit::Pass,
        Err(error) => {
            tracing::error!("{error}");
            Exit::Internal
        }
    }
}

fn directory(plan: &WorkerPlan) -> Result<Box<dyn Directory>, String> {
    let anchor: NaiveDate = plan.today.with_day(1).expect("every month has a first day");
    let scenario = &plan.scenario;
    Ok(Box::new(Synthetic(Population::new(&scenario.population, scenario.seed, anchor))))
}
