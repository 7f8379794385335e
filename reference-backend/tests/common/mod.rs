//! One temporary PostgreSQL per test, and shorthands to drive the backend on it.
//!
//! The server is stopped by its process id and its directory removed at the end, also when a test panics. It runs without
//! fsync, which only tests may: nothing here outlives the operating system's cache.

mod explain;
pub(crate) mod program;
mod template;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{NaiveDate, Utc};
use futures::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use reference_backend::config::Config;
use reference_backend::db::{Databases, migrate};
use reference_backend::domain::{
    Action, Amount, Category, Command, CommandId, Entry, OrgId, PropertyId, RecordedEvent, Version,
};
use reference_backend::events::{EventStore, Shard};
use reference_backend::projections::{Observer, Projection, Projections};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

/// A running PostgreSQL with the backend's databases.
pub(crate) struct Cluster {
    server: Child,
    directory: TempDir,
}

impl Cluster {
    /// Starts a migrated server.
    pub(crate) async fn start() -> Self {
        static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(Self::template).await;
        let directory = Self::directory();
        template::copy(template, &directory.path().join("data"));
        Self::serve(directory).await
    }

    /// Makes the template, unless an earlier run did.
    async fn template() -> PathBuf {
        let place = template::place();
        if !place.is_dir() {
            let mut made = Self::make().await;
            let _ = kill(Pid::from_raw(made.server.id().cast_signed()), Signal::SIGINT);
            assert!(made.server.wait().unwrap().success(), "the template did not shut down");
            template::copy(&made.directory.path().join("data"), &place);
            template::forget_others(&place);
        }
        place
    }

