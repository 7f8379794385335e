//! The desk where users get their arrivals.
//!
//! A user that is free asks the schedule itself, so what is due is taken with no hand-over. Users for whom nothing is due
//! wait here, and the keeper gives them what becomes due: whoever came last is served first, because its connection, its
//! buffers and the server's are still warm, and the longer it waits the less a server knows of it. When nobody waits, what
//! is due stays in the schedule, which costs nothing.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::pacer::{Pacer, Step};
use super::release::Clock;
use super::schedule::Arrival;
use super::tally::second_of;

/// Arrivals in the order of their intended times.
pub(crate) type Arrivals = Box<dyn Iterator<Item = Arrival> + Send>;

/// What the keeper has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Look again at this time, in µs: somebody waits, and nothing is due before.
    Until(u64),
    /// Look again when somebody waits.
    UntilSomebodyWaits,
    /// Every arrival was given out.
    Over,
}

/// Where users wait for arrivals.
pub(crate) struct Desk {
    state: Mutex<State>,
}

struct State {
    /// `None` until the load starts.
    open: Option<(Pacer<Arrivals>, Clock)>,
    over: bool,
    seats: Vec<Seat>,
    /// Who waits, and has not been given anything; the last came last.
    waiting: Vec<usize>,
    /// The keeper, while it has nothing to do until somebody waits.
    keeper: Option<Waker>,
}

/// One user's place.
#[derive(Default)]
struct Seat {
    waits: bool,
    given: Option<Arrival>,
    waker: Option<Waker>,
}

