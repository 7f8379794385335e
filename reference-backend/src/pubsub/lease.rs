//! The statements of a subscription's owner, on the one connection that also holds its lease. Each owner has a number of its own,
//! and writes only while that is the latest: who lost the lease, by whatever way, cannot move the cursor.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::Topic;
use super::settled::Settled;
use crate::db::{Database, Databases};

/// First half of the lease's lock; the second is the hash of the subscription's name. Any number no one else uses.
pub(super) const LEASE_CLASS: i32 = 0x706C_7375;

/// A place in a subscription's log: shard and position.
pub(super) type Place = (i16, i64);

/// A failed message that waits for its next delivery.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) attempts: u32,
    pub(super) due_at: DateTime<Utc>,
    pub(super) reason: String,
}

/// A message that was given up.
#[derive(Debug, Clone)]
pub(super) struct SetAside {
    pub(super) topic: Topic,
    pub(super) org: i64,
    /// None for events.
    pub(super) data: Option<Value>,
    pub(super) published_at: DateTime<Utc>,
    pub(super) attempts: u32,
    pub(super) reason: String,
}

/// A dead letter that someone wants delivered again.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Replay {
    pub(super) id: i64,
    pub(super) shard: i16,
    pub(super) position: i64,
    pub(super) org_id: i64,
    pub(super) data: Option<Value>,
    pub(super) published_at: DateTime<Utc>,
    pub(super) attempts: i32,
}

/// How a replay ended: with success, or why not.
pub(super) type Replayed = Result<(), String>;

/// What is to become rows, all or nothing.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) cursors: BTreeMap<i16, Settled>,
    /// None: it does not wait any more.
    pub(super) retries: BTreeMap<Place, Option<Retry>>,
    pub(super) set_aside: BTreeMap<Place, SetAside>,
    pub(super) replayed: BTreeMap<i64, Replayed>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.cursors.is_empty()
            && self.retries.is_empty()
            && self.set_aside.is_empty()
            && self.replayed.is_empty()
    }
}

/// Why the lease is no longer to be relied on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseLost {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error("another owner has begun")]
    Superseded,
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// A connection that may hold a subscription's lease.
#[derive(Debug)]
pub(super) struct Lease {
    subscription: &'static str,
    connection: PgConnection,
    limit: Duration,
    /// The number of this owner; 0 before there is one.
    epoch: i64,
}

/// The row waits for a transaction of the last owner that is about to commit.
const BEGIN: &str = "\
    INSERT INTO subscription_owners AS o (subscription, epoch) VALUES ($1, 1) \
    ON CONFLICT (subscription) DO UPDATE SET epoch = o.epoch + 1, taken_at = now() RETURNING epoch";

/// Shared until the end of the transaction: no owner begins in between.
const FENCE: &str =
    "SELECT epoch FROM subscription_owners WHERE subscription = $1 AND epoch = $2 FOR SHARE";

impl Lease {
    /// A connection, without the lease.
    pub(super) async fn connect(
        db: &Databases,
        subscription: &'static str,
        limit: Duration,
    ) -> Result<Self, LeaseLost> {
        let name = format!("subscription {subscription}");
        let mut connection = db.writer(Database::EventStore, &name, limit).await?;
        // A cursor lost with the server's last moments only means that some messages come again.
        sqlx::query("SET synchronous_commit = off").execute(&mut connection).await?;
        Ok(Self { subscription, connection, limit, epoch: 0 })
    }

    /// Whether the lease is now held.
    pub(super) async fn take(&mut self) -> Result<bool, LeaseLost> {
        let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
            .bind(LEASE_CLASS)
            .bind(self.subscription)
            .fetch_one(&mut self.connection);
        let taken: bool = timeout(self.limit, query).await??;
        if taken {
            let begin = sqlx::query_scalar(BEGIN).bind(self.subscription);
            self.epoch = timeout(self.limit, begin.fetch_one(&mut self.connection)).await??;
        }
        Ok(taken)
    }

    /// Gives the lease back.
    pub(super) async fn release(self) {
        // The server releases it when the session ends, however it ends.
        let _ = timeout(self.limit, self.connection.close()).await;
    }

