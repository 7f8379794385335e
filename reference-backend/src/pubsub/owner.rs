//! The owner of a subscription: reads its log, hands messages out, settles what comes back, and keeps the cursor.
//!
//! ```text
//! log ─▶ lanes ─▶ handlers (at most max_concurrency) ─┬─ ok ───────▶ settled ─┐
//!          ▲                                          ├─ last one ─▶ set aside ┼─▶ rows, every cursor_interval_ms
//!          └────────── wait (doubling, jitter) ───────┴─ error ────▶ retry ────┘
//! ```
//! When the lease is lost, everything here is dropped, handlers included: the next owner delivers again what has no row.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{error, warn};

use super::lanes::{Delivery, Lanes};
use super::lease::{Changes, Lease, LeaseLost, Place, Replay, Retry, SetAside};
use super::log::{Batch, Log, message_of};
use super::runner::Runner;
use super::settled::Settled;
use super::{Body, HandleError, Message};
use crate::db::Database;
use crate::domain::OrgId;
use crate::events::{Shard, read_event};

/// Batches that may wait between the log and the lanes.
const BATCHES: usize = 2;
/// Time between two looks at lag and at replays asked for.
const LOOK: Duration = Duration::from_secs(1);
/// At the end of the program, handlers get this long to finish; their messages come again otherwise.
const FAREWELL: Duration = Duration::from_secs(5);

type Outcome = Result<(), HandleError>;

/// A subscription's state while it is owned.
pub(super) struct Owner {
    run: Runner,
    lease: Lease,
    lanes: Lanes,
    settled: BTreeMap<i16, Settled>,
    /// What the last owner left waiting, and was not read yet.
    left: BTreeMap<Place, Retry>,
    changes: Changes,
    /// Dead letters in the lanes.
    replaying: BTreeSet<i64>,
    batches: mpsc::Receiver<Batch>,
    /// One task; it ends with this.
    _reader: JoinSet<()>,
    handlers: JoinSet<(Delivery, Outcome)>,
    last_read_at: Option<DateTime<Utc>>,
}

impl Owner {
    /// Goes on where the last owner's rows say.
    pub(super) async fn begin(run: Runner, mut lease: Lease) -> Result<Self, LeaseLost> {
        let settled = lease.cursors(&run.log.shards()).await?;
        let left = lease.retries().await?;
        let floors = settled.values().map(Settled::floor).collect();
        let (out, batches) = mpsc::channel(BATCHES);
        let mut reader = JoinSet::new();
        let poll = run.settings.poll_interval_ms.duration();
        let subscriber = Arc::clone(&run.subscriber);
        reader.spawn(run.log.clone().read(run.db.clone(), floors, poll, subscriber, out));
        Ok(Self {
            run,
            lease,
            lanes: Lanes::default(),
            settled,
            left,
            changes: Changes::default(),
            replaying: BTreeSet::new(),
            batches,
            _reader: reader,
            handlers: JoinSet::new(),
            last_read_at: None,
        })
    }

    /// Works until told to stop, or until the lease is lost.
    pub(super) async fn work(mut self) -> Result<(), LeaseLost> {
        let mut write = every(self.run.settings.cursor_interval_ms.duration());
        let mut look = every(LOOK);
        let stop = self.run.stop.clone();
        while !stop.is_cancelled() {
            self.deliver();
            let full = self.lanes.unsettled() >= self.run.settings.window_messages;
            let due = self.lanes.next_due().filter(|_| self.has_room());
            tokio::select! {
                () = stop.cancelled() => {}
                Some(done) = self.handlers.join_next() => self.settle(done),
                Some(batch) = self.batches.recv(), if !full => self.take(batch),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = write.tick() => self.write().await?,
                _ = look.tick() => self.look().await?,
            }
        }
        let finish = async {
            while let Some(done) = self.handlers.join_next().await {
                self.settle(done);
            }
        };
        let _ = timeout(FAREWELL, finish).await;
        self.handlers.shutdown().await;
        self.write().await?;
        self.lease.release().await;
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.handlers.len() < self.run.delivery.load().max_concurrency
    }

