//! From the appenders to their subscribers, through memory; through the store for who fell behind.
//!
//! ```text
//! appender ── commit ── publish ──┬─ try_send ─▶ [bounded queue] ─▶ Subscription ─▶ projection
//!                                 └─ head := position                    └─ gap or head ahead: read the store
//! ```
//! An appender never waits for a subscriber: a full queue drops the batch, and the subscriber sees the gap.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{Counter, counter};
use sqlx::postgres::PgPool;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::read::{ReadError, read_shard};
use super::{ConsistencyToken, Shard};
use crate::domain::RecordedEvent;

/// Committed events of one shard at consecutive positions; never empty.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) shard: Shard,
    pub(crate) events: Vec<RecordedEvent>,
}

/// One position per shard.
pub(crate) type Positions = [i64; Shard::COUNT];

/// Some of a batch's events, consecutive ones.
#[derive(Debug)]
pub(crate) struct Slice {
    batch: Arc<Batch>,
    part: Range<usize>,
}

impl Slice {
    pub(crate) fn shard(&self) -> Shard {
        self.batch.shard
    }

    /// Never empty.
    pub(crate) fn events(&self) -> &[RecordedEvent] {
        &self.batch.events[self.part.clone()]
    }

    pub(crate) fn last_position(&self) -> i64 {
        self.events().last().map_or(0, |event| event.position)
    }

    /// The events up to a position, and the others.
    pub(crate) fn split_after(self, position: i64) -> (Option<Self>, Option<Self>) {
        match self.events().partition_point(|event| event.position <= position) {
            0 => (None, Some(self)),
            count if count == self.events().len() => (Some(self), None),
            count => {
                let (earlier, later) = self.split(count);
                (Some(earlier), Some(later))
            }
        }
    }

    /// The first `count` events, and the others; both must be some.
    fn split(self, count: usize) -> (Self, Self) {
        let (Range { start, end }, middle) = (self.part.clone(), self.part.start + count);
        debug_assert!(start < middle && middle < end, "{count} of {:?}", self.part);
        (
            Self { batch: Arc::clone(&self.batch), part: start..middle },
            Self { part: middle..end, ..self },
        )
    }
}

/// Two halves, the earlier events of each shard first; all in the first when there is only one event.
pub(crate) fn halves(slices: Vec<Slice>) -> (Vec<Slice>, Vec<Slice>) {
    let events: usize = slices.iter().map(|slice| slice.events().len()).sum();
    let mut room = events.div_ceil(2);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for slice in slices {
        let count = slice.events().len();
        if count <= room {
            first.push(slice);
        } else if room == 0 {
            second.push(slice);
        } else {
            let (earlier, later) = slice.split(room);
            first.push(earlier);
            second.push(later);
        }
        room = room.saturating_sub(count);
    }
    (first, second)
}

/// What all appenders have committed.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    heads: [AtomicI64; Shard::COUNT],
    subscribers: Mutex<Vec<mpsc::Sender<Arc<Batch>>>>,
    ages: [Mutex<VecDeque<Age>>; Shard::COUNT],
}

/// Events up to a position, and when the first of them was recorded.
#[derive(Debug, Clone, Copy)]
struct Age {
    last_position: i64,
    recorded_at: DateTime<Utc>,
}

/// Beyond this, newer batches share an entry: the oldest age stays exact.
const AGES_MAX: usize = 4_096;
/// How often a subscriber without news looks for batches that it was not given.
const LOOK_FOR_GAPS: Duration = Duration::from_millis(100);

impl Feed {
    /// Hands a committed batch to all subscribers.
    pub(super) fn publish(&self, batch: Batch) {
        let (Some(first), Some(last)) = (batch.events.first(), batch.events.last()) else { return };
        let token = ConsistencyToken { shard: batch.shard, position: last.position };
        self.note_age(token, first.recorded_at);
        let batch = Arc::new(batch);
        lock(&self.subscribers).retain(|subscriber| {
            !matches!(
                subscriber.try_send(Arc::clone(&batch)),
                Err(mpsc::error::TrySendError::Closed(_))
            )
        });
        // After the batch was sent: who sees this head and an empty queue was not given the batch.
        self.set_head(token);
    }

