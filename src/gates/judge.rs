//! Judges a record: gates, then validity's direction, then the audit. A function of a record and its scenario.

use std::collections::BTreeSet;

use super::bias::let_stand;
use super::figure::FigureName;
use super::figures::{Counts, Part, RequestFigures, services};
use super::headline::headline;
use super::rule::{Rule, Scope};
use super::ruling::Ruling;
use super::signals::SignalBook;
use super::steps::judge_climb;
use super::validity::validity;
use super::verdict::{GateOutcome, Judgement, ValidityCheck, Verdict};
use crate::archive::{AuditCheck, AuditState, Record};
use crate::scenario::{Scenario, Target};

/// The audit's check that an empty ledger leaves open.
const DURABILITY: &str = "acknowledged commands are in the store exactly once";

/// Judges a record by its scenario.
pub fn judge(record: &Record, scenario: &Scenario) -> Judgement {
    if let Some(steps) = &scenario.load.steps {
        return judge_climb(record, scenario, steps);
    }
    let book = SignalBook::of(&scenario.target);
    let validity = validity(record, scenario);
    let gates = gates_under(record, scenario, &validity);
    let unaudited = unaudited(record, scenario);
    let verdict = verdict(record, &gates, unaudited);
    Judgement {
        verdict,
        headline: headline(verdict, record, &gates, &validity, unaudited),
        gates,
        validity,
        signals: book.figures(&record.timeline, record.window),
        climb: None,
    }
}

/// Every gate on the measured window, as far as validity lets its verdict stand.
pub(super) fn gates_under(
    record: &Record,
    scenario: &Scenario,
    validity: &[ValidityCheck],
) -> Vec<GateOutcome> {
    let book = SignalBook::of(&scenario.target);
    let mut gates = Evidence::new(record, &book).outcomes(scenario);
    let own = own_signals(&scenario.target);
    for gate in &mut gates {
        // One that is not a rule of this release is inconclusive already.
        if let Ok(rule) = Rule::parse(&gate.gate, &own) {
            let_stand(gate, &rule.figure, validity);
        }
    }
    gates
}

/// The signals that a scenario defines itself: what [`Rule::parse`] takes besides the known figures.
pub fn own_signals(target: &Target) -> BTreeSet<String> {
    match target {
        Target::Reference(_) => BTreeSet::new(),
        Target::Http(http) => http.signals.sources.keys().cloned().collect(),
    }
}

/// A red audit fails whatever the load looked like: what was acknowledged is lost. Then any failure that stands;
/// then anything that cannot be told, part of an audit that was asked for included, and a run without gates tells nothing.
pub(super) fn verdict(
    record: &Record,
    gates: &[GateOutcome],
    unaudited: Option<&AuditCheck>,
) -> Verdict {
    let any = |verdict: Verdict| gates.iter().any(|gate| gate.verdict == verdict);
    let audit_red = record.audit.iter().any(|check| check.state == AuditState::Red);
    if audit_red || any(Verdict::Fail) {
        Verdict::Fail
    } else if gates.is_empty() || any(Verdict::Inconclusive) || unaudited.is_some() {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}

/// The first check of an audit that was made which could not be: durability was to be proven, and is not. An audit that
/// nobody asked for has no checks, and a foreign target has no databases that could be read.
pub(super) fn unaudited<'a>(record: &'a Record, scenario: &Scenario) -> Option<&'a AuditCheck> {
    if !matches!(scenario.target, Target::Reference(_)) {
        return None;
    }
    let has_events = scenario.operations.iter().any(|operation| operation.event);
    // Where nothing is ever acknowledged, nothing can be lost.
    let is_owed = |check: &&AuditCheck| has_events || check.check != DURABILITY;
    record.audit.iter().filter(is_owed).find(|check| check.state == AuditState::Grey)
}

