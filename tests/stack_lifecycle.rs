//! The stack's lifecycle on a real PostgreSQL: whatever way a stack ends, nothing of it survives.
//!
//! Survivors are looked for in the process table, by the stack's directory in a command line or the stand-in's mark
//! in an environment, not asked of the code under test. The backend is a shell script that obeys the contract of
//! the command line; the tests answer its health route themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;

use plimsoll::stack::{
    BackendProgram, Limits, PostgresBinaries, Seeding, Stack, StackError, StackSpec,
};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Serves as the contract says; on SIGTERM it drains and ends.
const OBEDIENT: &str = r#"
case "$*" in
*migrate*) exit 0 ;;
esac
trap 'echo drained >&2; exit 0' TERM
echo '{"event":"listening","url":"http://HEALTH","schema":1,"version":"9.9.9"}'
while :; do sleep 0.05; done
"#;

/// A place for one test's stacks, a backend to run in them, and its health route.
struct Bench {
    home: TempDir,
    health: String,
}

impl Bench {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health = listener.local_addr().unwrap().to_string();
        let routes = Router::new().route("/health/ready", get(async || "ready"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { home: home(), health }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn spec(&self, script: &str) -> StackSpec {
        spec(self.path(), &script.replace("HEALTH", &self.health))
    }

    /// Waits until nothing of this test's stacks runs, or says what does.
    fn assert_nothing_survives(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let alive = survivors(self.path());
            if alive.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "still running: {alive:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stack_directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("state")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

/// A directory that the servers' user may enter. Short, for the sockets' sake.
fn home() -> TempDir {
    let home = tempfile::Builder::new().prefix("plimsoll-test-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn spec(home: &Path, script: &str) -> StackSpec {
    let program = home.join("backend.sh");
    fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    StackSpec {
        run: "test-run".parse().unwrap(),
        binaries: PostgresBinaries::find().unwrap(),
        replicas: 2,
        backend: BackendProgram {
            program: "/bin/sh".into(),
            args: vec![program.display().to_string()],
        },
        backend_port: None,
        history_months: 12,
        directory: home.join("state"),
        log_dir: home.join("logs"),
        keep: false,
        limits: Limits { backend_start: Duration::from_secs(5), ..Limits::default() },
    }
}

/// Processes, zombies apart, that have `home` in their command line. Ours does not.
fn survivors(home: &Path) -> Vec<String> {
    let home = home.display().to_string();
    let processes = procfs::process::all_processes().unwrap().flatten();
    processes
        .filter(|process| process.stat().is_ok_and(|stat| stat.state != 'Z'))
        .filter_map(|process| {
            let line = process.cmdline().ok()?.join(" ");
            // A server's children have titles of their own, but stay in its data directory.
            let place = process.cwd().ok()?.display().to_string();
            (line.contains(&home) || place.starts_with(&home))
                .then(|| format!("{}: {line} (in {place})", process.pid))
        })
        .collect()
}

async fn provision(spec: StackSpec) -> Result<Stack<Seeding>, StackError> {
    Stack::provision(spec, CancellationToken::new()).await
}

async fn connect(endpoint: &plimsoll::scenario::PostgresEndpoint, role: &str) -> PgConnection {
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&endpoint.socket_dir)
        .port(endpoint.port)
        .username(role)
        .database("postgres");
    options.connect().await.unwrap()
}

#[tokio::test]
async fn a_stack_is_seeded_fast_runs_durably_and_stops_without_a_trace() {
    let bench = Bench::new().await;
    let started = Instant::now();
    let seeding = provision(bench.spec(OBEDIENT)).await.unwrap();
    eprintln!("provision: {:?}", started.elapsed());
    let mut primary = connect(seeding.primary(), "postgres").await;
    sqlx::raw_sql("CREATE TABLE seeded AS SELECT generate_series(1, 1000) AS n")
        .execute(&mut primary)
        .await
        .unwrap();
    primary.close().await.unwrap();

    let started = Instant::now();
    let ready = seeding.open().await.unwrap();
    eprintln!("open: {:?}", started.elapsed());
    let live = ready.live();
    assert_eq!(live.base_url, format!("http://{}", bench.health));
    let names: Vec<_> = live.postgres.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["primary", "replica-1", "replica-2"]);
    for server in &live.postgres {
        let mut connection = connect(server, &server.monitor_role).await;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM seeded")
            .fetch_one(&mut connect(server, "postgres").await)
            .await
            .unwrap();
        assert_eq!(count, 1000, "on {}", server.name);
        let recovering: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(recovering, server.name != "primary");
        sqlx::raw_sql("SELECT * FROM pg_stat_statements").execute(&mut connection).await.unwrap();
    }
    let settings = ready.settings().await.unwrap();
    for server in names {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            let found = settings.iter().find(|s| s.server == server && s.name == name).unwrap();
            assert_eq!(found.value, "on", "{name} of {server}");
        }
    }
    assert_eq!(live.processes.len(), 4);
    assert_eq!(ready.backend_version(), "9.9.9");

    let started = Instant::now();
    let stopped = ready.stop().await;
    eprintln!("stop: {:?}", started.elapsed());
    assert_eq!(stopped.incidents, []);
    assert_eq!(stopped.directory, None);
    bench.assert_nothing_survives(Duration::ZERO);
    assert_eq!(bench.stack_directories(), Vec::<PathBuf>::new());
    assert!(!bench.path().join("logs").exists(), "a clean stop leaves no logs");
}
