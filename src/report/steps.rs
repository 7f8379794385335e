//! A load in steps in numbers: what each step asked for, what came of it, and what ended the climb.

use super::figures::Percentiles;
use crate::archive::Record;
use crate::gates::{
    Climb, FigureName, GateOutcome, Part, RequestFigures, StepOutcome, Verdict, part,
};

/// The steps of a load, and how far up they held.
#[derive(Debug, Clone, PartialEq)]
pub struct ClimbFigures {
    /// How they were judged.
    pub climb: Climb,
    /// In the order of `climb.steps`.
    pub steps: Vec<StepFigures>,
}

/// One step over its judged seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct StepFigures {
    /// Arrivals per second that the schedule asked for.
    pub offered_per_s: Option<f64>,
    /// Requests per second that were sent.
    pub achieved_per_s: Option<f64>,
    /// Of the arrivals, events per second that the scenario asks for; nothing when it has none.
    pub events_offered_per_s: Option<f64>,
    /// Events per second that were acknowledged.
    pub events_per_s: Option<f64>,
    /// Done − intended, in µs.
    pub response: Option<Percentiles>,
}

impl ClimbFigures {
    pub(super) fn of(record: &Record, climb: &Climb) -> Self {
        let steps = climb.steps.iter().map(|step| StepFigures::of(record, step)).collect();
        Self { climb: climb.clone(), steps }
    }

    /// Each step with its figures.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = (&StepOutcome, &StepFigures)> {
        self.climb.steps.iter().zip(&self.steps)
    }

    /// Whether steps are told apart by their events, or by all of their requests.
    pub fn is_of_events(&self) -> bool {
        self.climb.steps.iter().any(|step| step.events_per_s > 0.0)
    }

    /// The rate of the last step that held: of events where there are any.
    pub fn held_per_s(&self) -> Option<f64> {
        self.climb.held_events_per_s.or(self.climb.held_requests_per_s)
    }

    /// The step with which the climb ended, if its gates say so.
    pub fn broken(&self) -> Option<&StepOutcome> {
        self.climb.ended_by().filter(|step| step.verdict == Verdict::Fail)
    }
}

impl StepFigures {
    fn of(record: &Record, step: &StepOutcome) -> Self {
        let figures = RequestFigures::of(&part(record, step.window), Part::Run);
        let rate = |name| figures.get(&name).map(|figure| figure.value);
        Self {
            offered_per_s: rate(FigureName::OfferedRate),
            achieved_per_s: rate(FigureName::AchievedRate),
            events_offered_per_s: (step.events_per_s > 0.0).then_some(step.events_per_s),
            events_per_s: rate(FigureName::EventRate),
            response: Percentiles::of(&figures.response),
        }
    }
}

/// A gate of a step by its rule, and on what if not on all requests of the step.
pub(super) fn gate_name(gate: &GateOutcome) -> String {
    match (&gate.operation, &gate.service) {
        (Some(operation), _) => format!("{} on {operation}", gate.gate),
        (None, Some(service)) => format!("{} on service {service}", gate.gate),
        (None, None) => gate.gate.clone(),
    }
}

/// The gates that did not hold on a step, the broken ones first; at most so many by name.
pub(super) fn not_held(step: &StepOutcome, named_max: usize) -> String {
    let names: Vec<String> = step.not_held().map(gate_name).collect();
    let left = names.len().saturating_sub(named_max);
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    names.into_iter().take(named_max).collect::<Vec<_>>().join(", ") + &more
}

/// The one word of a step.
pub(super) fn step_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "held",
        Verdict::Fail => "broke",
        Verdict::Inconclusive => "cannot be told",
    }
}
