//! Observation of things that really run: Postgres servers, an HTTP endpoint, processes.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use plimsoll::archive::{Incident, Timeline};
use plimsoll::observe::{Axis, Observed, SeriesFilter, Sight, observe};
use plimsoll::scenario::{LiveTarget, MetricsEndpoint, PostgresEndpoint, ProcessGroup};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Observes while `during` runs, with as long an axis as that may take.
async fn observe_during(
    target: LiveTarget,
    processes: watch::Receiver<Vec<ProcessGroup>>,
    during: impl Future<Output = ()>,
) -> Observed {
    let axis = Axis { origin: Instant::now(), seconds: 300 };
    let stop = CancellationToken::new();
    let keep = SeriesFilter::Prefix("backend_");
    let sight = Sight::default();
    let observing = observe(&target, axis, keep, stop.clone(), processes, &sight);
    let then_stopping = async {
        during.await;
        stop.cancel();
    };
    tokio::join!(observing, then_stopping).0
}

async fn seconds(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

fn figures(process: &str, url: String) -> MetricsEndpoint {
    MetricsEndpoint { process: process.to_owned(), url }
}

fn nothing_running() -> LiveTarget {
    LiveTarget {
        base_url: String::new(),
        metrics: Vec::new(),
        token_secret: None,
        postgres: Vec::new(),
        processes: Vec::new(),
    }
}

/// The values of the one series with this name and these labels.
fn values<'a>(timeline: &'a Timeline, name: &str, labels: &[(&str, &str)]) -> &'a [Option<f64>] {
    let found: Vec<_> = timeline
        .series
        .iter()
        .filter(|s| s.key.name == name && labels.iter().all(|(k, v)| s.key.label(k) == Some(*v)))
        .collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} among {:#?}", names(timeline));
    &found[0].values
}

fn names(timeline: &Timeline) -> Vec<String> {
    timeline.series.iter().map(|s| format!("{} {:?}", s.key.name, s.key.labels)).collect()
}

fn last(timeline: &Timeline, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    values(timeline, name, labels).iter().flatten().copied().next_back()
}

/// Seconds without a value that have values on both sides.
fn gap(values: &[Option<f64>]) -> Vec<usize> {
    let first = values.iter().position(Option::is_some).unwrap_or(values.len());
    let last = values.iter().rposition(Option::is_some).unwrap_or(0);
    (first..last).filter(|second| values[*second].is_none()).collect()
}

fn incidents_of<'a>(observed: &'a Observed, what: &str) -> Vec<&'a Incident> {
    observed.incidents.iter().filter(|incident| incident.what == what).collect()
}

/// Servers in a folder of their own, stopped and removed at the end.
struct Cluster {
    root: TempDir,
}

impl Cluster {
    const PRIMARY: u16 = 5432;
    const REPLICA: u16 = 5433;

