//! Changes of a busy table: one manager at a time, each statement with a short wait for its locks, tried again.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tracing::debug;

use super::PartitionError;
use crate::config;

/// Owns the partitioned tables; see migrations/finance/0020.
pub(super) const OWNER: &str = "app_maintenance";

/// Held while partitions are made or dropped. Any number no one else uses.
const LOCK_KEY: i64 = 0x706C_696D_7061_7274;

/// Runs `work` while no other process makes or drops partitions.
pub(super) async fn alone<T>(
    connection: &mut PgConnection,
    config: &config::Partitions,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, PartitionError>,
) -> Result<T, PartitionError> {
    let deadline = Instant::now() + config.busy_wait_ms.duration();
    // Asked again and again instead of waited for: a statement that waits holds a snapshot.
    while !flag(connection, "SELECT pg_try_advisory_lock($1)").await? {
        if Instant::now() >= deadline {
            return Err(PartitionError::Busy { waited_ms: config.busy_wait_ms.0 });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done = work(connection).await;
    flag(connection, "SELECT pg_advisory_unlock($1)").await?;
    done
}

async fn flag(connection: &mut PgConnection, query: &'static str) -> Result<bool, PartitionError> {
    let asked = sqlx::query_scalar(query).bind(LOCK_KEY).fetch_one(connection).await;
    asked.map_err(PartitionError::sql("finance"))
}

/// How a change is sent.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Statements that take effect together.
    Together(String),
    /// A statement that PostgreSQL refuses inside a transaction.
    Apart(String),
}

/// Makes one change to `partition`; while traffic holds the table, tries again.
pub(super) async fn change(
    connection: &mut PgConnection,
    config: &config::Partitions,
    partition: &str,
    change: &Change,
) -> Result<(), PartitionError> {
    for attempt in 1..=config.lock_tries {
        match send(connection, config, change).await {
            Ok(()) => return Ok(()),
            Err(error) if has_code(&error, "55P03") => {
                debug!(attempt, "the table is locked; trying again to change {partition}");
                tokio::time::sleep(Duration::from_millis(50 * u64::from(attempt))).await;
            }
            Err(error) if has_code(&error, "42P07") => {
                return Err(PartitionError::NameTaken { partition: partition.to_owned() });
            }
            Err(source) => return Err(PartitionError::sql(partition)(source)),
        }
    }
    Err(PartitionError::Locked { partition: partition.to_owned(), tries: config.lock_tries })
}

/// Names in the statements come from constants and numbers, or were compared with such.
async fn send(
    connection: &mut PgConnection,
    config: &config::Partitions,
    change: &Change,
) -> sqlx::Result<()> {
    let patience = config.lock_timeout_ms.0;
    match change {
        Change::Together(statements) => {
            let statements = format!(
                "SET LOCAL lock_timeout = {patience}; SET LOCAL ROLE {OWNER}; {statements}"
            );
            let mut transaction = connection.begin().await?;
            transaction.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await?;
            transaction.commit().await
        }
        Change::Apart(statement) => {
            let patience = format!("SET lock_timeout = {patience}");
            connection.execute(sqlx::raw_sql(AssertSqlSafe(patience))).await?;
            connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.clone()))).await?;
            Ok(())
        }
    }
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(code))
}
