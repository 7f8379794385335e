//! Judges a load in steps: each step by the gates, as if it were a run of its own; then how far up they held.
//!
//! The steps are climbed from the first on, and the climb ends with the first that does not hold: whatever holds above it
//! came after an overload, or rests on a measurement in doubt.

use serde::{Deserialize, Serialize};

use super::figure::FigureName;
use super::figures::{Part, RequestFigures};
use super::headline::{headline_of_climb, place_and_reason};
use super::judge::{gates_under, own_signals, unaudited, verdict};
use super::rule::Rule;
use super::ruling::Ruling;
use super::signals::SignalBook;
use super::validity::validity_of_step;
use super::verdict::{GateOutcome, Judgement, Verdict};
use crate::archive::{LoadRecord, Record, Timeline, Window};
use crate::scenario::{GateRules, Scenario, StepRates, Steps};

/// What a run in steps is asked for when its scenario has no rule on all of them.
const IMPLIED: &str = "steps_held >= 1";

/// One step, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// Counted from 1.
    pub number: usize,
    /// Its rates in percent of the operations'.
    pub percent: u32,
    /// Requests per second that the scenario asks for.
    pub requests_per_s: f64,
    /// Events per second among them.
    pub events_per_s: f64,
    /// The seconds by which it is judged.
    pub window: Window,
    /// Whether every gate holds; inconclusive when that cannot be told.
    pub verdict: Verdict,
    /// Every gate on this step, in the scenario's order.
    pub gates: Vec<GateOutcome>,
}

/// How far up the steps held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    /// From the first on, as far as they were offered to their end; the first that does not hold is the last of them.
    pub steps: Vec<StepOutcome>,
    /// How many the scenario has.
    pub of: usize,
    /// How many of them held.
    pub held: usize,
    /// Events per second that were acknowledged in the last of these; nothing without events.
    pub held_events_per_s: Option<f64>,
    /// Requests per second that were sent in it.
    pub held_requests_per_s: Option<f64>,
}

impl Climb {
    /// The last step that held.
    pub fn last_held(&self) -> Option<&StepOutcome> {
        self.held.checked_sub(1).and_then(|last| self.steps.get(last))
    }

    /// The step with which it ended: the first that did not hold.
    pub fn ended_by(&self) -> Option<&StepOutcome> {
        self.steps.get(self.held)
    }

    /// The step that figures of the run are of: the last that held, else the first.
    pub fn shown(&self) -> Option<&StepOutcome> {
        self.last_held().or(self.steps.first())
    }
}

impl StepOutcome {
    /// The gates that did not hold: broken ones first, then those that cannot be told.
    pub fn not_held(&self) -> impl Iterator<Item = &GateOutcome> {
        let with = |verdict| self.gates.iter().filter(move |gate| gate.verdict == verdict);
        with(Verdict::Fail).chain(with(Verdict::Inconclusive))
    }
}

/// The judged seconds of each step; none when the load has no steps.
pub fn step_windows(scenario: &Scenario) -> Vec<Window> {
    let Some(steps) = &scenario.load.steps else { return Vec::new() };
    let seconds = |span: crate::units::Micros| span.secs_ceil() as usize;
    let (each, settle) = (seconds(steps.each), seconds(steps.settle));
    let begins = (0..steps.percents.len()).map(|step| seconds(scenario.load.warm_up) + step * each);
    begins.map(|at| Window { warm_up_s: at + settle, measure_s: each - settle }).collect()
}

/// What a record holds up to the end of a window, with that window as the measured one.
pub fn part(record: &Record, window: Window) -> Record {
    let end = window.end();
    let mut load = LoadRecord { seconds: Vec::new(), ..record.load.clone() };
    load.seconds.extend(record.load.seconds.iter().take(end).cloned());
    for operation in &mut load.operations {
        operation.seconds.truncate(end);
    }
    let mut timeline =
        Timeline { seconds: end.min(record.timeline.seconds), ..Timeline::default() };
    timeline.series.clone_from(&record.timeline.series);
    for series in &mut timeline.series {
        series.values.truncate(end + 1);
    }
    Record { window, load, timeline, ..record.clone() }
}

