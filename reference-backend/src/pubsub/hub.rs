//! Who listens in this process: hands each organisation's events and messages to the streams of its browsers.
//!
//! ```text
//! feed of events ──────┐                      ┌─ [bounded] ─▶ stream of a browser
//!                      ├─▶ hub, by organisation ─ [bounded] ─▶ stream of a browser
//! realtime-updates ────┘                      └─ full: cut off, and told so
//! ```
//! Nobody waits for a browser. A stream that joins is told what the hub had seen at that moment: what is older is in the
//! database, what is newer will be handed to it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use metrics::{Counter, Gauge, counter, gauge};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::catalogue::REALTIME;
use super::log::messages_after;
use super::meters::{Flow, Lag};
use super::{Mark, Message, Topic};
use crate::config::Realtime;
use crate::db::{Database, Databases};
use crate::domain::{OrgId, RecordedEvent};
use crate::events::{ConsistencyToken, Feed, Positions, Shard};

/// Most events taken from the feed at a time.
const BATCH: usize = 2_000;
/// Wait after a failed read.
const RETRY: Duration = Duration::from_millis(500);
/// How long a stream waits for a hub that has just begun.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// One thing for a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) place: Place,
    /// The name that the page listens for.
    pub(crate) name: &'static str,
    /// JSON.
    pub(crate) data: String,
}

/// Which log an update is from, and its position there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Event(i64),
    Message(i64),
}

impl Update {
    /// An entry that was booked.
    pub(crate) fn of_event(event: &RecordedEvent) -> Self {
        let entry = event.event.entry();
        let data = json!({
            "id": event.command, "type": event.event.type_name(), "property": event.property,
            "version": event.version, "amount_cents": entry.amount, "category": entry.category,
            "date": entry.date, "recorded_at": event.recorded_at,
        });
        Self { place: Place::Event(event.position), name: "entry", data: data.to_string() }
    }

    /// A message of `realtime-updates`; its `type` says what it is about.
    pub(crate) fn of_message(position: i64, data: &Value) -> Self {
        let name = match data["type"].as_str() {
            Some("notification") => "notification",
            Some("correction") => "correction",
            _ => "update",
        };
        Self { place: Place::Message(position), name, data: data.to_string() }
    }
}

/// The streams of this process.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    begun: watch::Sender<Begun>,
    settings: Realtime,
    flow: Flow,
    lag: Lag,
    streams: Gauge,
    slow: Counter,
    refused: Counter,
}

#[derive(Debug, Default)]
struct State {
    listeners: HashMap<OrgId, Vec<Listener>>,
    count: usize,
    next_id: u64,
    /// Up to where everything was handed out.
    events: Positions,
    message: i64,
    /// No new streams: the process ends.
    closed: bool,
}

/// Which logs the hub knows its place in. A stream that joined before would miss what came between its look into the database
/// and that place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Begun {
    events: bool,
    messages: bool,
}

impl Begun {
    const BOTH: Self = Self { events: true, messages: true };
}

#[derive(Debug)]
struct Listener {
    id: u64,
    out: mpsc::Sender<Arc<Update>>,
}

/// Why a stream cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This process has as many as it may.
    Full,
    /// The organisation has as many as one may.
    OrganisationFull,
    /// The process begins, and does not know yet what it will hand out.
    Starting,
    /// The process ends.
    Closed,
}

/// A place among the listeners; given up when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    org: OrgId,
    id: u64,
    updates: mpsc::Receiver<Arc<Update>>,
}

impl Hub {
    pub(crate) fn new(settings: &Realtime) -> Self {
        Self {
            state: Mutex::default(),
            begun: watch::Sender::default(),
            settings: settings.clone(),
            flow: Flow::of(REALTIME),
            lag: Lag::of(REALTIME),
            streams: gauge!("backend_realtime_streams"),
            slow: counter!("backend_realtime_slow_total"),
            refused: counter!("backend_shed_total", "where" => "realtime"),
        }
    }

    pub(crate) fn settings(&self) -> &Realtime {
        &self.settings
    }

