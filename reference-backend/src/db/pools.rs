//! The pools, and who gets a connection from which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::choice::Limits;
use super::lanes::{Lanes, Planning};
use super::replicas::{self, Replica};
use super::{Database, Freshness, Lsn, Reader};
use crate::config;

/// Why a database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The primary does not answer.
    #[error(
        "connect to primary at {host}:{port}, database {database}: {source}\n\
         help: is the server up and has `reference-backend migrate` been run?"
    )]
    Primary {
        /// Directory or host of the primary.
        host: String,
        /// Its port.
        port: u16,
        /// The database asked for.
        database: &'static str,
        /// What PostgreSQL or the system said.
        #[source]
        source: sqlx::Error,
    },
}

/// All pools of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Databases(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: config::Database,
    pub(super) limits: ArcSwap<Limits>,
    /// By [`Database::index`].
    write: Vec<PgPool>,
    pub(super) primary: Lanes,
    /// One connection to the primary for probes alone: they must be answered when requests have taken all others.
    probe: PgPool,
    pub(super) replicas: Vec<Replica>,
    pub(super) turn: AtomicUsize,
    /// Room on the primary for reads that replicas should have answered.
    pub(super) fallback: Semaphore,
    /// How far the primary is known to have written. Only grows.
    pub(super) written: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Over TCP, the server learns within half a minute that a writer's machine is gone, and with it its leases.
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "4"),
];

/// A transaction of a pooled session in which nothing happens for so long is ended by the server: its client is gone, or will
/// not come back to it, and what it has locked is needed by others. Far above the longest statement in between.
const IDLE_IN_TRANSACTION: &str = "30s";

/// Who a connection is for; decides the role and the session's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Write,
    Read,
    Monitor,
    /// Owns the tables partitioned by month.
    Maintenance,
}

impl Databases {
    /// Opens the pools and starts to watch the replicas. A missing replica is no error; a missing primary is.
    pub async fn connect(config: &config::Database) -> Result<Self, DbError> {
        let (choice, primary) = (&config.replica_choice, &config.primary);
        let write_pool = |database: Database, size: fn(&config::Pools) -> u32| {
            let own = config.pools.of(database.label());
            write_pool(&own, primary, database, size(&own))
        };
        let write = Database::ALL.map(|database| write_pool(database, |p| p.write_connections));
        let lanes = |host: &str, port, size: fn(&config::Pools) -> u32| {
            Lanes::new(|database, planning| {
                let own = config.pools.of(database.label());
                let options = session_options(&own, host, port, database, Role::Read);
                let options = match planning {
                    Planning::AsFit => options,
                    Planning::Once => options.options([("plan_cache_mode", "force_generic_plan")]),
                };
                (options, size(&own), own.acquire_timeout_ms.duration())
            })
        };
        for (database, pool) in Database::ALL.into_iter().zip(&write) {
            pool.acquire().await.map_err(|source| DbError::Primary {
                host: primary.host.clone(),
                port: primary.port,
                database: database.name(),
                source,
            })?;
        }
        let replicas = config.replicas.iter().map(|replica| {
            let lanes = lanes(&replica.host, replica.port, |pools| pools.replica_read_connections);
            Replica::new(replica, lanes, choice)
        });
        let databases = Self(Arc::new(Inner {
            limits: ArcSwap::from_pointee(Limits::of(&config.replica_choice, true)),
            write: write.to_vec(),
            primary: lanes(&primary.host, primary.port, |pools| pools.primary_read_connections),
            probe: write_pool(Database::EventStore, |_| 1),
            replicas: replicas.collect(),
            turn: AtomicUsize::new(0),
            fallback: Semaphore::new(choice.primary_fallback_max as usize),
            written: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config: config.clone(),
        }));
        databases.watch();
        Ok(databases)
    }

    /// From now on other limits for replicas, or none of them at all.
    pub fn retune(&self, choice: &config::Replicas, use_replicas: bool) {
        self.0.limits.store(Arc::new(Limits::of(choice, use_replicas)));
    }

    /// A reader of one database on the server that `freshness` allows.
    pub fn read(&self, database: Database, freshness: Freshness) -> Reader {
        Reader::new(Arc::clone(&self.0), database, freshness)
    }

    /// The pool for writes, on the primary.
    pub fn write(&self, database: Database) -> &PgPool {
        &self.0.write[database.index()]
    }

    /// Whether the primary answers within the time-out of a health check. Not counted as a read.
    pub async fn primary_answers(&self) -> bool {
        let timeout = self.0.config.replica_choice.poll_timeout_ms.duration();
        let ping = async {
            let mut connection = self.0.probe.acquire().await?;
            connection.ping().await
        };
        matches!(tokio::time::timeout(timeout, ping).await, Ok(Ok(())))
    }

