//! The clock of a run, and the keeper's shell: waits until arrivals are due and has the desk give them out.
//!
//! It waits on a timer of the kernel (timerfd) among the sockets, in the thread that sends: tokio's own timers tick in
//! milliseconds, and a pacer in a thread of its own would have to wake the sender for each arrival, which on a machine that
//! is otherwise idle costs more than the request. It sleeps, never spins: a processor that it burned would be missing to the
//! server when both share a machine.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::desk::{Arrivals, Desk, Duty};

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

/// Opens the desk at second 0 and has every arrival given out at its intended time, then returns. When all users are busy
/// there is nothing to do: they take what has become due meanwhile themselves.
pub(crate) async fn release(arrivals: Arrivals, clock: Clock, desk: &Desk) -> io::Result<()> {
    let alarm = Alarm::new()?;
    while Instant::now() < clock.at(0) {
        alarm.wait_until(clock.at(0)).await?;
    }
    desk.open(arrivals, clock);
    loop {
        let duty = poll_fn(|cx| match desk.keep(cx) {
            Duty::UntilSomebodyWaits => Poll::Pending,
            duty => Poll::Ready(duty),
        });
        match duty.await {
            Duty::Until(time_us) => alarm.wait_until(clock.at(time_us)).await?,
            _ => return Ok(()),
        }
    }
}

/// A timer of the kernel, in the runtime's own wait.
struct Alarm(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks that the descriptor outlive the registration; ours does, the timer owns it"
        )]
        AsyncFd::with_interest(timer, Interest::READABLE).map(Self)
    }

    /// Sleeps until then; seldom less, so look at the clock afterwards.
    async fn wait_until(&self, time: Instant) -> io::Result<()> {
        let wait = time.saturating_duration_since(Instant::now());
        // Zero would disarm it. Setting it forgets earlier expiries, so none has to be read off.
        let wait = TimeSpec::from_duration(wait.max(Duration::from_nanos(1)));
        self.0.get_ref().0.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
