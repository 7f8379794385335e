//! The statements of an appender, on the one connection that also holds its lease.
//!
//! The lease is a session lock of this very connection: who can write, holds it, and who lost it cannot write. A new
//! connection gets it only after the old session has ended, so nothing of the old one can still commit behind its back.

use std::fmt::Display;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, Postgres};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

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
}

impl WriteError {
    /// Whether trying again, after a look at what is committed, may work: a lost connection, or a clash of keys.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Lost(_) => true,
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
        }
    }
}

/// Why a lease was not to be had in time.
#[derive(Debug)]
pub(super) enum LeaseError {
    Held,
    Sql(sqlx::Error),
}

impl Display for LeaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held => f.write_str("another session holds the lease"),
            Self::Sql(error) => error.fmt(f),
        }
    }
}

/// The connection of one shard's appender.
#[derive(Debug)]
pub(super) struct Writer {
    db: Databases,
    shard: Shard,
    statement_timeout: Duration,
    /// Present exactly while the lease is held.
    connection: Option<PgConnection>,
    sql: Statements,
}

/// The shard stands in the text, so that planning prunes to its partition even in a generic plan.
#[derive(Debug)]
struct Statements {
    head: String,
    versions: String,
    answers: String,
    append: String,
}

impl Writer {
    pub(super) fn new(db: Databases, shard: Shard, statement_timeout: Duration) -> Self {
        Self { db, shard, statement_timeout, connection: None, sql: Statements::of(shard) }
    }

    pub(super) fn holds_lease(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects, takes the lease and reads the position of the shard's last event; tries until the time is up.
    pub(super) async fn acquire(&mut self, wait: Duration) -> Result<i64, LeaseError> {
        let deadline = Instant::now() + wait;
        loop {
            let error = match timeout(self.statement_timeout, self.try_acquire()).await {
                Ok(Ok(Some(head))) => return Ok(head),
                Ok(Ok(None)) => LeaseError::Held,
                Ok(Err(error)) => LeaseError::Sql(error),
                Err(_) => LeaseError::Sql(sqlx::Error::PoolTimedOut),
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(LEASE_RETRY).await;
        }
    }

    async fn try_acquire(&mut self) -> Result<Option<i64>, sqlx::Error> {
        let name = format!("appender {}", self.shard);
        let mut connection =
            self.db.writer(Database::EventStore, &name, self.statement_timeout).await?;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(LEASE_CLASS)
            .bind(i32::from(self.shard.number()))
            .fetch_one(&mut connection)
            .await?;
        if !taken {
            connection.close().await?;
            return Ok(None);
        }
        let head = self.sql.head(&mut connection).await?;
        self.connection = Some(connection);
        Ok(Some(head))
    }

    /// Position of the shard's last event, 0 without one.
    pub(super) async fn head(&mut self) -> Result<i64, WriteError> {
        let mut connection = self.take()?;
        let result = timeout(self.statement_timeout, self.sql.head(&mut connection)).await;
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
        let query = sqlx::query_scalar(AssertSqlSafe(self.sql.versions.clone()))
            .bind(orgs)
            .bind(properties)
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
        let query = sqlx::query_as::<_, AnswerRow>(AssertSqlSafe(self.sql.answers.clone()))
            .bind(orgs)
            .bind(ids)
            .fetch_all(&mut connection);
        let result = timeout(self.statement_timeout, query).await;
        let rows = self.settle(connection, result)?;
        rows.into_iter().map(|row| given(self.shard, row)).collect()
    }

    /// Writes events and the answers to their commands, in one statement: both or neither.
    pub(super) async fn append(&mut self, events: &[RecordedEvent]) -> Result<(), WriteError> {
        let mut connection = self.take()?;
        let query = self.sql.append(events).execute(&mut connection);
        let result = timeout(self.statement_timeout, query).await;
        self.settle(connection, result).map(|_: PgQueryResult| ())
    }

    /// Whether the session still lives.
    pub(super) async fn ping(&mut self) -> Result<(), WriteError> {
        let mut connection = self.take()?;
        let result = timeout(self.statement_timeout, connection.ping()).await;
        self.settle(connection, result)
    }

    /// Gives the lease back.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The server releases the lease when the session ends, however it ends.
            let _ = timeout(self.statement_timeout, connection.close()).await;
        }
    }

