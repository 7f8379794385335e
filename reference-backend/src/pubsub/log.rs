//! Reads a topic's log from where a subscription stands: events from memory and the store, other messages from their table.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgPool;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Body, Message, Subscriber, Topic};
use crate::db::{Database, Databases};
use crate::domain::{OrgId, RecordedEvent};
use crate::events::{EventStore, Positions, Shard, Slice};

/// Most messages read at a time.
const BATCH: usize = 500;
/// Wait after a failed read.
const RETRY: Duration = Duration::from_millis(500);

/// All messages of one shard from `after` (exclusive) to `through`; those not listed are not wanted, or no longer kept.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) shard: i16,
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) messages: Vec<Message>,
    /// When the last of all of them was published.
    pub(super) last_published_at: DateTime<Utc>,
}

/// Where a topic's messages are read.
#[derive(Debug, Clone)]
pub(super) enum Log {
    Events(EventStore),
    Messages(Topic),
}

impl Log {
    /// The shards of the log, as its cursor has them.
    pub(super) fn shards(&self) -> Vec<i16> {
        match self {
            Self::Events(_) => Shard::all().map(Shard::number).collect(),
            Self::Messages(_) => vec![0],
        }
    }

    /// Sends everything after `floors` (by shard), until nobody listens.
    pub(super) async fn read(
        self,
        db: Databases,
        floors: Vec<i64>,
        poll: Duration,
        subscriber: Arc<dyn Subscriber>,
        out: mpsc::Sender<Batch>,
    ) {
        match self {
            Self::Events(store) => read_events(&store, &db, &floors, &*subscriber, &out).await,
            Self::Messages(topic) => {
                let after = floors.first().copied().unwrap_or_default();
                read_messages(db.write(Database::EventStore), topic, after, poll, &out).await;
            }
        }
    }
}

async fn read_events(
    store: &EventStore,
    db: &Databases,
    floors: &[i64],
    subscriber: &dyn Subscriber,
    out: &mpsc::Sender<Batch>,
) {
    let mut seen = Positions::default();
    seen.iter_mut().zip(floors).for_each(|(seen, floor)| *seen = *floor);
    let mut events = store.subscribe(db, seen);
    // It ends when it is dropped, not by a sign: nothing of it needs to be finished.
    let never = CancellationToken::new();
    loop {
        match events.next(BATCH, &never).await {
            Ok(slices) => {
                for slice in slices {
                    if out.send(batch_of(&slice, subscriber)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                warn!(%error, "{} cannot read its topic", subscriber.name());
                sleep(RETRY).await;
            }
        }
    }
}

fn batch_of(slice: &Slice, subscriber: &dyn Subscriber) -> Batch {
    let events = slice.events();
    let through = slice.last_position();
    let wanted = events.iter().filter(|event| subscriber.wants(event));
    Batch {
        shard: slice.shard().number(),
        after: through - events.len() as i64,
        through,
        messages: wanted.cloned().map(message_of).collect(),
        last_published_at: events.last().map(|event| event.recorded_at).unwrap_or_default(),
    }
}

/// An event as a message of `finance-events`.
pub(super) fn message_of(event: RecordedEvent) -> Message {
    Message {
        topic: Topic::FinanceEvents,
        shard: Shard::of(event.org).number(),
        position: event.position,
        org: event.org,
        published_at: event.recorded_at,
        body: Body::Event(Box::new(event)),
    }
}

async fn read_messages(
    pool: &PgPool,
    topic: Topic,
    mut after: i64,
    poll: Duration,
    out: &mpsc::Sender<Batch>,
) {
    loop {
        match messages_after(pool, topic, after).await {
            Ok(messages) => {
                let Some(last) = messages.last() else {
                    sleep(poll).await;
                    continue;
                };
                let (through, last_published_at) = (last.position, last.published_at);
                let batch = Batch { shard: 0, after, through, messages, last_published_at };
                after = through;
                if out.send(batch).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "{} cannot be read", topic.name());
                sleep(RETRY).await;
            }
        }
    }
}

const MESSAGES: &str = "\
    SELECT position, org_id, data, published_at FROM topic_messages \
    WHERE topic = $1 AND position > $2 ORDER BY position LIMIT $3";

/// The next messages of a topic with a table. Whoever sees one sees all before it: positions follow the order of commits.
pub(super) async fn messages_after(
    pool: &PgPool,
    topic: Topic,
    after: i64,
) -> sqlx::Result<Vec<Message>> {
    let rows: Vec<(i64, i64, Value, DateTime<Utc>)> = sqlx::query_as(MESSAGES)
        .bind(topic.name())
        .bind(after)
        .bind(BATCH as i64)
        .fetch_all(pool)
        .await?;
    rows.into_iter()
        .map(|(position, org, data, published_at)| {
            let org = OrgId::new(org).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(Message { topic, shard: 0, position, org, published_at, body: Body::Data(data) })
        })
        .collect()
}