    /// Puts a batch into the lanes; what is settled or not wanted is done with.
    fn take(&mut self, batch: Batch) {
        let mut next = batch.after + 1;
        for message in batch.messages {
            self.pass_over(batch.shard, next, message.position - 1);
            next = message.position + 1;
            let place = (message.shard, message.position);
            if self.settled.get(&batch.shard).is_some_and(|s| s.contains(message.position)) {
                continue;
            }
            let (attempts, due) = match self.left.remove(&place) {
                Some(retry) => (retry.attempts, Some(instant_of(retry.due_at))),
                None => (0, None),
            };
            self.lanes.push(Delivery { message: Arc::new(message), attempts, letter: None }, due);
        }
        self.pass_over(batch.shard, next, batch.through);
        self.last_read_at = Some(batch.last_published_at);
    }

    fn pass_over(&mut self, shard: i16, first: i64, last: i64) {
        self.run.meters.skipped.increment((last - first + 1).max(0).unsigned_abs());
        self.settle_positions(shard, first, last);
    }

    fn settle_positions(&mut self, shard: i16, first: i64, last: i64) {
        let settled = self.settled.entry(shard).or_default();
        settled.add(first, last);
        self.changes.cursors.entry(shard).or_default();
    }

    /// Hands out what is ready, as far as there is room.
    fn deliver(&mut self) {
        let (now, meters) = (Instant::now(), &self.run.meters);
        while self.has_room()
            && let Some(delivery) = self.lanes.next(now)
        {
            meters.delivered.increment(1);
            if delivery.attempts > 0 {
                meters.redelivered.increment(1);
            }
            let subscriber = Arc::clone(&self.run.subscriber);
            let deadline = self.run.delivery.load().ack_deadline_ms.duration();
            self.handlers.spawn(async move {
                let handling = timeout(deadline, subscriber.handle(&delivery.message));
                let outcome = match AssertUnwindSafe(handling).catch_unwind().await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => {
                        Err(HandleError::Retry(format!("no acknowledgement within {deadline:?}")))
                    }
                    Err(_) => Err(HandleError::Retry("its handler panicked".to_owned())),
                };
                (delivery, outcome)
            });
        }
        meters.in_flight.set(self.handlers.len() as f64);
    }

    fn settle(&mut self, done: Result<(Delivery, Outcome), tokio::task::JoinError>) {
        // Panics are caught within, and nobody aborts a handler but the end.
        let Ok((delivery, outcome)) = done else { return };
        let (meters, delivery_rules) = (&self.run.meters, self.run.delivery.load());
        let message = &delivery.message;
        match outcome {
            Ok(()) => {
                meters.acked.increment(1);
                self.done(&delivery, Ok(()));
            }
            Err(error) => {
                meters.failed.increment(1);
                let attempts = delivery.attempts + 1;
                let again = matches!(error, HandleError::Retry(_))
                    && delivery.letter.is_none()
                    && attempts < delivery_rules.max_attempts;
                if again {
                    self.wait(message.org, (message.shard, message.position), attempts, &error);
                } else {
                    meters.dead_lettered.increment(u64::from(delivery.letter.is_none()));
                    self.done(&delivery, Err(error.to_string()));
                }
            }
        }
    }

    /// A delivery that failed and will be tried again.
    fn wait(&mut self, org: OrgId, place: Place, attempts: u32, error: &HandleError) {
        let name = self.run.subscriber.name();
        let wait = wait_after(attempts, &self.run.delivery.load());
        warn!(%error, shard = place.0, position = place.1, attempts, ?wait, "{name} failed; trying again");
        self.lanes.failed(org, Instant::now() + wait);
        let due_at = Utc::now() + wait;
        let retry = Retry { attempts, due_at, reason: error.to_string() };
        self.changes.retries.insert(place, Some(retry));
    }

    /// The last delivery of a message, or of a dead letter: handled, or given up.
    fn done(&mut self, delivery: &Delivery, result: Result<(), String>) {
        let message = &delivery.message;
        let place = (message.shard, message.position);
        self.lanes.settled(message.org);
        if let Some(letter) = delivery.letter {
            self.replaying.remove(&letter);
            self.changes.replayed.insert(letter, result);
            return;
        }
        if delivery.attempts > 0 {
            self.changes.retries.insert(place, None);
        }
        if let Err(reason) = result {
            let name = self.run.subscriber.name();
            error!(reason, shard = place.0, position = place.1, "{name} has set a message aside");
            let letter = set_aside(message, delivery.attempts + 1, reason);
            self.changes.set_aside.insert(place, letter);
        }
        self.settle_positions(place.0, place.1, place.1);
    }

    /// Makes rows of what has changed.
    async fn write(&mut self) -> Result<(), LeaseLost> {
        if self.changes.is_empty() {
            return Ok(());
        }
        for (shard, cursor) in &mut self.changes.cursors {
            *cursor = self.settled.get(shard).cloned().unwrap_or_default();
        }
        self.lease.write(&self.changes).await?;
        self.changes = Changes::default();
        Ok(())
    }

    /// Shows how far behind the subscription is, and takes up replays that someone asked for.
    async fn look(&mut self) -> Result<(), LeaseLost> {
        let topic = self.run.subscriber.topic();
        let (head, dead_letters) = self.lease.look(topic).await?;
        let heads = match &self.run.log {
            Log::Events(store) => store.feed().heads().iter().sum(),
            Log::Messages(_) => head,
        };
        let floors: i64 = self.settled.values().map(Settled::floor).sum();
        let behind = (heads - floors).max(0);
        let oldest = self.lanes.oldest().or(self.last_read_at).filter(|_| behind > 0);
        let age = oldest.map_or(0.0, |at| (Utc::now() - at).as_seconds_f64());
        self.run.meters.lag.set(behind, age);
        self.run.meters.dead_letters.set(dead_letters as f64);
        for replay in self.lease.replays().await? {
            self.replay(replay).await;
        }
        Ok(())
    }

    /// Puts a dead letter into its organisation's lane, for one more attempt.
    async fn replay(&mut self, replay: Replay) {
        if self.replaying.contains(&replay.id) || self.changes.replayed.contains_key(&replay.id) {
            return;
        }
        let (id, attempts) = (replay.id, replay.attempts.unsigned_abs());
        match self.message_of(replay).await {
            Ok(message) => {
                self.replaying.insert(id);
                let delivery = Delivery { message: Arc::new(message), attempts, letter: Some(id) };
                self.lanes.push(delivery, None);
            }
            Err(reason) => {
                self.changes.replayed.insert(id, Err(reason));
            }
        }
    }

    /// The message of a dead letter; an event is read from the store again.
    async fn message_of(&self, replay: Replay) -> Result<Message, String> {
        let org = OrgId::new(replay.org_id).map_err(|error| error.to_string())?;
        if let Some(data) = replay.data {
            let (topic, published_at) = (self.run.subscriber.topic(), replay.published_at);
            let (shard, position) = (replay.shard, replay.position);
            return Ok(Message {
                topic,
                shard,
                position,
                org,
                published_at,
                body: Body::Data(data),
            });
        }
        let store = self.run.db.write(Database::EventStore);
        let event = read_event(store, Shard::of(org), replay.position).await;
        let event = event.map_err(|error| error.to_string())?;
        event.map(message_of).ok_or_else(|| "the store has no such event".to_owned())
    }
}