    /// Says how far a shard is committed, where the batch itself is not at hand.
    pub(super) fn set_head(&self, head: ConsistencyToken) {
        self.heads[head.shard.index()].store(head.position, Ordering::Release);
    }

    /// Position of each shard's last committed event.
    pub(crate) fn heads(&self) -> Positions {
        self.heads.each_ref().map(|head| head.load(Ordering::Acquire))
    }

    /// Remembers when events up to a position were recorded.
    pub(crate) fn note_age(&self, upto: ConsistencyToken, recorded_at: DateTime<Utc>) {
        let mut ages = lock(&self.ages[upto.shard.index()]);
        if ages.len() >= AGES_MAX
            && let Some(newest) = ages.back_mut()
        {
            newest.last_position = upto.position;
        } else {
            ages.push_back(Age { last_position: upto.position, recorded_at });
        }
    }

    /// When the oldest event after a position was recorded, if one is known.
    pub(crate) fn oldest_after(&self, seen: ConsistencyToken) -> Option<DateTime<Utc>> {
        let ages = lock(&self.ages[seen.shard.index()]);
        let next = ages.partition_point(|age| age.last_position <= seen.position);
        ages.get(next).map(|age| age.recorded_at)
    }

    /// Forgets ages up to a position that every projection has passed.
    pub(crate) fn forget_ages(&self, passed: ConsistencyToken) {
        let mut ages = lock(&self.ages[passed.shard.index()]);
        while ages.front().is_some_and(|age| age.last_position <= passed.position) {
            ages.pop_front();
        }
    }

