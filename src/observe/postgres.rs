//! Reads what each Postgres server knows of itself, and how far the stored events and their projections have come.
//!
//! These figures prove the backend's own: it counts what it believes it did, the servers count what arrived.
//! Connects as the monitor role, so that observation never shows among the backend's statements.

use std::collections::BTreeMap;

use futures::future::join_all;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{Duration, timeout};

use super::outage::Failure;
use super::source::{Reading, Source};
use super::statement::StatementKind;
use crate::archive::SeriesKey;
use crate::postgres::connect_options;
use crate::postgres::database::{EVENT_STORE, FINANCE, READ_MODELS};
use crate::scenario::PostgresEndpoint;

/// Longest time for one database's part of a reading: less than a whole reading may take, so that a slow part does not
/// cost the others.
const PART_MAX: Duration = Duration::from_millis(700);
/// Sizes and row counts of partitions change slowly, and looking at every file costs.
const PARTITIONS_EVERY_SECONDS: usize = 5;
/// What a replica has still to replay, by the primary's account of it.
const LAG_BYTES: &str = "pg_replication_lag_bytes";
const LAG_SECONDS: &str = "pg_replication_lag_seconds";

type Values = Vec<(SeriesKey, f64)>;

/// One server, with a connection for each database that is looked at.
pub(super) struct PostgresServer {
    name: String,
    /// Replicas that should follow this server.
    replicas: Vec<String>,
    parts: Vec<Part>,
}

/// What is read from one database.
struct Part {
    options: PgConnectOptions,
    question: Question,
    /// Empty before the first reading, and after one that failed or was given up half way.
    connection: Option<PgConnection>,
}

/// What is asked of a database.
#[derive(Debug, Clone, Copy)]
enum Question {
    /// Statements, transactions, WAL and replication, of the server as a whole.
    Activity,
    /// Events in the store.
    Events,
    /// How far projections have come.
    Checkpoints,
    /// Size and rows of partitions.
    Partitions,
}

impl PostgresServer {
    /// Answers for the contents of the databases, and for those that should follow it.
    pub(super) fn primary(endpoint: &PostgresEndpoint, replicas: &[PostgresEndpoint]) -> Self {
        const CONTENTS: [(&str, Question); 4] = [
            (EVENT_STORE, Question::Events),
            (FINANCE, Question::Checkpoints),
            (READ_MODELS, Question::Checkpoints),
            (FINANCE, Question::Partitions),
        ];
        let replicas = replicas.iter().map(|replica| replica.name.clone()).collect();
        Self { replicas, ..Self::new(endpoint, &CONTENTS) }
    }

    /// Answers for itself alone.
    pub(super) fn replica(endpoint: &PostgresEndpoint) -> Self {
        Self::new(endpoint, &[])
    }

    fn new(endpoint: &PostgresEndpoint, contents: &[(&str, Question)]) -> Self {
        let activity = ("postgres", Question::Activity);
        let questions = std::iter::once(activity).chain(contents.iter().copied());
        let part = |(database, question)| {
            let options = connect_options(endpoint, &endpoint.monitor_role, "observe")
                .database(database)
                .options([("statement_timeout", PART_MAX.as_millis().to_string())]);
            Part { options, question, connection: None }
        };
        let parts = questions.map(part).collect();
        Self { name: endpoint.name.clone(), replicas: Vec::new(), parts }
    }

    /// The first replica whose place the reading does not tell.
    fn astray(&self, reading: &Reading) -> Option<Failure> {
        let told = |replica: &str| {
            let key = SeriesKey::new(LAG_BYTES, [("replica", replica)]);
            reading.values.iter().any(|(found, _)| *found == key)
        };
        let astray = self.replicas.iter().find(|replica| !told(replica))?;
        Some(Failure::Failed(format!("{astray} does not follow: its lag is not known")))
    }
}

impl Source for PostgresServer {
    fn name(&self) -> String {
        format!("statistics of {}", self.name)
    }

