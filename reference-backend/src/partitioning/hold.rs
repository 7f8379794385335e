//! What speaks against making or dropping any partition now, whatever its month.

use chrono::{NaiveDate, TimeDelta};
use sqlx::postgres::PgConnection;

use super::PartitionError;
use crate::config;
use crate::db::Databases;
use crate::events::Shard;
use crate::projections::books_caught_up;

/// Clocks that differ by more belong to someone whose clock is wrong; by less, it may just be midnight.
const DAYS_APART_MAX: TimeDelta = TimeDelta::days(1);

/// An error when the server has another day than `today`: a wrong clock here would take every month for past retention.
pub async fn agree_on_day(
    connection: &mut PgConnection,
    today: NaiveDate,
) -> Result<(), PartitionError> {
    let there: NaiveDate = sqlx::query_scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
        .fetch_one(connection)
        .await
        .map_err(PartitionError::sql("finance"))?;
    if (today - there).abs() > DAYS_APART_MAX {
        return Err(PartitionError::Clock { here: today, there });
    }
    Ok(())
}

/// Why no month may go now. None when they may.
///
/// - A sync with the legacy tables does not see that a partition is dropped: both sides would differ from then on.
/// - An event that is not projected yet would find its month gone. None come after that: all processes refuse such days.
pub async fn held(
    connection: &mut PgConnection,
    databases: &Databases,
    config: &config::Partitions,
) -> Result<Option<&'static str>, PartitionError> {
    let syncs: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM legacy_sync_state)")
        .fetch_one(connection)
        .await
        .map_err(PartitionError::sql("legacy_sync_state"))?;
    if syncs {
        return Ok(Some("a sync with the legacy tables is on, which would not see it"));
    }
    let caught_up = books_caught_up(databases, Shard::all(), config.busy_wait_ms.duration()).await;
    let caught_up = caught_up.map_err(PartitionError::sql("projection_checkpoints"))?;
    Ok((!caught_up).then_some("the books do not hold all events that are acknowledged"))
}
