//! What the charts draw: one value per second of the axis, `None` where nothing was measured.

use crate::archive::{Distribution, LoadRecord, Record, Series, Timeline, Window};
use crate::gates::SignalBook;
use crate::scenario::Scenario;

/// One value per second of the axis; a gap is a second without a measurement.
pub type Curve = Vec<Option<f64>>;

/// Every curve of a run on its one time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Arrivals per second that the schedule asked for.
    pub offered: Curve,
    /// Requests per second that were sent.
    pub achieved: Curve,
    /// Arrivals per second that were not answered as expected: errors, time-outs and dropped ones, by intended second.
    pub not_ok: Curve,
    /// Median response time of the arrivals of each second, in µs.
    pub p50: Curve,
    /// 95th percentile of the same.
    pub p95: Curve,
    /// 99th percentile of the same.
    pub p99: Curve,
    /// Share of cache requests that hit, 0 to 1.
    pub cache_hit_ratio: Curve,
    /// Share of read statements that replicas answered, 0 to 1.
    pub replica_share: Curve,
    /// Age of the oldest acknowledged event that was not yet projected, in ms; the worst projection.
    pub projection_lag_ms: Curve,
    /// How far replay is behind, in ms; the worst replica.
    pub replication_lag_ms: Curve,
    /// Processors in use by each group of processes, in cores; the busiest group first.
    pub cpu: Vec<(String, Curve)>,
}

impl Curves {
    /// Signals are those of the scenario's target.
    pub(super) fn of(record: &Record, scenario: &Scenario) -> Self {
        let seconds = record.window.end();
        let [offered, achieved, not_ok] = rates(&record.load, seconds);
        let [p50, p95, p99] = percentiles(&record.load, seconds);
        let [cache_hit_ratio, replica_share, projection_lag_ms, replication_lag_ms] =
            signals(&SignalBook::of(&scenario.target), &record.timeline, seconds);
        Self {
            offered,
            achieved,
            not_ok,
            p50,
            p95,
            p99,
            cache_hit_ratio,
            replica_share,
            projection_lag_ms,
            replication_lag_ms,
            cpu: cpu(&record.timeline, seconds),
        }
    }
}

fn rates(load: &LoadRecord, seconds: usize) -> [Curve; 3] {
    let intended_in = |second: usize| {
        let at = load.operations.iter().filter_map(|operation| operation.seconds.get(second));
        at.map(|at| (at.intended, at.errors + at.timeouts + at.dropped))
            .reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let offered = (0..seconds).map(|s| intended_in(s).map(|(intended, _)| intended as f64));
    let achieved = (0..seconds).map(|s| load.seconds.get(s).map(|at| at.sent as f64));
    let not_ok = (0..seconds).map(|s| intended_in(s).map(|(_, not_ok)| not_ok as f64));
    [offered.collect(), achieved.collect(), not_ok.collect()]
}

fn percentiles(load: &LoadRecord, seconds: usize) -> [Curve; 3] {
    let mut curves = [const { Curve::new() }; 3];
    for second in 0..seconds {
        let at = load.operations.iter().filter_map(|operation| operation.seconds.get(second));
        let times = Distribution::merged(at.map(|at| &at.response));
        for (curve, quantile) in curves.iter_mut().zip([0.5, 0.95, 0.99]) {
            curve.push((!times.is_empty()).then(|| times.value_at_quantile(quantile) as f64));
        }
    }
    curves
}

/// The signals that are drawn, each read as the gates read it, but over one second at a time.
fn signals(book: &SignalBook, timeline: &Timeline, seconds: usize) -> [Curve; 4] {
    const DRAWN: [&str; 4] =
        ["cache_hit_ratio", "replica_share", "projection_lag_ms_max", "replication_lag_ms_max"];
    let mut curves = [const { Curve::new() }; 4];
    for second in 0..seconds {
        let figures = book.figures(timeline, Window { warm_up_s: second, measure_s: 1 });
        for (curve, name) in curves.iter_mut().zip(DRAWN) {
            curve.push(figures.get(name).map(|figure| figure.value));
        }
    }
    curves
}

fn cpu(timeline: &Timeline, seconds: usize) -> Vec<(String, Curve)> {
    let curve = |series: &Series| (0..seconds).map(|s| series.increase(s, s + 1)).collect();
    let mut groups: Vec<(String, Curve)> = timeline
        .select("process_cpu_seconds_total", &[])
        .filter_map(|series| Some((series.key.label("group")?.to_owned(), curve(series))))
        .collect();
    let used = |curve: &Curve| curve.iter().flatten().sum::<f64>();
    groups.sort_by(|a, b| used(&b.1).total_cmp(&used(&a.1)).then_with(|| a.0.cmp(&b.0)));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::SeriesKey;
    use crate::report::fixture::{Variant, report};

    fn counter(label: (&str, &str), values: &[f64]) -> Series {
        let values = values.iter().copied().map(Some).collect();
        Series { key: SeriesKey::new("process_cpu_seconds_total", [label]), values }
    }

    #[test]
    fn signals_are_read_second_by_second_and_gaps_stay_gaps() {
        let curves = report(Variant::Fail).curves;
        let hits = &curves.cache_hit_ratio;
        assert_eq!(hits.len(), 80);
        let gaps: Vec<usize> = (0..80).filter(|s| hits[*s].is_none()).collect();
        assert_eq!(gaps, [32, 33, 34, 35], "seconds that touch a boundary without a reading");
        assert!(hits.iter().flatten().all(|ratio| (0.4..0.95).contains(ratio)), "{hits:?}");
        let stalled = curves.projection_lag_ms[53].unwrap();
        assert!(stalled > 350.0 && curves.projection_lag_ms[40].unwrap() < 100.0);
    }

    #[test]
    fn rates_count_every_arrival_in_its_second() {
        let curves = report(Variant::Inconclusive).curves;
        let offered = curves.offered[53].unwrap();
        assert!((8_000.0..9_000.0).contains(&offered), "{offered}");
        assert!(curves.achieved[50].unwrap() < curves.offered[50].unwrap(), "sent late");
        assert!(curves.not_ok[53].unwrap() > 20.0, "time-outs and dropped arrivals of the stall");
        assert_eq!(report(Variant::Empty).curves.offered, vec![None; 80]);
    }

    #[test]
    fn the_busiest_group_comes_first() {
        let timeline = Timeline {
            seconds: 2,
            series: vec![
                counter(("group", "backend"), &[0.0, 1.0, 2.0]),
                counter(("group", "primary"), &[7.0, 10.0, 13.0]),
            ],
        };
        let groups = cpu(&timeline, 2);
        assert_eq!(groups[0], ("primary".to_owned(), vec![Some(3.0), Some(3.0)]));
        assert_eq!(groups[1].0, "backend");
    }
}