/// Judges one step of a record; `None` when the scenario has no such step, or the load ended before the step did.
pub fn judge_step(record: &Record, scenario: &Scenario, step: usize) -> Option<StepOutcome> {
    let steps = scenario.load.steps.as_ref()?;
    let window = step_windows(scenario).get(step).copied()?;
    if window.end() > record.window.end() {
        return None;
    }
    let alone = step_alone(scenario, step)?;
    let seen = part(record, window);
    let gates = gates_under(&seen, &alone, &validity_of_step(&seen, &alone, record));
    let any = |verdict: Verdict| gates.iter().any(|gate| gate.verdict == verdict);
    let verdict = if any(Verdict::Fail) {
        Verdict::Fail
    } else if gates.is_empty() || any(Verdict::Inconclusive) {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    };
    let StepRates { requests, events } = alone.rates_at(1.0);
    let percent = steps.percents.get(step).copied()?;
    Some(StepOutcome {
        number: step + 1,
        percent,
        requests_per_s: requests,
        events_per_s: events,
        window,
        verdict,
        gates,
    })
}

/// A step as a scenario of its own, with the gates that are told of each.
fn step_alone(scenario: &Scenario, step: usize) -> Option<Scenario> {
    let mut alone = scenario.at_step(step)?;
    let own = own_signals(&scenario.target);
    let is_of_steps = |text: &String| Rule::parse(text, &own).is_ok_and(|r| r.figure.is_of_steps());
    let GateRules { all, .. } = &mut alone.gates;
    all.retain(|text| !is_of_steps(text));
    Some(alone)
}

fn climb(record: &Record, scenario: &Scenario, steps: &Steps) -> Climb {
    let of = steps.percents.len();
    let mut judged: Vec<StepOutcome> = Vec::new();
    // The load goes on for some seconds until the step that ends it is known: what is sent meanwhile is no step of it.
    while judged.last().is_none_or(|last| last.verdict == Verdict::Pass)
        && let Some(step) = judge_step(record, scenario, judged.len())
    {
        judged.push(step);
    }
    let held = judged.iter().filter(|step| step.verdict == Verdict::Pass).count();
    let mut climb =
        Climb { steps: judged, of, held, held_events_per_s: None, held_requests_per_s: None };
    if let Some(window) = climb.last_held().map(|step| step.window) {
        let figures = RequestFigures::of(&part(record, window), Part::Run);
        let rate = |name| figures.get(&name).map(|figure| figure.value);
        climb.held_events_per_s = rate(FigureName::EventRate);
        climb.held_requests_per_s = rate(FigureName::AchievedRate);
    }
    climb
}

/// Judges a record of a load in steps by its scenario.
pub(super) fn judge_climb(record: &Record, scenario: &Scenario, steps: &Steps) -> Judgement {
    let climb = climb(record, scenario, steps);
    let gates = rules_on_climb(&climb, scenario);
    let unaudited = unaudited(record, scenario);
    let verdict = verdict(record, &gates, unaudited);
    let first = Window { warm_up_s: record.window.warm_up_s, measure_s: 0 };
    let (step, window) = climb.shown().map_or((0, first), |s| (s.number - 1, s.window));
    let seen = part(record, window);
    let alone = step_alone(scenario, step).unwrap_or_else(|| scenario.clone());
    let validity = validity_of_step(&seen, &alone, record);
    Judgement {
        verdict,
        headline: headline_of_climb(verdict, record, &gates, &validity, unaudited, &climb),
        gates,
        validity,
        signals: SignalBook::of(&scenario.target).figures(&seen.timeline, seen.window),
        climb: Some(climb),
    }
}

