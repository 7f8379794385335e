//! The recorder: every arrival's fate, taken from many users without contention, once a second handed on.
//!
//! Each user writes to a buffer of its own; only the one who collects ever waits for its lock, and only for as long as
//! it takes to swap the buffer for an empty one. Nothing is aggregated here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::exchange::Exchange;
use crate::archive::Outcome;
use crate::ids::OrgId;

/// What became of an arrival. Times are in µs from second 0 of the run's axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Number of the arrival.
    pub(crate) arrival: u64,
    /// Index into the scenario's operations.
    pub(crate) operation: usize,
    /// When it was intended.
    pub(crate) intended_us: u64,
    /// Whether and how it was sent.
    pub(crate) fate: Fate,
    /// What the client was told, if it was a command.
    pub(crate) told: Option<(OrgId, Outcome)>,
}

/// Whether and how an arrival was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Never: its time-out came before a user was free.
    Dropped,
    /// At `sent_us`, by a user that had been free since `free_us`; the last byte of the answer was read, or given up, at
    /// `done_us`.
    Sent { free_us: u64, sent_us: u64, done_us: u64, exchange: Exchange },
}

/// The buffers of all users.
#[derive(Debug)]
pub(crate) struct Recorder {
    buffers: Vec<Mutex<Vec<Sample>>>,
    in_flight: AtomicU64,
    /// Most in flight since it was last asked.
    peak: AtomicU64,
}

impl Recorder {
    /// For so many users.
    pub(crate) fn new(users: usize) -> Self {
        Self {
            buffers: (0..users).map(|_| Mutex::default()).collect(),
            in_flight: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// A request is about to be sent.
    pub(crate) fn sending(&self) {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    /// The request is done.
    pub(crate) fn done(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Keeps what became of an arrival that a user took.
    pub(crate) fn record(&self, user: usize, sample: Sample) {
        self.buffers[user].lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }

    /// Takes everything recorded since the last call.
    pub(crate) fn collect(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        for buffer in &self.buffers {
            let taken = std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner));
            all.extend(taken);
        }
        all
    }

    /// Most requests in flight at once since the last call.
    pub(crate) fn take_peak(&self) -> u64 {
        self.peak.swap(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_of_every_user_is_collected_once() {
        let recorder = Recorder::new(4);
        std::thread::scope(|scope| {
            for user in 0..4u64 {
                let recorder = &recorder;
                scope.spawn(move || {
                    for n in 0..500 {
                        let arrival = user * 500 + n;
                        let sample = Sample {
                            arrival,
                            operation: 0,
                            intended_us: 0,
                            fate: Fate::Dropped,
                            told: None,
                        };
                        recorder.record(user as usize, sample);
                    }
                });
            }
            let mut arrivals = Vec::new();
            while arrivals.len() < 2000 {
                arrivals.extend(recorder.collect().into_iter().map(|sample| sample.arrival));
            }
            arrivals.sort_unstable();
            assert_eq!(arrivals, (0..2000).collect::<Vec<_>>());
        });
        assert!(recorder.collect().is_empty());
    }

    #[test]
    fn the_peak_begins_anew_from_what_is_still_in_flight() {
        let recorder = Recorder::new(1);
        recorder.sending();
        recorder.sending();
        recorder.done();
        assert_eq!(recorder.take_peak(), 2);
        assert_eq!(recorder.take_peak(), 1);
    }
}
