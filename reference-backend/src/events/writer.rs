//! The statements of an appender, on the one connection that also holds the leases of its shards.
//!
//! A lease is a session lock of this very connection: who can write, holds it, and who lost it cannot write. A new
//! connection gets it only after the old session has ended, so nothing of the old one can still commit behind its back.

use std::fmt::Display;
use std::time::Duration;

use itertools::Itertools;
use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{Connection, Postgres};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::feed::Positions;
use super::plan::{Account, CommandKey, Given};
use super::{Appended, Shard};
use crate::db::{Database, Databases};
use crate::domain::{Entry, Event, OrgId, RecordedEvent, Version};

/// First half of the lease's lock; the second is the shard. Any number no one else uses.
const LEASE_CLASS: i32 = 0x706C_696D;
const LEASE_RETRY: Duration = Duration::from_millis(50);

/// Why a statement of an appender failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The server said no, and nothing was written.
    Refused(sqlx::Error),
    /// The connection is gone, and with it the lease. Whether the statement took effect is unknown.
    Lost(String),
    /// There is no connection: the statement was not sent.
    Unsent,
}

impl WriteError {
    /// Whether trying again, after a look at what is committed, may work: a lost connection, or a clash of keys.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Unsent => true,
            Self::Refused(error) => {
                error.as_database_error().is_some_and(|error| error.is_unique_violation())
            }
        }
    }
}

impl Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Lost(reason) => reason.fmt(f),
            Self::Unsent => f.write_str("no connection"),
        }
    }
}

/// Why the leases were not to be had in time.
#[derive(Debug)]
pub(super) enum LeaseError {
    Held(Shard),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for LeaseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Display for LeaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(shard) => write!(f, "another session holds the lease of shard {shard}"),
            Self::Sql(error) => error.fmt(f),
        }
    }
}

/// The connection of an appender.
#[derive(Debug)]
pub(super) struct Writer {
    db: Databases,
    shards: Vec<Shard>,
    statement_timeout: Duration,
    /// Present exactly while the leases of all its shards are held.
    connection: Option<PgConnection>,
}

