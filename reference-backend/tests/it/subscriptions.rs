//! Subscriptions of the whole program: killed and started again, and asked about from the command line.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reference_backend::pubsub::{Topic, publish};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::common::{Cluster, org};
use crate::http_server::{SECRET, Server, bearer, body, populate};

/// A file with the cluster's address.
fn settings(cluster: &Cluster) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let socket = cluster.config("").database.primary.host;
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database.primary]\nhost = \"{socket}\"\nport = 5432\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn program(cluster: &Cluster, arguments: &[&str]) -> (Command, NamedTempFile) {
    let file = settings(cluster);
    let mut program = Command::new(env!("CARGO_BIN_EXE_reference-backend"));
    program.args(arguments).arg("--config").arg(file.path());
    program.env("PLIMSOLL_BACKEND_TOKEN_SECRET", SECRET).env("BACKEND__LOGS__FILTER", "off");
    (program, file)
}

/// A serving process, killed at the end.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn start(cluster: &Cluster) -> Self {
        let (mut program, _file) = program(cluster, &["serve"]);
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Self { child, url: told["url"].as_str().unwrap().to_owned() }
    }

    /// Books an amount worth a notification.
    async fn book(&self, of: i64) {
        let posted = reqwest::Client::new()
            .post(format!("{}/v1/orgs/{of}/revenues", self.url))
            .bearer_auth(bearer(of, 60))
            .header("Idempotency-Key", Uuid::now_v7().to_string())
            .json(&body(of, 2_000_000));
        assert_eq!(posted.send().await.unwrap().status(), 201);
    }

    /// As kill -9 does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// `reference-backend subscriptions …`: whether it succeeded, and what it said.
fn ask(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let (mut program, _file) = program(cluster, &[&["subscriptions"], arguments].concat());
    let output = program.output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, mut look: impl AsyncFnMut() -> T) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let found = look().await;
        if found == wanted {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap()
}

const NOTIFICATIONS: &str = "SELECT count(*) FROM notifications";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_its_messages_to_the_next() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut shared = cluster.admin("plimsoll_shared").await;
    let mut first = Serving::start(&cluster);
    // The handler waits for this table, and is killed while it does.
    sqlx::raw_sql("BEGIN; LOCK TABLE notifications").execute(&mut shared).await.unwrap();
    first.book(1).await;
    let mut admin = cluster.admin("postgres").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND datname = 'plimsoll_shared' AND query LIKE 'INSERT INTO notifications%'";
    until(1, async || count(&mut admin, waiting).await).await;
    first.kill();
    // What it had asked the server to do must not be done behind its back either.
    assert!(cluster.terminate("reference-backend").await > 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut shared).await.unwrap();
    assert_eq!(count(&mut shared, NOTIFICATIONS).await, 0);

    let mut second = Serving::start(&cluster);
    until(1, async || count(&mut shared, NOTIFICATIONS).await).await;
    let settled = || ask(&cluster, &["list"]).1.lines().nth(5).unwrap().to_owned();
    until(true, async || settled().contains(" 0        0     0  session")).await;
    second.kill();

    // All of it is settled: a third process delivers nothing again.
    sqlx::query("DELETE FROM notifications").execute(&mut shared).await.unwrap();
    let third = Serving::start(&cluster);
    third.book(2).await;
    until(true, async || count(&mut shared, NOTIFICATIONS).await > 0).await;
    until(true, async || settled().contains(" 0        0     0  session")).await;
    let told: Vec<i64> = sqlx::query_scalar("SELECT org_id FROM notifications")
        .fetch_all(&mut shared)
        .await
        .unwrap();
    assert_eq!(told, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_nobody_can_read_is_set_aside_told_of_and_let_go_by_hand() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "[pubsub]\npoll_interval_ms = 10\n").await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    let nonsense = json!({"kind": "nonsense"});
    publish(&mut store, Topic::BalanceCorrections, org(3), &nonsense).await.unwrap();
    let mut shared = cluster.admin("plimsoll_shared").await;
    let told = "SELECT count(*) FROM notifications WHERE org_id = 3 AND kind = 'dead-letter'";
    until(1, async || count(&mut shared, told).await).await;

    let (ok, letters) = ask(&cluster, &["dead-letters", "balance-repair"]);
    assert!(ok, "{letters}");
    for part in ["at 0/1", "organisation 3", "after 1 attempts", r#"{"kind":"nonsense"}"#] {
        assert!(letters.contains(part), "{part} missing in: {letters}");
    }
    let id = letters.split_whitespace().next().unwrap();
    assert_eq!(
        ask(&cluster, &["replay", "balance-repair", "--id", id]),
        (true, "balance-repair: 1 to be delivered once more\n".to_owned())
    );
    until(true, async || ask(&cluster, &["dead-letters", "balance-repair"]).1.contains("after 2"))
        .await;
    assert_eq!(
        ask(&cluster, &["skip", "balance-repair", "--all"]),
        (true, "balance-repair: 1 let go\n".to_owned())
    );
    assert_eq!(ask(&cluster, &["dead-letters", "balance-repair"]).1, "none\n");
    assert_eq!(count(&mut shared, told).await, 1, "told once");

    for (arguments, part) in [
        (&["replay", "balance-repair"][..], "--all"),
        (&["replay", "finance", "--all"], "finance: it has no deliveries"),
        (&["dead-letters", "letters"], "expected one of finance, finance-summary"),
    ] {
        let (ok, said) = ask(&cluster, arguments);
        assert!(!ok && said.contains(part), "{said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_subscriptions_are_listed_and_counted() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    for cents in [5, 3_000_000] {
        let booked = server.post(2, "expenses", Uuid::now_v7(), &body(2, cents)).await;
        assert_eq!(booked.status(), 201);
    }
    let mut shared = cluster.admin("plimsoll_shared").await;
    until(1, async || count(&mut shared, NOTIFICATIONS).await).await;
    let (_, list) = ask(&cluster, &["list"]);
    let page = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    for name in [
        "finance",
        "finance-summary",
        "cache",
        "realtime",
        "notifications",
        "snapshots",
        "balance-repair",
    ] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{list}");
        for figure in ["delivered_total", "acked_total", "dead_lettered_total"] {
            let series = format!("backend_subscription_{figure}{{subscription=\"{name}\"}}");
            assert!(page.contains(&series), "{series} is missing");
        }
    }
    for name in ["finance", "finance-summary", "realtime", "notifications", "balance-repair"] {
        for figure in ["lag_messages", "lag_seconds"] {
            let series = format!("backend_subscription_{figure}{{subscription=\"{name}\"}}");
            assert!(page.contains(&series), "{series} is missing");
        }
    }
    for figure in
        ["failed_total", "redelivered_total", "skipped_total", "in_flight", "owned", "dead_letters"]
    {
        let series = format!("backend_subscription_{figure}{{subscription=\"notifications\"}}");
        assert!(page.contains(&series), "{series} is missing");
    }
    server.stop().await;
}