fn set_aside(message: &Message, attempts: u32, reason: String) -> SetAside {
    SetAside {
        topic: message.topic,
        org: message.org.get(),
        data: message.data().cloned(),
        published_at: message.published_at,
        attempts,
        reason,
    }
}

/// How long a message waits after so many failed deliveries.
fn wait_after(attempts: u32, rules: &crate::config::Delivery) -> Duration {
    let waits = ExponentialBuilder::new()
        .with_min_delay(rules.retry_first_ms.duration())
        .with_max_delay(rules.retry_max_ms.duration())
        .with_jitter()
        .without_max_times()
        .build();
    let mut waits = waits.skip(attempts.saturating_sub(1) as usize);
    waits.next().unwrap_or_else(|| rules.retry_max_ms.duration())
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn instant_of(at: DateTime<Utc>) -> Instant {
    Instant::now() + (at - Utc::now()).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn waits_double_up_to_a_limit_and_jitter_at_most_doubles_them() {
        let rules = Config::from_toml("").unwrap().pubsub.delivery;
        for (attempts, seconds) in [(1, 1), (2, 2), (5, 16), (10, 512), (11, 600), (99, 600)] {
            let wait = wait_after(attempts, &rules);
            let base = Duration::from_secs(seconds);
            assert!((base..=2 * base).contains(&wait), "{attempts}: {wait:?}");
        }
    }
}