impl Writer {
    pub(super) fn new(db: Databases, shards: Vec<Shard>, statement_timeout: Duration) -> Self {
        Self { db, shards, statement_timeout, connection: None }
    }

    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(super) fn holds_leases(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects, takes the leases and reads the position of each shard's last event; tries until the time is up.
    pub(super) async fn acquire(&mut self, wait: Duration) -> Result<Positions, LeaseError> {
        let deadline = Instant::now() + wait;
        loop {
            let error = match timeout(self.statement_timeout, self.try_acquire()).await {
                Ok(Ok(heads)) => return Ok(heads),
                Ok(Err(error)) => error,
                Err(_) => LeaseError::Sql(sqlx::Error::PoolTimedOut),
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(LEASE_RETRY).await;
        }
    }

    async fn try_acquire(&mut self) -> Result<Positions, LeaseError> {
        let name = format!("appender {}", self.shards.iter().format(" "));
        let mut connection =
            self.db.writer(Database::EventStore, &name, self.statement_timeout).await?;
        for shard in &self.shards {
            let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
                .bind(LEASE_CLASS)
                .bind(i32::from(shard.number()))
                .fetch_one(&mut connection)
                .await?;
            if !taken {
                // Those taken before it go with the session.
                connection.close().await?;
                return Err(LeaseError::Held(*shard));
            }
        }
        let heads = read_heads(&mut connection, &self.shards).await?;
        self.connection = Some(connection);
        Ok(heads)
    }

    /// Position of each shard's last event, 0 without one.
    pub(super) async fn heads(&mut self) -> Result<Positions, WriteError> {
        let mut connection = self.take()?;
        let read = read_heads(&mut connection, &self.shards);
        let result = timeout(self.statement_timeout, read).await;
        self.settle(connection, result)
    }

    /// Versions of accounts: of the last event or of the snapshot, whichever is higher.
    pub(super) async fn versions(
        &mut self,
        accounts: &[Account],
    ) -> Result<Vec<(Account, Version)>, WriteError> {
        let orgs: Vec<i64> = accounts.iter().map(|(org, _)| org.get()).collect();
        let properties: Vec<Uuid> = accounts.iter().map(|(_, property)| property.uuid()).collect();
        let mut connection = self.take()?;
        let query = sqlx::query_scalar(VERSIONS)
            .bind(orgs)
            .bind(properties)
            .bind(numbers(accounts.iter().map(|(org, _)| *org)))
            .fetch_all(&mut connection);
        let result = timeout(self.statement_timeout, query).await;
        let versions: Vec<i32> = self.settle(connection, result)?;
        Ok(accounts.iter().copied().zip(versions.into_iter().map(Version::new)).collect())
    }

    /// Answers given before to any of these commands.
    pub(super) async fn answers(
        &mut self,
        commands: &[CommandKey],
    ) -> Result<Vec<(CommandKey, Given)>, WriteError> {
        let orgs: Vec<i64> = commands.iter().map(|(org, _)| org.get()).collect();
        let ids: Vec<Uuid> = commands.iter().map(|(_, id)| id.uuid()).collect();
        let mut connection = self.take()?;
        let query =
            sqlx::query_as::<_, AnswerRow>(ANSWERS).bind(orgs).bind(ids).fetch_all(&mut connection);
        let result = timeout(self.statement_timeout, query).await;
        let rows = self.settle(connection, result)?;
        rows.into_iter().map(given).collect()
    }

    /// Writes events and the answers to their commands, in one statement: both or neither.
    pub(super) async fn append(&mut self, events: &[RecordedEvent]) -> Result<(), WriteError> {
        let mut connection = self.take()?;
        let query = append(events).execute(&mut connection);
        let result = timeout(self.statement_timeout, query).await;
        self.settle(connection, result).map(|_: PgQueryResult| ())
    }

    /// Whether the session still lives.
    pub(super) async fn ping(&mut self) -> Result<(), WriteError> {
        let mut connection = self.take()?;
        let result = timeout(self.statement_timeout, connection.ping()).await;
        self.settle(connection, result)
    }

    /// Gives the leases back.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The server releases them when the session ends, however it ends.
            let _ = timeout(self.statement_timeout, connection.close()).await;
        }
    }

    /// Taken out for each statement: whatever breaks it off, the connection is then gone and not half used.
    fn take(&mut self) -> Result<PgConnection, WriteError> {
        self.connection.take().ok_or(WriteError::Unsent)
    }

    fn settle<T>(
        &mut self,
        connection: PgConnection,
        result: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, WriteError> {
        match result {
            Ok(Ok(value)) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Ok(Err(error)) if session_survives(&error) => {
                self.connection = Some(connection);
                Err(WriteError::Refused(error))
            }
            Ok(Err(error)) => Err(WriteError::Lost(error.to_string())),
            Err(_) => Err(WriteError::Lost(format!("no answer in {:?}", self.statement_timeout))),
        }
    }
}

/// Only an error that the server reported, and that is not about the session itself, leaves the session in place.
fn session_survives(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| !code.starts_with("08") && !code.starts_with("57P"))
        }
        sqlx::Error::Encode(_) | sqlx::Error::RowNotFound => true,
        _ => false,
    }
}

/// Organisation, command, property, version, position, kind of event, entry.
type AnswerRow = (i64, Uuid, Uuid, i32, i64, i16, Json<Entry>);

fn given(row: AnswerRow) -> Result<(CommandKey, Given), WriteError> {
    let (org, command, property, version, position, kind, Json(entry)) = row;
    let org = OrgId::new(org).expect("it was asked for by this very number");
    let event = Event::from_stored(kind, entry)
        .map_err(|error| WriteError::Refused(sqlx::Error::Decode(Box::new(error))))?;
    let answer = Appended {
        command: command.into(),
        property: property.into(),
        version: Version::new(version),
        shard: Shard::of(org),
        position,
        duplicate: true,
    };
    Ok(((org, answer.command), Given { answer, event }))
}