    /// What is settled, by shard; a shard without a cursor has nothing settled.
    pub(super) async fn cursors(
        &mut self,
        shards: &[i16],
    ) -> Result<BTreeMap<i16, Settled>, LeaseLost> {
        let query = sqlx::query_as(
            "SELECT shard, floor, lower(r), upper(r) FROM subscription_cursors \
             LEFT JOIN LATERAL unnest(settled) AS r ON true WHERE subscription = $1",
        )
        .bind(self.subscription)
        .fetch_all(&mut self.connection);
        let rows: Vec<(i16, i64, Option<i64>, Option<i64>)> = timeout(self.limit, query).await??;
        let mut cursors: BTreeMap<i16, Settled> =
            shards.iter().map(|shard| (*shard, Settled::default())).collect();
        for (shard, floor, from, to) in rows {
            let settled = cursors.entry(shard).or_default();
            settled.add(1, floor);
            if let (Some(from), Some(to)) = (from, to) {
                settled.add(from, to - 1);
            }
        }
        Ok(cursors)
    }

    /// Messages that have failed and are not settled.
    pub(super) async fn retries(&mut self) -> Result<BTreeMap<Place, Retry>, LeaseLost> {
        let query = sqlx::query_as(
            "SELECT shard, position, attempts, due_at, reason FROM subscription_retries \
             WHERE subscription = $1",
        )
        .bind(self.subscription)
        .fetch_all(&mut self.connection);
        let rows: Vec<(i16, i64, i32, DateTime<Utc>, String)> =
            timeout(self.limit, query).await??;
        let retry = |(shard, position, attempts, due_at, reason): (i16, i64, i32, _, _)| {
            ((shard, position), Retry { attempts: attempts.unsigned_abs(), due_at, reason })
        };
        Ok(rows.into_iter().map(retry).collect())
    }

    /// Position of the topic's last message, and how many dead letters wait. Also shows that the session lives.
    pub(super) async fn look(&mut self, topic: Topic) -> Result<(i64, i64), LeaseLost> {
        let query = sqlx::query_as(
            "SELECT coalesce((SELECT head FROM topics WHERE topic = $1), 0), \
             (SELECT count(*) FROM dead_letters WHERE subscription = $2)",
        )
        .bind(topic.name())
        .bind(self.subscription)
        .fetch_one(&mut self.connection);
        Ok(timeout(self.limit, query).await??)
    }

    /// Dead letters that someone wants delivered again.
    pub(super) async fn replays(&mut self) -> Result<Vec<Replay>, LeaseLost> {
        let query = sqlx::query_as(
            "SELECT id, shard, position, org_id, data, published_at, attempts FROM dead_letters \
             WHERE subscription = $1 AND replay_asked_at IS NOT NULL ORDER BY id LIMIT 100",
        )
        .bind(self.subscription)
        .fetch_all(&mut self.connection);
        Ok(timeout(self.limit, query).await??)
    }

    /// Writes changes: all or nothing, and nothing once another owner has begun.
    pub(super) async fn write(&mut self, changes: &Changes) -> Result<(), LeaseLost> {
        let (owner, limit) = ((self.subscription, self.epoch), self.limit);
        timeout(limit, write(&mut self.connection, owner, changes)).await?
    }
}

async fn write(
    connection: &mut PgConnection,
    (subscription, epoch): (&str, i64),
    changes: &Changes,
) -> Result<(), LeaseLost> {
    let mut transaction = connection.begin().await?;
    let fence = sqlx::query(FENCE).bind(subscription).bind(epoch);
    if fence.fetch_optional(&mut *transaction).await?.is_none() {
        return Err(LeaseLost::Superseded);
    }
    if !changes.cursors.is_empty() {
        write_cursors(&mut transaction, subscription, &changes.cursors).await?;
    }
    if !changes.retries.is_empty() {
        write_retries(&mut transaction, subscription, &changes.retries).await?;
    }
    if !changes.set_aside.is_empty() {
        set_aside(&mut transaction, subscription, &changes.set_aside).await?;
    }
    for (id, replayed) in &changes.replayed {
        write_replayed(&mut transaction, *id, replayed).await?;
    }
    Ok(transaction.commit().await?)
}