    /// A new cluster, migrated.
    async fn make() -> Self {
        let directory = Self::directory();
        let made = as_server_user("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .arg("--pgdata")
            .arg(directory.path().join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        let cluster = Self::serve(directory).await;
        migrate(&cluster.config(""), 2, Utc::now().date_naive()).await.unwrap();
        cluster
    }

    fn directory() -> TempDir {
        let directory = tempfile::Builder::new().prefix("rb-").tempdir_in("/tmp").unwrap();
        own(directory.path());
        directory
    }

    async fn serve(directory: TempDir) -> Self {
        let server = start_server(&directory.path().join("data"), directory.path(), 5432);
        let cluster = Self { server, directory };
        drop(ready_admin(cluster.directory.path(), 5432).await);
        cluster
    }

    /// Settings for this cluster; `more` is TOML that overrides defaults.
    pub(crate) fn config(&self, more: &str) -> Config {
        let socket = self.directory.path().display();
        let text = format!(
            "objects.directory = \"{socket}/objects\"\n\
             [database.primary]\nhost = \"{socket}\"\nport = 5432\n{more}"
        );
        Config::from_toml(&text).unwrap()
    }

    /// Where the objects of its backend are.
    pub(crate) fn objects(&self) -> PathBuf {
        self.directory.path().join("objects")
    }

    /// A connection as superuser.
    pub(crate) async fn admin(&self, database: &str) -> PgConnection {
        admin(self.directory.path(), 5432, database).await.unwrap()
    }

    /// While answers are held: waits for a session of `application` to commit and ends it before anyone is told.
    pub(crate) async fn terminate_after_commit(&self, application: &str) {
        let mut admin = self.admin("postgres").await;
        let deadline = Instant::now() + Duration::from_secs(30);
        let waiting = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE wait_event = 'SyncRep' AND application_name LIKE $1";
        loop {
            let ended: i64 =
                sqlx::query_scalar(waiting).bind(application).fetch_one(&mut admin).await.unwrap();
            if ended > 0 {
                return;
            }
            assert!(Instant::now() < deadline, "no commit of {application} ever waited");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns once a statement waits for a lock.
    pub(crate) async fn someone_waits_for_a_lock(&self) {
        let mut admin = self.admin("postgres").await;
        let deadline = Instant::now() + Duration::from_secs(30);
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut admin).await.unwrap() {
            assert!(Instant::now() < deadline, "nobody ever waited for a lock");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether commits, once made, wait for a standby that does not exist.
    pub(crate) async fn hold_answers(&self, hold: bool) {
        let mut admin = self.admin("postgres").await;
        let statement = if hold {
            "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
        } else {
            "ALTER SYSTEM RESET synchronous_standby_names"
        };
        sqlx::raw_sql(statement).execute(&mut admin).await.unwrap();
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
        while hold && !self.commits_wait().await {}
        // Who was told of it in the same round may not have read it yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Whether a commit waits for a standby by now: servers learn new settings one after another.
    async fn commits_wait(&self) -> bool {
        const PATIENCE: Duration = Duration::from_millis(500);
        let mut probe = self.admin("postgres").await;
        let commit = sqlx::query("SELECT pg_logical_emit_message(true, 'probe', '')");
        // Whose commit waits is left waiting, until answers are no longer held.
        tokio::time::timeout(PATIENCE, commit.execute(&mut probe)).await.is_err()
    }

    /// Ends server processes whose application name matches, as a failing network would; how many there were.
    pub(crate) async fn terminate(&self, application: &str) -> i64 {
        let mut admin = self.admin("postgres").await;
        sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1",
        )
        .bind(application)
        .fetch_one(&mut admin)
        .await
        .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        stop_server(&mut self.server);
    }
}

/// A server that follows a cluster's.
pub(crate) struct Replica {
    server: Child,
    directory: TempDir,
}

impl Replica {
    /// Copies the cluster and starts to follow it.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let directory = tempfile::Builder::new().prefix("rb-").tempdir_in("/tmp").unwrap();
        own(directory.path());
        let data = directory.path().join("data");
        let copied = as_server_user("pg_basebackup")
            .args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync"])
            .args(["--username=postgres", "--port=5432", "--host"])
            .arg(cluster.directory.path())
            .arg("--pgdata")
            .arg(&data)
            .status()
            .unwrap();
        assert!(copied.success(), "pg_basebackup failed");
        let server = start_server(&data, directory.path(), 5433);
        let replica = Self { server, directory };
        drop(ready_admin(replica.socket(), replica.port()).await);
        replica
    }

    pub(crate) fn socket(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn port(&self) -> u16 {
        5433
    }

    /// A connection as superuser.
    pub(crate) async fn admin(&self) -> PgConnection {
        admin(self.socket(), self.port(), "postgres").await.unwrap()
    }

    /// Ends the server at once.
    pub(crate) fn kill(&mut self) {
        stop_server(&mut self.server);
    }

    /// Stops all its processes where they are, or lets them go on: connections stay open, and nothing answers.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        let server = self.server.id().cast_signed();
        // The parent first, so that it makes no more.
        kill(Pid::from_raw(server), signal).unwrap();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            // `pid (name) state parent …`; a name may hold anything.
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            if parent == Some(server.to_string().as_str()) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// Its entry in the settings.
    pub(crate) fn entry(&self, name: &str) -> String {
        format!(
            "[[database.replicas]]\nname = \"{name}\"\nhost = \"{}\"\nport = {}\n",
            self.socket().display(),
            self.port()
        )
    }

    /// Starts it again after [`Replica::kill`].
    pub(crate) async fn start(&mut self) {
        let data = self.directory.path().join("data");
        self.server = start_server(&data, self.directory.path(), self.port());
        drop(ready_admin(self.socket(), self.port()).await);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // A frozen server would not hear that it shall stop.
        if matches!(self.server.try_wait(), Ok(None)) {
            self.freeze(false);
        }
        stop_server(&mut self.server);
    }
}

fn start_server(data: &Path, socket: &Path, port: u16) -> Child {
    as_server_user("postgres")
        .arg("-D")
        .arg(data)
        .arg("-k")
        .arg(socket)
        .arg("-p")
        .arg(port.to_string())
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=120"])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(socket.join("log")).unwrap())
        .spawn()
        .unwrap()
}

/// Immediate shutdown: nothing of it is kept.
fn stop_server(server: &mut Child) {
    // Not again after it was waited for: its number may be another process's by now.
    if matches!(server.try_wait(), Ok(None)) {
        let _ = kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGQUIT);
        let _ = server.wait();
    }
}

async fn admin(socket: &Path, port: u16, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass().socket(socket).port(port);
    options.username("postgres").database(database).disable_statement_logging().connect().await
}

async fn ready_admin(socket: &Path, port: u16) -> PgConnection {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match admin(socket, port, "postgres").await {
            Ok(connection) => return connection,
            Err(error) if Instant::now() > deadline => {
                let log = std::fs::read_to_string(socket.join("log")).unwrap_or_default();
                panic!("the server did not start: {error}\n{log}");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
        }
    }
}

/// PostgreSQL refuses to run as root; then its programs run as user `postgres`.
fn as_server_user(program: &str) -> Process {
    let mut process = Process::new(binary(program));
    process.current_dir("/");
    if let Some(user) = server_user() {
        process.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    process
}

fn own(directory: &Path) {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    if let Some(user) = server_user() {
        nix::unistd::chown(directory, Some(user.uid), Some(user.gid)).unwrap();
    }
}

fn server_user() -> Option<User> {
    let root = nix::unistd::geteuid().is_root();
    root.then(|| User::from_name("postgres").unwrap().expect("root needs a user `postgres`"))
}

/// Looks in `PLIMSOLL_PG_BIN`, then where Debian installs, then in `PATH`.
fn binary(program: &str) -> PathBuf {
    let chosen = std::env::var_os("PLIMSOLL_PG_BIN").map(PathBuf::from);
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    installed.sort();
    let candidates = chosen.into_iter().chain(installed.into_iter().rev());
    let found = candidates.map(|directory| directory.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from(program))
}

/// The backend without its HTTP side.
pub(crate) struct Backend {
    pub(crate) db: Databases,
    pub(crate) events: EventStore,
    pub(crate) projections: Projections,
    pub(crate) told: Arc<Told>,
}

/// An observer that insists on order: what it was told of each projection and shard.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<(Projection, Shard), i64>>);

impl Told {
    /// Sum of the positions up to which it was told.
    pub(crate) fn events(&self, projection: Projection) -> i64 {
        let told = self.0.lock().unwrap();
        told.iter().filter(|((of, _), _)| *of == projection).map(|(_, position)| position).sum()
    }
}

impl Observer for Told {
    fn begin(&self, projection: Projection, shard: Shard, position: i64) {
        self.0.lock().unwrap().insert((projection, shard), position);
    }

    /// It holds no rows.
    fn corrected(&self, _: Projection, _: Shard, _: i64) {}

    fn committed<'a>(
        &'a self,
        projection: Projection,
        shard: Shard,
        events: &'a [RecordedEvent],
    ) -> BoxFuture<'a, ()> {
        let mut told = self.0.lock().unwrap();
        for event in events {
            let position = told.get_mut(&(projection, shard)).unwrap();
            assert_eq!(event.position, *position + 1, "{projection:?} was told a hole or twice");
            *position = event.position;
        }
        Box::pin(std::future::ready(()))
    }
}

impl Backend {
    pub(crate) async fn start(config: &Config) -> Self {
        let db = Databases::connect(&config.database).await.unwrap();
        let events = EventStore::start(&db, &config.event_store).await.unwrap();
        let told = Arc::new(Told::default());
        let observer = Arc::clone(&told);
        let projections = Projections::start(&db, &events, config, observer).await.unwrap();
        Self { db, events, projections, told }
    }

    /// Ends as the program does at SIGTERM.
    pub(crate) async fn stop(self) {
        self.events.stop().await;
        self.projections.stop().await;
        self.db.close().await;
    }
}

pub(crate) fn org(number: i64) -> OrgId {
    OrgId::new(number).unwrap()
}

pub(crate) fn property(number: u128) -> PropertyId {
    Uuid::from_u128(number).into()
}

pub(crate) fn today() -> NaiveDate {
    Utc::now().date_naive()
}

pub(crate) fn entry(cents: i64, category: &str, date: NaiveDate) -> Entry {
    Entry {
        amount: Amount::from_cents(cents).unwrap(),
        category: Category::new(category).unwrap(),
        date,
    }
}

/// A revenue of today, under a new command id.
pub(crate) fn revenue(org_number: i64, property_number: u128, cents: i64) -> Command {
    Command {
        id: CommandId::from(Uuid::now_v7()),
        org: org(org_number),
        property: property(property_number),
        expected_version: None,
        action: Action::RecordRevenue(entry(cents, "rooms", today())),
        undated: false,
    }
}

/// The same command, to be taken only at a version.
pub(crate) fn expecting(command: Command, version: i32) -> Command {
    Command { expected_version: Some(Version::new(version)), ..command }
}
