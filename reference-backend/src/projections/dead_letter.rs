//! Where a projection keeps an event whose rows no table will take.

use sqlx::postgres::PgConnection;

use super::Projection;
use crate::domain::RecordedEvent;
use crate::events::Shard;

/// Keeps an event that is not projected.
pub(super) async fn keep(
    connection: &mut PgConnection,
    projection: Projection,
    event: &RecordedEvent,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO projection_dead_letters \
             (projection, shard, position, org_id, command_id, reason) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(projection.name())
    .bind(Shard::of(event.org).number())
    .bind(event.position)
    .bind(event.org.get())
    .bind(event.command.uuid())
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}
