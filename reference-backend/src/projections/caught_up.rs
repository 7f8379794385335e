//! Whether the books, which are the tables of `finance`, hold all that was acknowledged by now.

use std::time::Duration;

use crate::db::{Database, Databases};
use crate::events::Shard;

/// Time between two looks at how far the books are.
const LOOK: Duration = Duration::from_millis(50);

/// The last position of each shard: one look at the end of an index each.
const HEADS: &str = "\
    SELECT s.shard, coalesce((SELECT e.position FROM events AS e WHERE e.shard = s.shard \
                              ORDER BY e.position DESC LIMIT 1), 0) AS position \
    FROM unnest($1::smallint[]) AS s (shard)";

/// Whether the books are short of a position in any shard.
const BEHIND: &str = "\
    SELECT EXISTS (SELECT FROM unnest($1::smallint[], $2::bigint[]) AS h (shard, position) \
        LEFT JOIN projection_checkpoints AS c ON c.projection = 'finance' AND c.shard = h.shard \
        WHERE coalesce(c.position, 0) < h.position)";

/// Waits until the books hold all events of the shards that are acknowledged by now; whether they did in time.
pub(crate) async fn books_caught_up(
    databases: &Databases,
    shards: impl Iterator<Item = Shard>,
    patience: Duration,
) -> sqlx::Result<bool> {
    let shards: Vec<i16> = shards.map(Shard::number).collect();
    let heads: Vec<(i16, i64)> =
        sqlx::query_as(HEADS).bind(shards).fetch_all(databases.write(Database::EventStore)).await?;
    let (shards, positions): (Vec<i16>, Vec<i64>) = heads.into_iter().unzip();
    let caught_up = async {
        loop {
            let behind = sqlx::query_scalar(BEHIND).bind(&shards).bind(&positions);
            if !behind.fetch_one(databases.write(Database::Finance)).await? {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(patience, caught_up).await.unwrap_or(Ok(false))
}