    /// Taken out for each statement: whatever breaks it off, the connection is then gone and not half used.
    fn take(&mut self) -> Result<PgConnection, WriteError> {
        self.connection.take().ok_or_else(|| WriteError::Lost("no connection".to_owned()))
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

fn given(shard: Shard, row: AnswerRow) -> Result<(CommandKey, Given), WriteError> {
    let (org, command, property, version, position, kind, Json(entry)) = row;
    let org = OrgId::new(org).expect("it was asked for by this very number");
    let event = Event::from_stored(kind, entry)
        .map_err(|error| WriteError::Refused(sqlx::Error::Decode(Box::new(error))))?;
    let answer = Appended {
        command: command.into(),
        property: property.into(),
        version: Version::new(version),
        shard,
        position,
        duplicate: true,
    };
    Ok(((org, answer.command), Given { answer, event }))
}

impl Statements {
    fn of(shard: Shard) -> Self {
        Self {
            head: format!("SELECT coalesce(max(position), 0) FROM events WHERE shard = {shard}"),
            versions: format!(
                "SELECT greatest( \
                     (SELECT max(e.version) FROM events e WHERE e.shard = {shard} \
                      AND e.org_id = a.org_id AND e.aggregate_type = 1 AND e.aggregate_id = a.id), \
                     (SELECT s.version FROM snapshots s WHERE s.org_id = a.org_id \
                      AND s.aggregate_type = 1 AND s.aggregate_id = a.id), \
                     0) \
                 FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS a (org_id, id, n) \
                 ORDER BY a.n"
            ),
            answers: format!(
                "SELECT d.org_id, d.command_id, d.aggregate_id, d.first_version, d.last_position, \
                     e.event_type, e.data \
                 FROM unnest($1::bigint[], $2::uuid[]) AS c (org_id, command_id) \
                 JOIN append_dedup d USING (org_id, command_id) \
                 JOIN events e ON e.shard = {shard} AND e.position = d.last_position"
            ),
            append: format!(
                "WITH new AS ( \
                     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::int[], \
                         $5::smallint[], $6::uuid[], $7::jsonb[]) \
                     AS n (position, org_id, aggregate_id, version, event_type, command_id, data) \
                 ), answers AS ( \
                     INSERT INTO append_dedup (org_id, command_id, shard, aggregate_type, \
                         aggregate_id, first_version, last_position, event_count) \
                     SELECT org_id, command_id, {shard}, 1, aggregate_id, version, position, 1 \
                     FROM new \
                 ) \
                 INSERT INTO events (shard, position, org_id, aggregate_type, aggregate_id, \
                     version, event_type, command_id, recorded_at, data) \
                 SELECT {shard}, position, org_id, 1, aggregate_id, version, event_type, \
                     command_id, $8, data \
                 FROM new"
            ),
        }
    }

    async fn head(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(self.head.clone())).fetch_one(connection).await
    }

    fn append<'q>(&self, events: &'q [RecordedEvent]) -> Query<'q, Postgres, PgArguments> {
        let positions: Vec<i64> = events.iter().map(|event| event.position).collect();
        let orgs: Vec<i64> = events.iter().map(|event| event.org.get()).collect();
        let properties: Vec<Uuid> = events.iter().map(|event| event.property.uuid()).collect();
        let versions: Vec<i32> = events.iter().map(|event| event.version.get()).collect();
        let types: Vec<i16> = events.iter().map(|event| event.event.type_number()).collect();
        let commands: Vec<Uuid> = events.iter().map(|event| event.command.uuid()).collect();
        let data: Vec<Json<&Entry>> = events.iter().map(|e| Json(e.event.entry())).collect();
        let recorded_at = events.first().map(|event| event.recorded_at);
        sqlx::query(AssertSqlSafe(self.append.clone()))
            .bind(positions)
            .bind(orgs)
            .bind(properties)
            .bind(versions)
            .bind(types)
            .bind(commands)
            .bind(data)
            .bind(recorded_at)
    }
}
