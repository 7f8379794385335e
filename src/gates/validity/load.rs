//! Was the load that the schedule asked for made, and is every request accounted for?

use hdrhistogram::Histogram;

use super::answer::{amber, green, grey, red};
use crate::archive::{Distribution, OperationRecord, Record, WorkerEnd};
use crate::gates::figures::{Counts, Part, RequestFigures, intended_per_second};
use crate::gates::show::show;
use crate::gates::verdict::{Bias, Unit, ValidityCheck};
use crate::units::show::grouped;

/// Seconds over which the offered and the achieved rate are held together.
const RATE_SPAN_S: usize = 5;
/// Least share of the intended requests that must be sent in any such span.
const SENT_SHARE_MIN: f64 = 0.99;
/// How far Little's law may be off, as a share.
const LITTLE_TOLERANCE: f64 = 0.03;
/// How much the p95 of the last quarter may differ from the first.
const DRIFT_TOLERANCE: f64 = 0.25;
/// A p95 of fewer is noise: see `Percentile::samples_min`.
const P95_SAMPLES_MIN: u64 = 59;

/// A worker that died leaves requests whose fate nobody knows.
pub(super) fn worker_finished(record: &Record) -> ValidityCheck {
    const CHECK: &str = "worker finished";
    match &record.load.worker {
        WorkerEnd::Finished => {
            green(CHECK, "all arrivals were dealt with and the totals delivered")
        }
        WorkerEnd::Lost { detail } => {
            red(CHECK, Bias::Unknown, format!("the worker was lost: {detail}"))
        }
    }
}

/// Every second of the window is there, for every operation.
pub(super) fn axis_is_complete(record: &Record) -> ValidityCheck {
    const CHECK: &str = "every second recorded";
    let end = record.window.end();
    if record.load.operations.is_empty() {
        return red(CHECK, Bias::Unknown, "no operation was recorded");
    }
    let short = record.load.operations.iter().find(|operation| operation.seconds.len() < end);
    if let Some(operation) = short {
        let detail =
            format!("{:?} ends at second {} of {end}", operation.name, operation.seconds.len());
        return red(CHECK, Bias::Unknown, detail);
    }
    if record.load.seconds.len() < end {
        let detail = format!("the load ends at second {} of {end}", record.load.seconds.len());
        return red(CHECK, Bias::Unknown, detail);
    }
    green(CHECK, format!("{end} seconds, {} operations", record.load.operations.len()))
}

/// Requests that were never sent spare the system; requests that were sent late do not, and their wait is in the
/// response time. So only the first is red.
pub(super) fn offered_against_achieved(record: &Record) -> ValidityCheck {
    const CHECK: &str = "offered against achieved";
    let window = record.window.measured();
    let intended = intended_per_second(record);
    let of_intended: Vec<u64> = (0..record.window.end())
        .map(|s| {
            let at = record.load.operations.iter().filter_map(|o| o.seconds.get(s));
            at.map(|second| second.sent).sum()
        })
        .collect();
    let by_clock: Vec<u64> = record.load.seconds.iter().map(|second| second.sent).collect();
    let Some((share, at)) = least_share(&of_intended, &intended, window.clone()) else {
        return grey(CHECK, "nothing was intended in the measured window");
    };
    if share < SENT_SHARE_MIN {
        let detail = format!(
            "only {} of the requests intended from second {at} on ({RATE_SPAN_S} s) were sent",
            show(share, Unit::Ratio)
        );
        return red(CHECK, Bias::LooksBetter, detail);
    }
    match least_share(&by_clock, &intended, window) {
        Some((share, at)) if share < SENT_SHARE_MIN => amber(
            CHECK,
            format!(
                "every request was sent, but from second {at} on ({RATE_SPAN_S} s) only {} in time; response times \
                 include the wait",
                show(share, Unit::Ratio)
            ),
        ),
        _ => green(CHECK, format!("at least {} in any {RATE_SPAN_S} s", show(share, Unit::Ratio))),
    }
}

/// The least share of `part` in `whole` over any span of the window, and where that span begins.
fn least_share(
    part: &[u64],
    whole: &[u64],
    window: std::ops::Range<usize>,
) -> Option<(f64, usize)> {
    let span = RATE_SPAN_S.min(window.len());
    let sum = |values: &[u64], from: usize| -> u64 { values.iter().skip(from).take(span).sum() };
    let starts = window.start..=window.end - span;
    let share = |from: usize| {
        let asked = sum(whole, from);
        (asked > 0).then(|| (sum(part, from) as f64 / asked as f64, from))
    };
    starts.filter_map(share).min_by(|a, b| a.0.total_cmp(&b.0))
}

/// What was dropped never troubled the system.
pub(super) fn nothing_dropped(record: &Record) -> ValidityCheck {
    const CHECK: &str = "nothing dropped";
    let counts = RequestFigures::of(record, Part::Run).counts;
    match (counts.dropped, counts.intended) {
        (_, 0) => grey(CHECK, "nothing was intended in the measured window"),
        (0, intended) => green(CHECK, format!("all {} arrivals were sent", grouped(intended))),
        (dropped, intended) => {
            let share = show(dropped as f64 / intended as f64, Unit::Ratio);
            let (dropped, intended) = (grouped(dropped), grouped(intended));
            let detail = format!("{dropped} of {intended} arrivals ({share}) were never sent");
            red(CHECK, Bias::LooksBetter, detail)
        }
    }
}

