//! What someone at the keyboard asks of subscriptions: how they stand, what was set aside, deliver it again, let it go.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgPool;

use super::catalogue::{Entry, Kept, SUBSCRIPTIONS};
use super::lease::LEASE_CLASS;
use crate::db::{Database, Databases};
use crate::projections::Projection;

/// Why a subscription could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The name is not one of ours.
    #[error("subscription {name:?}: expected one of {}", SUBSCRIPTIONS.map(|entry| entry.name).join(", "))]
    Unknown {
        /// As given.
        name: String,
    },
    /// Its messages are not delivered one by one.
    #[error(
        "{act} {name}: it has no deliveries; its dead letters, if any, are mended by building its tables anew"
    )]
    NotDelivered {
        /// What was asked.
        act: &'static str,
        /// The subscription.
        name: &'static str,
    },
    /// The database failed.
    #[error("look at subscriptions: {0}")]
    Sql(#[from] sqlx::Error),
}

/// How one subscription stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The subscription.
    pub name: &'static str,
    /// What it follows.
    pub topic: &'static str,
    /// Who keeps its place: `checkpoint`, `cursor` or `memory`.
    pub kept: &'static str,
    /// Messages published and not settled. None where each process has a place of its own.
    pub behind: Option<i64>,
    /// Messages that failed and wait for their next delivery.
    pub waiting: i64,
    /// Messages set aside.
    pub dead_letters: i64,
    /// The server process of its owner's session, if it has a lease and an owner.
    pub owner_pid: Option<i32>,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct DeadLetter {
    /// Its number, for `--id`; 0 for those of projections, which cannot be replayed one by one.
    pub id: i64,
    /// Where it stands in the log.
    pub shard: i16,
    /// Where it stands in the shard.
    pub position: i64,
    /// The tenant.
    pub org_id: i64,
    /// How often it was delivered.
    pub attempts: i32,
    /// Why the last delivery failed.
    pub reason: String,
    /// When it was given up.
    pub set_aside_at: DateTime<Utc>,
    /// Whether someone has asked for a replay that has not taken place yet.
    pub replay_asked: bool,
    /// What it says; None for events, which the store keeps.
    pub data: Option<Value>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Every one of the subscription.
    All,
    /// These, by their numbers.
    Ids(Vec<i64>),
}

impl Which {
    fn ids(&self) -> Option<&[i64]> {
        if let Self::Ids(ids) = self { Some(ids) } else { None }
    }
}

fn entry(name: &str) -> Result<&'static Entry, AdminError> {
    let found = SUBSCRIPTIONS.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| AdminError::Unknown { name: name.to_owned() })
}

