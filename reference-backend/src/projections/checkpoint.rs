//! How far a projection is: read at start, moved in the transaction that writes the rows.

use sqlx::PgExecutor;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgPool};

use super::Projection;
use crate::db::Lsn;
use crate::events::{Positions, ReadError, Shard, Slice};

/// Why a projection could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The database failed.
    #[error("write projection: {0}")]
    Sql(#[from] sqlx::Error),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The checkpoint is not where this projection left it: another process moved it, or a commit whose outcome was unknown
    /// did take place.
    #[error("write projection: its checkpoint has moved")]
    Moved,
    /// The transaction took too long.
    #[error("write projection: no answer in time")]
    Timeout,
}

impl ProjectionError {
    /// Whether rows themselves break a rule of their table. A missing partition has the code of a broken CHECK too, but names
    /// no constraint: it lies not in the event, and ends when someone makes the partition.
    pub(super) fn is_broken_rule(&self) -> bool {
        const CHECK_VIOLATION: &str = "23514";
        self.database_error().is_some_and(|error| {
            error.code().is_some_and(|code| {
                code.starts_with("23") && (code != CHECK_VIOLATION || error.constraint().is_some())
            })
        })
    }

    /// Whether the transaction, or a statement of it, was given up because it took too long.
    pub(super) fn is_timeout(&self) -> bool {
        const QUERY_CANCELED: &str = "57014";
        let cancelled = |error: &dyn DatabaseError| error.code().as_deref() == Some(QUERY_CANCELED);
        matches!(self, Self::Timeout) || self.database_error().is_some_and(cancelled)
    }

    fn database_error(&self) -> Option<&dyn DatabaseError> {
        if let Self::Sql(error) = self { error.as_database_error() } else { None }
    }
}

/// The checkpoint of each shard; made at 0 where there is none.
pub(super) async fn read(
    pool: &PgPool,
    projection: Projection,
) -> Result<Positions, ProjectionError> {
    let shards: Vec<i16> = Shard::all().map(Shard::number).collect();
    sqlx::query(
        "INSERT INTO projection_checkpoints (projection, shard, position) \
         SELECT $1, shard, 0 FROM unnest($2::smallint[]) AS s (shard) ON CONFLICT DO NOTHING",
    )
    .bind(projection.name())
    .bind(shards)
    .execute(pool)
    .await?;
    let rows: Vec<(i16, i64)> =
        sqlx::query_as("SELECT shard, position FROM projection_checkpoints WHERE projection = $1")
            .bind(projection.name())
            .fetch_all(pool)
            .await?;
    let mut positions = Positions::default();
    for (shard, position) in rows {
        if let Some(shard) = Shard::from_number(shard) {
            positions[shard.index()] = position;
        }
    }
    Ok(positions)
}

/// The positions after a batch, which never go back.
pub(super) fn after(mut positions: Positions, slices: &[Slice]) -> Positions {
    for slice in slices {
        let position = &mut positions[slice.shard().index()];
        *position = slice.last_position().max(*position);
    }
    positions
}

/// Moves the checkpoint, which also locks it: first statement of the transaction, so that no second process gets beyond it.
pub(super) async fn advance(
    connection: &mut PgConnection,
    projection: Projection,
    from: &Positions,
    to: &Positions,
) -> Result<(), ProjectionError> {
    let moving = Shard::all().filter(|shard| from[shard.index()] != to[shard.index()]);
    let shards: Vec<i16> = moving.clone().map(Shard::number).collect();
    let old: Vec<i64> = moving.clone().map(|shard| from[shard.index()]).collect();
    let new: Vec<i64> = moving.map(|shard| to[shard.index()]).collect();
    let expected = shards.len() as u64;
    let moved = sqlx::query(
        "UPDATE projection_checkpoints c SET position = m.new \
         FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS m (shard, old, new) \
         WHERE c.projection = $1 AND c.shard = m.shard AND c.position = m.old",
    )
    .bind(projection.name())
    .bind(shards)
    .bind(old)
    .bind(new)
    .execute(connection)
    .await?;
    if moved.rows_affected() == expected { Ok(()) } else { Err(ProjectionError::Moved) }
}

/// A place in the log at or after every commit that was answered before.
pub(super) async fn flushed(executor: impl PgExecutor<'_>) -> Result<Lsn, sqlx::Error> {
    let bytes: i64 =
        sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint")
            .fetch_one(executor)
            .await?;
    Ok(Lsn::from_bytes(bytes))
}
