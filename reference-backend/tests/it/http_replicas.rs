//! The backend over HTTP with replicas: where reads go, that they show the writes they follow, and what the loss of replicas
//! looks like from outside.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use crate::common::{Cluster, Replica, today};
use crate::http_server::{Server, TOKEN_HEADER, body, json_of, populate, problem_of};

/// A route that no cache answers.
fn uncached() -> String {
    format!("/cash/balances?from={0}&to={0}", today())
}

fn from(response: &Response) -> String {
    response.headers()["x-read-from"].to_str().unwrap().to_owned()
}

/// Asks until `wanted` have all answered; every answer on the way must be a good one.
async fn until_answered_by(server: &Server, wanted: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut missing = wanted.to_vec();
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{missing:?} never answered");
        let response = server.get(1, &uncached()).await;
        missing.retain(|name| *name != from(&response));
        json_of(response).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_replicas_show_their_writes_and_outlive_them() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let (mut first, mut second) = (Replica::of(&cluster).await, Replica::of(&cluster).await);
    let replicas = first.entry("http-1") + &second.entry("http-2");
    let more = "[database.replica_choice]\nlag_max_ms = 600000\nprimary_fallback_max = 1\n";
    let server = Server::all(&cluster, &format!("{replicas}{more}")).await;
    until_answered_by(&server, &["http-1", "http-2"]).await;

    // Whoever answers has replayed the write.
    let mut answered = Vec::new();
    for written in 1..=20 {
        let response = server.post(1, "revenues", Uuid::new_v4(), &body(1, 100)).await;
        assert_eq!(response.status(), 201);
        let token = response.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
        let path = format!("/v1/orgs/1{}", uncached());
        let request = server.request(reqwest::Method::GET, 1, &path);
        let response = request.header(TOKEN_HEADER, token).send().await.unwrap();
        answered.push(from(&response));
        let balances = json_of(response).await;
        assert_eq!(balances["balances"][0]["closing_cents"], json!(100 * written), "{answered:?}");
    }

    // One replica dies: its reads are answered by the other, or by the primary.
    first.kill();
    for _ in 0..30 {
        let response = server.get(1, &uncached()).await;
        assert_ne!(from(&response), "http-1");
        json_of(response).await;
    }
    // Both: by the primary. Its cap is one at a time here, and these come one at a time.
    second.kill();
    until_answered_by(&server, &["primary"]).await;

    the_cap_holds_and_writes_go_on(&cluster, &server).await;

    first.start().await;
    until_answered_by(&server, &["http-1"]).await;
    server.stop().await;
}

/// While one read holds the only place on the primary, the next is refused at once, and a write is taken.
async fn the_cap_holds_and_writes_go_on(cluster: &Cluster, server: &Server) {
    let mut admin = cluster.admin("plimsoll_finance").await;
    let mut lock = admin.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE daily_cash_balances_partitioned").execute(&mut *lock).await.unwrap();
    let path = uncached();
    let held = server.get(1, &path);
    let release = async {
        cluster.someone_waits_for_a_lock().await;
        // Another table: without the cap it would be answered. The limit keeps it out of the cache.
        let refused = server.get(1, &format!("/revenues?limit=7&to={}", today())).await;
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(problem_of(refused).await.0, 503);
        let response = server.post(1, "revenues", Uuid::new_v4(), &body(1, 100)).await;
        assert_eq!(response.status(), 201);
        lock.rollback().await.unwrap();
    };
    let (held, ()) = tokio::join!(held, release);
    assert_eq!(held.status(), 200);
}