/// The scenario's rules on all steps together, or the implied one.
fn rules_on_climb(climb: &Climb, scenario: &Scenario) -> Vec<GateOutcome> {
    let own = own_signals(&scenario.target);
    let parsed = |text: &str| Rule::parse(text, &own).ok().filter(|r| r.figure.is_of_steps());
    let asked = scenario.gates.all.iter().map(String::as_str);
    let mut rules: Vec<(&str, Rule)> =
        asked.filter_map(|text| parsed(text).map(|rule| (text, rule))).collect();
    let implied = rules.is_empty();
    if implied {
        rules.extend(parsed(IMPLIED).map(|rule| (IMPLIED, rule)));
    }
    let outcomes = rules.iter().map(|(text, rule)| ruling(climb, rule).outcome(text, Some(rule)));
    let mut outcomes: Vec<GateOutcome> = outcomes.collect();
    // Nobody named a rate: what is asked for is the last that held, and that is not known.
    if let (true, Some(open)) = (implied, ended_in_doubt(climb)) {
        for outcome in &mut outcomes {
            outcome.verdict = Verdict::Inconclusive;
            outcome.reason = Some(open.clone());
        }
    }
    outcomes
}

/// Why the step with which the climb ended neither held nor broke.
fn ended_in_doubt(climb: &Climb) -> Option<String> {
    let step = climb.ended_by().filter(|step| step.verdict == Verdict::Inconclusive)?;
    Some(format!("step {} cannot be told: {}", step.number, place_and_reason(step)))
}

