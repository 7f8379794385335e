//! What the load says in numbers: counts, rates and percentiles over the measured window, as the gates read them.

use hdrhistogram::Histogram;

use crate::archive::{OperationRecord, Record, Window};
use crate::gates::{Counts, FigureName, Part, RequestFigures};

/// Percentiles of times, in µs, read from merged histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

impl Percentiles {
    /// Nothing when nothing was recorded.
    pub(super) fn of(times: &Histogram<u64>) -> Option<Self> {
        (!times.is_empty()).then(|| Self {
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p95: times.value_at_quantile(0.95),
            p99: times.value_at_quantile(0.99),
            p999: times.value_at_quantile(0.999),
            max: times.max(),
        })
    }
}

/// Whether the load was real: what was asked, what was sent, what came back. `None` is "not measured".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadFigures {
    /// Arrivals per second that the schedule asked for.
    pub offered_per_s: Option<f64>,
    /// Requests per second that were sent, by the clock.
    pub achieved_per_s: Option<f64>,
    /// Events per second that were acknowledged to the client, by the clock.
    pub events_per_s: Option<f64>,
    /// All operations together.
    pub counts: Option<Counts>,
    /// Sent − intended, in µs.
    pub send_lag: Option<Percentiles>,
    /// Most requests in flight at once.
    pub in_flight_max: Option<u64>,
}

impl LoadFigures {
    /// `run` holds the figures of the whole record.
    pub(super) fn of(record: &Record, run: &RequestFigures) -> Self {
        let rate = |name| run.get(&name).map(|figure| figure.value);
        let clock = within(&record.load.seconds, record.window);
        Self {
            offered_per_s: rate(FigureName::OfferedRate),
            achieved_per_s: rate(FigureName::AchievedRate),
            events_per_s: rate(FigureName::EventRate),
            counts: is_recorded(&record.load.operations, record.window).then_some(run.counts),
            send_lag: Percentiles::of(&run.send_lag),
            in_flight_max: clock.iter().map(|at| at.in_flight_max).max(),
        }
    }

    /// Sent as a share of asked for, by rate.
    pub fn achieved_share(&self) -> Option<f64> {
        Some(self.achieved_per_s? / self.offered_per_s?)
    }
}

/// One operation over the measured window.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationFigures {
    /// `name` in the scenario.
    pub name: String,
    /// `service` in the scenario.
    pub service: Option<String>,
    /// What became of its arrivals.
    pub counts: Option<Counts>,
    /// Done − intended, in µs.
    pub response: Option<Percentiles>,
    /// Done − sent, in µs.
    pub service_time: Option<Percentiles>,
}

impl OperationFigures {
    pub(super) fn of(record: &Record, operation: &OperationRecord) -> Self {
        let figures = RequestFigures::of(record, Part::Operation(&operation.name));
        let recorded = is_recorded(std::slice::from_ref(operation), record.window);
        Self {
            name: operation.name.clone(),
            service: operation.service.clone(),
            counts: recorded.then_some(figures.counts),
            response: Percentiles::of(&figures.response),
            service_time: Percentiles::of(&figures.service),
        }
    }
}

/// Latency by percentile: how many times rarer than every request (1/(1−q)), and the time in µs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PercentileCurve {
    /// `(1/(1−q), µs)`, both ascending; the last is the slowest request.
    pub points: Vec<(f64, f64)>,
}

impl PercentileCurve {
    const POINTS_PER_DECADE: f64 = 40.0;

    pub(super) fn of(times: &Histogram<u64>) -> Self {
        let count = times.len() as f64;
        let rarities = (0..).map(|step| 10f64.powf(f64::from(step) / Self::POINTS_PER_DECADE));
        let points = rarities
            .take_while(|rarity| *rarity < count)
            .map(|rarity| (rarity, times.value_at_quantile(1.0 - 1.0 / rarity) as f64));
        let slowest = (!times.is_empty()).then(|| (count, times.max() as f64));
        Self { points: points.chain(slowest).collect() }
    }
}

