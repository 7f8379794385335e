//! One model of a judged run. Every format is a rendering of it, so none can say what another does not know.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::curves::Curves;
use super::failures::Failures;
use super::figures::{LoadFigures, OperationFigures, PercentileCurve};
use super::format;
use super::steps::ClimbFigures;
use super::yardstick::{self, YardstickFigures};
use crate::archive::{
    AuditCheck, AuditState, Environment, Incident, Record, RunInfo, Stage, Window, WorkerEnd,
};
use crate::gates::{
    CheckState, Climb, Figure, GateOutcome, Judgement, Part, RequestFigures, SignalBook,
    ValidityCheck, Verdict, part,
};
use crate::scenario::{Arrivals, Scenario, Skew, Target};

/// A judged run, ready to be rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Who, what, when, and the command to repeat it.
    pub run: RunInfo,
    /// Which seconds are warm-up and which are measured.
    pub window: Window,
    /// The verdict of the run.
    pub verdict: Verdict,
    /// The verdict in one sentence.
    pub headline: String,
    /// The gates: failed, then inconclusive, then passed; within each, the smallest margin first.
    pub gates: Vec<GateOutcome>,
    /// Whether the load was real.
    pub load: LoadFigures,
    /// In the scenario's order.
    pub operations: Vec<OperationFigures>,
    /// Why requests failed.
    pub failures: Failures,
    /// Response time by percentile, all operations together.
    pub response: PercentileCurve,
    /// Service time by percentile, all operations together.
    pub service: PercentileCurve,
    /// Figures about the server, by name; one that could not be computed is absent.
    pub signals: BTreeMap<String, Figure>,
    /// Signals that this target should give and that could not be computed.
    pub signals_missing: Vec<String>,
    /// Checks of the run itself, the worst first.
    pub validity: Vec<ValidityCheck>,
    /// The ledger held against the databases, the worst first; empty when no audit was made.
    pub audit: Vec<AuditCheck>,
    /// What happened that should not have, in order of time; the end of a lost worker is one.
    pub incidents: Vec<Incident>,
    /// The stages of the run with their wall time.
    pub stages: Vec<Stage>,
    /// What was driven and how, as names and values for people.
    pub conditions: Vec<(&'static str, String)>,
    /// The machine and the software on it.
    pub environment: Environment,
    /// The steps of a load that has them. Then load, operations, times, signals and validity are those of the step that the
    /// answer rests on: the last that held.
    pub climb: Option<ClimbFigures>,
    /// What the same servers took from another program, if that was asked for.
    pub yardstick: Option<YardstickFigures>,
    /// What the charts draw.
    pub curves: Curves,
}

impl Report {
    /// The report of a judged record. `scenario` is the one that was run.
    pub fn new(record: &Record, scenario: &Scenario, judgement: &Judgement) -> Self {
        let shown = judgement.climb.as_ref().and_then(Climb::shown);
        let shown = shown.map(|step| part(record, step.window));
        let seen = shown.as_ref().unwrap_or(record);
        let run = RequestFigures::of(seen, Part::Run);
        let operations = seen.load.operations.iter();
        let mut gates = judgement.gates.clone();
        gates.sort_by(most_urgent_first);
        let mut validity = judgement.validity.clone();
        validity.sort_by_key(|check| severity(check.state));
        let mut audit = record.audit.clone();
        audit.sort_by_key(|check| audit_severity(check.state));
        let mut report = Self {
            run: record.run.clone(),
            window: record.window,
            verdict: judgement.verdict,
            headline: judgement.headline.clone(),
            gates,
            load: LoadFigures::of(seen, &run),
            operations: operations.map(|o| OperationFigures::of(seen, o)).collect(),
            failures: Failures::of(record),
            response: PercentileCurve::of(&run.response),
            service: PercentileCurve::of(&run.service),
            signals: judgement.signals.clone(),
            signals_missing: signals_missing(scenario, judgement),
            validity,
            audit,
            incidents: incidents(record),
            stages: record.stages.clone(),
            conditions: conditions(record, scenario),
            environment: record.environment.clone(),
            climb: judgement.climb.as_ref().map(|climb| ClimbFigures::of(record, climb)),
            yardstick: None,
            curves: Curves::of(record, scenario),
        };
        report.yardstick =
            record.yardstick.as_ref().map(|found| yardstick::figures(found, &report));
        report
    }

    /// How many gates came out with a verdict.
    pub fn gates_with(&self, verdict: Verdict) -> usize {
        self.gates.iter().filter(|gate| gate.verdict == verdict).count()
    }

    /// How many validity checks are in a state.
    pub fn checks_in(&self, state: CheckState) -> usize {
        self.validity.iter().filter(|check| check.state == state).count()
    }
}

/// What a gate was judged on, for people.
pub(super) fn gate_place(gate: &GateOutcome) -> String {
    match (&gate.operation, &gate.service) {
        (Some(operation), _) => operation.clone(),
        (None, Some(service)) => format!("service {service}"),
        (None, None) => "whole run".to_owned(),
    }
}

/// The one word of a verdict.
pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail => "FAIL",
        Verdict::Inconclusive => "INCONCLUSIVE",
    }
}

/// The one word of a validity check's state.
pub(super) fn state_word(state: CheckState) -> &'static str {
    match state {
        CheckState::Green => "green",
        CheckState::Amber => "amber",
        CheckState::Red => "red",
        CheckState::Grey => "grey",
    }
}