    /// Names of the replicas that are healthy now.
    pub fn healthy_replicas(&self) -> Vec<&'static str> {
        let healthy = self.0.replicas.iter().filter(|replica| replica.observed().healthy);
        healthy.map(|replica| replica.name).collect()
    }

    /// Ends the watch and closes all pools, waiting for connections in use.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let pools = self.0.write.iter().chain([&self.0.probe]);
        futures::future::join_all(pools.map(PgPool::close)).await;
        let replicas = self.0.replicas.iter().map(|replica| &replica.lanes);
        let lanes = std::iter::once(&self.0.primary).chain(replicas);
        futures::future::join_all(lanes.map(Lanes::close)).await;
    }

    /// A connection of its own to the primary, for the one writer of something: an appender or a projection. `limit` is how
    /// long its client waits for an answer.
    pub(crate) async fn writer(
        &self,
        database: Database,
        name: &str,
        limit: Duration,
    ) -> Result<PgConnection, sqlx::Error> {
        let (config, primary) = (&self.0.config, &self.0.config.primary);
        // The server gives up first: else the locks of a session that its client has left would stand in the next one's way.
        let patience = (limit.as_millis() * 9 / 10).max(1).to_string();
        let options = connect_options(&primary.host, primary.port, Role::Write, database.name())
            .application_name(name)
            // Its statements take arrays and do not profit from a plan per execution.
            .options([("plan_cache_mode", "force_generic_plan")])
            .options([("statement_timeout", &patience)])
            .options([("idle_in_transaction_session_timeout", &patience)])
            .options(KEEPALIVES);
        let timeout = config.pools.of(database.label()).acquire_timeout_ms.duration();
        match tokio::time::timeout(timeout, options.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// See [`maintenance`].
    pub(crate) async fn maintenance(&self) -> Result<PgConnection, sqlx::Error> {
        maintenance(&self.0.config).await
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    fn watch(&self) {
        let inner = &self.0;
        inner.tasks.spawn(replicas::watch(Arc::clone(inner), inner.stop.clone()));
        let (pools, stop) = (Arc::clone(inner), inner.stop.clone());
        inner.tasks.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                pools.publish_in_use();
            }
        });
    }
}

/// A connection to the primary's finance database as the owner of the tables partitioned by month.
pub async fn maintenance(config: &config::Database) -> Result<PgConnection, sqlx::Error> {
    let (primary, database) = (&config.primary, Database::Finance.name());
    let options = connect_options(&primary.host, primary.port, Role::Maintenance, database)
        .application_name("reference-backend maintenance");
    let timeout = config.pools.acquire_timeout_ms.duration();
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

impl Inner {
    pub(super) fn saw_written(&self, lsn: Lsn) {
        self.written.fetch_max(lsn.bytes(), Ordering::Relaxed);
    }

    fn publish_in_use(&self) {
        let in_use = |pool: &PgPool| f64::from(pool.size()) - pool.num_idle() as f64;
        for database in Database::ALL {
            let reads = |lanes: &Lanes| f64::from(lanes.in_use(database));
            let primary = in_use(&self.write[database.index()]) + reads(&self.primary);
            let replicas = self.replicas.iter().map(|r| (r.name, reads(&r.lanes)));
            for (server, value) in std::iter::once(("primary", primary)).chain(replicas) {
                metrics::gauge!("backend_db_pool_in_use", "database" => database.label(), "server" => server)
                    .set(value.max(0.0));
            }
        }
    }
}

fn write_pool(
    settings: &config::Pools,
    primary: &config::Endpoint,
    database: Database,
    size: u32,
) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(settings.acquire_timeout_ms.duration())
        // A ping before each statement, on top of the one that sqlx sends when a connection is given back, would be one more
        // round trip; a dead connection shows at its first use.
        .test_before_acquire(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(session_options(
            settings,
            &primary.host,
            primary.port,
            database,
            Role::Write,
        ))
}

/// For the statements of requests.
fn session_options(
    settings: &config::Pools,
    host: &str,
    port: u16,
    database: Database,
    role: Role,
) -> PgConnectOptions {
    let statement_timeout = settings.statement_timeout_ms.0.to_string();
    let options = connect_options(host, port, role, database.name())
        .options([("statement_timeout", statement_timeout.as_str())]);
    if role == Role::Write {
        let patience = [("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)];
        return options.options(patience).options(KEEPALIVES);
    }
    options
}

pub(super) fn connect_options(
    host: &str,
    port: u16,
    role: Role,
    database: &str,
) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .port(port)
        .username(match role {
            Role::Write => "app_rw",
            Role::Read => "app_ro",
            Role::Monitor => "app_monitor",
            Role::Maintenance => "app_maintenance",
        })
        .database(database)
        .application_name("reference-backend")
        .disable_statement_logging();
    at(options, host)
}

/// A directory means its Unix socket.
pub(super) fn at(options: PgConnectOptions, host: &str) -> PgConnectOptions {
    if host.starts_with('/') { options.socket(host) } else { options.host(host) }
}
