//! Holds every table of each replica against the primary's.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::{Instant, sleep};

use super::deadline::Deadline;
use super::error::AuditError;
use super::law::{Finding, judged};
use super::server::connect;
use crate::archive::AuditCheck;
use crate::postgres::database;
use crate::scenario::PostgresEndpoint;

const POLL_EVERY: Duration = Duration::from_millis(100);
/// Comparisons before a difference is believed: the backend is idle, not dead, and may write between two queries.
const ATTEMPTS: u32 = 3;

/// Tables of a database, the roots of partition trees and those without partitions, with what a row's hash is: of the types' own
/// functions, or of its text where a type has none.
const TABLES: &str = "
    SELECT c.oid::regclass::text,
           CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid = 'json'::regtype)
                THEN 'hashtextextended(t::text, 0)' ELSE 'hash_record_extended(t.*, 0)' END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY 1";

/// A table's rows, and the sum of their hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    rows: i64,
    hash: String,
}

/// One check for each replica.
pub(super) async fn compare(
    primary: &PostgresEndpoint,
    replicas: &[PostgresEndpoint],
    wait: Duration,
    deadline: Deadline,
) -> Vec<AuditCheck> {
    let mut checks = Vec::new();
    for replica in replicas {
        let found = compare_one(primary, replica, wait, deadline).await;
        checks.push(judged(&format!("{} holds what the primary holds", replica.name), found));
    }
    checks
}

async fn compare_one(
    primary: &PostgresEndpoint,
    replica: &PostgresEndpoint,
    wait: Duration,
    deadline: Deadline,
) -> Result<Finding, AuditError> {
    let (mut count, mut named) = (0, Vec::new());
    for database in database::ALL {
        let mut source = deadline.limit(connect(primary, database)).await?;
        let mut copy = deadline.limit(connect(replica, database)).await?;
        for (table, hash) in deadline.limit(tables(&mut source)).await? {
            let query = contents_query(&table, &hash);
            let compared = compare_table(&mut source, &mut copy, &query, wait, deadline).await?;
            count += compared.0.rows.unsigned_abs();
            if compared.0 != compared.1 {
                named.push(format!(
                    "{table} of {database} has {} rows, the primary {}{}",
                    compared.1.rows,
                    compared.0.rows,
                    if compared.0.rows == compared.1.rows { ", and other contents" } else { "" },
                ));
            }
        }
    }
    Ok(Finding { count, offenders: named.len() as u64, named })
}

/// The table's contents on the primary and on the replica.
async fn compare_table(
    source: &mut PgConnection,
    copy: &mut PgConnection,
    query: &str,
    wait: Duration,
    deadline: Deadline,
) -> Result<(Contents, Contents), AuditError> {
    let mut attempt = 1;
    loop {
        let (original, copied) = {
            let original = deadline.limit(contents(source, query)).await?;
            deadline.limit(replayed(source, copy, wait)).await?;
            (original, deadline.limit(contents(copy, query)).await?)
        };
        if original == copied || attempt == ATTEMPTS {
            return Ok((original, copied));
        }
        attempt += 1;
    }
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<(String, String)>, AuditError> {
    sqlx::query_as(TABLES)
        .fetch_all(connection)
        .await
        .map_err(AuditError::during("list the tables"))
}

fn contents_query(table: &str, hash: &str) -> String {
    format!("SELECT count(*), coalesce(sum({hash}), 0)::text FROM {table} t")
}

async fn contents(connection: &mut PgConnection, query: &str) -> Result<Contents, AuditError> {
    let row = sqlx::query(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .map_err(AuditError::during("sum up a table"))?;
    Ok(Contents { rows: row.get(0), hash: row.get(1) })
}

/// Waits until the replica has replayed all that the primary has written by now.
async fn replayed(
    source: &mut PgConnection,
    copy: &mut PgConnection,
    wait: Duration,
) -> Result<(), AuditError> {
    let written: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text")
        .fetch_one(source)
        .await
        .map_err(AuditError::during("read the primary's position"))?;
    let end = Instant::now() + wait;
    loop {
        let reached: Option<bool> =
            sqlx::query_scalar("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn")
                .bind(&written)
                .fetch_one(&mut *copy)
                .await
                .map_err(AuditError::during("read the replica's position"))?;
        match reached {
            Some(true) => return Ok(()),
            Some(false) if Instant::now() < end => sleep(POLL_EVERY).await,
            Some(false) => {
                return Err(AuditError::NotReplayed { written, seconds: wait.as_secs() });
            }
            None => return Err(AuditError::NoReplica),
        }
    }
}
