//! Connections to the server that is being seeded.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::error::PopulationError;
use crate::postgres::connect_options;
use crate::scenario::PostgresEndpoint;

/// The server, and the role that may do everything on it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    socket_dir: String,
}

impl Server {
    pub(super) fn new(endpoint: &PostgresEndpoint) -> Self {
        let options = connect_options(endpoint, &endpoint.superuser, "population").options([
            ("timezone", "UTC"),
            ("maintenance_work_mem", "256MB"),
            ("jit", "off"),
        ]);
        Self { options, socket_dir: endpoint.socket_dir.display().to_string() }
    }

    pub(super) async fn connect(&self, database: &str) -> Result<PgConnection, PopulationError> {
        self.options.clone().database(database).connect().await.map_err(|source| {
            PopulationError::Connect {
                database: database.to_owned(),
                socket_dir: self.socket_dir.clone(),
                source,
            }
        })
    }
}

/// Runs a statement that was put together from our own constants and names that Postgres itself quoted.
pub(super) async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
}
