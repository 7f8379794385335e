//! Connections of the audit, and rows from one database to another.

use futures::StreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::deadline::STATEMENT_MAX;
use super::error::AuditError;
use crate::postgres::connect_options;
use crate::scenario::PostgresEndpoint;

/// Connects as the superuser: the audit must see everything.
pub(super) async fn connect(
    endpoint: &PostgresEndpoint,
    database: &'static str,
) -> Result<PgConnection, AuditError> {
    let statement_timeout = STATEMENT_MAX.as_millis().to_string();
    connect_options(endpoint, &endpoint.superuser, "audit")
        .database(database)
        .options([
            ("statement_timeout", statement_timeout.as_str()),
            ("timezone", "UTC"),
            ("work_mem", "128MB"),
            ("jit", "off"),
        ])
        .connect()
        .await
        .map_err(|source| AuditError::Connect { server: endpoint.name.clone(), database, source })
}

/// Runs statements of our own constants.
pub(super) async fn execute(
    connection: &mut PgConnection,
    act: &'static str,
    sql: &'static str,
) -> Result<(), AuditError> {
    connection.execute(sqlx::raw_sql(sql)).await.map(drop).map_err(AuditError::during(act))
}

/// Brings the rows of a query into a table of another database, as they are: neither side parses them.
pub(super) async fn bring(
    act: &'static str,
    query: &'static str,
    from: &mut PgConnection,
    table: &'static str,
    into: &mut PgConnection,
) -> Result<(), AuditError> {
    let during = || AuditError::during(act);
    let read = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    let mut rows = from.copy_out_raw(&read).await.map_err(during())?;
    let write = format!("COPY {table} FROM STDIN (FORMAT binary)");
    let mut sink = into.copy_in_raw(&write).await.map_err(during())?;
    while let Some(chunk) = rows.next().await {
        sink.send(chunk.map_err(during())?).await.map_err(during())?;
    }
    sink.finish().await.map_err(during())?;
    drop(rows);
    let analyse = AssertSqlSafe(format!("ANALYZE {table}"));
    into.execute(sqlx::raw_sql(analyse)).await.map(drop).map_err(during())
}
