//! The run's time axis: which second a reading belongs to. Never reads a clock.

use std::time::{Duration, Instant};

/// A reading belongs to a boundary if it starts at most this long after it; half a second further, it would be nearer to
/// the next.
const LATE_MAX: Duration = Duration::from_millis(500);

/// Boundaries one second apart: 0 at the origin, the last `seconds` later.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Second 0: the first intended arrival. May be in the future.
    pub origin: Instant,
    /// Length, in seconds; there are `seconds + 1` boundaries.
    pub seconds: usize,
}

impl Axis {
    /// When a boundary is due.
    pub(super) fn boundary(&self, second: usize) -> Instant {
        self.origin + Duration::from_secs(second as u64)
    }

    /// The first boundary from `from` on that can still be read at `now`; `None` when the axis is over.
    pub(super) fn next(&self, from: usize, now: Instant) -> Option<usize> {
        let late = now.saturating_duration_since(self.origin);
        // Boundaries before `now - LATE_MAX` are missed.
        let missed = late.saturating_sub(LATE_MAX);
        let first = missed.as_secs() as usize + usize::from(missed.subsec_nanos() > 0);
        Some(first.max(from)).filter(|second| *second <= self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(from: usize, now_ms: u64) -> Option<usize> {
        let origin = Instant::now();
        Axis { origin, seconds: 10 }.next(from, origin + Duration::from_millis(now_ms))
    }

    #[test]
    fn a_reading_belongs_to_the_nearest_boundary() {
        assert_eq!(next(0, 0), Some(0));
        assert_eq!(next(3, 3_000), Some(3));
        assert_eq!(next(3, 3_500), Some(3), "late, but not too late");
        assert_eq!(next(3, 3_501), Some(4), "second 3 is missed, not shifted");
        assert_eq!(next(3, 7_800), Some(8), "a long stall loses its seconds");
    }

    #[test]
    fn a_boundary_is_never_read_twice() {
        assert_eq!(next(4, 3_100), Some(4));
    }

    #[test]
    fn the_axis_ends_with_its_last_boundary() {
        assert_eq!(next(10, 10_400), Some(10));
        assert_eq!(next(11, 10_400), None);
        assert_eq!(next(0, 60_000), None);
    }

    #[test]
    fn before_the_origin_second_0_is_next() {
        let now = Instant::now();
        let axis = Axis { origin: now + Duration::from_secs(5), seconds: 10 };
        assert_eq!(axis.next(0, now), Some(0));
        assert_eq!(axis.boundary(2), now + Duration::from_secs(7));
    }
}