    /// Waits a moment for a process that has just begun; [`Hub::join`] says whether that was enough.
    pub(crate) async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        let both = begun.wait_for(|begun| *begun == Begun::BOTH);
        let _ = tokio::time::timeout(START_PATIENCE, both).await;
    }

    /// Listens for an organisation from now on; "now" is the mark.
    pub(crate) fn join(self: &Arc<Self>, org: OrgId) -> Result<(Seat, Mark), Refused> {
        let joined = self.try_join(org);
        if joined.is_err() {
            self.refused.increment(1);
        }
        joined
    }

    fn try_join(self: &Arc<Self>, org: OrgId) -> Result<(Seat, Mark), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if *self.begun.borrow() != Begun::BOTH {
            return Err(Refused::Starting);
        }
        if state.count >= self.settings.streams_max {
            return Err(Refused::Full);
        }
        let own = state.listeners.get(&org).map_or(0, Vec::len);
        if own >= self.settings.streams_per_organisation_max {
            return Err(Refused::OrganisationFull);
        }
        let (out, updates) = mpsc::channel(self.settings.buffer_updates);
        let id = state.next_id;
        state.next_id += 1;
        state.count += 1;
        state.listeners.entry(org).or_default().push(Listener { id, out });
        self.streams.set(state.count as f64);
        let mark = state.mark_of(org);
        Ok((Seat { hub: Arc::clone(self), org, id, updates }, mark))
    }

    /// Hands out what is committed, until told to stop; then ends all streams. `feed` is None where this process does not follow
    /// the events.
    pub(crate) async fn run(
        self: Arc<Self>,
        db: Databases,
        feed: Option<Arc<Feed>>,
        poll: Duration,
        stop: CancellationToken,
    ) {
        let events = async {
            match &feed {
                Some(feed) => self.follow_events(&db, feed, &stop).await,
                None => {
                    self.begun.send_modify(|begun| begun.events = true);
                    stop.cancelled().await;
                }
            }
        };
        let messages = stop.run_until_cancelled(self.follow_messages(&db, poll));
        tokio::join!(events, messages);
        self.close();
    }

    async fn follow_events(&self, db: &Databases, feed: &Arc<Feed>, stop: &CancellationToken) {
        let heads = feed.heads();
        self.state().events = heads;
        self.begun.send_modify(|begun| begun.events = true);
        let store = db.write(Database::EventStore).clone();
        let mut subscription = feed.subscribe(store, heads, self.settings.feed_batches);
        loop {
            // Streams end at the first moment of a stop: a browser that comes back elsewhere reads what is missing.
            let Some(next) = stop.run_until_cancelled(subscription.next(BATCH, stop)).await else {
                return;
            };
            match next {
                Ok(slices) if slices.is_empty() => return,
                Ok(slices) => {
                    for slice in slices {
                        let index = slice.shard().index();
                        self.hand_out(
                            slice.events(),
                            |event| event.org,
                            Update::of_event,
                            |state| {
                                state.events[index] = slice.last_position();
                            },
                        );
                    }
                    self.show_lag(feed);
                }
                Err(error) => {
                    warn!(%error, "realtime cannot read the events");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn follow_messages(&self, db: &Databases, poll: Duration) {
        let pool = db.write(Database::EventStore);
        let mut after = loop {
            let head = sqlx::query_scalar("SELECT head FROM topics WHERE topic = $1")
                .bind(Topic::RealtimeUpdates.name());
            match head.fetch_one(pool).await {
                Ok(head) => break head,
                Err(error) => warn!(%error, "realtime cannot read its topic"),
            }
            sleep(RETRY).await;
        };
        self.state().message = after;
        self.begun.send_modify(|begun| begun.messages = true);
        loop {
            match messages_after(pool, Topic::RealtimeUpdates, after).await {
                Ok(messages) if messages.is_empty() => sleep(poll).await,
                Ok(messages) => {
                    after = messages.last().map_or(after, |message| message.position);
                    self.hand_out(
                        &messages,
                        |message| message.org,
                        of_topic,
                        |state| {
                            state.message = after;
                        },
                    );
                }
                Err(error) => {
                    warn!(%error, "realtime cannot read its topic");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Gives each update to the listeners of its organisation, then says how far that was: both under one lock, so that who
    /// joins is either given an update or told that it is past.
    fn hand_out<T>(
        &self,
        items: &[T],
        org: impl Fn(&T) -> OrgId,
        update: impl Fn(&T) -> Update,
        passed: impl FnOnce(&mut State),
    ) {
        let mut state = self.state();
        if state.count > 0 {
            for item in items {
                let org = org(item);
                if state.listeners.contains_key(&org) {
                    self.give(&mut state, org, &Arc::new(update(item)));
                }
            }
        }
        passed(&mut state);
    }

    fn give(&self, state: &mut State, org: OrgId, update: &Arc<Update>) {
        let Some(listeners) = state.listeners.get_mut(&org) else { return };
        let before = listeners.len();
        listeners.retain(|listener| match listener.out.try_send(Arc::clone(update)) {
            Ok(()) => {
                self.flow.took(1);
                true
            }
            Err(TrySendError::Full(_)) => {
                self.slow.increment(1);
                false
            }
            Err(TrySendError::Closed(_)) => false,
        });
        let gone = before - listeners.len();
        if listeners.is_empty() {
            state.listeners.remove(&org);
        }
        state.count -= gone;
        self.streams.set(state.count as f64);
    }

    fn show_lag(&self, feed: &Feed) {
        let (seen, heads) = (self.state().events, feed.heads());
        let behind: i64 = heads.iter().zip(seen).map(|(head, seen)| head - seen).sum();
        let oldest = Shard::all()
            .filter(|shard| seen[shard.index()] < heads[shard.index()])
            .filter_map(|shard| {
                let position = seen[shard.index()];
                feed.oldest_after(ConsistencyToken { shard, position })
            })
            .min();
        let age = oldest.map_or(0.0, |at| (Utc::now() - at).as_seconds_f64());
        self.lag.set(behind, age);
    }

    fn leave(&self, org: OrgId, id: u64) {
        let mut state = self.state();
        let Some(listeners) = state.listeners.get_mut(&org) else { return };
        let before = listeners.len();
        listeners.retain(|listener| listener.id != id);
        let gone = before - listeners.len();
        if listeners.is_empty() {
            state.listeners.remove(&org);
        }
        state.count -= gone;
        self.streams.set(state.count as f64);
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.listeners.clear();
        state.count = 0;
        self.streams.set(0.0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark_of(&self, org: OrgId) -> Mark {
        Mark { event: self.events[Shard::of(org).index()], message: self.message }
    }
}

fn of_topic(message: &Message) -> Update {
    Update::of_message(message.position, message.data().unwrap_or(&Value::Null))
}

/// What a seat has next.
#[derive(Debug)]
pub(crate) enum Next {
    Update(Arc<Update>),
    /// Nothing until the deadline; all up to this mark has been given out.
    Quiet(Mark),
    /// It read too slowly and was cut off.
    TooSlow,
    /// The process ends.
    Closed,
}

impl Seat {
    /// The next update, or what else there is to say, at the latest at `deadline`.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Next {
        match tokio::time::timeout_at(deadline, self.updates.recv()).await {
            Ok(Some(update)) => Next::Update(update),
            Ok(None) if self.hub.state().closed => Next::Closed,
            Ok(None) => Next::TooSlow,
            Err(_) => {
                // The mark first: what is before it was put into the queue before.
                let mark = self.hub.state().mark_of(self.org);
                match self.updates.try_recv() {
                    Ok(update) => Next::Update(update),
                    Err(_) => Next::Quiet(mark),
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(self.org, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn org(number: i64) -> OrgId {
        OrgId::new(number).unwrap()
    }

    fn hub(settings: &str) -> Arc<Hub> {
        let config = Config::from_toml(&format!("[pubsub.realtime]\n{settings}")).unwrap();
        let hub = Hub::new(&config.pubsub.realtime);
        hub.begun.send_replace(Begun::BOTH);
        Arc::new(hub)
    }

    #[test]
    fn nobody_joins_before_it_is_known_what_will_be_handed_out() {
        let hub = hub("");
        for begun in [Begun::default(), Begun { events: true, ..Begun::default() }] {
            hub.begun.send_replace(begun);
            assert_eq!(hub.join(org(1)).unwrap_err(), Refused::Starting);
        }
        hub.begun.send_modify(|begun| begun.messages = true);
        assert!(hub.join(org(1)).is_ok());
    }

    fn tell(hub: &Hub, to: i64, position: i64) {
        let message = [(position, json!({"type": "notification"}))];
        hub.hand_out(
            &message,
            |_| org(to),
            |(n, data)| Update::of_message(*n, data),
            |state| {
                state.message = position;
            },
        );
    }

    async fn next(seat: &mut Seat) -> String {
        match seat.next(Instant::now() + Duration::from_millis(20)).await {
            Next::Update(update) => format!("{:?}", update.place),
            Next::Quiet(mark) => format!("quiet at {mark}"),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_listener_gets_its_own_organisations_updates_and_a_mark_beyond_the_others() {
        let hub = hub("");
        tell(&hub, 1, 4);
        let (mut seat, mark) = hub.join(org(1)).unwrap();
        assert_eq!(mark, Mark { event: 0, message: 4 });
        tell(&hub, 1, 5);
        tell(&hub, 2, 6);
        assert_eq!(next(&mut seat).await, "Message(5)");
        assert_eq!(next(&mut seat).await, "quiet at 0.6");
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_cut_off_after_what_fitted() {
        let hub = hub("buffer_updates = 2\n");
        let (mut slow, _) = hub.join(org(1)).unwrap();
        let (mut other, _) = hub.join(org(2)).unwrap();
        for position in 1..=3 {
            tell(&hub, 1, position);
        }
        tell(&hub, 2, 4);
        assert_eq!(next(&mut slow).await, "Message(1)");
        assert_eq!(next(&mut slow).await, "Message(2)");
        assert_eq!(next(&mut slow).await, "TooSlow");
        assert_eq!(next(&mut other).await, "Message(4)");
        drop(slow);
        assert_eq!(hub.state().count, 1, "it is counted out once");
    }

    #[tokio::test]
    async fn room_is_limited_and_comes_back() {
        let hub = hub("streams_max = 2\nstreams_per_organisation_max = 1\n");
        let first = hub.join(org(1)).unwrap();
        assert_eq!(hub.join(org(1)).unwrap_err(), Refused::OrganisationFull);
        let mut second = hub.join(org(2)).unwrap();
        assert_eq!(hub.join(org(3)).unwrap_err(), Refused::Full);
        drop(first);
        assert!(hub.join(org(3)).is_ok());
        hub.close();
        assert_eq!(hub.join(org(4)).unwrap_err(), Refused::Closed);
        assert_eq!(next(&mut second.0).await, "Closed");
    }
}
