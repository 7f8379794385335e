//! The pacer's shell: a thread that waits until arrivals are due and hands them to the users.
//!
//! A thread of its own, because the timers of tokio tick in milliseconds and a busy runtime would be late itself. It
//! sleeps, never spins: a processor that it burned would be missing to the server when both share a machine.

use std::thread;
use std::time::{Duration, Instant};

use super::pacer::{Pacer, Step};
use super::schedule::Arrival;

/// The run's time axis: µs from second 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Second 0 is at `origin`, which may be in the future.
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// Now, in µs; 0 before the origin.
    pub(crate) fn now_us(self) -> u64 {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }

    /// When a time in µs is.
    pub(crate) fn at(self, time_us: u64) -> Instant {
        self.origin + Duration::from_micros(time_us)
    }
}

/// Hands every arrival over at its intended time, then returns; earlier when all users are gone. When the users are
/// behind, the hand-over blocks, and what has become due meanwhile follows at once.
pub(crate) fn release(
    arrivals: impl Iterator<Item = Arrival>,
    clock: Clock,
    users: &flume::Sender<Arrival>,
) {
    // Without this the kernel may wake a sleeper 50 µs late, to save power.
    if let Err(error) = nix::sys::prctl::set_timerslack(1) {
        tracing::debug!(%error, "timer slack stays as it is");
    }
    sleep_until(clock.at(0));
    let mut pacer = Pacer::new(arrivals);
    loop {
        match pacer.step(clock.now_us()) {
            Step::Release(arrival) => {
                if users.send(arrival).is_err() {
                    return;
                }
            }
            Step::WaitUntil(time_us) => sleep_until(clock.at(time_us)),
            Step::Finished => return,
        }
    }
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}
