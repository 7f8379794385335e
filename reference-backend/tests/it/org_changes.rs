//! Two processes that show organisations: each learns what the other changed.

use std::time::{Duration, Instant};

use reference_backend::services::Service;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::common::Cluster;
use crate::http_server::{Server, json_of, populate};

/// Longer than the test: only who is told forgets. Lists that would be warmed are not asked for.
const SETTINGS: &str = "[server]\nlisten = \"127.0.0.1:0\"\n\
    [cache.organisations]\nentries = 100\nttl_ms = 3600000\nnegative_ttl_ms = 3600000\n";

async fn serve(cluster: &Cluster) -> Server {
    Server::start(cluster.config(SETTINGS), &[Service::Orgs, Service::Health]).await
}

/// The organisation's name, and who answered.
async fn shown(server: &Server, org: i64) -> (String, String) {
    let answer = server.get(org, "").await;
    let from = answer.headers()["x-read-from"].to_str().unwrap().to_owned();
    (json_of(answer).await["name"].as_str().unwrap().to_owned(), from)
}

/// Asks until the name is shown, from memory.
async fn until(server: &Server, org: i64, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let wanted = (name.to_owned(), "cache".to_owned());
    loop {
        let found = shown(server, org).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn rename(server: &Server, org: i64, name: &str) -> Value {
    let rename = server.request(Method::PATCH, org, &format!("/v1/orgs/{org}"));
    json_of(rename.json(&json!({"name": name})).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_changed_by_one_process_is_soon_shown_by_the_other() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let (first, second) = (serve(&cluster).await, serve(&cluster).await);
    for (writer, reader, name) in
        [(&first, &second, "Inn"), (&second, &first, "Lodge"), (&first, &second, "Hostel")]
    {
        shown(reader, 1).await;
        assert_eq!(rename(writer, 1, name).await["name"], name);
        until(reader, 1, name).await;
        until(writer, 1, name).await;
    }
    first.stop().await;
    second.stop().await;
}

/// As the program writes it.
const SLOW: &str = "\
    UPDATE organisations SET name = 'Slow', version = version + 1 WHERE org_id = 1; \
    INSERT INTO organisation_changes SELECT 1, version, pg_current_xact_id() FROM organisations WHERE org_id = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_commits_late_is_not_passed_over() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let (first, second) = (serve(&cluster).await, serve(&cluster).await);
    let mut shared = cluster.admin("plimsoll_shared").await;
    let mut slow = shared.begin().await.unwrap();
    sqlx::raw_sql(SLOW).execute(&mut *slow).await.unwrap();
    until(&second, 1, "Hotel 1").await;
    // Begun later, committed and seen earlier.
    until(&second, 2, "Hotel 2").await;
    rename(&first, 2, "Quick").await;
    until(&second, 2, "Quick").await;
    assert_eq!(shown(&second, 1).await, ("Hotel 1".to_owned(), "cache".to_owned()));
    slow.commit().await.unwrap();
    until(&second, 1, "Slow").await;
    first.stop().await;
    second.stop().await;
}
