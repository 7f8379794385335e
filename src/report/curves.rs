//! What the charts draw: one value per second of the axis, `None` where nothing was measured.

use crate::archive::{Distribution, LoadRecord, Record, Series, Timeline};

/// One value per second of the axis; a gap is a second without a measurement.
pub type Curve = Vec<Option<f64>>;

/// Every curve of a run on its one time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Arrivals per second that the schedule asked for.
    pub offered: Curve,
    /// Requests per second that were sent.
    pub achieved: Curve,
    /// Arrivals per second that failed: errors, time-outs and dropped ones, by intended second.
    pub failed: Curve,
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
    pub(super) fn of(record: &Record) -> Self {
        let seconds = record.window.end();
        let [offered, achieved, failed] = rates(&record.load, seconds);
        let [p50, p95, p99] = percentiles(&record.load, seconds);
        let timeline = &record.timeline;
        Self {
            offered,
            achieved,
            failed,
            p50,
            p95,
            p99,
            cache_hit_ratio: share(timeline, seconds, "backend_cache_requests_total", |s| {
                (s.key.label("outcome") == Some("hit"), true)
            }),
            replica_share: share(timeline, seconds, "backend_reads_total", |s| {
                let source = s.key.label("source");
                (source == Some("replica"), matches!(source, Some("replica" | "primary")))
            }),
            projection_lag_ms: worst_ms(timeline, seconds, "backend_projection_lag_seconds"),
            replication_lag_ms: worst_ms(timeline, seconds, "pg_replication_lag_seconds"),
            cpu: cpu(timeline, seconds),
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
    let failed = (0..seconds).map(|s| intended_in(s).map(|(_, failed)| failed as f64));
    [offered.collect(), achieved.collect(), failed.collect()]
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

/// Increase of the counters that are a part over that of those that are the whole, second by second.
/// `role` says of a series whether it belongs to the part and whether to the whole.
fn share(
    timeline: &Timeline,
    seconds: usize,
    name: &str,
    role: impl Fn(&Series) -> (bool, bool),
) -> Curve {
    let at = |second: usize| {
        let (mut part, mut whole) = (0.0, 0.0);
        for series in timeline.select(name, &[]) {
            let rise = series.increase(second, second + 1).unwrap_or(0.0);
            let (in_part, in_whole) = role(series);
            part += if in_part { rise } else { 0.0 };
            whole += if in_whole { rise } else { 0.0 };
        }
        (whole > 0.0).then(|| part / whole)
    };
    (0..seconds).map(at).collect()
}

/// The largest of the gauges of a name at each second, from seconds to ms.
fn worst_ms(timeline: &Timeline, seconds: usize, name: &str) -> Curve {
    let at = |second: usize| {
        let values = timeline.select(name, &[]).filter_map(|s| s.values.get(second).copied()?);
        values.reduce(f64::max).map(|worst| worst * 1e3)
    };
    (0..seconds).map(at).collect()
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

    fn series(name: &str, label: (&str, &str), values: &[Option<f64>]) -> Series {
        Series { key: SeriesKey::new(name, [label]), values: values.to_vec() }
    }

    fn counter(name: &str, label: (&str, &str), values: &[f64]) -> Series {
        series(name, label, &values.iter().copied().map(Some).collect::<Vec<_>>())
    }

    #[test]
    fn a_share_is_of_what_happened_in_the_same_second() {
        let timeline = Timeline {
            seconds: 3,
            series: vec![
                counter("c", ("outcome", "hit"), &[100.0, 109.0, 109.0, 110.0]),
                counter("c", ("outcome", "miss"), &[50.0, 51.0, 51.0, 54.0]),
            ],
        };
        let curve = share(&timeline, 3, "c", |s| (s.key.label("outcome") == Some("hit"), true));
        assert_eq!(curve, [Some(0.9), None, Some(0.25)], "a second without requests has no share");
    }

    #[test]
    fn a_second_that_was_not_read_has_no_share() {
        let values = [Some(1.0), None, Some(5.0), Some(6.0)];
        let timeline =
            Timeline { seconds: 3, series: vec![series("c", ("outcome", "hit"), &values)] };
        assert_eq!(share(&timeline, 3, "c", |_| (true, true)), [None, None, Some(1.0)]);
    }

    #[test]
    fn a_lag_is_that_of_the_worst() {
        let timeline = Timeline {
            seconds: 2,
            series: vec![
                series("lag", ("replica", "1"), &[Some(0.001), None, None]),
                series("lag", ("replica", "2"), &[Some(0.004), Some(0.002), None]),
            ],
        };
        assert_eq!(worst_ms(&timeline, 2, "lag"), [Some(4.0), Some(2.0)]);
        assert_eq!(worst_ms(&timeline, 2, "other"), [None, None]);
    }

    #[test]
    fn the_busiest_group_comes_first() {
        let name = "process_cpu_seconds_total";
        let timeline = Timeline {
            seconds: 2,
            series: vec![
                counter(name, ("group", "backend"), &[0.0, 1.0, 2.0]),
                counter(name, ("group", "primary"), &[7.0, 10.0, 13.0]),
            ],
        };
        let groups = cpu(&timeline, 2);
        assert_eq!(groups[0], ("primary".to_owned(), vec![Some(3.0), Some(3.0)]));
        assert_eq!(groups[1].0, "backend");
    }
}
