//! A temporary Postgres with the reference backend's schema.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use plimsoll::scenario::PostgresEndpoint;
use reference_backend::config::Config;
use reference_backend::db::migrate;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tempfile::TempDir;

/// First day of the month in which every test runs.
pub(crate) fn anchor() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1).unwrap()
}

/// A primary, and perhaps replicas of it, that stop and whose files go when this is dropped.
pub(crate) struct Cluster {
    // Before the directory, so that the servers end before their files go.
    servers: Vec<Server>,
    dir: TempDir,
}

/// A server process.
struct Server(Child);

impl Cluster {
    /// A migrated, empty cluster with partitions from `history_months` before [`anchor`] to three months after it,
    /// set up for seeding.
    pub(crate) async fn start(history_months: u32) -> Self {
        Self::start_with(history_months, &["wal_level=minimal", "max_wal_senders=0"]).await
    }

    /// The same, set up for replicas.
    pub(crate) async fn start_replicated(history_months: u32) -> Self {
        Self::start_with(history_months, &["wal_level=replica", "max_wal_senders=4"]).await
    }

    async fn start_with(history_months: u32, settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        give_away(dir.path());
        let data = dir.path().join("data");
        let mut initdb = as_postgres("initdb", dir.path());
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]);
        finish(initdb.arg("--locale=C").arg("--pgdata").arg(&data));
        let cluster =
            Self { servers: vec![Server::start(dir.path(), "data", 5432, settings)], dir };
        cluster.migrate(history_months).await;
        cluster
    }

    /// Starts a streaming replica and returns its endpoint.
    pub(crate) async fn add_replica(&mut self) -> PostgresEndpoint {
        let (number, dir) = (self.servers.len(), self.dir.path());
        let data = format!("data-{number}");
        let mut backup = as_postgres("pg_basebackup", dir);
        backup.args([
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "-D",
            &data,
        ]);
        finish(backup.arg("-h").arg(dir));
        let port = 5432 + u16::try_from(number).unwrap();
        self.servers.push(Server::start(self.dir.path(), &data, port, &["hot_standby=on"]));
        let endpoint =
            PostgresEndpoint { name: format!("replica-{number}"), port, ..self.endpoint() };
        wait_for(&endpoint).await;
        endpoint
    }

    /// Ends the primary at once.
    pub(crate) fn kill_primary(&mut self) {
        self.servers.remove(0);
    }

    pub(crate) fn endpoint(&self) -> PostgresEndpoint {
        PostgresEndpoint {
            name: "primary".to_owned(),
            socket_dir: self.dir.path().to_owned(),
            port: 5432,
            superuser: "postgres".to_owned(),
            monitor_role: "postgres".to_owned(),
        }
    }

    /// Runs statements in a database of the primary.
    pub(crate) async fn execute(&self, database: &str, sql: &str) -> u64 {
        execute(&self.endpoint(), database, sql).await
    }

    /// Asks the primary for one number.
    pub(crate) async fn number(&self, database: &str, sql: &str) -> i64 {
        let mut connection = connect(&self.endpoint(), database).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
    }

    /// Settings of the reference backend on this cluster.
    pub(crate) fn config(&self) -> Config {
        let host = self.dir.path().display();
        Config::from_toml(&format!("[database.primary]\nhost = \"{host}\"\nport = 5432\n")).unwrap()
    }

    async fn migrate(&self, history_months: u32) {
        wait_for(&self.endpoint()).await;
        migrate(&self.config(), history_months, anchor()).await.unwrap();
    }
}

impl Server {
    fn start(dir: &Path, data: &str, port: u16, settings: &[&str]) -> Self {
        let mut server = as_postgres("postgres", dir);
        server.arg("-D").arg(dir.join(data)).arg("-k").arg(dir).arg("-p").arg(port.to_string());
        let common = ["listen_addresses=", "max_wal_size=8GB", "shared_buffers=512MB", "fsync=off"];
        for setting in common.iter().chain(settings) {
            server.arg("-c").arg(setting);
        }
        Self(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: nobody will read these files again.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGQUIT);
        let _ = self.0.wait();
    }
}

/// Runs statements in a database of a server.
pub(crate) async fn execute(endpoint: &PostgresEndpoint, database: &str, sql: &str) -> u64 {
    let mut connection = connect(endpoint, database).await.unwrap();
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
}

pub(crate) async fn connect(
    endpoint: &PostgresEndpoint,
    database: &str,
) -> sqlx::Result<PgConnection> {
    PgConnectOptions::new_without_pgpass()
        .socket(&endpoint.socket_dir)
        .port(endpoint.port)
        .username(&endpoint.superuser)
        .database(database)
        .connect()
        .await
}

async fn wait_for(endpoint: &PostgresEndpoint) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = connect(endpoint, "postgres").await {
        assert!(Instant::now() < deadline, "the server does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The newest installed Postgres.
fn binary(name: &str) -> PathBuf {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("install PostgreSQL 15 or newer")
        .map(|entry| entry.unwrap().path())
        .collect();
    versions.sort_by_key(|path| path.file_name().and_then(|v| v.to_str()?.parse::<u32>().ok()));
    versions.pop().expect("install PostgreSQL 15 or newer").join("bin").join(name)
}

/// Postgres refuses to run as root.
fn postgres_user() -> Option<User> {
    Uid::effective().is_root().then(|| User::from_name("postgres").unwrap().unwrap())
}

fn as_postgres(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(binary(program));
    command.current_dir(dir);
    if let Some(user) = postgres_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn give_away(path: &Path) {
    if let Some(user) = postgres_user() {
        chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}
