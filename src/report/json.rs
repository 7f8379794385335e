//! `result.json`, version 1: the report for machines. Field names are a contract; what is not measured is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::{LoadFigures, OperationFigures, Percentiles};
use super::json_steps::{self, Saturation, Step, YardstickOf};
use super::model::Report;
use crate::archive::{AuditState, Environment, RarerFailures};
use crate::gates::{Bias, CheckState, Counts, Figure, Unit, Verdict};

/// Version of the document's shape.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    run: Run<'a>,
    verdict: Verdict,
    headline: &'a str,
    gates: Vec<Gate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saturation: Option<Saturation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    yardstick: Option<YardstickOf<'a>>,
    load: Load,
    operations: Vec<Operation<'a>>,
    failures: Vec<Failure<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rarer_failures: Option<RarerFailures>,
    signals: BTreeMap<String, Signal>,
    validity: Vec<Check<'a>>,
    audit: Vec<Audit<'a>>,
    incidents: Vec<Incident<'a>>,
    environment: Machine<'a>,
}

#[derive(Serialize)]
struct Run<'a> {
    id: &'a str,
    scenario: &'a str,
    title: &'a str,
    seed: u64,
    organisations: Option<u64>,
    started_at: &'a str,
    release: &'a str,
    command: &'a str,
}

#[derive(Serialize)]
struct Gate<'a> {
    gate: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    observed: Option<f64>,
    limit: f64,
    unit: Unit,
    margin: Option<f64>,
    samples: u64,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Load {
    offered_per_s: Option<f64>,
    achieved_per_s: Option<f64>,
    events_per_s: Option<f64>,
    intended: Option<u64>,
    sent: Option<u64>,
    ok: Option<u64>,
    errors: Option<u64>,
    timeouts: Option<u64>,
    dropped: Option<u64>,
    send_lag_us: Lag,
}

#[derive(Serialize)]
struct Lag {
    p50: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

#[derive(Serialize)]
struct Operation<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    intended: Option<u64>,
    ok: Option<u64>,
    errors: Option<u64>,
    timeouts: Option<u64>,
    dropped: Option<u64>,
    response_us: Times,
    service_us: Times,
}

#[derive(Serialize)]
pub(super) struct Times {
    p50: Option<u64>,
    p90: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
    max: Option<u64>,
}

/// Requests that failed for one reason, over the whole run.
#[derive(Serialize)]
struct Failure<'a> {
    operation: &'a str,
    reason: &'a str,
    count: u64,
    first_s: usize,
    last_s: usize,
    share: Option<f64>,
}

/// A signal of one value, or of several statistics.
#[derive(Serialize)]
#[serde(untagged)]
enum Signal {
    Value(f64),
    Statistics(BTreeMap<String, f64>),
}

#[derive(Serialize)]
struct Check<'a> {
    check: &'a str,
    state: CheckState,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<Bias>,
    detail: &'a str,
}

#[derive(Serialize)]
struct Audit<'a> {
    check: &'a str,
    state: AuditState,
    count: u64,
    detail: &'a str,
}

#[derive(Serialize)]
struct Incident<'a> {
    second: Option<usize>,
    what: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Machine<'a> {
    cpu: Option<&'a str>,
    cores: Option<usize>,
    memory_bytes: Option<u64>,
    kernel: Option<&'a str>,
    postgres: Option<&'a str>,
    fsync: Option<&'a str>,
    synchronous_commit: Option<&'a str>,
    backend: Option<&'a str>,
    commit: Option<&'a str>,
    optimised: bool,
}

/// The report as `result.json`, with a line feed at its end.
pub(super) fn render(report: &Report) -> String {
    let document = Document {
        schema: SCHEMA,
        run: run(report),
        verdict: report.verdict,
        headline: &report.headline,
        gates: gates(report),
        saturation: report.climb.as_ref().map(json_steps::saturation),
        steps: report.climb.as_ref().map(json_steps::steps),
        yardstick: report.yardstick.as_ref().map(json_steps::yardstick),
        load: load(&report.load),
        operations: report.operations.iter().map(operation).collect(),
        failures: failures(report),
        rarer_failures: report.failures.rarer,
        signals: signals(&report.signals),
        validity: validity(report),
        audit: audit(report),
        incidents: incidents(report),
        environment: machine(&report.environment),
    };
    let text = serde_json::to_string_pretty(&document);
    text.expect("keys are texts and numbers are plain") + "\n"
}

fn run(report: &Report) -> Run<'_> {
    let run = &report.run;
    Run {
        id: run.id.as_str(),
        scenario: &run.scenario,
        title: &run.title,
        seed: run.seed,
        organisations: run.organisations,
        started_at: &run.started_at,
        release: &run.release,
        command: &run.command,
    }
}

fn gates(report: &Report) -> Vec<Gate<'_>> {
    let gates = report.gates.iter().map(|gate| Gate {
        gate: &gate.gate,
        operation: gate.operation.as_deref(),
        service: gate.service.as_deref(),
        observed: gate.observed.map(rounded),
        limit: rounded(gate.limit),
        unit: gate.unit,
        margin: gate.margin.map(rounded),
        samples: gate.samples,
        verdict: gate.verdict,
        reason: gate.reason.as_deref(),
    });
    gates.collect()
}

fn load(figures: &LoadFigures) -> Load {
    let counted = |pick: fn(Counts) -> u64| figures.counts.map(pick);
    let lag = figures.send_lag;
    Load {
        offered_per_s: figures.offered_per_s.map(rounded),
        achieved_per_s: figures.achieved_per_s.map(rounded),
        events_per_s: figures.events_per_s.map(rounded),
        intended: counted(|c| c.intended),
        sent: counted(|c| c.sent),
        ok: counted(|c| c.ok),
        errors: counted(|c| c.errors),
        timeouts: counted(|c| c.timeouts),
        dropped: counted(|c| c.dropped),
        send_lag_us: Lag {
            p50: lag.map(|lag| lag.p50),
            p99: lag.map(|lag| lag.p99),
            max: lag.map(|lag| lag.max),
        },
    }
}