/// Every arrival came to exactly one end: intended = ok + errors + timeouts + dropped, over the whole axis.
pub(super) fn accounting(record: &Record) -> ValidityCheck {
    const CHECK: &str = "accounting identity";
    let counts = |operation: &OperationRecord| Counts::of([operation], 0..operation.seconds.len());
    let mut total = 0;
    for operation in &record.load.operations {
        let seen = counts(operation);
        let ended = seen.ok + seen.failed() + seen.dropped;
        if ended != seen.intended {
            let detail = format!(
                "{:?}: {} intended, but {} ok + {} errors + {} time-outs + {} dropped = {ended}",
                operation.name, seen.intended, seen.ok, seen.errors, seen.timeouts, seen.dropped
            );
            return red(CHECK, Bias::Unknown, detail);
        }
        let times: u64 = operation.seconds.iter().map(|second| second.response.count()).sum();
        if times != seen.ok + seen.failed() {
            let detail = format!(
                "{:?}: {} requests came to an end, but {times} response times are recorded",
                operation.name,
                seen.ok + seen.failed()
            );
            return red(CHECK, Bias::Unknown, detail);
        }
        total += seen.intended;
    }
    match total {
        0 => grey(CHECK, "nothing was intended"),
        _ => green(
            CHECK,
            format!(
                "{} intended = ok + errors + time-outs + dropped, for each operation",
                grouped(total)
            ),
        ),
    }
}

/// goose's count of what each user reported to it. The verdict on a request is ours on both sides: this shows that no request
/// was lost between a user and the count, not that a verdict is right.
pub(super) fn goose_agrees(record: &Record) -> ValidityCheck {
    const CHECK: &str = "goose counts the same";
    let Some(goose) = record.load.goose else {
        return grey(CHECK, "goose gave no count");
    };
    let ours = record.load.operations.iter().fold((0, 0), |(ok, failed), operation| {
        let counts = Counts::of([operation], 0..operation.seconds.len());
        (ok + counts.ok, failed + counts.failed())
    });
    let detail = format!(
        "goose: {} ok, {} failed; recorded: {} ok, {} failed",
        grouped(goose.ok),
        grouped(goose.failed),
        grouped(ours.0),
        grouped(ours.1)
    );
    if (goose.ok, goose.failed) == ours {
        green(CHECK, detail)
    } else {
        red(CHECK, Bias::Unknown, detail)
    }
}

/// L = X · W (Little, Operations Research 9, 1961): mean requests in flight = rate × mean service time. In flight is known
/// at the boundaries of seconds only, so a mismatch counts when it is beyond four standard errors of that sample, and
/// is amber: evenly spaced arrivals can keep step with the boundaries.
pub(super) fn littles_law(record: &Record) -> ValidityCheck {
    const CHECK: &str = "Little's law";
    let window = record.window.measured();
    let mut in_flight = 0_i64;
    let mut seen = Vec::new();
    for (second, at) in record.load.seconds.iter().enumerate().take(window.end) {
        in_flight += at.sent as i64 - at.done as i64;
        if second >= window.start {
            seen.push(in_flight as f64);
        }
    }
    let service = RequestFigures::of(record, Part::Run).service;
    if seen.len() < 10 || service.is_empty() {
        return grey(CHECK, "takes at least ten measured seconds with requests");
    }
    let n = seen.len() as f64;
    let mean = seen.iter().sum::<f64>() / n;
    let variance = seen.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let expected = service.len() as f64 / record.window.measure_s as f64 * service.mean() / 1e6;
    let detail = format!(
        "{mean:.2} requests in flight on average; rate × mean service time gives {expected:.2}"
    );
    let tolerance = (LITTLE_TOLERANCE * expected).max(4.0 * (variance / n).sqrt()).max(0.5);
    if (mean - expected).abs() <= tolerance { green(CHECK, detail) } else { amber(CHECK, detail) }
}

/// A run that is still warming up, or filling up, has no one p95.
pub(super) fn steady(record: &Record) -> ValidityCheck {
    const CHECK: &str = "steady state";
    let window = record.window.measured();
    let quarter = window.len() / 4;
    let p95 = |from: usize| -> Option<u64> {
        let operations = record.load.operations.iter();
        let seconds = operations.flat_map(|o| o.seconds.iter().skip(from).take(quarter));
        let merged: Histogram<u64> = Distribution::merged(seconds.map(|second| &second.response));
        (merged.len() >= P95_SAMPLES_MIN).then(|| merged.value_at_quantile(0.95))
    };
    let (Some(first), Some(last)) = (p95(window.start), p95(window.end - quarter)) else {
        return grey(
            CHECK,
            format!("takes {P95_SAMPLES_MIN} requests in each quarter of the window"),
        );
    };
    let drift = last as f64 / first as f64 - 1.0;
    let detail = format!(
        "p95 of the first quarter {}, of the last {}",
        show(first as f64, Unit::Us),
        show(last as f64, Unit::Us)
    );
    if drift > DRIFT_TOLERANCE {
        amber(CHECK, format!("{detail}: still getting slower; measure longer"))
    } else if drift < -DRIFT_TOLERANCE {
        amber(CHECK, format!("{detail}: still warming up; make the warm-up longer"))
    } else {
        green(CHECK, detail)
    }
}
