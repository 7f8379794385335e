//! Two processes on one store: one that appends, and one that follows it and answers from its own memory.

use std::time::{Duration, Instant};

use reference_backend::events::Shard;
use reference_backend::services::Service;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Cluster, org};
use crate::http_server::{
    Server, TOKEN_HEADER, body, first_property, json_of, populate, problem_of,
};

const WRITES: &[Service] = &[Service::Revenues, Service::Expenses, Service::Health];
const READS: &[Service] = &[Service::Cash, Service::ReadModels, Service::Events, Service::Health];

/// The first organisation's answers that the reader can give from memory.
const SHOWN: [&str; 3] = ["/cash/position", "/cash/balances", "/finance-summary"];

async fn serve(cluster: &Cluster, more: &str, hosted: &'static [Service]) -> Server {
    Server::start(cluster.config(&format!("[server]\nlisten = \"127.0.0.1:0\"\n{more}")), hosted)
        .await
}

async fn pair(cluster: &Cluster, more: &str) -> (Server, Server) {
    populate(cluster).await;
    (serve(cluster, more, WRITES).await, serve(cluster, more, READS).await)
}

/// Records a revenue of organisation 1; its token.
async fn record(writer: &Server, cents: i64) -> String {
    let answer = writer.post(1, "revenues", Uuid::now_v7(), &body(1, cents)).await;
    assert_eq!(answer.status(), 201);
    answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned()
}

/// The answer and who gave it.
async fn shown(reader: &Server, path: &str) -> (Value, String) {
    let answer = reader.get(1, path).await;
    let from = answer.headers()["x-read-from"].to_str().unwrap().to_owned();
    (json_of(answer).await, from)
}

