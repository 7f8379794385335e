//! Figures of the requests themselves, over the measured window: of the whole run, an operation or a service.
//!
//! A request belongs to the second of its *intended* time, whenever it was sent. Percentiles are read from merged
//! histograms, never averaged; HdrHistogram keeps three significant digits and rounds up.

use hdrhistogram::Histogram;

use super::figure::{FigureName, Span, Statistic};
use super::verdict::{Figure, Unit};
use crate::archive::{Distribution, LoadSecond, OperationRecord, OperationSecond, Record};

/// What figures are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// All operations.
    Run,
    /// One operation, by name.
    Operation(&'a str),
    /// All operations of one service, by its name.
    Service(&'a str),
}

/// Arrivals and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Arrivals that the schedule asked for.
    pub intended: u64,
    /// Requests sent, at whatever time.
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
    fn add(&mut self, second: &OperationSecond) {
        self.intended += second.intended;
        self.sent += second.sent;
        self.ok += second.ok;
        self.errors += second.errors;
        self.timeouts += second.timeouts;
        self.dropped += second.dropped;
    }

    /// Of some operations over some seconds of the axis.
    pub fn of<'a>(
        operations: impl IntoIterator<Item = &'a OperationRecord>,
        seconds: std::ops::Range<usize>,
    ) -> Self {
        let mut counts = Self::default();
        for operation in operations {
            within(&operation.seconds, &seconds).for_each(|second| counts.add(second));
        }
        counts
    }

    /// Arrivals whose fate the system decided: all but those that were never sent. Counted from what was intended,
    /// so that a request that got lost is in here without being `ok`.
    pub fn offered_to_system(&self) -> u64 {
        self.intended.saturating_sub(self.dropped)
    }

    /// Errors and time-outs.
    pub fn failed(&self) -> u64 {
        self.errors + self.timeouts
    }
}

/// The requests of a part within the measured window.
#[derive(Debug, Clone)]
pub struct RequestFigures {
    /// What became of them.
    pub counts: Counts,
    /// Response time (done − intended), in µs, of every request sent, failed ones included.
    pub response: Histogram<u64>,
    /// Service time (done − sent), in µs, of the same.
    pub service: Histogram<u64>,
    /// Send lag (sent − intended), in µs, of the requests sent within the window; empty for a part of the run.
    pub send_lag: Histogram<u64>,
    /// The generator's own part of it, in µs: without the wait for a free user.
    pub own_lag: Histogram<u64>,
    /// Requests sent within the window by the clock; nothing for a part of the run.
    sent_by_clock: Option<u64>,
    /// Commands acknowledged within the window by the clock; nothing for a part of the run, or without event operations.
    acknowledged: Option<u64>,
    /// Length of the window, in seconds.
    seconds: usize,
}

impl RequestFigures {
    /// The requests of `part` in the record's measured window.
    pub fn of(record: &Record, part: Part<'_>) -> Self {
        let window = record.window.measured();
        let operations: Vec<&OperationRecord> =
            record.load.operations.iter().filter(|operation| belongs(operation, part)).collect();
        let merged = |which: fn(&OperationSecond) -> &Distribution| {
            let seconds = operations.iter().flat_map(|o| within(&o.seconds, &window));
            Distribution::merged(seconds.map(which))
        };
        let run: Vec<&LoadSecond> = match part {
            Part::Run => within(&record.load.seconds, &window).collect(),
            Part::Operation(_) | Part::Service(_) => Vec::new(),
        };
        let sum = |which: fn(&LoadSecond) -> u64| run.iter().map(|second| which(second)).sum();
        let has_events = operations.iter().any(|operation| operation.event);
        Self {
            counts: Counts::of(operations.iter().copied(), window.clone()),
            response: merged(|second| &second.response),
            service: merged(|second| &second.service),
            send_lag: Distribution::merged(run.iter().map(|second| &second.lag)),
            own_lag: Distribution::merged(run.iter().map(|second| &second.own_lag)),
            sent_by_clock: (!run.is_empty()).then(|| sum(|second| second.sent)),
            acknowledged: (!run.is_empty() && has_events)
                .then(|| sum(|second| second.acknowledged)),
            seconds: record.window.measure_s,
        }
    }