impl Desk {
    /// For so many users; they wait until it opens.
    pub(crate) fn new(users: usize) -> Self {
        let seats = (0..users).map(|_| Seat::default()).collect();
        let waiting = Vec::with_capacity(users);
        Self { state: Mutex::new(State { open: None, over: false, seats, waiting, keeper: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives out these arrivals from now on, each at its intended time by `clock`.
    pub(crate) fn open(&self, arrivals: Arrivals, clock: Clock) {
        self.lock().open = Some((Pacer::new(arrivals), clock));
    }

    /// Ends the schedule with the second that has begun, and says which is the first that is left out; `None` before the
    /// first second.
    pub(crate) fn stop(&self) -> Option<usize> {
        let mut state = self.lock();
        let (pacer, clock) = state.open.as_mut()?;
        // Nothing is given out before it is due, so nothing of a later second has been.
        let second = second_of(clock.now_us()) + 1;
        pacer.cut(second as u64 * 1_000_000);
        Some(second)
    }

    /// The next arrival for a user; `None` when there will be no more. To be awaited to the end: what was given to a user
    /// that no longer asks for it is lost.
    pub(crate) async fn take(&self, user: usize) -> Option<Arrival> {
        // A user that only drops what has expired never waits: without this it would keep its thread to itself, and nobody
        // would hear the session.
        tokio::task::consume_budget().await;
        poll_fn(|cx| self.lock().poll_take(user, cx)).await
    }

    /// Gives what is due to those who wait. `cx` is woken for [`Duty::UntilSomebodyWaits`].
    pub(crate) fn keep(&self, cx: &Context<'_>) -> Duty {
        self.lock().keep(cx)
    }
}

impl State {
    fn poll_take(&mut self, user: usize, cx: &Context<'_>) -> Poll<Option<Arrival>> {
        let seat = &mut self.seats[user];
        if let Some(arrival) = seat.given.take() {
            return Poll::Ready(Some(arrival));
        }
        if self.over {
            return Poll::Ready(None);
        }
        if !seat.waits {
            match self.open.as_mut().map(|(pacer, clock)| pacer.step(clock.now_us())) {
                Some(Step::Release(arrival)) => return Poll::Ready(Some(arrival)),
                Some(Step::Finished) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Some(Step::WaitUntil(_)) | None => {}
            }
            self.seats[user].waits = true;
            self.waiting.push(user);
            if let Some(keeper) = self.keeper.take() {
                keeper.wake();
            }
        }
        let waker = &mut self.seats[user].waker;
        match waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn keep(&mut self, cx: &Context<'_>) -> Duty {
        while !self.over {
            let Some((pacer, clock)) = &mut self.open else { break };
            if self.waiting.is_empty() {
                break;
            }
            match pacer.step(clock.now_us()) {
                Step::Release(arrival) => self.give(arrival),
                Step::WaitUntil(time_us) => return Duty::Until(time_us),
                Step::Finished => self.finish(),
            }
        }
        if self.over {
            return Duty::Over;
        }
        self.keeper = Some(cx.waker().clone());
        Duty::UntilSomebodyWaits
    }

    fn give(&mut self, arrival: Arrival) {
        let user = self.waiting.pop().expect("somebody waits");
        let seat = &mut self.seats[user];
        (seat.waits, seat.given) = (false, Some(arrival));
        if let Some(waker) = &seat.waker {
            waker.wake_by_ref();
        }
    }

    /// Sends everybody home.
    fn finish(&mut self) {
        self.over = true;
        let waiting = self.waiting.drain(..).filter_map(|user| self.seats[user].waker.take());
        waiting.chain(self.keeper.take()).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::load::release::release;

    fn at(intended_us: u64) -> Arrival {
        Arrival { index: intended_us, intended_us, operation: 0, content: 0 }
    }

    /// A desk that opened a second ago: what is intended in that second is due, [`LATER`] is not within this test.
    fn desk(users: usize, times: &[u64]) -> Desk {
        let desk = Desk::new(users);
        let arrivals: Vec<Arrival> = times.iter().copied().map(at).collect();
        let begun = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        desk.open(Box::new(arrivals.into_iter()), Clock::new(begun));
        desk
    }

    fn poll(desk: &Desk, user: usize) -> Poll<Option<u64>> {
        let cx = Context::from_waker(Waker::noop());
        desk.lock().poll_take(user, &cx).map(|arrival| arrival.map(|a| a.intended_us))
    }

    fn keep(desk: &Desk) -> Duty {
        desk.keep(&Context::from_waker(Waker::noop()))
    }

    const LATER: u64 = 3_600_000_000;

    #[test]
    fn a_free_user_takes_what_is_due_at_once() {
        let desk = desk(2, &[1, 2, LATER]);
        assert_eq!(poll(&desk, 1), Poll::Ready(Some(1)));
        assert_eq!(poll(&desk, 1), Poll::Ready(Some(2)));
        assert_eq!(poll(&desk, 1), Poll::Pending);
    }

    #[test]
    fn who_came_last_is_served_first_and_nobody_twice() {
        let desk = Desk::new(3);
        for user in [0, 1, 2, 1] {
            assert_eq!(poll(&desk, user), Poll::Pending, "nothing is given before it opens");
        }
        let begun = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        desk.open(Box::new([at(5), at(6), at(LATER)].into_iter()), Clock::new(begun));
        assert_eq!(keep(&desk), Duty::Until(LATER));
        assert_eq!(poll(&desk, 0), Poll::Pending);
        assert_eq!(poll(&desk, 2), Poll::Ready(Some(5)));
        assert_eq!(poll(&desk, 1), Poll::Ready(Some(6)));
        assert_eq!(poll(&desk, 1), Poll::Pending);
    }

    #[test]
    fn a_keeper_with_nobody_to_serve_leaves_arrivals_in_the_schedule() {
        let desk = desk(1, &[1]);
        assert_eq!(keep(&desk), Duty::UntilSomebodyWaits);
        assert_eq!(poll(&desk, 0), Poll::Ready(Some(1)));
    }

    #[test]
    fn at_the_end_everybody_is_sent_home() {
        let desk = desk(2, &[1]);
        assert_eq!(poll(&desk, 0), Poll::Ready(Some(1)));
        assert_eq!(poll(&desk, 1), Poll::Ready(None));
        assert_eq!(poll(&desk, 0), Poll::Ready(None));
        assert_eq!(keep(&desk), Duty::Over);
    }

    #[test]
    fn a_stopped_desk_gives_out_the_second_that_has_begun_and_no_more() {
        // It opened a second ago, so second 1 has begun; a user that comes late gets what was due all the same.
        let desk = desk(1, &[900_000, 1_000_000, 2_000_000, LATER]);
        assert_eq!(desk.stop(), Some(2));
        let taken: Vec<_> = (0..3).map(|_| poll(&desk, 0)).collect();
        assert_eq!(taken[..2], [Poll::Ready(Some(900_000)), Poll::Ready(Some(1_000_000))]);
        assert_eq!(taken[2], Poll::Ready(None));
        assert_eq!(Desk::new(1).stop(), None, "there is nothing to stop before it opens");
    }

    #[test]
    fn a_user_who_finds_a_backlog_leaves_room_for_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let desk = std::sync::Arc::new(desk(1, &[1; 5_000]));
        let (taken_by_then, taken) = runtime.block_on(async {
            let taken = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
            let count = || std::sync::Arc::clone(&taken);
            let (counted, seen, desk) = (count(), count(), std::sync::Arc::clone(&desk));
            let greedy = tokio::spawn(async move {
                while desk.take(0).await.is_some() {
                    counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
            let load =
                |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::SeqCst);
            let patient = tokio::spawn(async move { load(&seen) });
            let by_then = patient.await.unwrap();
            greedy.await.unwrap();
            (by_then, load(&taken))
        });
        assert_eq!(taken, 5_000);
        assert!(taken_by_then < 5_000, "the other had to wait for the whole backlog");
    }

    /// Several threads against one keeper: what one of them were not given, or were given twice, would be missing or double.
    #[test]
    fn every_arrival_is_taken_exactly_once() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let desk = std::sync::Arc::new(Desk::new(8));
        let taken = runtime.block_on(async {
            let users: Vec<_> = (0..8)
                .map(|user| {
                    let desk = std::sync::Arc::clone(&desk);
                    tokio::spawn(async move {
                        let mut taken = Vec::new();
                        while let Some(arrival) = desk.take(user).await {
                            taken.push(arrival.index);
                            tokio::task::yield_now().await;
                        }
                        taken
                    })
                })
                .collect();
            let times: Vec<u64> = (0..2_000).map(|n| n * 20).collect();
            let (arrivals, clock) = (times.into_iter().map(at), Clock::new(Instant::now()));
            release(Box::new(arrivals), clock, &desk).await.unwrap();
            let mut all = Vec::new();
            for user in users {
                all.extend(user.await.unwrap());
            }
            all.sort_unstable();
            all
        });
        assert_eq!(taken, (0..2_000).map(|n| n * 20).collect::<Vec<_>>());
    }
}