    /// A primary with the backend's databases, and a replica.
    fn start() -> Self {
        let cluster = Self { root: TempDir::new().expect("a folder for the cluster") };
        if geteuid().is_root() {
            let user = postgres_user();
            chown(cluster.root.path(), Some(user.uid), Some(user.gid))
                .expect("give the folder away");
        }
        let data = cluster.data(Self::PRIMARY);
        cluster.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]);
        cluster.start_server(Self::PRIMARY);
        cluster.fill();
        let replica = cluster.data(Self::REPLICA);
        let source = format!(
            "host={} port={} user=postgres application_name=replica-1",
            cluster.root.path().display(),
            Self::PRIMARY
        );
        cluster.run("pg_basebackup", &["-D", &replica, "-d", &source, "-R", "-c", "fast", "-N"]);
        cluster.start_server(Self::REPLICA);
        cluster
    }

    fn fill(&self) {
        self.sql("postgres", "CREATE EXTENSION pg_stat_statements");
        self.sql(
            "postgres",
            "CREATE ROLE plimsoll_monitor LOGIN IN ROLE pg_monitor, pg_read_all_data",
        );
        self.sql("postgres", "CREATE ROLE app_rw LOGIN");
        self.sql("postgres", "CREATE ROLE app_ro LOGIN");
        for (database, migration) in [
            (
                "plimsoll_event_store",
                include_str!("../reference-backend/migrations/event_store/0001_events.sql"),
            ),
            (
                "plimsoll_finance",
                include_str!(
                    "../reference-backend/migrations/finance/0001_entries_and_balances.sql"
                ),
            ),
            (
                "plimsoll_read_models",
                include_str!(
                    "../reference-backend/migrations/read_models/0001_finance_summaries.sql"
                ),
            ),
        ] {
            self.sql("postgres", &format!("CREATE DATABASE {database}"));
            self.sql(database, migration);
        }
        self.sql(
            "plimsoll_event_store",
            "INSERT INTO events SELECT shard, position, position, 1, gen_random_uuid(), 1, 1, 1, gen_random_uuid(), now(), '{}'
             FROM generate_series(0, 7, 7) AS shard, generate_series(1, 5) AS position",
        );
        self.sql(
            "plimsoll_finance",
            "INSERT INTO projection_checkpoints VALUES ('finance', 0, 3), ('finance', 7, 4);
             INSERT INTO daily_cash_balances_partitioned
             SELECT org, gen_random_uuid(), '2026-01-01', 0, 1, 0, 1 FROM generate_series(1, 100) AS org",
        );
        self.sql(
            "plimsoll_read_models",
            "INSERT INTO projection_checkpoints VALUES ('finance-summary', 0, 2)",
        );
    }

    fn data(&self, port: u16) -> String {
        self.root.path().join(port.to_string()).display().to_string()
    }

    fn start_server(&self, port: u16) {
        let sockets = self.root.path().display();
        let options = format!(
            "-k {sockets} -p {port} -c listen_addresses= -c fsync=off -c shared_preload_libraries=pg_stat_statements -c wal_receiver_status_interval=1s"
        );
        let log = format!("{}.log", self.data(port));
        self.run("pg_ctl", &["-D", &self.data(port), "-l", &log, "-o", &options, "-w", "start"]);
    }

    fn stop_server(&self, port: u16) {
        self.run("pg_ctl", &["-D", &self.data(port), "-m", "immediate", "-w", "stop"]);
    }

    fn sql(&self, database: &str, sql: &str) {
        self.sql_as("postgres", Self::PRIMARY, database, sql);
    }

    fn sql_as(&self, role: &str, port: u16, database: &str, sql: &str) {
        let (sockets, port) = (self.root.path().display().to_string(), port.to_string());
        let arguments = [
            "-h",
            &sockets,
            "-p",
            &port,
            "-U",
            role,
            "-d",
            database,
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ];
        self.run("psql", &arguments);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(postgres_binary(program));
        command.args(arguments).current_dir(self.root.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if geteuid().is_root() {
            let user = postgres_user();
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let status = command.status().expect("Postgres is installed");
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }

    fn endpoint(&self, name: &str, port: u16) -> PostgresEndpoint {
        PostgresEndpoint {
            name: name.to_owned(),
            socket_dir: self.root.path().to_owned(),
            port,
            superuser: "postgres".to_owned(),
            monitor_role: "plimsoll_monitor".to_owned(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for port in [Self::REPLICA, Self::PRIMARY] {
            if Path::new(&self.data(port)).join("postmaster.pid").exists() {
                self.stop_server(port);
            }
        }
    }
}

fn postgres_user() -> User {
    User::from_name("postgres")
        .expect("the user database")
        .expect("a user postgres, as root may not run servers")
}

/// Where Debian keeps the servers' programs, else what the path offers.
fn postgres_binary(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(program));
    found.filter(|path| path.exists()).max().unwrap_or_else(|| program.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tells_what_arrived_and_a_server_that_dies_is_one_incident() {
    let cluster = Cluster::start();
    let endpoint = |name, port| cluster.endpoint(name, port);
    let target = LiveTarget {
        postgres: vec![
            endpoint("primary", Cluster::PRIMARY),
            endpoint("replica-1", Cluster::REPLICA),
        ],
        ..nothing_running()
    };
    let (_keep_open, processes) = watch::channel(Vec::new());
    let read = "SELECT count(*) FROM daily_cash_balances_partitioned";
    let observed = observe_during(target, processes, async {
        cluster.sql_as("app_ro", Cluster::REPLICA, "plimsoll_finance", read);
        cluster.sql_as("app_ro", Cluster::REPLICA, "plimsoll_finance", read);
        cluster.sql_as("app_ro", Cluster::PRIMARY, "plimsoll_finance", read);
        seconds(2.2).await;
        cluster.stop_server(Cluster::REPLICA);
        seconds(2.2).await;
        cluster.start_server(Cluster::REPLICA);
        seconds(2.5).await;
    })
    .await;

    let seen = &observed.timeline;
    let calls = |server| {
        let labels = [("server", server), ("role", "app_ro"), ("kind", "read")];
        values(seen, "pg_statements_calls_total", &labels)
            .iter()
            .flatten()
            .copied()
            .fold(0.0, f64::max)
    };
    assert_eq!((calls("primary"), calls("replica-1")), (1.0, 2.0));
    assert_eq!(last(seen, "pg_events_total", &[]), Some(10.0));
    assert_eq!(last(seen, "pg_projected_total", &[("projection", "finance")]), Some(7.0));
    assert_eq!(last(seen, "pg_projected_total", &[("projection", "finance-summary")]), Some(2.0));
    assert_eq!(last(seen, "pg_replication_lag_bytes", &[("replica", "replica-1")]), Some(0.0));
    assert!(last(seen, "pg_replication_lag_seconds", &[("replica", "replica-1")]) >= Some(0.0));
    assert!(last(seen, "pg_xact_commit_total", &[("server", "primary")]) > Some(0.0));
    let partitions =
        seen.select("pg_partition_rows", &[("table", "daily_cash_balances_partitioned")]);
    let rows: Vec<f64> = partitions.filter_map(|series| series.values[0]).collect();
    assert_eq!((rows.len(), rows.iter().sum::<f64>()), (16, 100.0));
    assert!(
        last(seen, "pg_partition_bytes", &[("partition", "daily_cash_balances_p00")]) > Some(0.0)
    );

    let wal = |server| values(seen, "pg_wal_bytes_total", &[("server", server)]);
    let gap = gap(wal("replica-1"));
    assert!(!gap.is_empty(), "it came back after a gap: {:?}", wal("replica-1"));
    assert!(gap.iter().any(|second| wal("primary")[*second].is_some()), "the other went on");
    // A busy machine may be slow to answer, but no question may be a wrong one.
    let primary = incidents_of(&observed, "statistics of primary");
    let (astray, slow): (Vec<_>, Vec<_>) =
        primary.into_iter().partition(|i| i.detail.contains("replica-1 does not follow"));
    assert!(!astray.is_empty(), "its lag has a gap too: {:?}", observed.incidents);
    assert!(slow.iter().all(|incident| incident.detail.contains("no answer")), "{slow:?}");
    assert!(incidents_of(&observed, "primary").is_empty(), "{:?}", observed.incidents);
    let told = incidents_of(&observed, "replica-1");
    assert_eq!(told.len(), 1, "{:?}", observed.incidents);
    assert_eq!(told[0].second, Some(gap[0]));
}

/// A server's processes, stopped where they are until this is dropped.
struct Hung(Vec<Pid>);

impl Hung {
    fn server(data: &str) -> Self {
        let file = std::fs::read_to_string(Path::new(data).join("postmaster.pid"))
            .expect("a running server has a pid file");
        let postmaster = file.lines().next().and_then(|line| line.parse::<i32>().ok());
        let postmaster = postmaster.expect("its first line is the pid");
        let all = procfs::process::all_processes().expect("there is a /proc");
        let children = all.filter_map(|process| {
            let stat = process.ok()?.stat().ok()?;
            (stat.ppid == postmaster).then_some(stat.pid)
        });
        let hung = Self(children.chain([postmaster]).map(Pid::from_raw).collect());
        hung.signal(Signal::SIGSTOP);
        hung
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            // A child may have ended by itself.
            let _ = kill(*pid, signal);
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_falls_behind_second_by_second() {
    let cluster = Cluster::start();
    let target = LiveTarget {
        postgres: vec![
            cluster.endpoint("primary", Cluster::PRIMARY),
            cluster.endpoint("replica-1", Cluster::REPLICA),
        ],
        ..nothing_running()
    };
    let (_keep_open, processes) = watch::channel(Vec::new());
    let observed = observe_during(target, processes, async {
        let write = "UPDATE projection_checkpoints SET position = position + 1";
        cluster.sql("plimsoll_finance", write);
        seconds(1.2).await;
        let hung = Hung::server(&cluster.data(Cluster::REPLICA));
        cluster.sql("plimsoll_finance", write);
        seconds(6.5).await;
        drop(hung);
    })
    .await;

    let of = [("replica", "replica-1")];
    let told = |name| values(&observed.timeline, name, &of).iter().flatten().copied();
    assert!(told("pg_replication_lag_bytes").any(|bytes| bytes > 0.0));
    let late: Vec<f64> = told("pg_replication_lag_seconds").filter(|lag| *lag > 2.0).collect();
    assert!(late.len() >= 2, "{:?}", values(&observed.timeline, "pg_replication_lag_seconds", &of));
    assert!(late.is_sorted() && late.last() > late.first(), "{late:?}");
}

/// A child that burns a processor in a child of its own, ended with all it started.
struct Burner(Child);

impl Burner {
    fn start() -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sh -c 'while :; do :; done' & wait"]).process_group(0);
        Self(shell.spawn().expect("there is a shell"))
    }

    fn group(&self, name: &str) -> ProcessGroup {
        ProcessGroup { name: name.to_owned(), pid: self.0.id() }
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::killpg(group, Signal::SIGKILL).expect("its group exists");
        self.0.wait().expect("it was ours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_counts_its_descendants_and_its_end_is_one_incident() {
    let (backend, generator) = (Burner::start(), Burner::start());
    let harness = ProcessGroup { name: "harness".to_owned(), pid: std::process::id() };
    let mut groups = vec![harness, backend.group("backend")];
    let (sender, processes) = watch::channel(groups.clone());
    let observed = observe_during(nothing_running(), processes, async move {
        seconds(1.5).await;
        groups.push(generator.group("generator"));
        sender.send(groups).expect("it is observed");
        seconds(2.0).await;
        drop(generator);
        seconds(2.0).await;
    })
    .await;

    let cpu = |group| values(&observed.timeline, "process_cpu_seconds_total", &[("group", group)]);
    let burnt: Vec<f64> = cpu("backend").iter().flatten().copied().collect();
    assert!(burnt.is_sorted(), "{burnt:?}");
    assert!(burnt.last() > burnt.first(), "only its child burns: {burnt:?}");
    let harness: Vec<f64> = cpu("harness").iter().flatten().copied().collect();
    assert!(harness.last() < burnt.last(), "its children are groups of their own: {harness:?}");
    assert_eq!(cpu("generator")[0], None, "not known yet");
    assert!(cpu("generator").iter().any(Option::is_some));
    assert!(
        last(&observed.timeline, "process_resident_bytes", &[("group", "backend")]) > Some(0.0)
    );
    assert!(last(&observed.timeline, "host_memory_available_bytes", &[]) > Some(0.0));
    assert!(last(&observed.timeline, "host_cpu_seconds_total", &[("mode", "user")]) > Some(0.0));

    let what: Vec<&str> = observed.incidents.iter().map(|i| i.what.as_str()).collect();
    assert_eq!(what, ["generator"], "{:?}", observed.incidents);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_several_processes_are_told_apart() {
    let mut tasks = tokio::task::JoinSet::new();
    let mut target = nothing_running();
    for (process, count) in [("backend", 3), ("backend-2", 4)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let answer = move || async move { format!("backend_events_appended_total {count}\n") };
        let router = Router::new().route("/metrics", get(answer));
        tasks.spawn(async { axum::serve(listener, router).await });
        target.metrics.push(figures(process, url));
    }
    let (_keep_open, processes) = watch::channel(Vec::new());
    let observed = observe_during(target, processes, seconds(2.5)).await;

    let appended = |labels| last(&observed.timeline, "backend_events_appended_total", labels);
    assert_eq!(appended(&[("process", "backend")]), Some(3.0));
    assert_eq!(appended(&[("process", "backend-2")]), Some(4.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_for_a_while_leaves_a_gap_and_one_incident() {
    let scrapes = Arc::new(AtomicU32::new(0));
    let answer = move || async move {
        match scrapes.fetch_add(1, Ordering::Relaxed) {
            2 | 3 => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            4 => (StatusCode::OK, "<html>".to_owned()),
            n => (StatusCode::OK, format!("backend_events_appended_total {n}\nother_total 1\n")),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks
        .spawn(async { axum::serve(listener, Router::new().route("/metrics", get(answer))).await });

    let target = LiveTarget { metrics: vec![figures("backend", url)], ..nothing_running() };
    let (_keep_open, processes) = watch::channel(Vec::new());
    let observed = observe_during(target, processes, seconds(7.5)).await;

    let appended = values(&observed.timeline, "backend_events_appended_total", &[]);
    assert!(gap(appended).len() >= 3, "{appended:?}");
    assert_eq!(observed.timeline.select("other_total", &[]).count(), 0, "it was not asked for");
    let told = incidents_of(&observed, "metrics");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].detail.contains("500 Internal Server Error"), "{told:?}");
}
