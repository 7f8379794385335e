//! A temporary Postgres with the reference backend's schema.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{Months, NaiveDate};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use plimsoll::scenario::PostgresEndpoint;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tempfile::TempDir;

/// Databases and the folders of their migrations.
const DATABASES: [(&str, &str); 5] = [
    ("plimsoll_shared", "shared"),
    ("plimsoll_hospitality", "hospitality"),
    ("plimsoll_finance", "finance"),
    ("plimsoll_event_store", "event_store"),
    ("plimsoll_read_models", "read_models"),
];

/// First day of the month in which every test runs.
pub(crate) fn anchor() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1).unwrap()
}

/// A server that stops, and whose files go, when this is dropped.
pub(crate) struct Cluster {
    dir: TempDir,
    server: Child,
}

impl Cluster {
    /// A migrated, empty cluster with partitions from `history_months` before [`anchor`] to three months after it.
    pub(crate) async fn start(history_months: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        give_away(dir.path());
        let data = dir.path().join("data");
        let initdb = as_postgres(&binary("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg("--pgdata")
            .arg(&data)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let mut server = as_postgres(&binary("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(dir.path()).current_dir(dir.path());
        for setting in [
            "listen_addresses=",
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_wal_size=8GB",
            "shared_buffers=512MB",
            "fsync=off",
        ] {
            server.arg("-c").arg(setting);
        }
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let cluster = Self { dir, server };
        cluster.migrate(history_months).await;
        cluster
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

    /// Runs statements in a database.
    pub(crate) async fn execute(&self, database: &str, sql: &str) -> u64 {
        let mut connection = self.connect(database).await.unwrap();
        let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    /// Asks for one number.
    pub(crate) async fn number(&self, database: &str, sql: &str) -> i64 {
        let mut connection = self.connect(database).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
    }

    async fn connect(&self, database: &str) -> sqlx::Result<PgConnection> {
        PgConnectOptions::new_without_pgpass()
            .socket(self.dir.path())
            .username("postgres")
            .database(database)
            .connect()
            .await
    }

    async fn migrate(&self, history_months: u32) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.connect("postgres").await {
            assert!(Instant::now() < deadline, "the server does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.execute("postgres", "CREATE ROLE app_rw; CREATE ROLE app_ro").await;
        for (database, folder) in DATABASES {
            self.execute("postgres", &format!("CREATE DATABASE {database}")).await;
            for file in migrations(folder) {
                self.execute(database, &std::fs::read_to_string(file).unwrap()).await;
            }
        }
        for table in ["revenues", "expenses"] {
            let first = anchor() - Months::new(history_months);
            for month in (0..history_months + 4).map(|n| first + Months::new(n)) {
                let sql = format!(
                    "CREATE TABLE {table}_partitioned_{} PARTITION OF {table}_partitioned \
                     FOR VALUES FROM ('{month}') TO ('{}')",
                    month.format("%Y_%m"),
                    month + Months::new(1),
                );
                self.execute("plimsoll_finance", &sql).await;
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.server.id().cast_signed());
        // Immediate shutdown: nobody will read these files again.
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}

fn migrations(folder: &str) -> Vec<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("reference-backend/migrations").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
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

fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(program);
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
