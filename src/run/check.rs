//! What a run finds out before it starts anything, asked without starting it. Never makes, changes or removes a thing.

use super::error::RunError;
use super::ground::requirements;
use super::measure::bearer_token;
use super::plan::Plan;
use crate::archive::RunDirectory;
use crate::scenario::{HttpTarget, ReferenceTarget, Target};
use crate::stack::{PostgresBinaries, StackError, allow_open_files, preflight};

/// One thing that was looked at.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// What was found there, or why a run would end.
    pub found: Result<String, RunError>,
}

/// Everything that can be known of a plan's chances without starting it, in the order in which a run would find out.
pub fn check(plan: &Plan) -> Vec<Check> {
    let results = RunDirectory::check(&plan.out)
        .map(|parent| format!("free, and {} can be written", parent.display()))
        .map_err(RunError::Results);
    let mut checks = vec![Check { what: "results", found: results }];
    checks.extend(match &plan.scenario.target {
        Target::Reference(target) => own(plan, target),
        Target::Http(target) => foreign(plan, target),
    });
    checks
}

fn own(plan: &Plan, target: &ReferenceTarget) -> [Check; 2] {
    let needed = requirements(plan, target);
    let fits = format!(
        "{} of disk in {}, {} of memory, {} open files{}",
        needed.disk,
        needed.directory.display(),
        needed.memory,
        needed.open_files,
        needed.port.map_or(String::new(), |port| format!(", port {port}")),
    );
    let postgres = PostgresBinaries::find()
        .map(|found| format!("{} in {}", found.version(), found.directory().display()));
    [from_stack("postgres", postgres), from_stack("machine", preflight(&needed).map(|()| fits))]
}

fn foreign(plan: &Plan, target: &HttpTarget) -> [Check; 2] {
    let token = bearer_token(target).map(|_| match &target.bearer_token_env {
        Some(variable) => format!("in {variable}"),
        None => "none is asked for".to_owned(),
    });
    let in_flight = plan.scenario.load.in_flight_max;
    let files = allow_open_files(in_flight);
    let files = files.map(|()| format!("open files for {in_flight} requests in flight"));
    [from_stack("machine", files), Check { what: "token", found: token }]
}

fn from_stack(what: &'static str, found: Result<String, StackError>) -> Check {
    Check { what, found: found.map_err(RunError::Stack) }
}