/// The part of a per-second list that lies within the measured window, as far as it was recorded.
pub(super) fn within<T>(seconds: &[T], window: Window) -> &[T] {
    let end = window.end().min(seconds.len());
    &seconds[window.warm_up_s.min(end)..end]
}

/// Arrivals that were not answered as expected, sent or not.
pub(super) fn not_ok(counts: Counts) -> u64 {
    counts.failed() + counts.dropped
}

/// Whether anything is known of the measured window: zeros that nobody counted are no figures.
fn is_recorded(operations: &[OperationRecord], window: Window) -> bool {
    operations.iter().any(|operation| !within(&operation.seconds, window).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Distribution, LoadRecord, LoadSecond, OperationSecond, new_histogram};
    use crate::report::fixture::{Variant, record};

    const WINDOW: Window = Window { warm_up_s: 1, measure_s: 2 };

    fn times(us: &[u64]) -> Distribution {
        let mut histogram = new_histogram();
        us.iter().for_each(|us| histogram.saturating_record(*us));
        Distribution::from_histogram(&histogram)
    }

    fn second(intended: u64, response: &[u64]) -> OperationSecond {
        OperationSecond {
            intended,
            sent: intended,
            ok: intended,
            response: times(response),
            service: times(&[1]),
            ..OperationSecond::default()
        }
    }

    fn run(seconds: Vec<OperationSecond>) -> Record {
        let clock = |at: &OperationSecond| LoadSecond { sent: at.sent, ..LoadSecond::default() };
        let load = LoadRecord {
            seconds: seconds.iter().map(clock).collect(),
            operations: vec![OperationRecord {
                name: "read".to_owned(),
                service: None,
                event: false,
                seconds,
            }],
            ..LoadRecord::default()
        };
        Record { window: WINDOW, load, ..record(Variant::Empty) }
    }

    fn load_figures(record: &Record) -> LoadFigures {
        LoadFigures::of(record, &RequestFigures::of(record, Part::Run))
    }

    #[test]
    fn only_the_measured_window_counts() {
        let run = run(vec![
            second(1_000, &[900_000]),
            second(10, &[100]),
            second(30, &[200, 300]),
            second(1_000, &[900_000]),
        ]);
        let figures = load_figures(&run);
        assert_eq!(figures.offered_per_s, Some(20.0));
        assert_eq!(figures.achieved_per_s, Some(20.0));
        assert_eq!(figures.counts.unwrap().ok, 40);
        let response = OperationFigures::of(&run, &run.load.operations[0]).response.unwrap();
        assert_eq!((response.p50, response.max), (200, 300));
    }

    #[test]
    fn nothing_recorded_is_nothing_measured() {
        let nothing = load_figures(&Record { load: LoadRecord::default(), ..run(Vec::new()) });
        assert_eq!(nothing.offered_per_s.or(nothing.achieved_per_s).or(nothing.events_per_s), None);
        assert_eq!((nothing.counts, nothing.send_lag), (None, None));
        let warm_up_alone = run(vec![second(5, &[100])]);
        assert_eq!(load_figures(&warm_up_alone).counts, None);
        let operation = OperationFigures::of(&warm_up_alone, &warm_up_alone.load.operations[0]);
        assert_eq!((operation.counts, operation.response), (None, None));
        assert!(PercentileCurve::of(&new_histogram()).points.is_empty());
    }

    #[test]
    fn a_percentile_curve_rises_to_the_slowest_request() {
        let us: Vec<u64> = (1..=500).collect();
        let points = PercentileCurve::of(&times(&us).to_histogram()).points;
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{points:?}");
        assert_eq!(points.last(), Some(&(500.0, 500.0)));
        assert!(points.iter().any(|(rarity, us)| (rarity - 10.0).abs() < 1e-9 && *us == 450.0));
    }
}