fn delivered(name: &str, act: &'static str) -> Result<&'static str, AdminError> {
    let entry = entry(name)?;
    match entry.kept {
        Kept::Cursor => Ok(entry.name),
        _ => Err(AdminError::NotDelivered { act, name: entry.name }),
    }
}

/// All subscriptions.
pub async fn standings(db: &Databases) -> Result<Vec<Standing>, AdminError> {
    let mut all = Vec::new();
    for entry in &SUBSCRIPTIONS {
        let standing = Standing {
            name: entry.name,
            topic: entry.topic.name(),
            kept: entry.kept.word(),
            behind: None,
            waiting: 0,
            dead_letters: 0,
            owner_pid: None,
        };
        all.push(match entry.kept {
            Kept::Cursor => of_cursor(db.write(Database::EventStore), standing).await?,
            Kept::Checkpoint(projection) => of_checkpoint(db, projection, standing).await?,
            Kept::Memory => standing,
        });
    }
    Ok(all)
}

/// Each shard's head is one look into an index.
const EVENTS_HEAD: &str = "\
    SELECT coalesce(sum((SELECT max(position) FROM events WHERE shard = s)), 0)::bigint \
    FROM generate_series(0, 7) AS s";

const CURSOR: &str = "\
    SELECT coalesce((SELECT head FROM topics WHERE topic = $2), 0), \
        coalesce((SELECT sum(floor) FROM subscription_cursors WHERE subscription = $1), 0)::bigint, \
        (SELECT count(*) FROM subscription_retries WHERE subscription = $1), \
        (SELECT count(*) FROM dead_letters WHERE subscription = $1), \
        (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = $3 \
             AND objid::bigint = hashtext($1)::bigint & 4294967295)";

async fn of_cursor(pool: &PgPool, standing: Standing) -> Result<Standing, AdminError> {
    let (head, floor, waiting, dead_letters, owner_pid): (i64, i64, i64, i64, Option<i32>) =
        sqlx::query_as(CURSOR)
            .bind(standing.name)
            .bind(standing.topic)
            .bind(i64::from(LEASE_CLASS))
            .fetch_one(pool)
            .await?;
    let events = standing.topic == super::Topic::FinanceEvents.name();
    let head = if events { events_head(pool).await? } else { head };
    let behind = Some((head - floor).max(0));
    Ok(Standing { behind, waiting, dead_letters, owner_pid, ..standing })
}

async fn events_head(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar(EVENTS_HEAD).fetch_one(pool).await
}

const CHECKPOINT: &str = "\
    SELECT coalesce((SELECT sum(position) FROM projection_checkpoints WHERE projection = $1), 0)::bigint, \
        (SELECT count(*) FROM projection_dead_letters WHERE projection = $1)";

async fn of_checkpoint(
    db: &Databases,
    projection: Projection,
    standing: Standing,
) -> Result<Standing, AdminError> {
    let (floor, dead_letters): (i64, i64) = sqlx::query_as(CHECKPOINT)
        .bind(projection.name())
        .fetch_one(db.write(projection.database()))
        .await?;
    let head = events_head(db.write(Database::EventStore)).await?;
    Ok(Standing { behind: Some((head - floor).max(0)), dead_letters, ..standing })
}

/// A subscription's dead letters, oldest first, at most a thousand.
pub async fn dead_letters(db: &Databases, name: &str) -> Result<Vec<DeadLetter>, AdminError> {
    let entry = entry(name)?;
    let (sql, database) = match entry.kept {
        Kept::Checkpoint(projection) => (
            "SELECT 0::bigint AS id, shard, position, org_id, 1 AS attempts, reason, set_aside_at, \
                 false AS replay_asked, NULL::jsonb AS data \
             FROM projection_dead_letters WHERE projection = $1 ORDER BY set_aside_at LIMIT 1000",
            projection.database(),
        ),
        _ => (
            "SELECT id, shard, position, org_id, attempts, reason, set_aside_at, \
                 replay_asked_at IS NOT NULL AS replay_asked, data \
             FROM dead_letters WHERE subscription = $1 ORDER BY id LIMIT 1000",
            Database::EventStore,
        ),
    };
    Ok(sqlx::query_as(sql).bind(entry.name).fetch_all(db.write(database)).await?)
}

/// Asks the owner to deliver dead letters once more; how many. One that is handled then is gone, one that fails stays.
pub async fn replay(db: &Databases, name: &str, which: &Which) -> Result<u64, AdminError> {
    let asked = sqlx::query(
        "UPDATE dead_letters SET replay_asked_at = now() \
         WHERE subscription = $1 AND ($2::bigint[] IS NULL OR id = ANY($2))",
    );
    let asked = asked.bind(delivered(name, "replay")?).bind(which.ids());
    Ok(asked.execute(db.write(Database::EventStore)).await?.rows_affected())
}

/// Lets dead letters go for good; how many.
pub async fn skip(db: &Databases, name: &str, which: &Which) -> Result<u64, AdminError> {
    let gone = sqlx::query(
        "DELETE FROM dead_letters WHERE subscription = $1 AND ($2::bigint[] IS NULL OR id = ANY($2))",
    );
    let gone = gone.bind(delivered(name, "skip")?).bind(which.ids());
    Ok(gone.execute(db.write(Database::EventStore)).await?.rows_affected())
}
