//! The pacer's decisions: given the time, which arrival is due, or how long there is nothing to do.
//!
//! Pure: `release` asks, waits as told and hands over what is due. It never drops: an arrival that is released late
//! goes out late, and whoever takes it decides with [`expired`] whether it may still be sent.

use std::iter::Peekable;

use super::schedule::Arrival;

/// Shortest wait, in µs. Arrivals closer together leave in one wake-up: above 10,000 arrivals/s this costs at most
/// a tenth of a millisecond of send lag, and saves a wake-up each.
const QUANTUM_US: u64 = 100;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hand this arrival over and ask again.
    Release(Arrival),
    /// Nothing is due before this time, in µs.
    WaitUntil(u64),
    /// The schedule is at its end.
    Finished,
}

/// A schedule and how far it has been released.
#[derive(Debug)]
pub(crate) struct Pacer<I: Iterator<Item = Arrival>> {
    arrivals: Peekable<I>,
    /// No arrival intended at this time or later is released, in µs.
    end_us: u64,
}

impl<I: Iterator<Item = Arrival>> Pacer<I> {
    /// Over arrivals in the order of their intended times.
    pub(crate) fn new(arrivals: I) -> Self {
        Self { arrivals: arrivals.peekable(), end_us: u64::MAX }
    }

    /// Cuts the schedule: whatever is intended at `end_us` or later is not released.
    pub(crate) fn cut(&mut self, end_us: u64) {
        self.end_us = self.end_us.min(end_us);
    }

    /// What to do at `now_us`.
    pub(crate) fn step(&mut self, now_us: u64) -> Step {
        match self.arrivals.peek().map(|next| next.intended_us) {
            None => Step::Finished,
            Some(due) if due >= self.end_us => Step::Finished,
            Some(due) if due > now_us => Step::WaitUntil(due.max(now_us + QUANTUM_US)),
            Some(_) => self.arrivals.next().map_or(Step::Finished, Step::Release),
        }
    }
}

/// Whether an arrival may no longer be sent: a time-out would have come before the request left.
pub(crate) fn expired(intended_us: u64, now_us: u64, timeout_us: u64) -> bool {
    now_us.saturating_sub(intended_us) > timeout_us
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(intended_us: u64) -> Arrival {
        Arrival { index: 0, intended_us, operation: 0, content: 0 }
    }

    #[test]
    fn everything_due_is_released_and_nothing_early() {
        let mut pacer = Pacer::new([at(10), at(20), at(5_000)].into_iter());
        assert_eq!(pacer.step(20), Step::Release(at(10)));
        assert_eq!(pacer.step(20), Step::Release(at(20)));
        assert_eq!(pacer.step(20), Step::WaitUntil(5_000));
        assert_eq!(pacer.step(4_999), Step::WaitUntil(4_999 + QUANTUM_US));
        assert_eq!(pacer.step(5_000), Step::Release(at(5_000)));
        assert_eq!(pacer.step(5_000), Step::Finished);
    }

    #[test]
    fn a_late_pacer_releases_the_whole_backlog() {
        let mut pacer = Pacer::new((0..1000).map(at));
        let released = (0..2000).filter(|_| matches!(pacer.step(9_000), Step::Release(_))).count();
        assert_eq!(released, 1000);
    }

    #[test]
    fn a_cut_schedule_releases_what_is_intended_before_the_cut_and_nothing_else() {
        let mut pacer = Pacer::new([at(10), at(20), at(30)].into_iter());
        pacer.cut(20);
        pacer.cut(30);
        assert_eq!(pacer.step(500), Step::Release(at(10)), "due, however late it is asked for");
        assert_eq!(pacer.step(500), Step::Finished);
    }

    #[test]
    fn an_arrival_expires_after_its_timeout() {
        assert!(!expired(1_000, 500, 100), "not due yet");
        assert!(!expired(1_000, 1_100, 100));
        assert!(expired(1_000, 1_101, 100));
    }
}
