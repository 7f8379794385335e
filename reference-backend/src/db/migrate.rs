//! Makes roles, databases, tables and partitions. Safe to run again at any time.

use chrono::NaiveDate;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tracing::info;

use super::Database;
use super::pools::at;
use crate::config::Config;
use crate::partitioning::{self, Month, PartitionError};

/// Why the cluster could not be brought to this release's schema.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection as the superuser.
    #[error(
        "connect to {database} at {host} as {user}: {source}\n\
         help: set database.admin_user and database.primary to a running cluster's superuser and socket"
    )]
    Connect {
        /// The database.
        database: String,
        /// Directory or host of the primary.
        host: String,
        /// `database.admin_user`.
        user: String,
        /// What PostgreSQL or the system said.
        #[source]
        source: sqlx::Error,
    },
    /// A statement failed.
    #[error("{act}: {source}")]
    Statement {
        /// What was tried.
        act: String,
        /// What PostgreSQL said.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed, or the database has one that this release does not know.
    #[error("migrate {database}: {source}")]
    Migration {
        /// The database.
        database: &'static str,
        /// Which migration, and why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Partitions could not be made.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// Roles log in without a password: the directory of the socket is closed to others.
const ROLES: &str = "
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['app_rw', 'app_ro', 'app_monitor', 'app_maintenance'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', wanted);
        END IF;
    END LOOP;
END $$;
GRANT pg_monitor TO app_monitor;";

/// Brings the cluster to this release's schema, with partitions from `history_months` before `today`'s month to the
/// configured months ahead.
pub async fn migrate(
    config: &Config,
    history_months: u32,
    today: NaiveDate,
) -> Result<(), MigrateError> {
    let mut admin = connect(config, "postgres").await?;
    admin.execute(sqlx::raw_sql(ROLES)).await.map_err(failed("make roles"))?;
    for database in Database::ALL {
        create_database(&mut admin, database.name()).await?;
    }
    let _ = admin.close().await;
    for database in Database::ALL {
        let mut connection = connect(config, database.name()).await?;
        migrator(database)
            .run(&mut connection)
            .await
            .map_err(|source| MigrateError::Migration { database: database.name(), source })?;
        info!("{} is at this release's schema", database.name());
        if database == Database::Finance {
            let month = Month::of(today);
            let (from, to) =
                (month.minus(history_months), month.plus(config.partitions.months_ahead));
            partitioning::create(&mut connection, from, to, &config.partitions).await?;
        }
        let _ = connection.close().await;
    }
    Ok(())
}

fn migrator(database: Database) -> sqlx::migrate::Migrator {
    match database {
        Database::Shared => sqlx::migrate!("migrations/shared"),
        Database::Hospitality => sqlx::migrate!("migrations/hospitality"),
        Database::Finance => sqlx::migrate!("migrations/finance"),
        Database::EventStore => sqlx::migrate!("migrations/event_store"),
        Database::ReadModels => sqlx::migrate!("migrations/read_models"),
        Database::GuestCheckin => sqlx::migrate!("migrations/guest_checkin"),
        Database::HealthCheck => sqlx::migrate!("migrations/health_check"),
    }
}

/// Every migration of this release, a line each: whoever keeps databases for later can tell whether they are of this shape.
pub fn migrations() -> Vec<String> {
    let of = |database: Database| {
        let migrator = migrator(database);
        let lines = migrator.iter().map(|migration| {
            let checksum: String =
                migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} {} {checksum}", database.name(), migration.version)
        });
        lines.collect::<Vec<_>>()
    };
    Database::ALL.into_iter().flat_map(of).collect()
}

async fn create_database(admin: &mut PgConnection, name: &str) -> Result<(), MigrateError> {
    let act = format!("make database {name}");
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut *admin)
            .await
            .map_err(failed(&act))?;
    if !exists {
        // CREATE DATABASE takes no parameters; the name is one of seven constants.
        let statement = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        admin.execute(sqlx::raw_sql(statement)).await.map_err(failed(&act))?;
    }
    Ok(())
}

/// A connection as superuser, for what changes tables.
pub(crate) async fn admin(
    config: &Config,
    database: Database,
) -> Result<PgConnection, MigrateError> {
    connect(config, database.name()).await
}

async fn connect(config: &Config, database: &str) -> Result<PgConnection, MigrateError> {
    let (host, user) = (&config.database.primary.host, &config.database.admin_user);
    let options = PgConnectOptions::new_without_pgpass()
        .port(config.database.primary.port)
        .username(user)
        .database(database)
        .application_name("reference-backend maintenance")
        .disable_statement_logging();
    at(options, host).connect().await.map_err(|source| MigrateError::Connect {
        database: database.to_owned(),
        host: host.clone(),
        user: user.clone(),
        source,
    })
}

fn failed(act: &str) -> impl FnOnce(sqlx::Error) -> MigrateError {
    let act = act.to_owned();
    move |source| MigrateError::Statement { act, source }
}
