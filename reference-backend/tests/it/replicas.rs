//! Replicas that fail while they are read from: who answers instead, how soon, and how many may be asked at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reference_backend::config::Config;
use reference_backend::db::{Database, Databases, Freshness};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinSet;

use crate::common::{Cluster, Replica};
use crate::http_server::metrics;

/// Lag is no matter here, however slow the machine.
const LAG: &str = "lag_max_ms = 600000\n";

fn config(cluster: &Cluster, replicas: &str, choice: &str) -> Config {
    cluster.config(&format!("{replicas}\n[database.replica_choice]\n{LAG}{choice}"))
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn healthy(db: &Databases, replicas: &[&str]) {
    until(&format!("healthy are {replicas:?}"), async || db.healthy_replicas() == replicas).await;
}

/// A read that needs a server, and who answered it.
async fn read(db: &Databases, freshness: Freshness) -> sqlx::Result<&'static str> {
    let mut reader = db.read(Database::Shared, freshness);
    let query = || sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM organisations");
    reader.fetch_all(query).await?;
    Ok(reader.source().server())
}

async fn any(db: &Databases) -> &'static str {
    read(db, Freshness::Any).await.unwrap()
}

/// A counter of this process: the sum of the lines that have all of `parts`.
fn counted(parts: &[&str]) -> f64 {
    let text = metrics().render();
    let lines = text.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Reads until told to stop; every one must succeed. How many there were, and how long each took.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    tasks: JoinSet<Vec<Duration>>,
}

