//! The end of messages: those that every subscription has settled are removed when they are old. Events are no messages in this
//! sense; the store keeps them.

use std::time::Duration;

use metrics::counter;
use sqlx::postgres::PgPool;
use sqlx::postgres::types::PgInterval;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Topic;
use super::catalogue::{Kept, SUBSCRIPTIONS};
use crate::db::{Database, Databases};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(600);
/// Most messages removed by one statement: publishers of the topic wait for it.
const BATCH: i64 = 1_000;

/// A subscription without a cursor has settled nothing. The row of the topic says up to where messages are gone, in the same
/// statement.
const FORGET: &str = "\
    WITH settled AS ( \
        SELECT coalesce(min(coalesce(c.floor, 0)), 9223372036854775807) AS floor \
        FROM unnest($2::text[]) AS s (name) \
        LEFT JOIN subscription_cursors AS c ON c.subscription = s.name AND c.shard = 0), \
    kept AS ( \
        SELECT coalesce((SELECT position FROM topic_messages WHERE topic = $1 AND published_at >= now() - $3 \
            ORDER BY position LIMIT 1), 9223372036854775807) AS first), \
    old AS ( \
        SELECT position FROM topic_messages, settled, kept \
        WHERE topic = $1 AND position <= settled.floor AND position < kept.first ORDER BY position LIMIT $4), \
    gone AS ( \
        DELETE FROM topic_messages WHERE topic = $1 AND position IN (SELECT position FROM old) RETURNING position) \
    UPDATE topics SET forgotten = greatest(forgotten, (SELECT max(position) FROM gone)) \
    WHERE topic = $1 AND EXISTS (SELECT FROM gone) RETURNING (SELECT count(*) FROM gone)";

/// Removes the messages of all topics that are older than `kept` and that every subscription has settled; how many.
pub async fn forget_settled(db: &Databases, kept: Duration) -> sqlx::Result<u64> {
    let mut all = 0;
    for topic in Topic::ALL {
        let forgotten = forget_of(db.write(Database::EventStore), topic, kept).await?;
        counter!("backend_topic_messages_forgotten_total", "topic" => topic.name())
            .increment(forgotten);
        all += forgotten;
    }
    Ok(all)
}

async fn forget_of(pool: &PgPool, topic: Topic, kept: Duration) -> sqlx::Result<u64> {
    let entries = SUBSCRIPTIONS.iter().filter(|entry| entry.topic == topic);
    let by_cursor = entries.filter(|entry| entry.kept == Kept::Cursor);
    let subscriptions: Vec<&str> = by_cursor.map(|entry| entry.name).collect();
    let microseconds = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    let mut forgotten = 0;
    loop {
        let gone: Option<i64> = sqlx::query_scalar(FORGET)
            .bind(topic.name())
            .bind(&subscriptions)
            .bind(PgInterval { months: 0, days: 0, microseconds })
            .bind(BATCH)
            .fetch_optional(pool)
            .await?;
        forgotten += gone.unwrap_or_default().unsigned_abs();
        if gone.is_none_or(|gone| gone < BATCH) {
            return Ok(forgotten);
        }
    }
}

/// Does so at the start and then every ten minutes, until told to stop. Of several processes each may: who comes second finds
/// nothing.
pub(super) async fn forget_regularly(db: Databases, kept: Duration, stop: CancellationToken) {
    let mut tick = interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = forget_settled(&db, kept).await {
            warn!(%error, "old messages of topics could not be removed");
        }
    }
}