/// The shards of organisations, as the database holds them.
fn numbers(orgs: impl Iterator<Item = OrgId>) -> Vec<i16> {
    orgs.map(|org| Shard::of(org).number()).collect()
}

async fn read_heads(
    connection: &mut PgConnection,
    shards: &[Shard],
) -> Result<Positions, sqlx::Error> {
    let numbers: Vec<i16> = shards.iter().map(|shard| shard.number()).collect();
    let found: Vec<i64> = sqlx::query_scalar(HEADS).bind(numbers).fetch_all(connection).await?;
    let mut heads = Positions::default();
    for (shard, head) in shards.iter().zip(found) {
        heads[shard.index()] = head;
    }
    Ok(heads)
}

/// Each looks into the partitions of the shards it is given, and no other: pruned while it runs.
const HEADS: &str = "\
    SELECT coalesce((SELECT max(position) FROM events WHERE shard = s.shard), 0) \
    FROM unnest($1::smallint[]) WITH ORDINALITY AS s (shard, n) ORDER BY s.n";

const VERSIONS: &str = "\
    SELECT greatest( \
        (SELECT max(e.version) FROM events e WHERE e.shard = a.shard \
         AND e.org_id = a.org_id AND e.aggregate_type = 1 AND e.aggregate_id = a.id), \
        (SELECT s.version FROM snapshots s WHERE s.org_id = a.org_id \
         AND s.aggregate_type = 1 AND s.aggregate_id = a.id), \
        0) \
    FROM unnest($1::bigint[], $2::uuid[], $3::smallint[]) WITH ORDINALITY AS a (org_id, id, shard, n) \
    ORDER BY a.n";

const ANSWERS: &str = "\
    SELECT d.org_id, d.command_id, d.aggregate_id, d.first_version, d.last_position, \
        e.event_type, e.data \
    FROM unnest($1::bigint[], $2::uuid[]) AS c (org_id, command_id) \
    JOIN append_dedup d USING (org_id, command_id) \
    JOIN events e ON e.shard = d.shard AND e.position = d.last_position";

const APPEND: &str = "\
    WITH new AS ( \
        SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::int[], \
            $6::smallint[], $7::uuid[], $8::jsonb[]) \
        AS n (shard, position, org_id, aggregate_id, version, event_type, command_id, data) \
    ), answers AS ( \
        INSERT INTO append_dedup (org_id, command_id, shard, aggregate_type, \
            aggregate_id, first_version, last_position, event_count) \
        SELECT org_id, command_id, shard, 1, aggregate_id, version, position, 1 FROM new \
    ) \
    INSERT INTO events (shard, position, org_id, aggregate_type, aggregate_id, version, event_type, \
        command_id, recorded_at, data) \
    SELECT shard, position, org_id, 1, aggregate_id, version, event_type, command_id, $9, data FROM new";

fn append(events: &[RecordedEvent]) -> Query<'_, Postgres, PgArguments> {
    let positions: Vec<i64> = events.iter().map(|event| event.position).collect();
    let orgs: Vec<i64> = events.iter().map(|event| event.org.get()).collect();
    let properties: Vec<Uuid> = events.iter().map(|event| event.property.uuid()).collect();
    let versions: Vec<i32> = events.iter().map(|event| event.version.get()).collect();
    let types: Vec<i16> = events.iter().map(|event| event.event.type_number()).collect();
    let commands: Vec<Uuid> = events.iter().map(|event| event.command.uuid()).collect();
    let data: Vec<Json<&Entry>> = events.iter().map(|e| Json(e.event.entry())).collect();
    let recorded_at = events.first().map(|event| event.recorded_at);
    sqlx::query(APPEND)
        .bind(numbers(events.iter().map(|event| event.org)))
        .bind(positions)
        .bind(orgs)
        .bind(properties)
        .bind(versions)
        .bind(types)
        .bind(commands)
        .bind(data)
        .bind(recorded_at)
}