fn operation(figures: &OperationFigures) -> Operation<'_> {
    let counted = |pick: fn(Counts) -> u64| figures.counts.map(pick);
    Operation {
        name: &figures.name,
        service: figures.service.as_deref(),
        intended: counted(|c| c.intended),
        ok: counted(|c| c.ok),
        errors: counted(|c| c.errors),
        timeouts: counted(|c| c.timeouts),
        dropped: counted(|c| c.dropped),
        response_us: times(figures.response),
        service_us: times(figures.service_time),
    }
}

pub(super) fn times(percentiles: Option<Percentiles>) -> Times {
    Times {
        p50: percentiles.map(|p| p.p50),
        p90: percentiles.map(|p| p.p90),
        p95: percentiles.map(|p| p.p95),
        p99: percentiles.map(|p| p.p99),
        p999: percentiles.map(|p| p.p999),
        max: percentiles.map(|p| p.max),
    }
}

fn failures(report: &Report) -> Vec<Failure<'_>> {
    let rows = report.failures.rows.iter().map(|row| Failure {
        operation: &row.failure.operation,
        reason: &row.failure.reason,
        count: row.failure.count,
        first_s: row.failure.first_s,
        last_s: row.failure.last_s,
        share: row.share.map(rounded),
    });
    rows.collect()
}

/// `projection_lag_ms_p95` and `projection_lag_ms_max` become one signal with two statistics.
fn signals(figures: &BTreeMap<String, Figure>) -> BTreeMap<String, Signal> {
    let mut signals = BTreeMap::new();
    for (name, figure) in figures {
        let value = rounded(figure.value);
        match statistic(name) {
            None => {
                signals.insert(name.clone(), Signal::Value(value));
            }
            Some((base, statistic)) => {
                // The unit is part of a field's name: `db_query` in ms is `db_query_ms`.
                let unit =
                    if figure.unit == Unit::Ms && !base.ends_with("_ms") { "_ms" } else { "" };
                let signal = signals
                    .entry(format!("{base}{unit}"))
                    .or_insert_with(|| Signal::Statistics(BTreeMap::new()));
                if let Signal::Statistics(statistics) = signal {
                    statistics.insert(statistic.to_owned(), value);
                }
            }
        }
    }
    signals
}

/// Splits `projection_lag_ms_p95` into the signal and its statistic; nothing for a signal of one value.
pub(super) fn statistic(name: &str) -> Option<(&str, &str)> {
    let (base, last) = name.rsplit_once('_')?;
    let percentile = last.strip_prefix('p').is_some_and(|digits| digits.parse::<f64>().is_ok());
    (percentile || matches!(last, "max" | "mean")).then_some((base, last))
}

fn validity(report: &Report) -> Vec<Check<'_>> {
    let checks = report.validity.iter();
    checks
        .map(|c| Check { check: &c.check, state: c.state, bias: c.bias, detail: &c.detail })
        .collect()
}

fn audit(report: &Report) -> Vec<Audit<'_>> {
    let checks = report.audit.iter();
    checks
        .map(|c| Audit { check: &c.check, state: c.state, count: c.count, detail: &c.detail })
        .collect()
}

fn incidents(report: &Report) -> Vec<Incident<'_>> {
    let incidents = report.incidents.iter();
    incidents.map(|i| Incident { second: i.second, what: &i.what, detail: &i.detail }).collect()
}

fn machine(environment: &Environment) -> Machine<'_> {
    Machine {
        cpu: known(&environment.cpu),
        cores: (environment.cores > 0).then_some(environment.cores),
        memory_bytes: (environment.memory_bytes > 0).then_some(environment.memory_bytes),
        kernel: known(&environment.kernel),
        postgres: environment.postgres.as_deref(),
        fsync: primary_setting(environment, "fsync"),
        synchronous_commit: primary_setting(environment, "synchronous_commit"),
        backend: environment.backend.as_deref(),
        commit: environment.commit.as_deref(),
        optimised: environment.optimised,
    }
}

/// A setting as the running primary reported it.
fn primary_setting<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let mut settings = environment.postgres_settings.iter();
    settings.find(|s| s.server == "primary" && s.name == name).map(|s| s.value.as_str())
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Six decimals: finer than any measurement here, and free of binary dust.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, report};

    #[test]
    fn the_document_of_each_variant() {
        for variant in Variant::ALL {
            insta::assert_snapshot!(format!("json_{}", variant.name()), render(&report(variant)));
        }
    }

    #[test]
    fn a_signal_with_statistics_is_told_from_one_with_a_single_value() {
        assert_eq!(statistic("projection_lag_ms_p95"), Some(("projection_lag_ms", "p95")));
        assert_eq!(statistic("replication_lag_ms_max"), Some(("replication_lag_ms", "max")));
        assert_eq!(statistic("db_query_ms_p99.9"), Some(("db_query_ms", "p99.9")));
        assert_eq!(statistic("cache_hit_ratio"), None);
        assert_eq!(statistic("our_pool"), None, "a p alone is no percentile");
    }

    #[test]
    fn numbers_carry_no_binary_dust() {
        assert_eq!(rounded(0.1 + 0.2), 0.3);
        assert_eq!(serde_json::to_string(&rounded(f64::NAN)).unwrap(), "null");
    }
}
