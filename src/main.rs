//! Until the command line is here: `plimsoll worker` alone, for the tests of `load`.

use std::process::ExitCode;

use chrono::Datelike;
use plimsoll::ids::OrgId;
use plimsoll::load::{Directory, WorkerPlan, work};
use plimsoll::population::Population;
use uuid::Uuid;

struct Synthetic(Population);

impl Directory for Synthetic {
    fn pick(&self, u: f64) -> OrgId {
        self.0.pick(u)
    }

    fn property(&self, org: OrgId, u: f64) -> Uuid {
        self.0.property(org, u)
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    match std::env::args().nth(1).as_deref().map(|command| (command, work(directory))) {
        Some(("worker", Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn directory(plan: &WorkerPlan) -> Result<Box<dyn Directory>, String> {
    let anchor = plan.today.with_day(1).ok_or("a month without a first day")?;
    let scenario = &plan.scenario;
    Ok(Box::new(Synthetic(Population::new(&scenario.population, scenario.seed, anchor))))
}
