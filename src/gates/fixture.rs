//! A healthy run, small enough to reason about: every check green but co-location. Tests plant their faults in it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use crate::archive::{
    AuditCheck, AuditState, Distribution, Environment, GooseCount, LoadRecord, LoadSecond,
    OperationRecord, OperationSecond, PostgresSetting, Record, RunInfo, Series, SeriesKey,
    Timeline, Window, WorkerEnd, new_histogram,
};
use crate::scenario::{
    Arrivals, Expect, GateRules, LoadSpec, Method, Operation, PopulationSpec, ReferenceTarget,
    RequestSpec, Scenario, Skew, Target,
};
use crate::units::{Micros, Rate};

pub(crate) const WINDOW: Window = Window { warm_up_s: 4, measure_s: 20 };

/// Reads of the summary per second.
pub(crate) const READS: u64 = 200;
/// Revenues recorded per second.
pub(crate) const WRITES: u64 = 100;

/// A distribution of the given times in µs.
pub(crate) fn times(values: impl IntoIterator<Item = u64>) -> Distribution {
    let mut histogram = new_histogram();
    values.into_iter().for_each(|value| histogram.saturating_record(value));
    Distribution::from_histogram(&histogram)
}

/// Response times spread evenly from 1 to 11 ms: p95 10.5 ms, mean 6 ms.
fn second(count: u64) -> OperationSecond {
    let spread = move |from: u64| (0..count).map(move |i| from + i * 10_000 / count);
    OperationSecond {
        intended: count,
        sent: count,
        ok: count,
        errors: 0,
        timeouts: 0,
        dropped: 0,
        response: times(spread(1_000)),
        service: times(spread(950)),
    }
}

fn operation_record(name: &str, service: &str, event: bool, rate: u64) -> OperationRecord {
    OperationRecord {
        name: name.to_owned(),
        service: Some(service.to_owned()),
        event,
        seconds: vec![second(rate); WINDOW.end()],
    }
}

fn load() -> LoadRecord {
    let rate = READS + WRITES;
    let of_a_second = LoadSecond {
        sent: rate,
        done: rate,
        acknowledged: WRITES,
        in_flight_max: 9,
        lag: times((0..rate).map(|i| 10 + i)),
        own_lag: times((0..rate).map(|i| 10 + i)),
    };
    let mut seconds = vec![of_a_second; WINDOW.end()];
    // 300/s × 6 ms: two requests in flight at any time.
    seconds[0].done -= 2;
    LoadRecord {
        operations: vec![
            operation_record("record revenue", "revenues", true, WRITES),
            operation_record("read summary", "read-models", false, READS),
        ],
        seconds,
        goose: Some(GooseCount { ok: rate * WINDOW.end() as u64, failed: 0 }),
        worker: WorkerEnd::Finished,
        ..LoadRecord::default()
    }
}

/// A counter that rises evenly, or a gauge that does not move (`per_second` 0).
fn line(name: &str, labels: &[(&str, &str)], start: f64, per_second: f64) -> Series {
    let values = (0..=WINDOW.end()).map(|s| Some(start + per_second * s as f64)).collect();
    Series { key: SeriesKey::new(name, labels.iter().copied()), values }
}

fn timeline() -> Timeline {
    let writes = WRITES as f64;
    let mut series = vec![
        line("backend_cache_requests_total", &[("outcome", "hit")], 7.0, 90.0),
        line("backend_cache_requests_total", &[("outcome", "miss")], 7.0, 10.0),
        line("backend_events_appended_total", &[], 5.0, writes),
        line("backend_projection_lag_seconds", &[("projection", "finance")], 0.05, 0.0),
        line("host_cpu_seconds_total", &[("mode", "idle")], 900.0, 3.0),
        line("host_cpu_seconds_total", &[("mode", "iowait")], 90.0, 0.0),
        line("host_cpu_seconds_total", &[("mode", "user")], 300.0, 1.0),
        line("host_steal_seconds_total", &[], 1.0, 0.0),
        line("pg_events_total", &[], 5.0, writes),
        line("pg_projected_total", &[("projection", "finance")], 0.0, writes),
        line("pg_replication_lag_seconds", &[("replica", "replica-1")], 0.01, 0.0),
        line("pg_replication_lag_seconds", &[("replica", "replica-2")], 0.01, 0.0),
        line("process_cpu_seconds_total", &[("group", "generator")], 0.0, 0.5),
    ];
    for (server, source, rate) in [
        ("primary", "primary", 40.0),
        ("replica-1", "replica", 30.0),
        ("replica-2", "replica", 30.0),
    ] {
        series.push(line(
            "backend_reads_total",
            &[("source", source), ("server", server)],
            3.0,
            rate,
        ));
        let labels = [("server", server), ("role", "app_ro"), ("kind", "read")];
        series.push(line("pg_statements_calls_total", &labels, 9.0, rate));
    }
    for (le, rate) in [("0.005", 90.0), ("0.01", 100.0), ("+Inf", 100.0)] {
        let labels = [("kind", "read"), ("le", le)];
        series.push(line("backend_db_query_duration_seconds_bucket", &labels, 0.0, rate));
    }
    for partition in 0..16 {
        let partition = format!("p{partition:02}");
        let labels =
            [("table", "daily_cash_balances_partitioned"), ("partition", partition.as_str())];
        series.push(line("pg_partition_rows", &labels, 1000.0, 0.0));
    }
    series.sort_by(|a, b| a.key.cmp(&b.key));
    Timeline { seconds: WINDOW.end(), series }
}