/// Asks until the answer is as wanted.
async fn until(reader: &Server, path: &str, holds: impl Fn(&Value, &str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (answer, from) = shown(reader, path).await;
        if holds(&answer, &from) {
            return;
        }
        assert!(Instant::now() < deadline, "{path} is still {answer} from {from}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn stop(servers: impl IntoIterator<Item = Server>) {
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_answers_from_memory_and_shows_the_write_of_a_token() {
    let cluster = Cluster::start().await;
    let (writer, reader) = pair(&cluster, "").await;
    // Not from nothing: that there is nothing is remembered only for a moment.
    let token = record(&writer, 100).await;
    for path in SHOWN {
        reader.get_after(1, path, &token).await;
    }
    let mut took = Vec::new();
    for written in 2..=21_i64 {
        let begun = Instant::now();
        let token = record(&writer, 100).await;
        for path in SHOWN {
            reader.get_after(1, path, &token).await;
        }
        took.push(begun.elapsed());
        let (position, from) = shown(&reader, "/cash/position").await;
        assert_eq!((position["total_cents"].as_i64(), &*from), (Some(100 * written), "cache"));
        let (summary, from) = shown(&reader, "/finance-summary").await;
        assert_eq!((summary["entry_count"].as_i64(), &*from), (Some(written), "cache"));
        let events = format!("/events?property={}", first_property(1));
        let events = reader.get_after(1, &events, &token).await;
        assert_eq!(events["events"].as_array().unwrap().len() as i64, written);
    }
    took.sort();
    println!(
        "a write and three reads of it by the other process: median {:?}, most {:?}",
        took[10], took[19]
    );
    stop([reader, writer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_writes_the_follower_stays_close_and_ends_equal_to_a_cold_start() {
    let cluster = Cluster::start().await;
    let (writer, reader) = pair(&cluster, "").await;
    let token = record(&writer, 1).await;
    reader.get_after(1, "/finance-summary", &token).await;
    let (mut most_behind, mut delays) = (0, Vec::new());
    for written in 2..=300_i64 {
        record(&writer, written).await;
        let at = Instant::now();
        if written % 10 == 0 {
            let (summary, from) = shown(&reader, "/finance-summary").await;
            let seen = summary["entry_count"].as_i64().unwrap_or_default();
            assert!(seen <= written, "{seen} of {written}");
            assert_eq!(from, "cache");
            most_behind = most_behind.max(written - seen);
        }
        if written % 50 == 0 {
            until(&reader, "/finance-summary", |summary, _| summary["entry_count"] == written)
                .await;
            delays.push(at.elapsed());
        }
    }
    delays.sort();
    println!("coherent after {delays:?}; at most {most_behind} events behind");
    assert!(most_behind < 200, "{most_behind} events behind");
    let cold = serve(&cluster, "", READS).await;
    for path in SHOWN {
        assert_eq!(shown(&reader, path).await.0, shown(&cold, path).await.0, "{path}");
    }
    stop([cold, reader, writer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_no_write_gave_is_refused_and_not_waited_for() {
    let cluster = Cluster::start().await;
    // Were it waited for, the test would never end.
    let patient = "read_your_writes_wait_ms = 600000\nrequest_timeout_ms = 600000\n";
    let (writer, reader) = pair(&cluster, patient).await;
    let token = record(&writer, 5).await;
    assert_eq!(reader.get_after(1, "/cash/position", &token).await["total_cents"], 5);
    let next = format!("{}{:x}", &token[..2], i64::from_str_radix(&token[2..], 16).unwrap() + 1);
    for (org, token) in [(1, &next), (2, &token)] {
        let request =
            reader.request(reqwest::Method::GET, org, &format!("/v1/orgs/{org}/cash/position"));
        let refused = request.header(TOKEN_HEADER, token).send().await.unwrap();
        assert_eq!(problem_of(refused).await.0, 400, "{token} of organisation {org}");
    }
    stop([reader, writer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_set_aside_is_not_shown_by_who_follows_either() {
    let cluster = Cluster::start().await;
    let (writer, reader) =
        pair(&cluster, "[projections]\nretry_first_ms = 1\nretry_max_ms = 1\n").await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql(
        "ALTER TABLE revenues_partitioned ADD CONSTRAINT poison CHECK (amount_cents <> 1300)",
    )
    .execute(&mut finance)
    .await
    .unwrap();
    record(&writer, 1).await;
    shown(&reader, "/cash/position").await;
    for cents in [10, 1_300, 100] {
        record(&writer, cents).await;
    }
    let token = record(&writer, 1_000).await;
    let position = reader.get_after(1, "/cash/position", &token).await;
    assert_eq!(position["total_cents"], 1_111);
    assert_eq!(shown(&reader, "/cash/position").await.1, "cache");
    let summary = reader.get_after(1, "/finance-summary", &token).await;
    assert_eq!(summary["revenue_cents"], 2_411, "the other projection took it");
    stop([reader, writer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_look_any_more_asks_a_server_until_it_can() {
    let cluster = Cluster::start().await;
    let (writer, reader) =
        pair(&cluster, "[following]\ninterval_ms = 20\nstale_after_ms = 400\n").await;
    let token = record(&writer, 1).await;
    reader.get_after(1, "/cash/position", &token).await;
    assert_eq!(shown(&reader, "/cash/position").await.1, "cache");

    let mut finance = cluster.admin("plimsoll_finance").await;
    let run = async |sql: &'static str, finance: &mut sqlx::PgConnection| {
        sqlx::raw_sql(sql).execute(finance).await.unwrap();
    };
    run("REVOKE SELECT ON projection_dead_letters FROM app_rw", &mut finance).await;
    record(&writer, 10).await;
    until(&reader, "/cash/position", |position, from| {
        from == "primary" && position["total_cents"] == 11
    })
    .await;
    // Its checkpoint is elsewhere, and can be looked at.
    until(&reader, "/finance-summary", |_, from| from == "cache").await;
    run("GRANT SELECT ON projection_dead_letters TO app_rw", &mut finance).await;
    until(&reader, "/cash/position", |position, from| {
        from == "cache" && position["total_cents"] == 11
    })
    .await;
    stop([reader, writer]).await;
}

/// As a later release would leave it: an event of organisation 1 of a type that nobody here knows, and it is projected.
async fn add_unreadable(cluster: &Cluster) {
    let shard = Shard::of(org(1)).number();
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::query(
        "INSERT INTO events (shard, position, org_id, aggregate_type, aggregate_id, version, event_type, command_id, recorded_at, data) \
         SELECT shard, position + 1, org_id, aggregate_type, gen_random_uuid(), 1, 99, gen_random_uuid(), now(), data \
         FROM events WHERE shard = $1 ORDER BY position DESC LIMIT 1",
    )
    .bind(shard)
    .execute(&mut store)
    .await
    .unwrap();
    for database in ["plimsoll_finance", "plimsoll_read_models"] {
        let mut tables = cluster.admin(database).await;
        sqlx::query("UPDATE projection_checkpoints SET position = position + 1 WHERE shard = $1")
            .bind(shard)
            .execute(&mut tables)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_read_takes_nothing_from_other_shards() {
    let cluster = Cluster::start().await;
    let (writer, reader) =
        pair(&cluster, "[following]\ninterval_ms = 20\nstale_after_ms = 400\n").await;
    let token = record(&writer, 100).await;
    reader.get_after(1, "/cash/position", &token).await;
    add_unreadable(&cluster).await;

    let answer = writer.post(2, "revenues", Uuid::now_v7(), &body(2, 30)).await;
    let token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
    assert_eq!(reader.get_after(2, "/cash/position", &token).await["total_cents"], 30);
    // Longer than what is held may be shown without a look that works; then it is shown again, as soon as one does.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while reader.get(2, "/cash/position").await.headers()["x-read-from"] != "cache" {
        assert!(Instant::now() < deadline, "the other shard's organisation is not held any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Its own shard's tables hold it, whatever it says: they are loaded again, and then held.
    until(&reader, "/cash/position", |position, from| {
        from == "cache" && position["total_cents"] == 100
    })
    .await;
    stop([reader, writer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_went_back_are_shown_as_they_are() {
    let cluster = Cluster::start().await;
    let (writer, reader) = pair(&cluster, "").await;
    for _ in 0..5 {
        record(&writer, 100).await;
    }
    let token = record(&writer, 100).await;
    for path in SHOWN {
        reader.get_after(1, path, &token).await;
    }
    writer.stop().await;
    // As after a restore from before the six.
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql(
        "BEGIN; UPDATE projection_checkpoints SET position = 0 WHERE projection = 'finance'; \
         TRUNCATE revenues_partitioned, daily_cash_balances_partitioned; COMMIT",
    )
    .execute(&mut finance)
    .await
    .unwrap();
    until(&reader, "/cash/balances", |days, _| days["balances"] == json!([])).await;
    assert_eq!(shown(&reader, "/finance-summary").await.0["revenue_cents"], 600);

    // The projection makes it good from the store, and the follower with it.
    let writer = serve(&cluster, "", WRITES).await;
    until(&reader, "/cash/position", |position, from| {
        from == "cache" && position["total_cents"] == 600
    })
    .await;
    stop([reader, writer]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repaired_rows_are_shown_by_every_process() {
    let cluster = Cluster::start().await;
    let (writer, reader) = pair(&cluster, "").await;
    let both = serve(&cluster, "", &[Service::ReadModels]).await;
    let token = record(&writer, 100).await;
    for server in [&reader, &both] {
        server.get_after(1, "/finance-summary", &token).await;
    }
    let mut models = cluster.admin("plimsoll_read_models").await;
    let repair = "BEGIN; \
        UPDATE projection_checkpoints SET epoch = epoch + 1 WHERE projection = 'finance-summary'; \
        UPDATE finance_summaries SET revenue_cents = 777 WHERE org_id = 1; COMMIT";
    sqlx::raw_sql(repair).execute(&mut models).await.unwrap();
    for server in [&reader, &both] {
        until(server, "/finance-summary", |summary, _| summary["revenue_cents"] == 777).await;
        until(server, "/finance-summary", |_, from| from == "cache").await;
    }
    let token = record(&writer, 1).await;
    let summary = reader.get_after(1, "/finance-summary", &token).await;
    assert_eq!(summary["revenue_cents"], 778, "events go on from the repaired rows");
    stop([both, reader, writer]).await;
}

/// The lock class of the leases, as another backend would take them.
const STEAL: &str = "SELECT pg_advisory_lock(1886153069, n) FROM generate_series(0, 7) n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_leases_a_writer_answers_from_the_servers() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "[event_store]\nlease_wait_ms = 100\n").await;
    let token = record(&server, 100).await;
    server.get_after(1, "/cash/position", &token).await;
    assert_eq!(shown(&server, "/cash/position").await.1, "cache");

    let mut thief = cluster.admin("plimsoll_event_store").await;
    let thief = tokio::spawn(async move {
        sqlx::raw_sql(STEAL).execute(&mut thief).await.unwrap();
        thief
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !thief.is_finished() {
        assert!(Instant::now() < deadline, "the leases could not be taken");
        cluster.terminate("appender %").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let thief = thief.await.unwrap();
    let url = format!("{}/health/ready", server.url);
    while reqwest::get(&url).await.unwrap().status() != 503 {
        assert!(Instant::now() < deadline, "the loss was never noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What another process does now, this one is not told.
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql(
        "UPDATE daily_cash_balances_partitioned SET revenue_cents = 300, closing_cents = 300 WHERE org_id = 1",
    )
    .execute(&mut finance)
    .await
    .unwrap();
    let (position, from) = shown(&server, "/cash/position").await;
    assert_eq!((&position["total_cents"], &*from), (&json!(300), "primary"));
    let refused = server.post(1, "revenues", Uuid::now_v7(), &body(1, 1)).await;
    assert_eq!(problem_of(refused).await.0, 503);

    drop(thief);
    until(&server, "/cash/position", |_, from| from == "cache").await;
    record(&server, 1).await;
    stop([server]).await;
}