    fn server(&self) -> Option<String> {
        Some(self.name.clone())
    }

    async fn read(&mut self, second: usize) -> Reading {
        let due = self.parts.iter_mut().filter(|part| part.is_due(second));
        let answers = join_all(due.map(|part| part.ask(&self.name))).await;
        let mut reading = Reading::default();
        for answer in answers {
            match answer {
                Ok(values) => reading.values.extend(values),
                Err(failure) => {
                    reading.failure.get_or_insert(failure);
                }
            }
        }
        if reading.failure.is_none() {
            reading.failure = self.astray(&reading);
        }
        reading
    }
}

impl Part {
    fn is_due(&self, second: usize) -> bool {
        match self.question {
            Question::Partitions => second.is_multiple_of(PARTITIONS_EVERY_SECONDS),
            Question::Activity | Question::Events | Question::Checkpoints => true,
        }
    }

    async fn ask(&mut self, server: &str) -> Result<Values, Failure> {
        let answer = timeout(PART_MAX, async {
            // Taken out, so that a connection given up half way through an answer is not used again.
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.options.clone().connect().await?,
            };
            let values = self.question.answer(server, &mut connection).await?;
            self.connection = Some(connection);
            Ok(values)
        });
        match answer.await {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(Failure::Slow),
        }
    }
}

/// What an error says of the server: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn failure(error: &sqlx::Error) -> Failure {
    let detail = error.to_string();
    let code = error.as_database_error().and_then(|error| error.code());
    match (error, code.as_deref()) {
        // statement_timeout
        (_, Some("57014")) => Failure::Slow,
        // Shutting down, crashed, or not up yet.
        (sqlx::Error::Io(_), _) | (_, Some("57P01" | "57P02" | "57P03")) => Failure::Gone(detail),
        _ => Failure::Failed(detail),
    }
}

impl Question {
    async fn answer(self, server: &str, connection: &mut PgConnection) -> sqlx::Result<Values> {
        match self {
            Self::Activity => {
                let mut values = statements(server, connection).await?;
                values.extend(server_totals(server, connection).await?);
                values.extend(replication(connection).await?);
                Ok(values)
            }
            Self::Events => events(connection).await,
            Self::Checkpoints => checkpoints(connection).await,
            Self::Partitions => partitions(connection).await,
        }
    }
}