    /// Follows all shards from the given positions on.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        store: PgPool,
        seen: Positions,
        queue_batches: usize,
    ) -> Subscription {
        let (sender, queue) = mpsc::channel(queue_batches);
        lock(&self.subscribers).push(sender);
        Subscription {
            feed: Arc::clone(self),
            queue,
            store,
            seen,
            first: 0,
            failed_reads: counter!("backend_feed_read_failures_total"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is held under these locks is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One follower of all shards: each event once, in order within its shard, none left out.
#[derive(Debug)]
pub(crate) struct Subscription {
    feed: Arc<Feed>,
    queue: mpsc::Receiver<Arc<Batch>>,
    store: PgPool,
    /// Position of the last event given out, by shard.
    seen: Positions,
    /// Index of the shard that was read back first.
    first: usize,
    failed_reads: Counter,
}

impl Subscription {
    /// Starts again from other positions.
    pub(crate) fn seek(&mut self, seen: Positions) {
        self.seen = seen;
    }

    /// The next events, about `limit` at most; waits for the first. Empty only when `stop` was called and all committed
    /// events have been given out.
    pub(crate) async fn next(
        &mut self,
        limit: usize,
        stop: &CancellationToken,
    ) -> Result<Vec<Slice>, ReadError> {
        loop {
            // Heads before the queue: a head seen here whose batch is not in the queue was not sent to us.
            let heads = self.feed.heads();
            let mut taken = self.take(heads, limit).await?;
            if !taken.slices.is_empty() {
                return Ok(taken.slices);
            }
            let behind = self.feed.heads().iter().zip(&self.seen).any(|(head, seen)| seen < head);
            if stop.is_cancelled() && !behind {
                return Ok(Vec::new());
            }
            let news = tokio::select! {
                news = self.queue.recv() => news,
                () = stop.cancelled(), if !behind => None,
                () = tokio::time::sleep(LOOK_FOR_GAPS) => None,
            };
            if let Some(batch) = news {
                self.accept(batch, &mut taken);
                // With what came behind it.
                self.drain_queue(limit, &mut taken);
            }
            if !taken.slices.is_empty() {
                return Ok(taken.slices);
            }
        }
    }

    /// What there is by now, without waiting for more: all events up to `heads`, about `limit` at most.
    pub(crate) async fn take_up_to(
        &mut self,
        heads: Positions,
        limit: usize,
    ) -> Result<Vec<Slice>, ReadError> {
        Ok(self.take(heads, limit).await?.slices)
    }

    /// An error only when there is nothing else to give out.
    async fn take(&mut self, heads: Positions, limit: usize) -> Result<Taken, ReadError> {
        let mut taken = Taken::default();
        if self.drain_queue(limit, &mut taken) {
            let caught_up = self.catch_up(heads, limit, &mut taken).await;
            if taken.slices.is_empty() {
                caught_up?;
            }
        }
        Ok(taken)
    }

    /// Takes what waits in the queue; true when nothing is left there.
    fn drain_queue(&mut self, limit: usize, taken: &mut Taken) -> bool {
        while taken.events < limit {
            match self.queue.try_recv() {
                Ok(batch) => self.accept(batch, taken),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    /// Takes the unseen part of a batch; leaves a batch beyond a gap to the store.
    fn accept(&mut self, batch: Arc<Batch>, taken: &mut Taken) {
        let seen = &mut self.seen[batch.shard.index()];
        let (Some(first), Some(last)) = (batch.events.first(), batch.events.last()) else { return };
        if first.position > *seen + 1 || last.position <= *seen {
            return;
        }
        let known = usize::try_from(*seen + 1 - first.position).unwrap_or(0);
        *seen = last.position;
        taken.events += batch.events.len() - known;
        let part = known..batch.events.len();
        taken.slices.push(Slice { batch, part });
    }

    /// Reads what the queue did not bring, shard by shard; one that cannot be read does not hold up the others.
    async fn catch_up(
        &mut self,
        heads: Positions,
        limit: usize,
        taken: &mut Taken,
    ) -> Result<(), ReadError> {
        // Another shard first each time: the limit that one uses up is not left for those after it.
        self.first = (self.first + 1) % Shard::COUNT;
        let mut result = Ok(());
        for shard in Shard::all().cycle().skip(self.first).take(Shard::COUNT) {
            let seen = self.seen[shard.index()];
            if seen >= heads[shard.index()] || taken.events >= limit {
                continue;
            }
            match read_shard(&self.store, shard, seen, limit - taken.events).await {
                Ok(events) => self.accept(Arc::new(Batch { shard, events }), taken),
                Err(error) => {
                    warn!(%error, %shard, "events could not be read back");
                    self.failed_reads.increment(1);
                    result = Err(error);
                }
            }
        }
        result
    }
}

#[derive(Debug, Default)]
struct Taken {
    slices: Vec<Slice>,
    events: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::samples::event;

    #[test]
    fn halves_hold_every_event_once_and_in_order() {
        for sizes in [&[1][..], &[2], &[7], &[3, 1, 4], &[1, 1, 1], &[5, 2]] {
            let slices = sizes.iter().scan(0, |last, size| {
                let events: Vec<_> = (*last + 1..=*last + size).map(|n| event(1, n)).collect();
                *last += size;
                let (shard, part) = (Shard::of(events[0].org), 0..events.len());
                Some(Slice { batch: Arc::new(Batch { shard, events }), part })
            });
            let mut whole = vec![slices.collect::<Vec<_>>()];
            let mut single = Vec::new();
            while let Some(slices) = whole.pop() {
                let (first, second) = halves(slices);
                if second.is_empty() {
                    let [slice] = &first[..] else { panic!("{first:?}") };
                    assert_eq!(slice.events().len(), 1);
                    single.push(slice.last_position());
                } else {
                    whole.extend([second, first]);
                }
            }
            let all = sizes.iter().sum::<i64>();
            assert_eq!(single, (1..=all).collect::<Vec<_>>(), "{sizes:?}");
        }
    }
}