/// An audit check's state among those of validity checks: they are shown alike.
pub(super) fn audit_as_check(state: AuditState) -> CheckState {
    match state {
        AuditState::Green => CheckState::Green,
        AuditState::Red => CheckState::Red,
        AuditState::Grey => CheckState::Grey,
    }
}

fn most_urgent_first(a: &GateOutcome, b: &GateOutcome) -> Ordering {
    let rank = |verdict| match verdict {
        Verdict::Fail => 0,
        Verdict::Inconclusive => 1,
        Verdict::Pass => 2,
    };
    // Without an observation there is no margin: such a gate comes first among its like.
    let margin = |gate: &GateOutcome| gate.margin.unwrap_or(f64::NEG_INFINITY);
    rank(a.verdict).cmp(&rank(b.verdict)).then_with(|| margin(a).total_cmp(&margin(b)))
}

fn severity(state: CheckState) -> u8 {
    match state {
        CheckState::Red => 0,
        CheckState::Amber => 1,
        CheckState::Grey => 2,
        CheckState::Green => 3,
    }
}

fn audit_severity(state: AuditState) -> u8 {
    severity(audit_as_check(state))
}

fn signals_missing(scenario: &Scenario, judgement: &Judgement) -> Vec<String> {
    let book = SignalBook::of(&scenario.target);
    // `projection_lag_ms_p95` is a statistic of `projection_lag_ms`.
    let known = |name: &&str| judgement.signals.keys().any(|key| key.starts_with(*name));
    book.names().filter(|name| !known(name)).map(str::to_owned).collect()
}

fn incidents(record: &Record) -> Vec<Incident> {
    let lost = match &record.load.worker {
        WorkerEnd::Finished => None,
        WorkerEnd::Lost { detail } => {
            Some(Incident { second: None, what: "worker".to_owned(), detail: detail.clone() })
        }
    };
    let told = record.incidents.iter().any(|incident| incident.what == "worker");
    let mut all: Vec<Incident> =
        record.incidents.iter().cloned().chain(lost.filter(|_| !told)).collect();
    all.sort_by_key(|incident| incident.second.unwrap_or(usize::MAX));
    all
}

fn conditions(record: &Record, scenario: &Scenario) -> Vec<(&'static str, String)> {
    let target = match &scenario.target {
        Target::Reference(reference) => {
            let (processes, replicas) = (reference.processes(), reference.replicas);
            let beside = reference.beside();
            format!("reference backend in {processes}, {replicas} streaming replicas{beside}")
        }
        Target::Http(http) => http.url.clone(),
    };
    let organisations = match record.run.organisations {
        Some(count) => format!(
            "{} organisations, {} months of history, seed {}",
            format::grouped(count),
            scenario.population.history_months,
            record.run.seed
        ),
        None => "none of ours on this target".to_owned(),
    };
    let busy = match scenario.population.busy {
        Skew::Uniform => "all organisations alike".to_owned(),
        Skew::Zipf { exponent } => format!("Zipf with exponent {exponent} over organisations"),
    };
    let arrivals = match scenario.load.arrivals {
        Arrivals::Constant => "open model, evenly spaced",
        Arrivals::Poisson => "open model, Poisson (independent users)",
    };
    let steps = scenario.load.steps.as_ref().map(|steps| {
        let (count, each, settle) = (steps.percents.len(), steps.each, steps.settle);
        format!("{count} of {each} each, judged after {settle}, until one does not hold")
    });
    let conditions = [
        ("Target", target),
        ("Population", organisations),
        ("Activity", busy),
        ("Arrivals", arrivals.to_owned()),
        ("Warm-up", format!("{} s, sent and recorded but not judged", record.window.warm_up_s)),
        ("Measured", format!("{} s", record.window.measure_s)),
        ("In flight at most", format::grouped(scenario.load.in_flight_max.into())),
        ("Time-out", format::duration_us(scenario.load.timeout.get() as f64)),
    ];
    conditions.into_iter().chain(steps.map(|steps| ("Steps", steps))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, report};

    #[test]
    fn what_needs_attention_comes_first() {
        let report = report(Variant::Fail);
        let verdicts: Vec<Verdict> = report.gates.iter().map(|gate| gate.verdict).collect();
        assert_eq!(verdicts[..4], [Verdict::Fail, Verdict::Fail, Verdict::Fail, Verdict::Pass]);
        for pair in report.gates.windows(2).filter(|pair| pair[0].verdict == pair[1].verdict) {
            assert!(pair[0].margin <= pair[1].margin, "{} before {}", pair[0].gate, pair[1].gate);
        }
        let states: Vec<u8> = report.validity.iter().map(|check| severity(check.state)).collect();
        assert!(states.is_sorted());
        let seconds: Vec<_> = report.incidents.iter().map(|incident| incident.second).collect();
        assert_eq!(seconds, [Some(33), Some(50)]);
    }

    #[test]
    fn the_end_of_a_lost_worker_is_an_incident() {
        let incidents = report(Variant::Empty).incidents;
        assert_eq!(incidents.len(), 1);
        assert_eq!(incidents[0].what, "worker");
    }

    #[test]
    fn a_signal_that_the_target_owes_and_did_not_give_is_missing() {
        assert!(report(Variant::Empty).signals_missing.contains(&"replica_share".to_owned()));
        assert!(report(Variant::Pass).signals_missing.is_empty());
    }
}