fn environment() -> Environment {
    let setting = |name: &str| PostgresSetting {
        server: "primary".to_owned(),
        name: name.to_owned(),
        value: "on".to_owned(),
    };
    let names = ["fsync", "synchronous_commit", "full_page_writes"];
    Environment {
        cpu: "Test".to_owned(),
        cores: 4,
        memory_bytes: 1 << 33,
        kernel: "Linux".to_owned(),
        postgres: Some("15".to_owned()),
        postgres_settings: names.map(setting).into(),
        postgres_settings_after: names.map(setting).into(),
        backend: Some("0.1.0".to_owned()),
        commit: None,
        optimised: true,
    }
}

/// A run in which nothing went wrong.
pub(crate) fn healthy() -> Record {
    Record {
        run: RunInfo {
            id: "fixture-1".parse().unwrap(),
            scenario: "fixture".to_owned(),
            title: "Fixture".to_owned(),
            seed: 7,
            organisations: Some(1000),
            started_at: "2026-01-31T09:30:00Z".to_owned(),
            release: "0.1.0".to_owned(),
            command: "plimsoll run fixture".to_owned(),
        },
        window: WINDOW,
        stages: vec![],
        load: load(),
        timeline: timeline(),
        audit: vec![AuditCheck {
            check: "acknowledged commands are in the store exactly once".to_owned(),
            state: AuditState::Green,
            count: 2400,
            detail: "2400 found".to_owned(),
        }],
        incidents: vec![],
        environment: environment(),
        yardstick: None,
    }
}

fn operation(name: &str, service: &str, event: bool, rate: u64) -> Operation {
    Operation {
        name: name.to_owned(),
        service: Some(service.to_owned()),
        rate: Rate::per_second(rate as f64).unwrap(),
        request: RequestSpec {
            method: Method::Get,
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            json: None,
        },
        expect: Expect { status: vec![200], body_contains: None },
        event,
    }
}

/// Its scenario, with gates on the whole run.
pub(crate) fn scenario(gates: &[&str]) -> Scenario {
    Scenario {
        name: "fixture".to_owned(),
        title: "Fixture".to_owned(),
        seed: 7,
        population: PopulationSpec {
            organisations: NonZeroU64::new(1000).unwrap(),
            history_months: 12,
            busy: Skew::Uniform,
        },
        target: Target::Reference(ReferenceTarget {
            replicas: 2,
            port: None,
            split: Vec::new(),
            channel_manager: None,
        }),
        load: LoadSpec {
            arrivals: Arrivals::Poisson,
            warm_up: Micros::from_secs(WINDOW.warm_up_s as u64),
            measure: Micros::from_secs(WINDOW.measure_s as u64),
            steps: None,
            yardstick: None,
            in_flight_max: 1000,
            timeout: Micros::from_secs(10),
        },
        operations: vec![
            operation("record revenue", "revenues", true, WRITES),
            operation("read summary", "read-models", false, READS),
        ],
        gates: GateRules {
            all: gates.iter().map(|gate| (*gate).to_owned()).collect(),
            ..GateRules::default()
        },
    }
}

/// The series of one name whose labels include the given ones.
pub(crate) fn series<'a>(
    record: &'a mut Record,
    name: &str,
    labels: &[(&str, &str)],
) -> &'a mut Series {
    let wanted = |series: &&mut Series| {
        series.key.name == name && labels.iter().all(|(k, v)| series.key.label(k) == Some(*v))
    };
    record.timeline.series.iter_mut().find(wanted).expect(name)
}

/// Lets a counter rise by `more` a second beyond what it does.
pub(crate) fn speed_up(record: &mut Record, name: &str, labels: &[(&str, &str)], more: f64) {
    for (second, value) in series(record, name, labels).values.iter_mut().enumerate() {
        *value = value.map(|value| value + more * second as f64);
    }
}
