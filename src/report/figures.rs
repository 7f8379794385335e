//! What the load says in numbers: counts, rates and percentiles over the measured window.

use hdrhistogram::Histogram;

use crate::archive::{Distribution, LoadRecord, OperationRecord, OperationSecond, Window};

/// What became of the arrivals that were intended within the measured window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Arrivals that the schedule asked for.
    pub intended: u64,
    /// Of those, requests sent.
    pub sent: u64,
    /// Answered as expected.
    pub ok: u64,
    /// Answered otherwise, or the connection failed.
    pub errors: u64,
    /// Not answered in time.
    pub timeouts: u64,
    /// Never sent.
    pub dropped: u64,
}

impl Counts {
    /// Arrivals that were not answered as expected, sent or not.
    pub fn failed(self) -> u64 {
        self.errors + self.timeouts + self.dropped
    }

    fn plus(self, at: &OperationSecond) -> Self {
        Self {
            intended: self.intended + at.intended,
            sent: self.sent + at.sent,
            ok: self.ok + at.ok,
            errors: self.errors + at.errors,
            timeouts: self.timeouts + at.timeouts,
            dropped: self.dropped + at.dropped,
        }
    }
}

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
    pub(super) fn of(load: &LoadRecord, window: Window) -> Self {
        let counts =
            load.operations.iter().filter_map(|operation| counts_of(operation, window)).reduce(
                |sum, one| Counts {
                    intended: sum.intended + one.intended,
                    sent: sum.sent + one.sent,
                    ok: sum.ok + one.ok,
                    errors: sum.errors + one.errors,
                    timeouts: sum.timeouts + one.timeouts,
                    dropped: sum.dropped + one.dropped,
                },
            );
        let recorded = load.operations.iter().map(|o| within(&o.seconds, window).len()).max();
        let clock = within(&load.seconds, window);
        let per_clock_second = |count: u64| rate(count, clock.len());
        Self {
            offered_per_s: counts.and_then(|c| rate(c.intended, recorded.unwrap_or(0))),
            achieved_per_s: per_clock_second(clock.iter().map(|at| at.sent).sum()),
            events_per_s: per_clock_second(clock.iter().map(|at| at.acknowledged).sum()),
            counts,
            send_lag: Percentiles::of(&Distribution::merged(clock.iter().map(|at| &at.lag))),
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
    pub(super) fn of(operation: &OperationRecord, window: Window) -> Self {
        let seconds = within(&operation.seconds, window);
        let merged = |pick: fn(&OperationSecond) -> &Distribution| {
            Percentiles::of(&Distribution::merged(seconds.iter().map(pick)))
        };
        Self {
            name: operation.name.clone(),
            service: operation.service.clone(),
            counts: counts_of(operation, window),
            response: merged(|at| &at.response),
            service_time: merged(|at| &at.service),
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

    pub(super) fn of(
        load: &LoadRecord,
        window: Window,
        pick: fn(&OperationSecond) -> &Distribution,
    ) -> Self {
        let seconds = load.operations.iter().flat_map(|o| within(&o.seconds, window));
        let times = Distribution::merged(seconds.map(pick));
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

fn counts_of(operation: &OperationRecord, window: Window) -> Option<Counts> {
    let seconds = within(&operation.seconds, window);
    (!seconds.is_empty()).then(|| seconds.iter().fold(Counts::default(), Counts::plus))
}

fn rate(count: u64, seconds: usize) -> Option<f64> {
    (seconds > 0).then(|| count as f64 / seconds as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{LoadSecond, new_histogram};

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

    fn load(seconds: Vec<OperationSecond>) -> LoadRecord {
        let clock = |at: &OperationSecond| LoadSecond { sent: at.sent, ..LoadSecond::default() };
        LoadRecord {
            seconds: seconds.iter().map(clock).collect(),
            operations: vec![OperationRecord {
                name: "read".to_owned(),
                service: None,
                event: false,
                seconds,
            }],
            ..LoadRecord::default()
        }
    }

    #[test]
    fn only_the_measured_window_counts() {
        let load = load(vec![
            second(1_000, &[900_000]),
            second(10, &[100]),
            second(30, &[200, 300]),
            second(1_000, &[900_000]),
        ]);
        let figures = LoadFigures::of(&load, WINDOW);
        assert_eq!(figures.offered_per_s, Some(20.0));
        assert_eq!(figures.achieved_per_s, Some(20.0));
        assert_eq!(figures.counts.unwrap().ok, 40);
        let response = OperationFigures::of(&load.operations[0], WINDOW).response.unwrap();
        assert_eq!((response.p50, response.max), (200, 300));
    }

    #[test]
    fn a_worker_lost_half_way_does_not_make_the_load_look_smaller() {
        let figures = LoadFigures::of(&load(vec![second(5, &[]), second(20, &[100])]), WINDOW);
        assert_eq!(figures.offered_per_s, Some(20.0), "over the one measured second that is known");
    }

    #[test]
    fn nothing_recorded_is_nothing_measured() {
        let nothing = LoadFigures::of(&LoadRecord::default(), WINDOW);
        assert_eq!(nothing.offered_per_s.or(nothing.achieved_per_s).or(nothing.events_per_s), None);
        assert_eq!((nothing.counts, nothing.send_lag), (None, None));
        let warm_up_alone = load(vec![second(5, &[100])]);
        assert_eq!(LoadFigures::of(&warm_up_alone, WINDOW).counts, None);
        assert_eq!(OperationFigures::of(&warm_up_alone.operations[0], WINDOW).response, None);
        assert!(PercentileCurve::of(&warm_up_alone, WINDOW, |at| &at.response).points.is_empty());
    }

    #[test]
    fn a_percentile_curve_rises_to_the_slowest_request() {
        let us: Vec<u64> = (1..=500).collect();
        let load = load(vec![OperationSecond::default(), second(500, &us)]);
        let points = PercentileCurve::of(&load, WINDOW, |at| &at.response).points;
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{points:?}");
        assert_eq!(points.last(), Some(&(500.0, 500.0)));
        assert!(points.iter().any(|(rarity, us)| (rarity - 10.0).abs() < 1e-9 && *us == 450.0));
    }
}