    /// A figure, or nothing when there is nothing behind it. Signals are not figures of requests, nor is what several steps say.
    pub fn get(&self, name: &FigureName) -> Option<Figure> {
        let counts = &self.counts;
        match name {
            FigureName::Time(span, statistic) => self.time(*span, *statistic),
            FigureName::ErrorRate => share(counts.failed(), counts.offered_to_system()),
            FigureName::TimeoutRate => share(counts.timeouts, counts.offered_to_system()),
            FigureName::Availability => share(counts.ok, counts.offered_to_system()),
            FigureName::DroppedRate => share(counts.dropped, counts.intended),
            FigureName::OfferedRate => self.rate(counts.intended),
            FigureName::AchievedRate => self.rate(self.sent_by_clock.unwrap_or(counts.sent)),
            FigureName::EventRate => self.acknowledged.and_then(|count| self.rate(count)),
            FigureName::Signal(_)
            | FigureName::HeldEventRate
            | FigureName::HeldRate
            | FigureName::StepsHeld => None,
        }
    }

    /// The recorded times of a span.
    pub fn histogram(&self, span: Span) -> &Histogram<u64> {
        match span {
            Span::Response => &self.response,
            Span::Service => &self.service,
            Span::SendLag => &self.send_lag,
        }
    }

    fn time(&self, span: Span, statistic: Statistic) -> Option<Figure> {
        let histogram = self.histogram(span);
        if histogram.is_empty() {
            return None;
        }
        let value = match statistic {
            Statistic::Percentile(percentile) => {
                histogram.value_at_quantile(percentile.share()) as f64
            }
            Statistic::Mean => histogram.mean(),
            Statistic::Max => histogram.max() as f64,
        };
        Some(Figure { value, unit: Unit::Us, samples: histogram.len() })
    }

    /// A rate of nothing intended is no observation: the run did not happen.
    fn rate(&self, count: u64) -> Option<Figure> {
        if self.seconds == 0 || self.counts.intended == 0 {
            return None;
        }
        let value = count as f64 / self.seconds as f64;
        Some(Figure { value, unit: Unit::PerSecond, samples: count })
    }
}

fn share(part: u64, whole: u64) -> Option<Figure> {
    (whole > 0).then(|| Figure {
        value: part as f64 / whole as f64,
        unit: Unit::Ratio,
        samples: whole,
    })
}

fn belongs(operation: &OperationRecord, part: Part<'_>) -> bool {
    match part {
        Part::Run => true,
        Part::Operation(name) => operation.name == name,
        Part::Service(name) => operation.service.as_deref() == Some(name),
    }
}

/// The entries of some seconds; fewer when the record ends early.
fn within<'a, T>(
    entries: &'a [T],
    seconds: &std::ops::Range<usize>,
) -> impl Iterator<Item = &'a T> {
    entries.iter().take(seconds.end).skip(seconds.start)
}

/// Arrivals intended in each second of the axis, all operations together.
pub(super) fn intended_per_second(record: &Record) -> Vec<u64> {
    let at = |second: usize| {
        let operations = record.load.operations.iter();
        operations.filter_map(|o| o.seconds.get(second)).map(|s| s.intended).sum()
    };
    (0..record.window.end()).map(at).collect()
}

/// The names of the record's services, in the order of their first operation.
pub(super) fn services(record: &Record) -> Vec<&str> {
    let mut names = Vec::new();
    for service in record.load.operations.iter().filter_map(|o| o.service.as_deref()) {
        if !names.contains(&service) {
            names.push(service);
        }
    }
    names
}
