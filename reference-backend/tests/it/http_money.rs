//! Money over HTTP: recorded once, shown at once to whoever wrote it, and the same from the cache as from the database.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;

use chrono::Days;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::common::{Cluster, property, today};
use crate::http_server::{
    SECRET, Server, TOKEN_HEADER, body, first_property, json_of, populate, problem_of,
};

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_a_stale_version_is_refused() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let key = Uuid::now_v7();
    let first = server.post(1, "revenues", key, &body(1, 250)).await;
    assert_eq!(first.status(), 201);
    let token = first.headers()[TOKEN_HEADER].clone();
    let first: Value = first.json().await.unwrap();
    assert_eq!(first["id"], key.to_string());
    assert_eq!(first["version"], 1);

    let again = server.post(1, "revenues", key, &body(1, 250)).await;
    assert_eq!((again.status().as_u16(), &again.headers()[TOKEN_HEADER]), (201, &token));
    assert_eq!(again.json::<Value>().await.unwrap(), first);

    let mut expecting = body(1, 10);
    expecting["expected_version"] = json!(0);
    let stale = server.post(1, "expenses", Uuid::now_v7(), &expecting).await;
    assert_eq!(problem_of(stale).await.0, 409);
    expecting["expected_version"] = json!(1);
    let fresh = server.post(1, "expenses", Uuid::now_v7(), &expecting).await;
    assert_eq!(fresh.status(), 201);

    let events = server.get(1, &format!("/events?property={}", first_property(1))).await;
    let events = json_of(events).await;
    let kinds: Vec<_> = events["events"].as_array().unwrap().iter().map(|e| &e["type"]).collect();
    assert_eq!(kinds, ["revenue_recorded", "expense_recorded"]);
    server.stop().await;
}

#[tokio::test]
async fn whoever_wrote_sees_it_in_every_answer() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let summary = format!("/finance-summary/{}", first_property(1));
    for written in 1..=20_i64 {
        let answer = server.post(1, "revenues", Uuid::now_v7(), &body(1, 100)).await;
        let token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
        let id = answer.json::<Value>().await.unwrap()["id"].clone();
        let total = 100 * written;
        let read = async |path: &str| server.get_after(1, path, &token).await;
        assert_eq!(read("/cash/position").await["total_cents"], total);
        assert_eq!(read(&summary).await["version"], written);
        assert_eq!(read("/finance-summary").await["revenue_cents"], total);
        assert_eq!(read("/cash/balances").await["balances"][0]["closing_cents"], total);
        let period = format!("/cash/balances?to={}", today());
        assert_eq!(read(&period).await["balances"][0]["closing_cents"], total);
        for listing in ["/revenues", "/revenues?limit=200"] {
            let page = read(listing).await;
            let entries = page["entries"].as_array().unwrap();
            assert!(entries.iter().any(|entry| entry["id"] == id), "{listing}");
        }
        assert_eq!(read("/expenses").await["entries"], json!([]));
    }
    assert_eq!(server.get(1, &summary).await.headers()["x-read-from"], "cache");
    server.stop().await;
}

#[tokio::test]
async fn pages_meet_without_gap_or_overlap() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let mut token = String::new();
    for n in 0..120_u64 {
        let mut entry = body(1, 1);
        entry["date"] = json!((today() - Days::new(n % 7)).to_string());
        let answer = server.post(1, "expenses", Uuid::new_v4(), &entry).await;
        token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
    }
    let mut seen = Vec::new();
    let mut path = "/expenses".to_owned();
    loop {
        let page = server.get_after(1, &path, &token).await;
        for entry in page["entries"].as_array().unwrap() {
            let text = |field: &str| entry[field].as_str().unwrap().to_owned();
            seen.push((text("date"), text("id")));
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/expenses?after={next}");
    }
    let mut sorted = seen.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!(seen.len(), 120);
    assert_eq!(seen, sorted);
    server.stop().await;
}

/// Answers of an organisation that the cache can give.
const CACHED: [&str; 5] =
    ["/cash/position", "/cash/balances", "/finance-summary", "/revenues", "/expenses"];

/// Entries on different days and sides, from one writer; returns the token of the last.
async fn write(server: &Server, org: i64, writer: u64, writes: u64) -> String {
    let mut token = String::new();
    for n in 0..writes {
        let side = if (n + writer).is_multiple_of(3) { "expenses" } else { "revenues" };
        let number = 10 * u128::from(org.unsigned_abs()) + u128::from(n % 2);
        let entry = json!({
            "property": property(number), "amount_cents": 1 + n, "category": format!("c{}", n % 5),
            "date": today() - Days::new((n * 7 + writer) % 45),
        });
        let answer = server.post(org, side, Uuid::new_v4(), &entry).await;
        assert_eq!(answer.status(), 201);
        token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
        let version = answer.json::<Value>().await.unwrap()["version"].as_i64().unwrap();
        let path = format!("/finance-summary/{}", property(number));
        let shown = server.get_after(org, &path, &token).await["version"].as_i64().unwrap();
        assert!(shown >= version, "shown {shown}, written {version}");
    }
    token
}

