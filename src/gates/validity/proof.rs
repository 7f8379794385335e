//! Counts of the same thing from two sides, and how near they must be.

use std::ops::RangeInclusive;

use crate::archive::Record;

/// How far the two sides may differ whenever they were read, as a share of the larger.
const COUNT_TOLERANCE: f64 = 0.001;
/// A comparison that tolerates more than this share of the count proves nothing.
const TOLERANCE_MAX: f64 = 0.05;

/// How much two counts up to `larger` over some seconds may differ: 0.1 %, and what one second holds. The sides are not
/// read at the same instant: at either end they may be up to half a second apart.
pub(super) fn tolerance(larger: f64, seconds: usize) -> f64 {
    let of_a_second = larger / seconds.max(1) as f64;
    COUNT_TOLERANCE * larger + of_a_second.max(1.0)
}

/// Whether two counts of the same thing agree.
pub(super) fn agree(one: f64, other: f64, seconds: usize) -> bool {
    (one - other).abs() <= tolerance(one.max(other), seconds)
}

/// Whether agreement says anything: over a short time the tolerance is a large part of the count.
pub(super) fn is_telling(count: f64, seconds: usize) -> bool {
    tolerance(count, seconds) <= TOLERANCE_MAX * count
}

/// The longest stretch of the whole axis, warm-up included, at both ends of which every one of these was read: a side
/// with a gap at an edge would count less. Nothing when there are no two such boundaries.
pub(super) fn stretch(record: &Record, names: [&str; 2]) -> Option<RangeInclusive<usize>> {
    let read = |name: &str, second: usize| {
        let mut series = record.timeline.series.iter().filter(|series| series.key.name == name);
        series.any(|series| series.values.get(second).copied().flatten().is_some())
    };
    let both = |second: &usize| names.iter().all(|name| read(name, *second));
    let first = (0..=record.window.end()).find(both)?;
    let last = (0..=record.window.end()).rev().find(both)?;
    (last > first).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_over_a_short_time_proves_nothing() {
        assert!(agree(1000.0, 1017.0, 60) && !agree(1000.0, 1018.0, 60));
        for (count, seconds, telling) in
            [(60_000.0, 60, true), (60_000.0, 21, true), (60_000.0, 20, false), (19.0, 60, false)]
        {
            assert_eq!(is_telling(count, seconds), telling, "{count} over {seconds} s");
        }
    }
}