/// Statements on the backend's databases, by role and by what they do.
async fn statements(server: &str, connection: &mut PgConnection) -> sqlx::Result<Values> {
    let rows: Vec<(String, String, i64, f64)> = sqlx::query_as(
        "SELECT r.rolname::text, s.query, s.calls, s.total_exec_time / 1000
         FROM pg_stat_statements s
         JOIN pg_database d ON d.oid = s.dbid
         JOIN pg_roles r ON r.oid = s.userid
         WHERE d.datname LIKE 'plimsoll\\_%' AND s.query IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    let mut totals: BTreeMap<(String, StatementKind), (f64, f64)> = BTreeMap::new();
    for (role, query, calls, seconds) in rows {
        let total = totals.entry((role, StatementKind::of(&query))).or_default();
        total.0 += calls as f64;
        total.1 += seconds;
    }
    let values = totals.into_iter().flat_map(|((role, kind), (calls, seconds))| {
        let key = |name| {
            let labels = [("server", server), ("role", role.as_str()), ("kind", kind.label())];
            SeriesKey::new(name, labels)
        };
        [(key("pg_statements_calls_total"), calls), (key("pg_statements_seconds_total"), seconds)]
    });
    Ok(values.collect())
}

/// Transactions on the backend's databases; WAL written, or replayed on a replica.
async fn server_totals(server: &str, connection: &mut PgConnection) -> sqlx::Result<Values> {
    let (commits, wal_bytes): (f64, f64) = sqlx::query_as(
        "SELECT
           (SELECT coalesce(sum(xact_commit), 0)::float8 FROM pg_stat_database WHERE datname LIKE 'plimsoll\\_%'),
           pg_wal_lsn_diff(
             CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0')::float8",
    )
    .fetch_one(connection)
    .await?;
    let key = |name| SeriesKey::new(name, [("server", server)]);
    Ok(vec![(key("pg_xact_commit_total"), commits), (key("pg_wal_bytes_total"), wal_bytes)])
}

/// How far each replica is behind; empty on a server that feeds none.
///
/// `replay_lag` is what a replica's own replies told, and it stays as it was when they end. So silence counts as lag:
/// each replica of the stack replies every second, more than two are silence. A replica that has everything is 0 s behind. One
/// that had everything, and has not yet replied to what was written since, has no `replay_lag`: it is behind by no more than the
/// time since its reply.
async fn replication(connection: &mut PgConnection) -> sqlx::Result<Values> {
    let rows: Vec<(String, Option<f64>, Option<f64>)> = sqlx::query_as(
        "SELECT application_name, lag.bytes, coalesce(
                  greatest(extract(epoch FROM replay_lag)::float8,
                           CASE WHEN lag.bytes > 0 AND lag.silence > 2 THEN lag.silence END),
                  CASE WHEN lag.bytes = 0 THEN 0 ELSE greatest(lag.silence, 0) END)
         FROM pg_stat_replication,
              LATERAL (SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::float8 AS bytes,
                              extract(epoch FROM clock_timestamp() - reply_time)::float8 AS silence) AS lag
         WHERE NOT pg_is_in_recovery() AND state <> 'backup'",
    )
    .fetch_all(connection)
    .await?;
    let values = rows.iter().flat_map(|(replica, bytes, seconds)| {
        let key = |name| SeriesKey::new(name, [("replica", replica.as_str())]);
        let bytes = bytes.map(|bytes| (key(LAG_BYTES), bytes));
        let seconds = seconds.map(|seconds| (key(LAG_SECONDS), seconds));
        bytes.into_iter().chain(seconds)
    });
    Ok(values.collect())
}

/// Events in the store: positions of a shard have no gaps, so the highest is the number.
async fn events(connection: &mut PgConnection) -> sqlx::Result<Values> {
    // One look into an index for each shard; MAX over the whole table would read it.
    let total: f64 = sqlx::query_scalar(
        "SELECT coalesce(sum((SELECT max(position) FROM events WHERE shard = s::smallint)), 0)::float8
         FROM generate_series(0, 7) AS s",
    )
    .fetch_one(connection)
    .await?;
    Ok(vec![(SeriesKey::new("pg_events_total", []), total)])
}

/// Events that each projection of this database has taken in.
async fn checkpoints(connection: &mut PgConnection) -> sqlx::Result<Values> {
    let rows: Vec<(String, f64)> = sqlx::query_as(
        "SELECT projection, sum(position)::float8 FROM projection_checkpoints GROUP BY projection",
    )
    .fetch_all(connection)
    .await?;
    let key = |projection: &str| SeriesKey::new("pg_projected_total", [("projection", projection)]);
    Ok(rows.into_iter().map(|(projection, total)| (key(&projection), total)).collect())
}

/// Size and rows of each partition, by Postgres's own statistics.
async fn partitions(connection: &mut PgConnection) -> sqlx::Result<Values> {
    let rows: Vec<(String, String, f64, f64)> = sqlx::query_as(
        "SELECT parent.relname::text, s.relname::text, pg_total_relation_size(s.relid)::float8, s.n_live_tup::float8
         FROM pg_inherits i
         JOIN pg_class parent ON parent.oid = i.inhparent
         JOIN pg_stat_user_tables s ON s.relid = i.inhrelid",
    )
    .fetch_all(connection)
    .await?;
    let values = rows.iter().flat_map(|(table, partition, bytes, rows)| {
        let key =
            |name| SeriesKey::new(name, [("table", table.as_str()), ("partition", partition)]);
        [(key("pg_partition_bytes"), *bytes), (key("pg_partition_rows"), *rows)]
    });
    Ok(values.collect())
}
