//! The parts of `result.json` that a load in steps and a yardstick add; absent for any other load.

use serde::Serialize;

use super::json::{Times, rounded, times};
use super::steps::{ClimbFigures, StepFigures, gate_name};
use super::yardstick::YardstickFigures;
use crate::archive::Window;
use crate::gates::{GateOutcome, StepOutcome, Verdict};

/// One step, over the seconds by which it is judged.
#[derive(Serialize)]
pub(super) struct Step {
    step: usize,
    percent: u32,
    from_s: usize,
    to_s: usize,
    offered_per_s: Option<f64>,
    achieved_per_s: Option<f64>,
    events_offered_per_s: Option<f64>,
    events_per_s: Option<f64>,
    response_us: Times,
    verdict: Verdict,
    broke: Vec<String>,
    undecided: Vec<Undecided>,
}

/// A gate that neither held nor broke.
#[derive(Serialize)]
struct Undecided {
    gate: String,
    reason: Option<String>,
}

/// How far up the steps held.
#[derive(Serialize)]
pub(super) struct Saturation {
    steps: usize,
    steps_held: usize,
    last_held_events_per_s: Option<f64>,
    last_held_requests_per_s: Option<f64>,
    /// What the scenario asks for in the step with which it ended; nothing when every step held.
    ended_by: Option<EndedBy>,
}

#[derive(Serialize)]
struct EndedBy {
    step: usize,
    verdict: Verdict,
    offered_per_s: f64,
    events_offered_per_s: f64,
    broke: Vec<String>,
}

/// What the same servers took from another program, and the run's events as a multiple of it.
#[derive(Serialize)]
pub(super) struct YardstickOf<'a> {
    by: &'a str,
    clients: u32,
    seconds: u32,
    transactions_per_s: Option<f64>,
    events_per_s: Option<f64>,
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

pub(super) fn yardstick(figures: &YardstickFigures) -> YardstickOf<'_> {
    let measured = &figures.measured;
    YardstickOf {
        by: &measured.by,
        clients: measured.clients,
        seconds: measured.seconds,
        transactions_per_s: measured.transactions_per_s.map(rounded),
        events_per_s: figures.events_per_s.map(rounded),
        ratio: figures.ratio().map(rounded),
        problem: measured.problem.as_deref(),
    }
}

pub(super) fn steps(figures: &ClimbFigures) -> Vec<Step> {
    figures.rows().map(|(outcome, figures)| step(outcome, figures)).collect()
}

pub(super) fn saturation(figures: &ClimbFigures) -> Saturation {
    let climb = &figures.climb;
    let ended_by = climb.ended_by().map(|step| EndedBy {
        step: step.number,
        verdict: step.verdict,
        offered_per_s: rounded(step.requests_per_s),
        events_offered_per_s: rounded(step.events_per_s),
        broke: broke(step),
    });
    Saturation {
        steps: climb.of,
        steps_held: climb.held,
        last_held_events_per_s: climb.held_events_per_s.map(rounded),
        last_held_requests_per_s: climb.held_requests_per_s.map(rounded),
        ended_by,
    }
}

fn step(outcome: &StepOutcome, figures: &StepFigures) -> Step {
    let Window { warm_up_s: from_s, .. } = outcome.window;
    let with = |verdict| outcome.gates.iter().filter(move |gate| gate.verdict == verdict);
    let undecided =
        |gate: &GateOutcome| Undecided { gate: gate_name(gate), reason: gate.reason.clone() };
    Step {
        step: outcome.number,
        percent: outcome.percent,
        from_s,
        to_s: outcome.window.end(),
        offered_per_s: figures.offered_per_s.map(rounded),
        achieved_per_s: figures.achieved_per_s.map(rounded),
        events_offered_per_s: figures.events_offered_per_s.map(rounded),
        events_per_s: figures.events_per_s.map(rounded),
        response_us: times(figures.response),
        verdict: outcome.verdict,
        broke: broke(outcome),
        undecided: with(Verdict::Inconclusive).map(undecided).collect(),
    }
}

fn broke(step: &StepOutcome) -> Vec<String> {
    let broken = step.gates.iter().filter(|gate| gate.verdict == Verdict::Fail);
    broken.map(gate_name).collect()
}
