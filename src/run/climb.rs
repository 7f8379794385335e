//! Judges the steps of a load while it runs, and ends it with the first that does not hold: nobody learns anything from
//! going on to hammer a system that gave way. What stands in the report is judged again from the whole record.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::conclude::{Facts, record};
use super::measure::{Measured, window};
use super::plan::Plan;
use super::progress::Progress;
use crate::archive::{Environment, Ledger, LoadRecord, Window};
use crate::gates::{StepOutcome, Verdict, judge_step, step_windows};
use crate::observe::Sight;
use crate::units::show::grouped;

/// Seconds after the end of a step at which the servers' figures of its last second have been read, however late.
const READ_AFTER_S: usize = 2;

/// Who climbs the steps of a load.
pub(super) struct Climber<'a> {
    plan: &'a Plan,
    environment: &'a Environment,
    sight: Sight,
    progress: Arc<dyn Progress>,
    /// Ends the load.
    stop: CancellationToken,
    /// Of each step; none when the load has no steps.
    windows: Vec<Window>,
    /// The step to be judged next.
    next: usize,
}

impl<'a> Climber<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        environment: &'a Environment,
        sight: Sight,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Self {
        let windows = step_windows(&plan.scenario);
        Self { plan, environment, sight, progress, stop, windows, next: 0 }
    }

    /// So many seconds of the axis are over, and this is what was told of them.
    pub(super) fn hear(&mut self, elapsed_s: usize, load: &LoadRecord) {
        let Some(window) = self.windows.get(self.next) else { return };
        let read = elapsed_s >= window.end() + READ_AFTER_S;
        // An arrival may wait as long as its time-out before it is sent, and as long again for its answer. A worker that has
        // not dealt with it by then is in trouble: the step is judged without, and its accounting does not add up.
        let open = 2 * self.plan.scenario.load.timeout.secs_ceil() as usize;
        let overdue = elapsed_s >= window.end() + READ_AFTER_S + open;
        if self.stop.is_cancelled() || !read || !(overdue || all_ended(load, window.end())) {
            return;
        }
        let Some(step) = self.judge(load) else { return };
        self.next += 1;
        if step.verdict != Verdict::Pass {
            self.stop.cancel();
        }
        self.progress.note(&line(&step, self.windows.len()));
    }

    fn judge(&self, load: &LoadRecord) -> Option<StepOutcome> {
        let window = window(&self.plan.scenario);
        let measured = Measured {
            window,
            load: load.clone(),
            ledger: Ledger::default(),
            timeline: self.sight.timeline(window.end()),
            incidents: Vec::new(),
        };
        let environment = self.environment.clone();
        let facts =
            Facts { measured, audit: Vec::new(), environment, stages: Vec::new(), yardstick: None };
        judge_step(&record(self.plan, facts), &self.plan.scenario, self.next)
    }
}

/// Whether every arrival intended before a second has come to its end.
fn all_ended(load: &LoadRecord, second: usize) -> bool {
    let mut seconds = load.operations.iter().flat_map(|o| o.seconds.iter().take(second));
    seconds.all(|at| at.intended == at.sent + at.dropped)
}

/// A step in a line, for whoever watches.
fn line(step: &StepOutcome, of: usize) -> String {
    let offered = match step.events_per_s > 0.0 {
        true => format!("{} events/s", grouped(step.events_per_s.round() as u64)),
        false => format!("{} requests/s", grouped(step.requests_per_s.round() as u64)),
    };
    let gate = step.not_held().next().map_or("no gate", |gate| &gate.gate);
    let came_out = match step.verdict {
        Verdict::Pass => "held".to_owned(),
        Verdict::Fail => format!("broke {gate}; no further step is made"),
        Verdict::Inconclusive => format!("cannot be told: {gate}; no further step is made"),
    };
    format!("  step {} of {of}, {offered}: {came_out}", step.number)
}
