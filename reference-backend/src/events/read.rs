//! Reads events back: of one account for a request, of one shard for a follower.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use sqlx::postgres::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::Shard;
use crate::db::Reader;
use crate::domain::{
    Entry, Event, OrgId, OrgIdError, PropertyId, RecordedEvent, UnknownEventType, Version,
};

/// Why events could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database failed.
    #[error("read events: {0}")]
    Sql(#[from] sqlx::Error),
    /// The store holds an event of a later release.
    #[error("read events: {0}\nhelp: run the release that wrote it, or a later one")]
    Type(#[from] UnknownEventType),
    /// The store holds an impossible organisation.
    #[error("read events: {0}")]
    Organisation(#[from] OrgIdError),
    /// Versions of an account are not consecutive, which no appender can cause.
    #[error(
        "cash account {property} of organisation {org} has no version {version}: it is damaged"
    )]
    Hole {
        /// The organisation.
        org: OrgId,
        /// The account's property.
        property: PropertyId,
        /// The first version without an event.
        version: Version,
    },
    /// Positions of a shard are not consecutive, which no appender can cause.
    #[error("shard {shard} has no event at position {position}: it is damaged")]
    Gap {
        /// The shard.
        shard: Shard,
        /// The first position without an event.
        position: i64,
    },
}

impl ReadError {
    /// Whether what was read is wrong, so that reading it again is no help.
    pub(crate) fn lies_in_an_event(&self) -> bool {
        match self {
            Self::Sql(error) => {
                matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
            }
            _ => true,
        }
    }
}

#[derive(Debug, FromRow)]
pub(super) struct EventRow {
    position: i64,
    org_id: i64,
    aggregate_id: Uuid,
    version: i32,
    event_type: i16,
    command_id: Uuid,
    recorded_at: DateTime<Utc>,
    data: Json<Entry>,
}

impl EventRow {
    pub(super) fn into_event(self) -> Result<RecordedEvent, ReadError> {
        Ok(RecordedEvent {
            org: OrgId::new(self.org_id)?,
            property: self.aggregate_id.into(),
            version: Version::new(self.version),
            position: self.position,
            command: self.command_id.into(),
            recorded_at: self.recorded_at,
            event: Event::from_stored(self.event_type, self.data.0)?,
        })
    }
}

/// Events of an account after a version, in order, at most `limit`.
pub async fn read_events(
    reader: &mut Reader,
    org: OrgId,
    property: PropertyId,
    after: Version,
    limit: i64,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows: Vec<EventRow> = reader
        .fetch_all(|| {
            sqlx::query_as(
                "SELECT position, org_id, aggregate_id, version, event_type, command_id, recorded_at, data \
                 FROM events WHERE shard = $1 AND org_id = $2 AND aggregate_type = 1 \
                 AND aggregate_id = $3 AND version > $4 ORDER BY version LIMIT $5",
            )
            .bind(Shard::of(org).number())
            .bind(org.get())
            .bind(property.uuid())
            .bind(after.get())
            .bind(limit)
        })
        .await?;
    rows.into_iter().map(EventRow::into_event).collect()
}

/// Events of an organisation after a position of its shard, in order, at most `limit`.
pub(crate) async fn events_of(
    reader: &mut Reader,
    org: OrgId,
    after: i64,
    limit: i64,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows: Vec<EventRow> = reader
        .fetch_all(|| {
            sqlx::query_as(
                "SELECT position, org_id, aggregate_id, version, event_type, command_id, recorded_at, data \
                 FROM events WHERE shard = $1 AND org_id = $2 AND position > $3 \
                 ORDER BY position LIMIT $4",
            )
            .bind(Shard::of(org).number())
            .bind(org.get())
            .bind(after)
            .bind(limit)
        })
        .await?;
    rows.into_iter().map(EventRow::into_event).collect()
}

/// Events of a shard after a position, in order, at most `limit`; consecutive, or an error.
pub(crate) async fn read_shard(
    store: &PgPool,
    shard: Shard,
    after: i64,
    limit: usize,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows: Vec<EventRow> = sqlx::query_as(
        "SELECT position, org_id, aggregate_id, version, event_type, command_id, recorded_at, data \
         FROM events WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3",
    )
    .bind(shard.number())
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(store)
    .await?;
    if let Some((_, position)) =
        rows.iter().zip(after + 1..).find(|(row, position)| row.position != *position)
    {
        return Err(ReadError::Gap { shard, position });
    }
    rows.into_iter().map(EventRow::into_event).collect()
}

/// All events of organisations with neighbouring numbers.
pub(crate) async fn read_organisations(
    store: &PgPool,
    from: i64,
    to: i64,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows: Vec<EventRow> = sqlx::query_as(
        "SELECT position, org_id, aggregate_id, version, event_type, command_id, recorded_at, data \
         FROM events WHERE shard = ANY($1) AND org_id BETWEEN $2 AND $3",
    )
    // All of them, named: only so does the primary key, which begins with the shard, find the organisations.
    .bind(Shard::all().map(Shard::number).collect::<Vec<_>>())
    .bind(from)
    .bind(to)
    .fetch_all(store)
    .await?;
    rows.into_iter().map(EventRow::into_event).collect()
}

/// The event at a position of a shard, if there is one.
pub(crate) async fn read_event(
    store: &PgPool,
    shard: Shard,
    position: i64,
) -> Result<Option<RecordedEvent>, ReadError> {
    let events = read_shard(store, shard, position - 1, 1).await?;
    Ok(events.into_iter().next())
}

/// When the first event of a shard after a position was recorded.
pub(crate) async fn first_recorded_after(
    store: &PgPool,
    shard: Shard,
    after: i64,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar("SELECT recorded_at FROM events WHERE shard = $1 AND position = $2")
        .bind(shard.number())
        .bind(after + 1)
        .fetch_optional(store)
        .await
}
