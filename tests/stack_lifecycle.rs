//! The stack's lifecycle on a real PostgreSQL: whatever way a stack ends, nothing of it survives.
//!
//! Survivors are looked for in the process table, by the stack's directory in a command line or the stand-in's mark
//! in an environment, not asked of the code under test. The backend is a shell script that obeys the contract of
//! the command line; the tests answer its health route themselves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use plimsoll::scenario::{ChannelManager, Skew};
use plimsoll::stack::{
    BackendProgram, Limits, PostgresBinaries, Ready, Seeding, Stack, StackError, StackSpec,
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
echo '{"event":"listening","url":"http://HEALTH","schema":2,"version":"9.9.9"}'
while :; do sleep 0.05; done
"#;

/// What exists, below a test's home, once a stack has come so far.
const MILESTONES: [&str; 8] = [
    "state/test-run/s",
    "state/test-run/primary/base",
    "state/test-run/primary/postmaster.pid",
    "logs/migrate.log",
    "state/test-run/replica-1/base",
    "state/test-run/replica-2/postmaster.pid",
    "logs/channel-manager.log",
    "logs/backend.log",
];

/// A place for one test's stacks, a backend to run in them, and its health route.
struct Bench {
    home: TempDir,
    health: String,
}

impl Bench {
    async fn new() -> Self {
        Self { home: home(), health: answer_health().await }
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

    /// Removes all traces of earlier stacks, which would be taken for those of the next.
    fn forget(&self) {
        for trace in ["state", "logs"] {
            let _ = fs::remove_dir_all(self.path().join(trace));
        }
    }

    fn stack_directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("state")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

/// Answers the health route of a stand-in; gives the address.
async fn answer_health() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let routes = Router::new().route("/health/ready", get(async || "ready"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
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
        backend_split: Vec::new(),
        channel_manager: Some(ChannelManager {
            delay: "20ms".parse().unwrap(),
            error_rate: "1%".parse().unwrap(),
        }),
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

async fn opened(seeding: Stack<Seeding>) -> Result<Stack<plimsoll::stack::Ready>, StackError> {
    seeding.finish().await?.open().await
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
    let ready = seeding.finish().await.unwrap().open().await.unwrap();
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
    let overrides = "ALTER ROLE plimsoll_monitor SET synchronous_commit = off;
                     ALTER ROLE ALL IN DATABASE template1 SET jit = on;
                     ALTER ROLE plimsoll_monitor IN DATABASE template1 SET work_mem = '1MB'";
    sqlx::raw_sql(overrides)
        .execute(&mut connect(&live.postgres[0], "postgres").await)
        .await
        .unwrap();
    let told = ready.settings().await.unwrap();
    let more: Vec<_> = told
        .iter()
        .filter(|setting| !settings.contains(setting))
        .map(|s| (s.server.as_str(), s.name.as_str(), s.value.as_str()))
        .collect();
    let expected = [
        ("primary, database template1", "jit", "on"),
        ("primary, role plimsoll_monitor", "synchronous_commit", "off"),
    ];
    assert_eq!(more, expected, "only settings that are reported at all");
    assert_eq!(live.processes.len(), 5);
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

#[tokio::test]
async fn a_dropped_stack_is_gone_when_the_drop_returns() {
    let bench = Bench::new().await;
    drop(provision(bench.spec(OBEDIENT)).await.unwrap());
    bench.assert_nothing_survives(Duration::ZERO);
    drop(ready(&bench).await);
    bench.assert_nothing_survives(Duration::ZERO);
    assert_eq!(bench.stack_directories(), Vec::<PathBuf>::new());
    let log = fs::read_to_string(bench.path().join("logs/primary.log")).unwrap();
    assert!(log.contains("immediate shutdown"), "the logs of a stack that was not stopped stay");
}

#[tokio::test]
async fn a_backend_that_fails_takes_the_stack_with_it_and_is_quoted() {
    let announce = |schema| {
        format!(
            r#"case "$*" in *migrate*) exit 0 ;; esac
            echo '{{"event":"listening","url":"http://127.0.0.1:1","schema":{schema},"version":"1"}}'
            echo 'waiting for the moon' >&2
            sleep 1000 & wait"#
        )
    };
    type Expected = fn(&StackError) -> bool;
    let cases: [(&str, String, Expected, &str); 6] = [
        (
            "migration fails",
            "echo 'no such role' >&2; exit 3".to_owned(),
            |error| matches!(error, StackError::Migrate { .. }),
            "exit status: 3\n  last lines of",
        ),
        (
            "it dies before it listens",
            r#"case "$*" in *serve*) echo 'bad key' >&2; exit 4 ;; esac"#.to_owned(),
            |error| matches!(error, StackError::NotStarted { what, .. } if what == "backend"),
            "it ended with exit status: 4 before it was ready",
        ),
        (
            "it says nothing",
            r#"case "$*" in *serve*) sleep 1000 & wait ;; esac"#.to_owned(),
            |error| matches!(error, StackError::NotStarted { what, .. } if what == "backend"),
            "last: it has announced nothing on stdout",
        ),
        (
            "it says something else",
            r#"case "$*" in *serve*) echo hello; sleep 1000 & wait ;; esac"#.to_owned(),
            |error| matches!(error, StackError::NotStarted { what, .. } if what == "backend"),
            "not an announcement: hello",
        ),
        (
            "it is of another release",
            announce(99),
            |error| matches!(error, StackError::BackendSchema { found: 99, expected: 2, .. }),
            "it has schema 99, and this harness knows schema 2",
        ),
        (
            "it is never ready",
            announce(2),
            |error| matches!(error, StackError::NotStarted { what, .. } if what == "backend"),
            "| waiting for the moon",
        ),
    ];
    for (name, script, expected, quoted) in cases {
        let bench = Bench::new().await;
        let spec = StackSpec { replicas: 0, channel_manager: None, ..bench.spec(&script) };
        let error = match provision(spec).await {
            Ok(seeding) => opened(seeding).await.map(drop),
            Err(error) => Err(error),
        };
        bench.assert_nothing_survives(Duration::ZERO);
        let error = error.expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(quoted), "{name}: {quoted:?} must be in: {text}");
        assert!(text.contains("\nhelp: "), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_channel_manager_that_fails_takes_the_stack_with_it_and_is_quoted() {
    let cases = [
        ("echo 'out to lunch' >&2; exit 5", "it ended with exit status: 5 before it was ready"),
        ("sleep 1000 & wait", "last: it has announced nothing on stdout"),
        ("echo hello; sleep 1000 & wait", "not an announcement: hello"),
    ];
    for (does, quoted) in cases {
        let bench = Bench::new().await;
        let script = format!(r#"case "$*" in *ota-stub*) {does} ;; esac{OBEDIENT}"#);
        let spec = StackSpec { replicas: 0, ..bench.spec(&script) };
        let error = opened(provision(spec).await.unwrap()).await.unwrap_err();
        bench.assert_nothing_survives(Duration::ZERO);
        let text = error.to_string();
        assert!(text.starts_with("start the channel-manager: "), "{text}");
        assert!(text.contains(quoted), "{quoted:?} must be in: {text}");
        let called = "ota-stub --listen 127.0.0.1:0 --delay-ms 20 --fail-ratio 0.01`";
        assert!(text.contains(called), "{text}");
    }
}

#[tokio::test]
async fn a_primary_that_dies_while_it_is_seeded_is_not_opened() {
    let bench = Bench::new().await;
    let seeding = provision(bench.spec(OBEDIENT)).await.unwrap();
    let mut watch = seeding.watch();
    let pid_file = seeding.primary().socket_dir.join("../primary/postmaster.pid");
    let pid = fs::read_to_string(pid_file).unwrap().lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    watch.changed().await.unwrap();
    let error = opened(seeding).await.unwrap_err();
    assert!(matches!(&error, StackError::ServerDied { server, .. } if server == "primary"));
    // Of a killed server, the children notice by themselves.
    bench.assert_nothing_survives(Duration::from_secs(5));
    let [left] = &bench.stack_directories()[..] else { panic!("left to be looked at") };
    assert!(left.join("primary/postgresql.conf").exists());
}

#[tokio::test]
async fn every_death_in_a_run_is_told_at_once() {
    let bench = Bench::new().await;
    let ready = ready(&bench).await;
    let mut watch = ready.watch();
    assert_eq!(ready.incidents(), []);
    let groups = ready.live().processes.clone();
    for (told, name) in
        ["replica-2", "channel-manager", "backend", "primary"].into_iter().enumerate()
    {
        let group = groups.iter().find(|group| group.name == name).unwrap();
        kill(Pid::from_raw(group.pid.cast_signed()), Signal::SIGKILL).unwrap();
        let changed = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
        changed.expect("told").unwrap();
        let incident = watch.borrow_and_update()[told].clone();
        assert_eq!(incident.what, name);
        assert!(incident.detail.contains("signal: 9 (SIGKILL)"), "{}", incident.detail);
        assert!(incident.detail.contains(&format!("{name}.log")), "{}", incident.detail);
    }
    let stopped = ready.stop().await;
    let told: Vec<_> = stopped.incidents.iter().map(|incident| incident.what.as_str()).collect();
    assert_eq!(told, ["replica-2", "channel-manager", "backend", "primary"], "each once");
    bench.assert_nothing_survives(Duration::from_secs(5));
    assert!(stopped.directory.unwrap().exists(), "left to be looked at");
    assert!(bench.path().join("logs/replica-2.log").exists());
}

#[tokio::test]
async fn a_backend_that_does_not_drain_is_killed_with_its_children() {
    let bench = Bench::new().await;
    let script = OBEDIENT.replace("echo drained >&2; exit 0", "sleep 1000 & wait");
    let mut spec = StackSpec { replicas: 0, channel_manager: None, ..bench.spec(&script) };
    spec.limits.backend_stop = Duration::from_millis(300);
    let ready = opened(provision(spec).await.unwrap()).await.unwrap();
    let stopped = ready.stop().await;
    bench.assert_nothing_survives(Duration::ZERO);
    let [incident] = &stopped.incidents[..] else { panic!("one incident: {stopped:?}") };
    assert!(incident.detail.starts_with("it did not drain within 300ms"), "{}", incident.detail);
}

#[tokio::test]
async fn a_cancelled_stack_is_gone_with_its_directory() {
    let bench = Bench::new().await;
    for milestone in MILESTONES {
        let cancel = CancellationToken::new();
        let (canceller, milestone_path) = (cancel.clone(), bench.path().join(milestone));
        std::thread::spawn(move || {
            wait_until(|| milestone_path.exists());
            canceller.cancel();
        });
        // Never ready: only the cancellation ends it.
        let spec = bench.spec(&OBEDIENT.replace("HEALTH", "127.0.0.1:1"));
        let outcome = match Stack::provision(spec, cancel).await {
            Ok(seeding) => opened(seeding).await.map(drop),
            Err(error) => Err(error),
        };
        bench.assert_nothing_survives(Duration::ZERO);
        let error = outcome.unwrap_err();
        assert!(matches!(error, StackError::Cancelled { .. }), "at {milestone}: {error}");
        assert_eq!(bench.stack_directories(), Vec::<PathBuf>::new(), "at {milestone}");
        bench.forget();
    }
}

#[tokio::test]
async fn what_is_to_be_kept_is_kept_through_later_runs() {
    let bench = Bench::new().await;
    let spec = StackSpec { replicas: 0, keep: true, ..bench.spec(OBEDIENT) };
    let ready = opened(provision(spec).await.unwrap()).await.unwrap();
    let kept = ready.stop().await.directory.unwrap();
    let next = StackSpec { run: "next".parse().unwrap(), replicas: 0, ..bench.spec(OBEDIENT) };
    let next = provision(next).await.unwrap();
    assert!(kept.join("primary/PG_VERSION").exists());
    assert!(bench.path().join("logs/backend.log").exists());
    drop(next);
    bench.assert_nothing_survives(Duration::ZERO);
}

#[tokio::test]
async fn stacks_side_by_side_leave_each_other_alone() {
    let bench = Bench::new().await;
    let named = |name: &str| StackSpec { run: name.parse().unwrap(), ..bench.spec(OBEDIENT) };
    let (one, two) = tokio::join!(provision(named("one")), provision(named("two")));
    let (one, two) = (one.unwrap(), two.unwrap());
    drop(one);
    connect(two.primary(), "postgres").await.ping().await.unwrap();
    let three = provision(named("three")).await.unwrap();
    connect(two.primary(), "postgres").await.ping().await.unwrap();
    assert_eq!((two.incidents(), three.incidents()), (vec![], vec![]));
    drop((two, three));
    bench.assert_nothing_survives(Duration::ZERO);
}

/// A server that is told to quit kills what does not obey after 5 s; but should the signal come just before the server lies down to
/// wait for connections, it looks only when that wait is over, after a minute (`ServerLoop` and `DetermineSleepTime` of PostgreSQL 15).
const LAST_GASP: Duration = Duration::from_secs(75);

#[tokio::test]
async fn nothing_outlives_a_killed_parent_whatever_it_was_doing() {
    let bench = Bench::new().await;
    for milestone in MILESTONES {
        let parent = Parent::start(&bench, None);
        wait_until(|| bench.path().join(milestone).exists());
        parent.kill();
        bench.assert_nothing_survives(LAST_GASP);
        bench.forget();
    }
}

#[tokio::test]
async fn the_next_run_works_at_once_after_a_killed_one() {
    let bench = Bench::new().await;
    for half_way in [true, false] {
        let parent = Parent::start(&bench, None);
        if half_way {
            wait_until(|| bench.path().join("state/test-run/primary/base").exists());
        } else {
            parent.wait_until_ready();
            assert!(survivors(bench.path()).len() > 4, "there is something to survive");
        }
        parent.kill();
        // No pause, the same name, the same sockets.
        let ready = ready(&bench).await;
        assert_eq!(ready.incidents(), []);
        let stopped = ready.stop().await;
        assert_eq!(stopped.incidents, []);
        assert_eq!(bench.stack_directories(), Vec::<PathBuf>::new());
        bench.assert_nothing_survives(Duration::ZERO);
    }
}

#[tokio::test]
async fn an_ordinary_user_needs_no_other() {
    if !geteuid().is_root() {
        // Then every other test is this one.
        return;
    }
    const NOBODY: u32 = 65534;
    let bench = Bench::new().await;
    std::os::unix::fs::chown(bench.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let parent = Parent::start(&bench, Some(NOBODY));
    parent.wait_until_ready();
    let data = bench.path().join("state/test-run/replica-1");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(data).unwrap()), NOBODY);
    parent.kill();
    bench.assert_nothing_survives(LAST_GASP);
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yardstick_counts_durable_events_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let spec = StackSpec { replicas: 1, ..bench.spec(OBEDIENT) };
    let stack = opened(provision(spec).await.unwrap()).await.unwrap();
    let mut primary = connect(&stack.live().postgres[0], "postgres").await;
    let written = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint";
    let before: i64 = sqlx::query_scalar(written).fetch_one(&mut primary).await.unwrap();
    let found = stack.yardstick(500, Skew::Zipf { exponent: 1.05 }).await;
    let rate = found.transactions_per_s.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((found.by.as_str(), &found.problem), ("pgbench", &None));

    // Its database is gone with all counts; the write-ahead log shows that so many events were made durable.
    let after: i64 = sqlx::query_scalar(written).fetch_one(&mut primary).await.unwrap();
    let events = rate * f64::from(found.seconds);
    assert!(
        (after - before) as f64 > 100.0 * events,
        "{events} events in {} bytes",
        after - before
    );
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE '%yardstick%'";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut primary).await.unwrap();
    assert_eq!(left, 0);
    assert_eq!(stack.stop().await.incidents, []);
    bench.assert_nothing_survives(Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yardstick_without_its_program_says_so_and_troubles_nobody() {
    let bench = Bench::new().await;
    let programs = bench.path().join("bin");
    fs::create_dir(&programs).unwrap();
    for entry in fs::read_dir(PostgresBinaries::find().unwrap().directory()).unwrap() {
        let program = entry.unwrap().path();
        if program.file_name().is_some_and(|name| name != "pgbench") {
            let link = programs.join(program.file_name().unwrap());
            std::os::unix::fs::symlink(&program, link).unwrap();
        }
    }
    let binaries = PostgresBinaries::in_directory(&programs).unwrap();
    let spec = StackSpec { replicas: 0, binaries, ..bench.spec(OBEDIENT) };
    let stack = opened(provision(spec).await.unwrap()).await.unwrap();
    let found = stack.yardstick(500, Skew::Uniform).await;
    assert_eq!(found.transactions_per_s, None);
    let problem = found.problem.unwrap();
    assert!(problem.contains("no pgbench in") && problem.contains("install"), "{problem}");
    assert_eq!(stack.stop().await.incidents, []);
}

async fn ready(bench: &Bench) -> Stack<Ready> {
    opened(provision(bench.spec(OBEDIENT)).await.unwrap()).await.unwrap()
}

/// A process that owns a stack, to be killed: this test program again, told to be [`a_parent`].
struct Parent {
    child: Child,
    ready: PathBuf,
}

const HOME_VARIABLE: &str = "PLIMSOLL_TEST_HOME";

impl Parent {
    fn start(bench: &Bench, uid: Option<u32>) -> Self {
        let ready = bench.path().join("ready");
        let _ = fs::remove_file(&ready);
        // A copy, for another user may not reach the original.
        let program = bench.path().join("parent");
        if !program.exists() {
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        let mut command = Command::new(program);
        command.args(["--exact", "a_parent", "--ignored", "--nocapture"]);
        command.env(HOME_VARIABLE, bench.path()).current_dir("/");
        command
            .stdout(Stdio::null())
            .stderr(fs::File::create(bench.path().join("parent.log")).unwrap());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        Self { child: command.spawn().unwrap(), ready }
    }

    fn wait_until_ready(&self) {
        wait_until(|| self.ready.exists());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of its own for other tests, which kill it"]
async fn a_parent() {
    let Some(home) = std::env::var_os(HOME_VARIABLE) else { return };
    let home = PathBuf::from(home);
    let health = answer_health().await;
    let spec = spec(&home, &OBEDIENT.replace("HEALTH", &health));
    // In a task, as a session may do it: a worker thread that ends must not take the stack with it.
    let opened = tokio::spawn(async { opened(provision(spec).await?).await });
    let _ready = opened.await.unwrap().unwrap();
    fs::write(home.join("ready"), "").unwrap();
    std::future::pending().await
}