fn ruling(climb: &Climb, rule: &Rule) -> Ruling {
    if climb.steps.is_empty() {
        return Ruling::unknown("no samples: no step was offered to its end".to_owned());
    }
    let broke = climb.ended_by().is_some_and(|step| step.verdict == Verdict::Fail);
    let observed = match rule.figure {
        FigureName::StepsHeld => Some(climb.held as f64),
        FigureName::HeldEventRate => climb.held_events_per_s,
        _ => climb.held_requests_per_s,
    };
    // That even the first step broke is an observation: nothing held. Without events there is none, however far it went.
    let observed = observed.or((climb.held == 0 && broke).then_some(0.0));
    let Some(value) = observed else {
        let why = ended_in_doubt(climb);
        let why =
            why.unwrap_or_else(|| format!("no samples: {} has nothing behind it", rule.figure));
        return Ruling::unknown(why);
    };
    let ruling = Ruling::observed(rule, value, climb.steps.len() as u64);
    let note = match ended_in_doubt(climb) {
        _ if broke => return ruling,
        Some(why) => why,
        None if climb.steps.len() < climb.of => "the load ended before a step broke".to_owned(),
        None => "no step broke, so it may be more".to_owned(),
    };
    // What has been shown to hold needs no excuse.
    if ruling.verdict == Verdict::Pass && !rule.comparison.is_upper_bound() {
        return ruling;
    }
    ruling.at_least(rule, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{GooseCount, LoadSecond, OperationSecond};
    use crate::gates::fixture::{healthy, scenario, times};
    use crate::gates::{CheckState, judge};
    use crate::units::Micros;

    /// The healthy run as four steps of five seconds after its warm-up, the first second of each not judged.
    fn in_steps(gates: &[&str]) -> Scenario {
        let mut scenario = scenario(gates);
        scenario.load.steps = Some(Steps {
            percents: vec![100, 200, 300, 400],
            each: Micros::from_secs(5),
            settle: Micros::from_secs(1),
        });
        scenario
    }

    const GATES: [&str; 3] = ["p95 < 500ms", "event_rate >= 97%", "cache_hit_ratio > 80%"];

    fn with_rule(rule: &str) -> Scenario {
        in_steps(&[&GATES[..], &[rule]].concat())
    }

    /// Requests of these seconds take nine seconds each.
    fn slow(record: &mut Record, seconds: std::ops::Range<usize>) {
        for second in &mut record.load.operations[1].seconds[seconds] {
            second.response = times(vec![9_000_000; 200]);
        }
    }

    /// goose counts what is planted as well.
    fn count_again(record: &mut Record) {
        let seconds = || record.load.operations.iter().flat_map(|o| &o.seconds);
        let ok = seconds().map(|second| second.ok).sum();
        record.load.goose = Some(GooseCount { ok, failed: 0 });
    }

    fn climb_of(record: &Record, scenario: &Scenario) -> (Judgement, Climb) {
        let judgement = judge(record, scenario);
        let climb = judgement.climb.clone().expect("a load in steps has a climb");
        (judgement, climb)
    }

    fn verdict_on(record: &Record, rule: &str) -> (Verdict, String) {
        let (judgement, _) = climb_of(record, &with_rule(rule));
        let [gate] = &judgement.gates[..] else { panic!("{:?}", judgement.gates) };
        assert_eq!((gate.gate.as_str(), gate.verdict), (rule, judgement.verdict));
        (gate.verdict, gate.reason.clone().unwrap_or_default())
    }

    #[test]
    fn steps_that_all_hold_show_at_least_so_much_and_no_more() {
        let record = healthy();
        let (judgement, climb) = climb_of(&record, &in_steps(&GATES));
        assert_eq!((climb.held, climb.of, climb.held_events_per_s), (4, 4, Some(100.0)));
        assert_eq!((judgement.verdict, climb.ended_by()), (Verdict::Pass, None));
        assert!(judgement.headline.contains("no step broke"), "{}", judgement.headline);
        assert_eq!(climb.held_requests_per_s, Some(300.0));
        assert_eq!(verdict_on(&record, "held_event_rate >= 100/s").0, Verdict::Pass);
        let (verdict, reason) = verdict_on(&record, "held_event_rate >= 101/s");
        assert_eq!(verdict, Verdict::Inconclusive, "it may well be more");
        assert!(reason.contains("no step broke"), "{reason}");
    }

    #[test]
    fn the_first_step_that_breaks_ends_it_and_the_one_before_is_the_answer() {
        let mut record = healthy();
        slow(&mut record, 15..19);
        let (judgement, climb) = climb_of(&record, &in_steps(&GATES));
        let verdicts: Vec<Verdict> = climb.steps.iter().map(|step| step.verdict).collect();
        use Verdict::{Fail, Pass};
        assert_eq!(verdicts, [Pass, Pass, Fail], "what is above a step that broke is not judged");
        assert_eq!(climb.held, 2);
        let broken = climb.ended_by().unwrap();
        assert_eq!((broken.number, broken.percent, broken.events_per_s), (3, 300, 300.0));
        assert_eq!(broken.not_held().next().unwrap().gate, "p95 < 500ms");
        assert_eq!(judgement.verdict, Pass, "nobody asked for more than one step");
        assert!(judgement.headline.starts_with("Held 100/s events, step 2 of 4; step 3"));
        assert!(judgement.headline.contains("broke p95 < 500ms"), "{}", judgement.headline);
        assert_eq!(verdict_on(&record, "held_event_rate >= 100/s").0, Pass);
        assert_eq!(verdict_on(&record, "held_rate >= 300/s").0, Pass);
        assert_eq!(verdict_on(&record, "held_event_rate >= 101/s").0, Fail);
        assert_eq!(verdict_on(&record, "steps_held >= 3").0, Fail);
    }

    #[test]
    fn a_step_is_not_judged_while_it_settles() {
        let mut record = healthy();
        slow(&mut record, 14..15);
        assert_eq!(climb_of(&record, &in_steps(&GATES)).1.held, 4);
    }

    #[test]
    fn when_not_even_the_first_step_holds_the_run_fails() {
        let mut record = healthy();
        slow(&mut record, 5..9);
        let (judgement, climb) = climb_of(&record, &in_steps(&GATES));
        assert_eq!((climb.held, judgement.verdict), (0, Verdict::Fail));
        assert_eq!(judgement.gates[0].gate, IMPLIED);
        assert!(judgement.headline.contains("no step held; step 1"), "{}", judgement.headline);
        assert_eq!(verdict_on(&record, "held_event_rate >= 1/s").0, Verdict::Fail);
    }

    #[test]
    fn a_step_without_data_never_holds() {
        for step in 0..4 {
            let mut record = healthy();
            let seconds = 5 + 5 * step..9 + 5 * step;
            for operation in &mut record.load.operations {
                operation.seconds[seconds.clone()].fill(OperationSecond::default());
            }
            record.load.seconds[seconds.clone()].fill(LoadSecond::default());
            for series in &mut record.timeline.series {
                series.values[seconds.clone()].fill(None);
            }
            count_again(&mut record);
            for gates in GATES.iter().map(|gate| vec![*gate]).chain([GATES.to_vec()]) {
                let climb = climb_of(&record, &in_steps(&gates)).1;
                assert_eq!(climb.steps[step].verdict, Verdict::Inconclusive, "{gates:?}");
                assert_eq!(climb.held, step, "{gates:?}");
            }
        }
        let mut record = healthy();
        record.load = LoadRecord::default();
        let (judgement, climb) = climb_of(&record, &in_steps(&["p95 < 500ms"]));
        assert_eq!((climb.held, judgement.verdict), (0, Verdict::Inconclusive));
    }

    #[test]
    fn a_step_that_could_not_be_offered_is_in_doubt_and_so_is_what_comes_after() {
        let mut record = healthy();
        for second in &mut record.load.operations[1].seconds[15..19] {
            (second.sent, second.ok, second.dropped) = (100, 100, 100);
            second.response = times((0..100).map(|i| 1_000 + i));
        }
        count_again(&mut record);
        let (judgement, climb) = climb_of(&record, &in_steps(&GATES));
        assert_eq!((climb.held, climb.steps[2].verdict), (2, Verdict::Inconclusive));
        assert_eq!(
            judgement.verdict,
            Verdict::Inconclusive,
            "the last rate that held is not known"
        );
        assert!(judgement.headline.contains("cannot be told"), "{}", judgement.headline);
        assert_eq!(verdict_on(&record, "held_event_rate >= 100/s").0, Verdict::Pass);
        assert_eq!(verdict_on(&record, "steps_held >= 2").0, Verdict::Pass);
        let (verdict, reason) = verdict_on(&record, "steps_held >= 3");
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains("step 3 cannot be told"), "{reason}");
    }

    #[test]
    fn a_load_that_ended_early_has_the_steps_that_were_over() {
        let mut record = healthy();
        record.window.measure_s = 12;
        let mut record = part(&record, record.window);
        count_again(&mut record);
        let climb = climb_of(&record, &in_steps(&GATES)).1;
        assert_eq!((climb.steps.len(), climb.held, climb.of), (2, 2, 4));
        let (verdict, reason) = verdict_on(&record, "steps_held >= 3");
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains("ended before a step broke"), "{reason}");
    }

    /// While a load runs nothing is known of later seconds: that must make no difference to a step that is over.
    #[test]
    fn a_step_is_judged_while_the_load_runs_as_it_is_afterwards() {
        let (scenario, mut whole) = (in_steps(&GATES), healthy());
        slow(&mut whole, 15..19);
        for (step, window) in step_windows(&scenario).into_iter().enumerate() {
            let end = window.end();
            let mut live = whole.clone();
            live.load.goose = None;
            live.load.seconds.truncate(end);
            for second in live.load.operations.iter_mut().flat_map(|o| &mut o.seconds[end..]) {
                *second = OperationSecond { intended: second.intended, ..Default::default() };
            }
            for series in &mut live.timeline.series {
                series.values[end + 1..].fill(None);
            }
            assert_eq!(judge_step(&live, &scenario, step), judge_step(&whole, &scenario, step));
        }
    }

    #[test]
    fn what_is_told_of_the_run_is_of_the_last_step_that_held() {
        let mut record = healthy();
        record.load.operations[1].seconds[15..19].iter_mut().for_each(|second| second.dropped = 1);
        slow(&mut record, 15..19);
        let judgement = judge(&record, &in_steps(&GATES));
        let state = |name: &str| judgement.validity.iter().find(|c| c.check == name).unwrap().state;
        assert_eq!(state("nothing dropped"), CheckState::Green);
        assert_eq!(state("goose counts the same"), CheckState::Green, "held together over the run");
        record.load.goose = Some(GooseCount { ok: 1, failed: 0 });
        let climb = climb_of(&record, &in_steps(&GATES)).1;
        assert_eq!(
            climb.steps[0].verdict,
            Verdict::Inconclusive,
            "a doubt about the run is one about each step"
        );
    }
}