/// Writes and reads side by side, then compares what the caches hold with what a cold start loads.
async fn cache_equals_database(settings: &str) {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Arc::new(Server::all(&cluster, settings).await);
    let mut writers = JoinSet::new();
    for org in 1..=4 {
        for writer in 0..4 {
            let server = Arc::clone(&server);
            writers.spawn(async move { (org, write(&server, org, writer, 25).await) });
        }
    }
    let mut readers = JoinSet::new();
    for org in 1..=4 {
        let server = Arc::clone(&server);
        readers.spawn(async move {
            loop {
                for path in CACHED {
                    json_of(server.get(org, path).await).await;
                }
            }
        });
    }
    let tokens = writers.join_all().await;
    readers.shutdown().await;
    let mut held = Vec::new();
    for (org, token) in tokens {
        for path in CACHED {
            // Each token, so that all four writers' last writes are waited for before the last look.
            server.get_after(org, path, &token).await;
        }
    }
    for org in 1..=4 {
        for path in CACHED {
            held.push(json_of(server.get(org, path).await).await);
        }
    }
    Arc::into_inner(server).unwrap().stop().await;

    let cold = Server::all(&cluster, "").await;
    for org in 1..=4 {
        for path in CACHED {
            let answer = cold.get(org, path).await;
            let held = held.remove(0);
            assert_eq!(json_of(answer).await, held, "organisation {org}, {path}");
        }
    }
    cold.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_followed_equals_the_database() {
    cache_equals_database("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_loaded_amid_writes_equals_the_database() {
    // Lifetimes so short that loads and events meet all the time.
    let short = "ttl_ms = 15\nnegative_ttl_ms = 5\n";
    let sections = ["cash", "summaries", "first_pages"].map(|s| format!("[cache.{s}]\n{short}"));
    cache_equals_database(&sections.concat()).await;
}

#[tokio::test]
async fn the_metrics_page_carries_the_agreed_names() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let answer = server.post(1, "revenues", Uuid::now_v7(), &body(1, 5)).await;
    let token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
    server.get_after(1, "/cash/position", &token).await;
    server.get_after(1, "/cash/position", &token).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await; // gauges are set once a second
    let page = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    for series in [
        r#"backend_http_requests_total{service="revenues",method="POST",status="201"}"#,
        r#"backend_http_request_duration_seconds_bucket{service="cash",le="0.05"}"#,
        r#"backend_cache_requests_total{cache="cash",outcome="hit"}"#,
        r#"backend_cache_requests_total{cache="properties",outcome="miss"}"#,
        r#"backend_cache_requests_total{cache="orgs",outcome="wait"}"#,
        r#"backend_cache_entries{cache="finance-summary"}"#,
        r#"backend_cache_warmed_total{outcome="skipped"}"#,
        r#"backend_reads_total{source="cache",server="cache",reason="none"}"#,
        r#"backend_reads_total{source="primary",server="primary",reason="none"}"#,
        r#"backend_commands_total{outcome="appended"}"#,
        "backend_events_appended_total",
        "backend_append_batches_total",
        r#"backend_append_batch_events_bucket{le="1"}"#,
        r#"backend_projection_events_total{projection="finance-summary"}"#,
        r#"backend_projection_lag_seconds{projection="finance"}"#,
        r#"backend_projection_behind_events{projection="finance"}"#,
        r#"backend_shed_total{where="gateway"}"#,
        r#"backend_db_pool_in_use{database="finance",server="primary"}"#,
        r#"backend_db_query_duration_seconds_bucket{database="finance",kind="read""#,
        r#"backend_db_query_duration_seconds_bucket{database="event_store",kind="append""#,
        r#"backend_db_query_duration_seconds_bucket{database="finance",kind="project""#,
        r#"backend_info{version="0.1.0"} 1"#,
    ] {
        assert!(page.contains(series), "{series} is missing in:\n{page}");
    }
    server.stop().await;
}

/// A process that does not outlive its test, however that ends.
struct Owned(std::process::Child);

impl Drop for Owned {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_the_program_nothing_acknowledged_is_lost() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let socket = cluster.config("").database.primary.host;
    let file = std::env::temp_dir().join(format!("backend-{}.toml", Uuid::new_v4()));
    std::fs::write(
        &file,
        format!("[server]\nlisten = \"127.0.0.1:0\"\n[database.primary]\nhost = \"{socket}\"\nport = 5432\n"),
    )
    .unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_reference-backend"))
        .args(["serve", "--config"])
        .arg(&file)
        .env("PLIMSOLL_BACKEND_TOKEN_SECRET", SECRET)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut program = Owned(program);
    let mut stdout = BufReader::new(program.0.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&told["event"], &told["schema"]), (&json!("listening"), &json!(2)));

    let url = told["url"].as_str().unwrap().to_owned();
    let client = reqwest::Client::new();
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (url, client) = (url.clone(), client.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let key = Uuid::new_v4();
                let request = client
                    .post(format!("{url}/v1/orgs/1/revenues"))
                    .bearer_auth(crate::http_server::bearer(1, 60))
                    .header("Idempotency-Key", key.to_string())
                    .json(&body(1, 1));
                match request.send().await {
                    Ok(answer) if answer.status() == 201 => acknowledged.push(key),
                    _ => return acknowledged,
                }
            }
        });
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    kill(Pid::from_raw(program.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    let acknowledged = writers.join_all().await.concat();
    let status = tokio::task::spawn_blocking(move || program.0.wait().unwrap()).await.unwrap();
    let _ = std::fs::remove_file(file);
    assert_eq!(status.code(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one line, and nothing else");

    assert!(!acknowledged.is_empty());
    let kept = |table: &'static str| sqlx::query_scalar::<_, i64>(table).bind(&acknowledged);
    let mut store = cluster.admin("plimsoll_event_store").await;
    let events = kept("SELECT count(*) FROM events WHERE command_id = ANY($1)");
    assert_eq!(events.fetch_one(&mut store).await.unwrap() as usize, acknowledged.len());
    let mut finance = cluster.admin("plimsoll_finance").await;
    let rows = kept("SELECT count(*) FROM revenues_partitioned WHERE id = ANY($1)");
    assert_eq!(rows.fetch_one(&mut finance).await.unwrap() as usize, acknowledged.len());
}