async fn write_cursors(
    connection: &mut PgConnection,
    subscription: &str,
    cursors: &BTreeMap<i16, Settled>,
) -> sqlx::Result<()> {
    let shards: Vec<i16> = cursors.keys().copied().collect();
    let floors: Vec<i64> = cursors.values().map(Settled::floor).collect();
    let above: Vec<String> = cursors.values().map(Settled::multirange).collect();
    sqlx::query(
        "INSERT INTO subscription_cursors (subscription, shard, floor, settled) \
         SELECT $1, shard, floor, settled::int8multirange \
         FROM unnest($2::smallint[], $3::bigint[], $4::text[]) AS c (shard, floor, settled) \
         ON CONFLICT (subscription, shard) DO UPDATE \
         SET floor = excluded.floor, settled = excluded.settled, written_at = now()",
    )
    .bind(subscription)
    .bind(shards)
    .bind(floors)
    .bind(above)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_retries(
    connection: &mut PgConnection,
    subscription: &str,
    retries: &BTreeMap<Place, Option<Retry>>,
) -> sqlx::Result<()> {
    let waiting: Vec<(Place, &Retry)> =
        retries.iter().filter_map(|(place, retry)| Some((*place, retry.as_ref()?))).collect();
    let (shards, positions) = columns(retries.iter().filter(|(_, r)| r.is_none()).map(|(p, _)| *p));
    sqlx::query(
        "DELETE FROM subscription_retries r USING unnest($2::smallint[], $3::bigint[]) AS gone (shard, position) \
         WHERE r.subscription = $1 AND r.shard = gone.shard AND r.position = gone.position",
    )
    .bind(subscription)
    .bind(shards)
    .bind(positions)
    .execute(&mut *connection)
    .await?;
    let (shards, positions) = columns(waiting.iter().map(|(place, _)| *place));
    sqlx::query(
        "INSERT INTO subscription_retries (subscription, shard, position, attempts, due_at, reason) \
         SELECT $1, n.* FROM unnest($2::smallint[], $3::bigint[], $4::int[], $5::timestamptz[], $6::text[]) AS n \
         ON CONFLICT (subscription, shard, position) DO UPDATE \
         SET attempts = excluded.attempts, due_at = excluded.due_at, reason = excluded.reason",
    )
    .bind(subscription)
    .bind(shards)
    .bind(positions)
    .bind(waiting.iter().map(|(_, r)| r.attempts.cast_signed()).collect::<Vec<_>>())
    .bind(waiting.iter().map(|(_, r)| r.due_at).collect::<Vec<_>>())
    .bind(waiting.iter().map(|(_, r)| r.reason.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn set_aside(
    connection: &mut PgConnection,
    subscription: &str,
    letters: &BTreeMap<Place, SetAside>,
) -> sqlx::Result<()> {
    let (shards, positions) = columns(letters.keys().copied());
    let letters: Vec<&SetAside> = letters.values().collect();
    sqlx::query(
        "INSERT INTO dead_letters (subscription, shard, position, topic, org_id, data, published_at, attempts, reason) \
         SELECT $1, n.* FROM unnest($2::smallint[], $3::bigint[], $4::text[], $5::bigint[], $6::jsonb[], \
             $7::timestamptz[], $8::int[], $9::text[]) AS n \
         ON CONFLICT (subscription, shard, position) DO UPDATE \
         SET attempts = excluded.attempts, reason = excluded.reason, set_aside_at = now()",
    )
    .bind(subscription)
    .bind(shards)
    .bind(positions)
    .bind(letters.iter().map(|letter| letter.topic.name()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.org).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.data.clone()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.published_at).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.attempts.cast_signed()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn columns(places: impl Iterator<Item = Place>) -> (Vec<i16>, Vec<i64>) {
    places.unzip()
}

async fn write_replayed(
    connection: &mut PgConnection,
    id: i64,
    replayed: &Replayed,
) -> sqlx::Result<()> {
    let query = match replayed {
        Ok(()) => sqlx::query("DELETE FROM dead_letters WHERE id = $1").bind(id),
        Err(reason) => sqlx::query(
            "UPDATE dead_letters SET attempts = attempts + 1, reason = $2, set_aside_at = now(), \
             replay_asked_at = NULL WHERE id = $1",
        )
        .bind(id)
        .bind(reason),
    };
    query.execute(connection).await?;
    Ok(())
}