impl Load {
    fn start(db: &Databases, readers: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..readers {
            let (db, stop, done) = (db.clone(), Arc::clone(&stop), Arc::clone(&done));
            tasks.spawn(async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    any(&db).await;
                    took.push(start.elapsed());
                    done.fetch_add(1, Ordering::Relaxed);
                }
                took
            });
        }
        Self { stop, done, tasks }
    }

    async fn some_more(&self, reads: u32) {
        let wanted = self.done.load(Ordering::Relaxed) + reads;
        until("the load goes on", async || self.done.load(Ordering::Relaxed) >= wanted).await;
    }

    /// All times, shortest first.
    async fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.tasks.join_all().await.concat();
        took.sort_unstable();
        took
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_when_a_replica_is_killed_under_load() {
    let cluster = Cluster::start().await;
    let (mut first, second) = (Replica::of(&cluster).await, Replica::of(&cluster).await);
    let replicas = first.entry("kill-1") + &second.entry("kill-2");
    let db = Databases::connect(&config(&cluster, &replicas, "").database).await.unwrap();
    metrics();
    healthy(&db, &["kill-1", "kill-2"]).await;
    assert_ne!(any(&db).await, any(&db).await, "they take turns");

    let load = Load::start(&db, 8);
    load.some_more(200).await;
    let killed = Instant::now();
    first.kill();
    healthy(&db, &["kill-2"]).await;
    let noticed = killed.elapsed();
    load.some_more(200).await;
    let took = load.stop().await;
    let retried = counted(&["backend_read_retries_total", "server=\"kill-1\""]);
    println!(
        "replica killed under load: {} reads, 0 failed, {retried} asked another server, median {:?}, slowest {:?}; \
         left out after {noticed:?}",
        took.len(),
        took[took.len() / 2],
        took.last().unwrap()
    );
    assert!(retried > 0.0, "the kill met no read");

    first.start().await;
    healthy(&db, &["kill-1", "kill-2"]).await;
    until("kill-1 answers again", async || any(&db).await == "kill-1").await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_hangs_costs_a_few_reads_their_patience_and_then_none() {
    let cluster = Cluster::start().await;
    let (first, second) = (Replica::of(&cluster).await, Replica::of(&cluster).await);
    let replicas = first.entry("hang-1") + &second.entry("hang-2");
    // The monitor never leaves a replica out: what is seen here is the breaker's work.
    let choice = "failures_before_unhealthy = 1000000\nread_timeout_ms = 300\n\
                  breaker_failures = 3\nbreaker_open_ms = 60000\nbreaker_probes = 1\n";
    let db = Databases::connect(&config(&cluster, &replicas, choice).database).await.unwrap();
    metrics();
    healthy(&db, &["hang-1", "hang-2"]).await;
    let load = Load::start(&db, 6);
    load.some_more(100).await;
    first.freeze(true);
    until("the breaker opens", async || {
        counted(&["backend_replica_breaker_opened_total", "hang-1"]) > 0.0
    })
    .await;
    load.some_more(300).await;
    let took = load.stop().await;
    let opened = counted(&["backend_read_retries_total", "hang-1", "cause=\"open\""]);
    let failed = counted(&["backend_read_retries_total", "hang-1", "cause=\"failed\""]);
    println!(
        "replica hung under load: {} reads, 0 failed, {failed} waited for it in vain, {opened} were not let to it, slowest {:?}",
        took.len(),
        took.last().unwrap()
    );
    // Three open it; the other readers may have been waiting already, or have met a slow moment of this machine before.
    assert!((3.0..=12.0).contains(&failed) && opened > 0.0, "{failed} {opened}");
    first.freeze(false);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_closes_again_after_its_probes() {
    let cluster = Cluster::start().await;
    let replica = Replica::of(&cluster).await;
    let choice = "failures_before_unhealthy = 1000000\nread_timeout_ms = 100\n\
                  breaker_failures = 2\nbreaker_open_ms = 100\nbreaker_probes = 2\n";
    let config = config(&cluster, &replica.entry("probe-1"), choice);
    let db = Databases::connect(&config.database).await.unwrap();
    metrics();
    healthy(&db, &["probe-1"]).await;
    assert_eq!(any(&db).await, "probe-1");
    replica.freeze(true);
    for _ in 0..4 {
        assert_eq!(any(&db).await, "primary");
    }
    assert!(counted(&["backend_replica_breaker_opened_total", "probe-1"]) >= 1.0);
    replica.freeze(false);
    until("probe-1 answers again", async || any(&db).await == "probe-1").await;
    until("its breaker is closed", async || {
        any(&db).await;
        metrics().render().contains("backend_replica_breaker_state{replica=\"probe-1\"} 0")
    })
    .await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_recovery_cancels_is_answered_elsewhere() {
    let cluster = Cluster::start().await;
    let replica = Replica::of(&cluster).await;
    let mut on_replica = replica.admin().await;
    for statement in ["ALTER SYSTEM SET max_standby_streaming_delay = 0", "SELECT pg_reload_conf()"]
    {
        sqlx::raw_sql(statement).execute(&mut on_replica).await.unwrap();
    }
    let choice = "read_timeout_ms = 60000\nbreaker_failures = 1\n";
    let config = config(&cluster, &replica.entry("conflict-1"), choice);
    let db = Databases::connect(&config.database).await.unwrap();
    metrics();
    healthy(&db, &["conflict-1"]).await;
    let reading = {
        let db = db.clone();
        tokio::spawn(async move {
            let mut reader = db.read(Database::Shared, Freshness::Any);
            // Sleeps on a replica only.
            let slow = || {
                sqlx::query_as::<_, (i64,)>(
                    "SELECT count(*) FROM organisations, \
                     (SELECT CASE WHEN pg_is_in_recovery() THEN pg_sleep(4) END) s",
                )
            };
            reader.fetch_all(slow).await.unwrap();
            reader.source().server()
        })
    };
    let sleeping = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
    loop {
        let begun: bool = sqlx::query_scalar(sleeping).fetch_one(&mut on_replica).await.unwrap();
        if begun {
            break;
        }
        assert!(!reading.is_finished(), "the read was not slow");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut admin = cluster.admin("plimsoll_shared").await;
    let mut lock = admin.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE organisations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock.commit().await.unwrap();
    assert_eq!(reading.await.unwrap(), "primary");
    let conflicts = ["backend_read_retries_total", "conflict-1", "cause=\"conflict\""];
    assert_eq!(counted(&conflicts), 1.0);
    // No fault of the replica's: a breaker that opens at one failure has not opened.
    assert_eq!(any(&db).await, "conflict-1");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_all_replicas_leaves_the_primary_its_room() {
    let cluster = Cluster::start().await;
    let nobody = "[[database.replicas]]\nname = \"gone-1\"\nhost = \"/nowhere\"\nport = 1\n";
    let config = config(&cluster, nobody, "primary_fallback_max = 1\n");
    let db = Databases::connect(&config.database).await.unwrap();
    metrics();
    let mut admin = cluster.admin("plimsoll_shared").await;
    let mut lock = admin.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE organisations").execute(&mut *lock).await.unwrap();
    let waiting = {
        let db = db.clone();
        tokio::spawn(async move { read(&db, Freshness::Any).await })
    };
    cluster.someone_waits_for_a_lock().await;
    // Whoever comes while the one place is taken is refused at once, not queued.
    let query = || sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM properties");
    let refused = db.read(Database::Hospitality, Freshness::Any).fetch_all(query).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, sqlx::Error::PoolTimedOut), "{refused}");
    assert!(counted(&["backend_reads_shed_total", "hospitality"]) >= 1.0);
    // Reads that are the primary's own, and writes, have theirs.
    let mut own = db.read(Database::Hospitality, Freshness::Newest);
    own.fetch_all(query).await.unwrap();
    sqlx::query("DELETE FROM users").execute(db.write(Database::Shared)).await.unwrap();
    lock.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "primary");
    assert_eq!(any(&db).await, "primary");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_can_be_switched_off_and_on_and_come_late() {
    let cluster = Cluster::start().await;
    let mut replica = Replica::of(&cluster).await;
    replica.kill();
    let config = config(&cluster, &replica.entry("late-1"), "");
    let db = Databases::connect(&config.database).await.unwrap();
    let choice = &config.database.replica_choice;
    db.retune(choice, false);
    metrics();
    assert_eq!(any(&db).await, "primary");
    let gauge = "backend_replica_healthy{replica=\"late-1\"}";
    until("it is said to be missing", async || metrics().render().contains(&format!("{gauge} 0")))
        .await;
    replica.start().await;
    healthy(&db, &["late-1"]).await;
    assert_eq!(any(&db).await, "primary");
    assert!(counted(&["backend_reads_total", "reason=\"off\""]) >= 2.0);
    db.retune(choice, true);
    assert_eq!(any(&db).await, "late-1");
    db.retune(choice, false);
    assert_eq!(any(&db).await, "primary");
    db.close().await;
}

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_ro'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again_also_when_a_read_was_given_up() {
    let cluster = Cluster::start().await;
    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let mut admin = cluster.admin("postgres").await;
    for n in 0..50_i64 {
        let mut reader = db.read(Database::Shared, Freshness::Any);
        // Left in the middle of its answer, every fifth time.
        if n % 5 == 0 {
            let slow =
                || sqlx::query_as::<_, (i64, String)>("SELECT -1::bigint, pg_sleep(0.02)::text");
            let given_up = tokio::time::timeout(Duration::from_millis(5), reader.fetch_all(slow));
            assert!(given_up.await.is_err());
        }
        let found = reader.fetch_optional(|| sqlx::query_as("SELECT $1::bigint").bind(n)).await;
        assert_eq!(found.unwrap(), Some((n,)), "another read's answer");
        let bad = reader.fetch_all(|| sqlx::query_as::<_, (i64,)>("SELECT 1/0::bigint")).await;
        assert!(matches!(bad, Err(sqlx::Error::Database(_))), "{bad:?}");
    }
    let sessions: i64 = sqlx::query_scalar(SESSIONS).fetch_one(&mut admin).await.unwrap();
    assert!((1..=6).contains(&sessions), "{sessions} sessions for one reader");

    // A server that ended all sessions is asked anew, without an error to anyone.
    assert!(cluster.terminate("reference-backend").await >= sessions);
    for _ in 0..6 {
        assert_eq!(any(&db).await, "primary");
    }
    db.close().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while sqlx::query_scalar::<_, i64>(SESSIONS).fetch_one(&mut admin).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "closed means closed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Prints what a read costs with sqlx's pool, which pings what is given back, and as it is done here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_one_round_trip() {
    const READS: u32 = 3_000;
    let cluster = Cluster::start().await;
    let config = cluster.config("[database.pools]\nprimary_read_connections = 4\n");
    let db = Databases::connect(&config.database).await.unwrap();
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&config.database.primary.host)
        .username("app_ro")
        .database("plimsoll_shared");
    let pool = PgPoolOptions::new().max_connections(4).test_before_acquire(false);
    let pool = pool.connect_with(options).await.unwrap();
    let statement = "SELECT org_id FROM organisations WHERE org_id = $1";
    let (mut pooled, mut ours) = (Duration::ZERO, Duration::ZERO);
    // In turns, so that a busy machine is busy for both.
    for round in 0..6 {
        let start = Instant::now();
        for n in 0..i64::from(READS / 6) {
            let query = sqlx::query_as::<_, (i64,)>(statement).bind(n);
            assert!(query.fetch_all(&pool).await.unwrap().is_empty());
        }
        pooled += start.elapsed();
        let start = Instant::now();
        for n in 0..i64::from(READS / 6) {
            let query = || sqlx::query_as::<_, (i64,)>(statement).bind(n);
            let found = db.read(Database::Shared, Freshness::Any).fetch_all(query).await;
            assert!(found.unwrap().is_empty());
        }
        ours += start.elapsed();
        if round == 0 {
            (pooled, ours) = (Duration::ZERO, Duration::ZERO);
        }
    }
    let each = |total: Duration| total / (READS * 5 / 6);
    println!(
        "one read after another: {:?} with sqlx's pool, {:?} with ours",
        each(pooled),
        each(ours)
    );
    let mut admin = cluster.admin("postgres").await;
    let sessions: i64 = sqlx::query_scalar(SESSIONS).fetch_one(&mut admin).await.unwrap();
    assert!(
        sessions <= 5,
        "one reader needs one connection of ours, beside at most four of the pool: {sessions}"
    );
    db.close().await;
}
