//! How far a projection is: read at start, moved in the transaction that writes the rows.

use std::collections::BTreeSet;

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
    /// Whether rows themselves break a rule of their table, or are more than a type or a row can hold. A missing partition does
    /// not lie in the event, and ends when someone makes the partition.
    pub(super) fn is_broken_rule(&self) -> bool {
        /// Data exceptions (a sum out of range), broken constraints, limits of the program (a value too large).
        const LASTING: [&str; 3] = ["22", "23", "54"];
        let code = self.database_error().and_then(DatabaseError::code);
        code.is_some_and(|code| LASTING.iter().any(|class| code.starts_with(class)))
            && !self.is_missing_partition()
    }

    /// Whether a row's day has no partition. That has the code of a broken CHECK, but names no constraint.
    pub(super) fn is_missing_partition(&self) -> bool {
        const CHECK_VIOLATION: &str = "23514";
        self.database_error().is_some_and(|error| {
            error.code().as_deref() == Some(CHECK_VIOLATION) && error.constraint().is_none()
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

/// One epoch per shard: how often its rows were written otherwise than from the next events.
pub(super) type Epochs = [i64; Shard::COUNT];

/// The checkpoint of each shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) positions: Positions,
    pub(super) epochs: Epochs,
}

/// Makes the checkpoint at 0 where there is none.
pub(super) async fn make(
    executor: impl PgExecutor<'_>,
    projection: Projection,
) -> Result<(), sqlx::Error> {
    let shards: Vec<i16> = Shard::all().map(Shard::number).collect();
    let make = "INSERT INTO projection_checkpoints (projection, shard, position) \
                SELECT $1, shard, 0 FROM unnest($2::smallint[]) AS s (shard) ON CONFLICT DO NOTHING";
    sqlx::query(make).bind(projection.name()).bind(shards).execute(executor).await.map(drop)
}

/// The checkpoint of each shard; at 0 where there is none.
pub(super) async fn read(
    executor: impl PgExecutor<'_>,
    projection: Projection,
) -> Result<Checkpoint, sqlx::Error> {
    let rows: Vec<(i16, i64, i64)> = sqlx::query_as(
        "SELECT shard, position, epoch FROM projection_checkpoints WHERE projection = $1",
    )
    .bind(projection.name())
    .fetch_all(executor)
    .await?;
    let mut found = Checkpoint::default();
    for (shard, position, epoch) in rows {
        if let Some(shard) = Shard::from_number(shard) {
            found.positions[shard.index()] = position;
            found.epochs[shard.index()] = epoch;
        }
    }
    Ok(found)
}

/// What a look from outside finds.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) checkpoint: Checkpoint,
    /// A place in the log at or after the commit of all that.
    pub(super) lsn: Lsn,
    /// Events after those seen that are in no table.
    pub(super) set_aside: BTreeSet<(Shard, i64)>,
}

/// One statement, so that all is of one snapshot. Who sees a commit finds the log flushed beyond it.
const LOOK: &str = "\
    SELECT c.shard, c.position, c.epoch, \
           pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, \
           ARRAY(SELECT d.position FROM projection_dead_letters d WHERE d.projection = $1 \
                 AND d.shard = c.shard AND d.position > s.position AND d.position <= c.position) \
    FROM projection_checkpoints c \
    JOIN unnest($2::smallint[], $3::bigint[]) AS s (shard, position) USING (shard) \
    WHERE c.projection = $1";

/// How far a projection is that another process writes, for who has seen some of it.
pub(super) async fn look(
    pool: &PgPool,
    projection: Projection,
    seen: &Positions,
) -> Result<Look, sqlx::Error> {
    let shards: Vec<i16> = Shard::all().map(Shard::number).collect();
    let rows: Vec<(i16, i64, i64, i64, Vec<i64>)> = sqlx::query_as(LOOK)
        .bind(projection.name())
        .bind(shards)
        .bind(&seen[..])
        .fetch_all(pool)
        .await?;
    let mut look = Look::default();
    for (shard, position, epoch, lsn, set_aside) in rows {
        if let Some(shard) = Shard::from_number(shard) {
            look.checkpoint.positions[shard.index()] = position;
            look.checkpoint.epochs[shard.index()] = epoch;
            look.lsn = look.lsn.max(Lsn::from_bytes(lsn));
            look.set_aside.extend(set_aside.into_iter().map(|position| (shard, position)));
        }
    }
    Ok(look)
}

/// Begins to write a shard's rows otherwise than from the next events: keeps the projection out until the transaction ends, and
/// raises the epoch, so that no process goes on showing what it holds of the rows in memory. First statement of the
/// transaction. Returns the position up to which the rows must hold the events.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    projection: Projection,
    shard: Shard,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE projection_checkpoints SET epoch = epoch + 1 \
         WHERE projection = $1 AND shard = $2 RETURNING position",
    )
    .bind(projection.name())
    .bind(shard.number())
    .fetch_one(connection)
    .await
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