/// What gates are judged on.
struct Evidence<'a> {
    record: &'a Record,
    book: &'a SignalBook,
    run: RequestFigures,
    operations: Vec<(&'a str, RequestFigures)>,
    services: Vec<(&'a str, RequestFigures)>,
}

impl<'a> Evidence<'a> {
    fn new(record: &'a Record, book: &'a SignalBook) -> Self {
        let operations = record.load.operations.iter().map(|operation| {
            let name = operation.name.as_str();
            (name, RequestFigures::of(record, Part::Operation(name)))
        });
        let services = services(record)
            .into_iter()
            .map(|name| (name, RequestFigures::of(record, Part::Service(name))));
        Self {
            record,
            book,
            run: RequestFigures::of(record, Part::Run),
            operations: operations.collect(),
            services: services.collect(),
        }
    }

    /// Every gate in the scenario's order: `all`, `each_operation`, `each_service`, `operation`.
    fn outcomes(&self, scenario: &Scenario) -> Vec<GateOutcome> {
        let own = own_signals(&scenario.target);
        let judge = |text: &String, part: Part<'_>| self.outcome(text, part, &own);
        let rules = &scenario.gates;
        let mut outcomes: Vec<GateOutcome> =
            rules.all.iter().map(|text| judge(text, Part::Run)).collect();
        // From the scenario, not from the record: an operation that left no trace must not lose its gates.
        for text in &rules.each_operation {
            let names = scenario.operations.iter().map(|operation| operation.name.as_str());
            outcomes.extend(names.map(|name| judge(text, Part::Operation(name))));
        }
        let mut names: Vec<&str> =
            scenario.operations.iter().filter_map(|o| o.service.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        for text in &rules.each_service {
            outcomes.extend(names.iter().map(|name| judge(text, Part::Service(name))));
        }
        for (name, texts) in &rules.operation {
            outcomes.extend(texts.iter().map(|text| judge(text, Part::Operation(name))));
        }
        outcomes
    }

    fn outcome(&self, text: &str, part: Part<'_>, own: &BTreeSet<String>) -> GateOutcome {
        let scope = match part {
            Part::Run => Scope::Run,
            Part::Operation(_) => Scope::Operation,
            Part::Service(_) => Scope::Service,
        };
        let rule = Rule::parse(text, own).and_then(|r| r.check_scope(scope).map(|()| r));
        let rule = rule.map(|rule| {
            let offered = self.offered(&rule, part);
            rule.against(offered)
        });
        let ruling = match &rule {
            Ok(rule) => self.rule_on(rule, part),
            // Checked when the scenario was read; an archive of another release may still hold it.
            Err(error) => Ruling::unknown(format!("not a rule of this release: {error}")),
        };
        let (operation, service) = match part {
            Part::Run => (None, None),
            Part::Operation(name) => (Some(name.to_owned()), None),
            Part::Service(name) => (None, Some(name.to_owned())),
        };
        GateOutcome { operation, service, ..ruling.outcome(text, rule.ok().as_ref()) }
    }

    /// What the schedule asked for in the window, per second, of what a rule's figure counts.
    fn offered(&self, rule: &Rule, part: Part<'_>) -> f64 {
        let intended = match rule.figure {
            FigureName::AchievedRate => self.figures(part).map_or(0, |f| f.counts.intended),
            _ => {
                let events = self.record.load.operations.iter().filter(|o| o.event);
                Counts::of(events, self.record.window.measured()).intended
            }
        };
        intended as f64 / self.record.window.measure_s.max(1) as f64
    }

    fn figures(&self, part: Part<'_>) -> Option<&RequestFigures> {
        match part {
            Part::Run => Some(&self.run),
            Part::Operation(name) => named(&self.operations, name),
            Part::Service(name) => named(&self.services, name),
        }
    }

    fn rule_on(&self, rule: &Rule, part: Part<'_>) -> Ruling {
        if rule.limit <= 0.0 && rule.figure.follows_offer() {
            // A share of nothing would hold whatever was counted.
            return Ruling::unknown("no samples: nothing was offered".to_owned());
        }
        if let FigureName::Signal(signal) = &rule.figure {
            let reading = self.book.read(signal, &self.record.timeline, self.record.window);
            return match reading {
                Some(reading) => Ruling::on_signal(rule, reading, self.record.window),
                None => {
                    let why = self.book.why_absent(signal, &self.record.timeline);
                    Ruling::unknown(format!("{signal} could not be computed: {why}"))
                }
            };
        }
        match self.figures(part) {
            Some(figures) => Ruling::on_requests(rule, figures),
            None => Ruling::unknown("no samples: nothing was recorded for it".to_owned()),
        }
    }
}

fn named<'f>(parts: &'f [(&str, RequestFigures)], name: &str) -> Option<&'f RequestFigures> {
    parts.iter().find(|(known, _)| *known == name).map(|(_, figures)| figures)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::{Incident, LoadRecord, Timeline, WorkerEnd};
    use crate::gates::fixture::{healthy, scenario, series, speed_up, times};
    use crate::gates::{Bias, CheckState, Comparison};
    use crate::scenario::{HttpTarget, Signals};

    /// Every figure, with a limit that the healthy run meets and one that it does not.
    const FIGURES: [(&str, &str, &str); 22] = [
        ("p95", "< 500ms", "< 5ms"),
        ("p50", "<= 100ms", "<= 1ms"),
        ("p99.9", "< 500ms", "< 5ms"),
        ("mean", "< 7ms", "< 5ms"),
        ("max", "< 1s", "< 5ms"),
        ("service_p95", "< 50ms", "< 5ms"),
        ("service_mean", "< 50ms", "< 5ms"),
        ("send_lag_p99", "< 5ms", "< 100us"),
        ("error_rate", "< 0.5%", "> 0.5%"),
        ("timeout_rate", "<= 0%", "> 0%"),
        ("dropped_rate", "<= 0%", "> 0%"),
        ("availability", ">= 99.9%", "< 99.9%"),
        ("event_rate", ">= 100/s", ">= 101/s"),
        ("offered_rate", ">= 300/s", "> 300/s"),
        ("achieved_rate", ">= 300/s", "> 300/s"),
        ("projected_rate", ">= 100/s", "> 101/s"),
        ("cache_hit_ratio", "> 85%", "> 95%"),
        ("replica_share", "> 40%", "> 60.1%"),
        ("partition_skew", "< 1.3", "> 1.3"),
        ("projection_lag_ms_p95", "< 1s", "< 10ms"),
        ("replication_lag_ms_max", "< 1s", "< 1ms"),
        ("db_query_p95", "< 500ms", "< 5ms"),
    ];

    fn gate(record: &Record, text: &str) -> GateOutcome {
        judge(record, &scenario(&[text])).gates.remove(0)
    }

    fn without_data() -> Record {
        let mut record = healthy();
        for operation in &mut record.load.operations {
            operation.seconds.iter_mut().for_each(|second| *second = Default::default());
        }
        record.load.seconds.clear();
        record.timeline = Timeline::default();
        record
    }

    #[test]
    fn every_figure_is_seen_to_pass_and_to_fail() {
        let record = healthy();
        for (figure, good, bad) in FIGURES {
            let pass = gate(&record, &format!("{figure} {good}"));
            assert_eq!(pass.verdict, Verdict::Pass, "{pass:?}");
            assert_eq!(pass.reason, None, "{pass:?}");
            let fail = gate(&record, &format!("{figure} {bad}"));
            assert_eq!(fail.verdict, Verdict::Fail, "{fail:?}");
            assert!(fail.samples > 0 && fail.reason.is_some(), "{fail:?}");
        }
    }

    #[test]
    fn the_limit_of_a_rate_may_be_a_share_of_what_is_offered() {
        let mut record = healthy();
        for text in ["event_rate >= 97%", "projected_rate >= 97%", "achieved_rate >= 97%"] {
            let held = gate(&record, text);
            let offered = if text.starts_with("achieved") { 300.0 } else { 100.0 };
            assert_eq!((held.verdict, held.limit), (Verdict::Pass, 0.97 * offered), "{held:?}");
        }
        for second in &mut record.load.operations[0].seconds {
            second.intended *= 2;
        }
        for text in ["event_rate >= 97%", "projected_rate >= 97%"] {
            let observed = gate(&record, text);
            assert_eq!((observed.observed, observed.limit), (Some(100.0), 194.0), "{observed:?}");
            assert!(observed.reason.unwrap().contains("is 100/s"));
        }
        let achieved = judge(&record, &{
            let mut each = scenario(&[]);
            each.gates.each_service = vec!["achieved_rate >= 97%".to_owned()];
            each
        });
        let limits: Vec<f64> = achieved.gates.iter().map(|gate| gate.limit).collect();
        assert_eq!(limits, [194.0, 194.0], "of what is offered to the service alone");
        for record in [without_data(), Record { timeline: healthy().timeline, ..without_data() }] {
            for text in ["event_rate >= 97%", "projected_rate >= 97%", "achieved_rate >= 97%"] {
                let outcome = gate(&record, text);
                assert_eq!(outcome.verdict, Verdict::Inconclusive, "{outcome:?}");
            }
        }
    }

    #[test]
    fn no_figure_without_samples_is_judged() {
        for record in [without_data(), Record { load: LoadRecord::default(), ..without_data() }] {
            for (figure, good, bad) in FIGURES {
                for limit in [good, bad] {
                    let outcome = gate(&record, &format!("{figure} {limit}"));
                    assert_eq!(outcome.verdict, Verdict::Inconclusive, "{outcome:?}");
                    assert_eq!((outcome.observed, outcome.samples), (None, 0));
                    assert!(outcome.reason.is_some());
                }
            }
        }
    }

    #[test]
    fn figures_count_what_they_say() {
        let mut record = healthy();
        let second = &mut record.load.operations[0].seconds[9];
        (second.ok, second.errors, second.timeouts, second.dropped) = (50, 30, 10, 10);
        let observed = |text: &str| gate(&record, text).observed.unwrap();
        assert_eq!(observed("error_rate < 50%"), 40.0 / 5990.0);
        assert_eq!(observed("timeout_rate < 50%"), 10.0 / 5990.0);
        assert_eq!(observed("dropped_rate < 50%"), 10.0 / 6000.0);
        assert_eq!(observed("availability > 50%"), 5950.0 / 5990.0);
    }

    #[test]
    fn a_request_that_got_lost_counts_against_availability() {
        let mut record = healthy();
        record.load.operations[0].seconds[9].ok = 0;
        let observed = gate(&record, "availability > 99%").observed.unwrap();
        assert_eq!(observed, 5900.0 / 6000.0);
    }

    #[test]
    fn warm_up_is_not_judged() {
        let mut record = healthy();
        for second in &mut record.load.operations[0].seconds[0..4] {
            second.response = times(vec![9_000_000; 100]);
        }
        assert_eq!(gate(&record, "max < 12ms").verdict, Verdict::Pass);
        record.load.operations[0].seconds[4].response = times(vec![9_000_000; 100]);
        assert_eq!(gate(&record, "max < 12ms").verdict, Verdict::Fail);
    }

    /// A record whose every request took `us`, with `count` of them.
    fn with_samples(us: u64, count: usize) -> Record {
        let mut record = healthy();
        for operation in &mut record.load.operations {
            operation.seconds.iter_mut().for_each(|second| second.response = times([]));
        }
        record.load.operations[0].seconds[9].response = times(vec![us; count]);
        for second in &mut record.load.seconds {
            second.lag = times([]);
            second.own_lag = times([]);
        }
        record
    }

    /// Applies one rule to a record without validity, which the planted distributions would upset.
    fn ruling(record: &Record, text: &str) -> Ruling {
        let figures = RequestFigures::of(record, Part::Run);
        Ruling::on_requests(&text.parse().unwrap(), &figures)
    }

    #[test]
    fn too_few_samples_prove_a_failure_at_most() {
        for (percentile, enough) in [("p95", 59), ("p99", 299), ("p99.9", 2995)] {
            let text = format!("{percentile} < 10ms");
            let few = ruling(&with_samples(1_000, enough - 1), &text);
            assert_eq!(few.verdict, Verdict::Inconclusive, "{percentile}");
            assert!(few.reason.unwrap().contains(&format!("at least {enough}")));
            assert_eq!(ruling(&with_samples(1_000, enough), &text).verdict, Verdict::Pass);
        }
        assert_eq!(ruling(&with_samples(20_000, 5), "p95 < 10ms").verdict, Verdict::Fail);
        assert_eq!(ruling(&with_samples(20_000, 1), "p50 < 10ms").verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_share_takes_enough_requests_to_be_seen() {
        let record = |ok: u64, errors: u64| {
            let mut record = healthy();
            for operation in &mut record.load.operations {
                operation.seconds.iter_mut().for_each(|second| *second = Default::default());
            }
            let second = &mut record.load.operations[0].seconds[9];
            (second.intended, second.sent, second.ok, second.errors) =
                (ok + errors, ok + errors, ok, errors);
            record
        };
        for (text, enough) in
            [("error_rate < 0.5%", 598), ("timeout_rate <= 5%", 59), ("availability > 99.9%", 2995)]
        {
            let few = ruling(&record(enough - 1, 0), text);
            assert_eq!(few.verdict, Verdict::Inconclusive, "{text}");
            assert!(few.reason.unwrap().contains(&format!("at least {enough}")));
            assert_eq!(ruling(&record(enough, 0), text).verdict, Verdict::Pass, "{text}");
        }
        let verdict = |ok, errors, text| ruling(&record(ok, errors), text).verdict;
        assert_eq!(verdict(0, 1, "error_rate < 0.5%"), Verdict::Fail, "one of one proves it");
        assert_eq!(verdict(99, 1, "error_rate < 0.5%"), Verdict::Inconclusive, "one of 100 not");
        assert_eq!(verdict(1, 0, "error_rate <= 0%"), Verdict::Pass, "of this run");
        assert_eq!(verdict(99, 1, "error_rate <= 0%"), Verdict::Fail);
    }

    #[test]
    fn a_gauge_with_gaps_proves_a_maximum_at_most() {
        let mut record = healthy();
        let labels = [("replica", "replica-2")];
        series(&mut record, "pg_replication_lag_seconds", &labels).values[10..13].fill(None);
        for (text, verdict) in [
            ("replication_lag_ms_p95 < 1s", Verdict::Inconclusive),
            ("replication_lag_ms_p95 < 1ms", Verdict::Inconclusive),
            ("replication_lag_ms_max < 1s", Verdict::Inconclusive),
            ("replication_lag_ms_max < 1ms", Verdict::Fail),
            ("projection_lag_ms_p95 < 1s", Verdict::Pass),
        ] {
            let outcome = gate(&record, text);
            assert_eq!(outcome.verdict, verdict, "{outcome:?}");
        }
    }

    #[test]
    fn a_verdict_near_the_limit_says_so() {
        let near = |slow: usize| {
            let mut record = with_samples(1_000, 1000 - slow);
            record.load.operations[0].seconds[10].response = times(vec![20_000; slow]);
            ruling(&record, "p95 < 10ms")
        };
        let (pass, fail, clear) = (near(45), near(55), near(20));
        assert_eq!((pass.verdict, fail.verdict), (Verdict::Pass, Verdict::Fail));
        insta::assert_snapshot!(pass.reason.unwrap(), @"close: 45 of 1,000 requests beyond the limit, so between 3.5 % and 5.7 % at 95 % confidence, where 5 % is allowed");
        assert!(fail.reason.unwrap().contains("close: 55 of 1,000"));
        assert_eq!((clear.verdict, clear.reason), (Verdict::Pass, None));
    }

    #[test]
    fn a_quantile_beyond_the_last_bucket_never_passes_an_upper_bound() {
        let mut record = healthy();
        for le in ["0.005", "0.01"] {
            let labels = [("le", le)];
            series(&mut record, "backend_db_query_duration_seconds_bucket", &labels)
                .values
                .fill(Some(0.0));
        }
        assert_eq!(gate(&record, "db_query_p95 < 500ms").verdict, Verdict::Inconclusive);
        assert_eq!(gate(&record, "db_query_p95 < 5ms").verdict, Verdict::Fail);
        assert_eq!(gate(&record, "db_query_p95 > 5ms").verdict, Verdict::Pass);
        assert_eq!(gate(&record, "db_query_p95 > 500ms").verdict, Verdict::Inconclusive);
    }

    #[test]
    fn parts_are_judged_by_themselves() {
        let mut record = healthy();
        for second in &mut record.load.operations[1].seconds {
            second.response = times(vec![700_000; 200]);
        }
        let mut scenario = scenario(&[]);
        let rule = vec!["p95 < 500ms".to_owned()];
        scenario.gates.each_operation = rule.clone();
        scenario.gates.each_service = rule.clone();
        scenario.gates.operation.insert("read summary".to_owned(), rule);
        let judgement = judge(&record, &scenario);
        let places: Vec<_> = judgement
            .gates
            .iter()
            .map(|g| (g.operation.as_deref(), g.service.as_deref(), g.verdict))
            .collect();
        assert_eq!(
            places,
            [
                (Some("record revenue"), None, Verdict::Pass),
                (Some("read summary"), None, Verdict::Fail),
                (None, Some("read-models"), Verdict::Fail),
                (None, Some("revenues"), Verdict::Pass),
                (Some("read summary"), None, Verdict::Fail),
            ]
        );
        assert_eq!(judgement.verdict, Verdict::Fail);
        assert!(judgement.headline.contains("(2 more gates failed)"), "{}", judgement.headline);
    }

    #[test]
    fn an_operation_that_left_no_trace_keeps_its_gates() {
        let mut record = healthy();
        record.load.operations.remove(1);
        record.load.goose = None;
        let mut scenario = scenario(&[]);
        scenario.gates.each_operation = vec!["p95 < 500ms".to_owned()];
        scenario.gates.each_service = vec!["p95 < 500ms".to_owned()];
        let inconclusive = |gate: &GateOutcome| gate.verdict == Verdict::Inconclusive;
        let gates = judge(&record, &scenario).gates;
        assert_eq!(gates.len(), 4);
        assert_eq!(gates.iter().filter(|gate| inconclusive(gate)).count(), 2);
    }

    #[test]
    fn the_verdict_of_the_run_is_that_of_its_worst_evidence() {
        let verdict = |record: &Record, gates: &[&str]| judge(record, &scenario(gates)).verdict;
        let (good, bad) = ("p95 < 500ms", "p95 < 5ms");
        let record = healthy();
        assert_eq!(verdict(&record, &[good]), Verdict::Pass);
        assert_eq!(verdict(&record, &[good, bad]), Verdict::Fail);
        assert_eq!(verdict(&record, &[]), Verdict::Inconclusive);
        let mut blind = healthy();
        blind.timeline = Timeline::default();
        assert_eq!(verdict(&blind, &[good, "cache_hit_ratio > 85%"]), Verdict::Inconclusive);
        assert_eq!(verdict(&blind, &[bad, "cache_hit_ratio > 85%"]), Verdict::Fail);
        let mut unaudited = healthy();
        unaudited.audit[0].state = AuditState::Red;
        assert_eq!(verdict(&unaudited, &[good]), Verdict::Fail);
        assert_eq!(verdict(&unaudited, &[]), Verdict::Fail);
        let mut lost = healthy();
        lost.load.worker = WorkerEnd::Lost { detail: "killed".to_owned() };
        assert_eq!(verdict(&lost, &[good]), Verdict::Inconclusive);
        assert_eq!(verdict(&lost, &[bad]), Verdict::Inconclusive);
    }

    #[test]
    fn a_fault_of_the_measurement_takes_the_half_that_it_can_have_made() {
        let mut late = healthy();
        late.load.seconds[9].lag = times(vec![900_000; 300]);
        late.load.seconds[9].own_lag = times(vec![900_000; 300]);
        let mut dropping = healthy();
        dropping.load.operations[0].seconds[9].dropped = 1;
        dropping.load.operations[0].seconds[9].ok -= 1;
        dropping.load.operations[0].seconds[9].response = times(vec![1_000; 99]);
        dropping.load.goose.as_mut().unwrap().ok -= 1;
        let reds = |record: &Record| -> Vec<Bias> {
            let checks = judge(record, &scenario(&["p95 < 500ms"])).validity;
            checks.iter().filter(|c| c.state == CheckState::Red).filter_map(|c| c.bias).collect()
        };
        assert_eq!(reds(&late), [Bias::LooksWorse]);
        assert_eq!(reds(&dropping), [Bias::LooksBetter]);
        for (record, pass, fail) in [
            (late, Verdict::Pass, Verdict::Inconclusive),
            (dropping, Verdict::Inconclusive, Verdict::Fail),
        ] {
            assert_eq!(gate(&record, "p95 < 500ms").verdict, pass);
            assert_eq!(gate(&record, "p95 < 5ms").verdict, fail);
        }
    }

    /// A server that answers so slowly that every user waits for it: arrivals are sent late, and some not at all.
    fn overloaded() -> Record {
        let mut record = healthy();
        for second in &mut record.load.seconds[4..] {
            second.in_flight_max = 1000;
            second.lag = times(vec![2_000_000; 300]);
        }
        for operation in &mut record.load.operations {
            for second in &mut operation.seconds[4..] {
                second.response = times(vec![3_000_000; second.sent as usize]);
                second.service = times(vec![1_000_000; second.sent as usize]);
            }
        }
        record
    }

    #[test]
    fn a_system_that_is_too_slow_fails() {
        let judgement = judge(&overloaded(), &scenario(&["p95 < 500ms"]));
        let state = |name: &str| judgement.validity.iter().find(|c| c.check == name).unwrap().state;
        assert_eq!(state("send lag"), CheckState::Green);
        assert_eq!(state("cap on requests in flight"), CheckState::Amber);
        assert_eq!(judgement.verdict, Verdict::Fail, "{}", judgement.headline);
    }

    #[test]
    fn figures_of_the_client_stand_when_the_server_could_not_be_read() {
        let mut record = overloaded();
        for series in
            record.timeline.series.iter_mut().filter(|s| s.key.name.starts_with("backend"))
        {
            series.values[6..22].fill(None);
        }
        let judgement = judge(&record, &scenario(&["p95 < 500ms", "cache_hit_ratio > 95%"]));
        let verdicts: Vec<Verdict> = judgement.gates.iter().map(|gate| gate.verdict).collect();
        assert_eq!(verdicts, [Verdict::Fail, Verdict::Inconclusive]);
        assert_eq!(judgement.verdict, Verdict::Fail);
    }

    #[test]
    fn headlines_name_what_decides() {
        let headline = |record: &Record, gates: &[&str]| judge(record, &scenario(gates)).headline;
        let record = healthy();
        insta::assert_snapshot!(headline(&record, &["p95 < 500ms", "error_rate < 1%"]), @"All 2 gates hold; closest is p95 < 500ms: observed 10.5 ms over 6,000 samples.");
        insta::assert_snapshot!(headline(&record, &["p95 < 5ms", "mean < 5ms"]), @"Failed: p95 < 5ms: observed 10.5 ms over 6,000 samples (1 more gate failed).");
        insta::assert_snapshot!(headline(&record, &[]), @"Inconclusive: the scenario has no gates.");
        let mut blind = healthy();
        blind.timeline = Timeline::default();
        insta::assert_snapshot!(headline(&blind, &["cache_hit_ratio > 85%"]), @"Inconclusive: cache_hit_ratio > 85%: cache_hit_ratio could not be computed: no data.");
        let mut lost = healthy();
        lost.load.worker = WorkerEnd::Lost { detail: "killed".to_owned() };
        let mut unproven = healthy();
        speed_up(&mut unproven, "pg_events_total", &[], -50.0);
        assert!(
            headline(&unproven, &["happiness > 3", "event_rate >= 100/s"]).contains("happiness"),
            "the events are not why the first gate cannot be told"
        );
        insta::assert_snapshot!(headline(&lost, &["p95 < 5ms"]), @"Inconclusive: worker finished: the worker was lost: killed.");
    }

    #[test]
    fn a_value_that_reads_like_its_limit_says_how_far_off_it_is() {
        let reason = |rule: &str| gate(&healthy(), rule).reason.unwrap();
        assert!(reason("p95 < 10.452ms").starts_with("p95 is 10.5 ms, not < 10.5 ms: off by 3 µs"));
        assert!(reason("p95 < 5ms").starts_with("p95 is 10.5 ms, not < 5 ms"));
        assert!(!reason("p95 < 5ms").contains("off by"));
    }

    #[test]
    fn an_audit_that_was_asked_for_and_not_made_is_no_pass() {
        let (good, bad) = ("p95 < 500ms", "p95 < 5ms");
        let mut record = healthy();
        record.audit[0].state = AuditState::Grey;
        record.audit[0].detail = "connection refused".to_owned();
        let judgement = judge(&record, &scenario(&[good]));
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        assert_eq!(judgement.gates[0].verdict, Verdict::Pass, "the gate itself holds");
        insta::assert_snapshot!(judgement.headline, @"Inconclusive: the gates hold, but the audit could not check: acknowledged commands are in the store exactly once: connection refused.");
        assert_eq!(judge(&record, &scenario(&[bad])).verdict, Verdict::Fail);
        let mut read_only = scenario(&[good]);
        read_only.operations[0].event = false;
        assert_eq!(judge(&record, &read_only).verdict, Verdict::Pass, "nothing to lose");
        record.audit[0].check = "replica-1 holds what the primary holds".to_owned();
        assert_eq!(judge(&record, &read_only).verdict, Verdict::Inconclusive);
        let mut foreign = scenario(&[good]);
        foreign.target = Target::Http(HttpTarget {
            url: "http://localhost".to_owned(),
            metrics: None,
            bearer_token_env: None,
            signals: Signals::default(),
        });
        assert_eq!(judge(&record, &foreign).verdict, Verdict::Pass, "nothing of its to audit");
        record.audit.clear();
        assert_eq!(judge(&record, &scenario(&[good])).verdict, Verdict::Pass, "not asked for");
    }

    #[test]
    fn a_dead_replica_leaves_neither_verdict() {
        let mut record = healthy();
        record.incidents.push(Incident {
            second: Some(9),
            what: "replica-1".to_owned(),
            detail: "killed by signal 9".to_owned(),
        });
        for text in ["p95 < 500ms", "p95 < 5ms", "replication_lag_ms_max < 1s"] {
            assert_eq!(gate(&record, text).verdict, Verdict::Inconclusive, "{text}");
        }
        record.incidents[0].what = "observer".to_owned();
        assert_eq!(gate(&record, "p95 < 500ms").verdict, Verdict::Pass);
        assert_eq!(gate(&record, "p95 < 5ms").verdict, Verdict::Fail);
        assert_eq!(gate(&record, "replica_share > 40%").verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_rule_of_another_release_is_inconclusive() {
        let outcome = gate(&healthy(), "happiness > 3");
        assert_eq!(outcome.verdict, Verdict::Inconclusive);
        assert!(outcome.reason.unwrap().contains("unknown figure"));
    }

    #[test]
    fn signals_are_reported_whether_gated_or_not() {
        let mut record = healthy();
        speed_up(&mut record, "backend_cache_requests_total", &[("outcome", "miss")], 80.0);
        let signals = judge(&record, &scenario(&[])).signals;
        assert_eq!(signals["cache_hit_ratio"].value, 0.5);
        assert!(
            signals.contains_key("projection_lag_ms_p99") && signals.contains_key("db_query_p95")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn no_record_without_samples_passes_anything(figure in 0..FIGURES.len(), which in any::<bool>()) {
            let (name, good, bad) = FIGURES[figure];
            let text = format!("{name} {}", if which { good } else { bad });
            prop_assert_ne!(judge(&without_data(), &scenario(&[&text])).verdict, Verdict::Pass);
        }

        #[test]
        fn a_torn_record_is_judged_and_never_passes(
            seconds in 0usize..24, clock in 0usize..24, boundaries in 0usize..24, operations in 0usize..=2,
        ) {
            let mut record = healthy();
            record.load.operations.truncate(operations);
            record.load.operations.iter_mut().for_each(|o| o.seconds.truncate(seconds));
            record.load.seconds.truncate(clock);
            record.timeline.series.iter_mut().for_each(|s| s.values.truncate(boundaries));
            let gates = FIGURES.map(|(figure, good, _)| format!("{figure} {good}"));
            let gates: Vec<&str> = gates.iter().map(String::as_str).collect();
            prop_assert_eq!(judge(&record, &scenario(&gates)).verdict, Verdict::Inconclusive);
        }

        #[test]
        fn judging_is_monotone_in_the_limit(
            values in prop::collection::vec(1u64..1_000_000, 1..400),
            percentile in prop::sample::select(vec!["p50", "p90", "p95", "p99", "mean", "max"]),
            limits in (1u64..1_000_000, 1u64..1_000_000),
        ) {
            let mut record = with_samples(1, 0);
            record.load.operations[0].seconds[9].response = times(values);
            let (tight, loose) = (limits.0.min(limits.1), limits.0.max(limits.1));
            let rank = |comparison: Comparison, limit: u64| {
                match ruling(&record, &format!("{percentile} {comparison} {limit}us")).verdict {
                    Verdict::Fail => 0,
                    Verdict::Inconclusive => 1,
                    Verdict::Pass => 2,
                }
            };
            prop_assert!(rank(Comparison::AtMost, tight) <= rank(Comparison::AtMost, loose));
            prop_assert!(rank(Comparison::AtLeast, loose) <= rank(Comparison::AtLeast, tight));
        }
    }
}
