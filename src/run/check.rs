//! What a run finds out before it starts anything, asked without starting it. Never makes, changes or removes a thing.

use super::error::RunError;
use super::ground::requirements;
use super::measure::bearer_token;
use super::plan::Plan;
use crate::archive::RunDirectory;
use crate::scenario::{HttpTarget, ReferenceTarget, Target};
use crate::stack::{
    PostgresBinaries, Reclaimable, Requirements, StackError, allow_open_files, preflight,
    reclaimable,
};
use crate::units::ByteSize;

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
    let (fit, removed) = fit(&needed);
    let fits = format!(
        "{} of disk in {}, {} of memory, {} open files{}{removed}",
        needed.disk,
        needed.directory.display(),
        needed.memory,
        needed.open_files,
        needed.port.map_or(String::new(), |port| format!(", port {port}")),
    );
    let postgres = PostgresBinaries::find()
        .map(|found| format!("{} in {}", found.version(), found.directory().display()));
    [from_stack("postgres", postgres), from_stack("machine", fit.map(|()| fits))]
}

/// Whether the stack fits, once what a run would remove for it is gone; and what that is.
fn fit(needed: &Requirements) -> (Result<(), StackError>, String) {
    let Reclaimable { leftovers, populations } = reclaimable(&needed.directory);
    let without = |bytes: u64| {
        let disk = ByteSize::new(needed.disk.get().saturating_sub(bytes));
        preflight(&Requirements { disk, ..needed.clone() })
    };
    let mut removed = String::new();
    if leftovers.get() > 0 {
        removed = format!("; {leftovers} left by killed runs would be removed first");
    }
    match without(leftovers.get()) {
        Err(error) if error.lacks_disk_alone() && populations.get() > 0 => {
            let fits = without(leftovers.get() + populations.get());
            (fits, removed + "; kept populations would make way")
        }
        fit => (fit, removed),
    }
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
