//! The feed of a process that appends nothing: what another process appends, seen by looking at the store.

use std::time::Duration;

use metrics::{Counter, counter};
use sqlx::postgres::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::feed::{Batch, Feed, Positions};
use super::read::{ReadError, read_shard};
use super::{ConsistencyToken, Shard};
use crate::db::{Database, Databases};

/// Most events of a shard handed on after one look. Further behind, subscribers are told of the head and read themselves.
const LOOK_EVENTS: i64 = 4_000;

const HEADS: &str = "\
    SELECT s.shard, coalesce((SELECT max(position) FROM events WHERE shard = s.shard), 0) \
    FROM unnest($1::smallint[]) AS s (shard)";

/// Position of each shard's last event, as the store has it now.
pub(crate) async fn read_heads(store: &PgPool) -> Result<Positions, sqlx::Error> {
    let shards: Vec<i16> = Shard::all().map(Shard::number).collect();
    let rows: Vec<(i16, i64)> = sqlx::query_as(HEADS).bind(shards).fetch_all(store).await?;
    let mut heads = Positions::default();
    for (shard, head) in rows {
        if let Some(shard) = Shard::from_number(shard) {
            heads[shard.index()] = head;
        }
    }
    Ok(heads)
}

/// Whether the store holds a token's event: so that nobody waits for one that was never made.
pub(crate) async fn is_committed(
    store: &PgPool,
    ConsistencyToken { shard, position }: ConsistencyToken,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM events WHERE shard = $1 AND position = $2)")
        .bind(shard.number())
        .bind(position)
        .fetch_one(store)
        .await
}

impl Feed {
    /// A feed that stands where the store stands now.
    pub(crate) async fn of_store(db: &Databases) -> Result<Self, sqlx::Error> {
        let feed = Self::default();
        let heads = read_heads(db.write(Database::EventStore)).await?;
        for shard in Shard::all() {
            feed.set_head(ConsistencyToken { shard, position: heads[shard.index()] });
        }
        Ok(feed)
    }

    /// Hands on what others append, until told to stop.
    pub(crate) async fn follow_store(
        &self,
        db: &Databases,
        pause: Duration,
        stop: &CancellationToken,
    ) {
        let looks = Looks::published();
        let mut tick = interval(pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.look(db.write(Database::EventStore), &looks).await {
                warn!(%error, "the store could not be looked at");
                looks.failures.increment(1);
            }
        }
    }

    async fn look(&self, store: &PgPool, looks: &Looks) -> Result<(), ReadError> {
        let (before, now) = (self.heads(), read_heads(store).await?);
        let mut result = Ok(());
        for shard in Shard::all() {
            let (seen, head) = (before[shard.index()], now[shard.index()]);
            let token = ConsistencyToken { shard, position: head };
            if head < seen {
                // A server that lacks acknowledged events. Whoever follows finds its checkpoint moved back as well.
                error!(%shard, seen, head, "the shard ends before its last known event");
                looks.went_back.increment(1);
                self.set_head(token);
            } else if head - seen > LOOK_EVENTS {
                self.set_head(token);
            } else if head > seen {
                let limit = usize::try_from(head - seen).unwrap_or_default();
                // One shard that cannot be read does not hold up the others.
                match read_shard(store, shard, seen, limit).await {
                    Ok(events) => {
                        looks.events.increment(events.len() as u64);
                        self.publish(Batch { shard, events });
                    }
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }
}

/// Counts what the looks found.
struct Looks {
    events: Counter,
    failures: Counter,
    went_back: Counter,
}

impl Looks {
    fn published() -> Self {
        Self {
            events: counter!("backend_feed_remote_events_total"),
            failures: counter!("backend_feed_read_failures_total"),
            went_back: counter!("backend_feed_went_back_total"),
        }
    }
}
