//! Old messages of topics go once they are settled, and a browser that missed them is told to begin anew.

use std::time::Duration;

use futures::StreamExt;
use reference_backend::db::Databases;
use reference_backend::pubsub::forget_settled;
use reqwest::Method;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::common::Cluster;
use crate::http_server::{Server, populate};

/// 2,500 messages of each topic, one a minute, the last one now; `balance-repair` has settled 1,800 and some above.
const MESSAGES: &str = "\
    INSERT INTO topic_messages (topic, position, org_id, data, published_at) \
    SELECT topic, n, 1, '{}', now() - (2500 - n) * interval '1 minute' FROM topics, generate_series(1, 2500) n; \
    UPDATE topics SET head = 2500; \
    INSERT INTO subscription_cursors (subscription, shard, floor, settled) \
    VALUES ('balance-repair', 0, 1800, '{[1900,2501)}')";

/// First and last message of a topic, and up to where it says that they are gone.
async fn kept(store: &mut PgConnection, topic: &str) -> (Option<i64>, Option<i64>, i64) {
    sqlx::query_as(
        "SELECT min(position), max(position), (SELECT forgotten FROM topics WHERE topic = $1) \
         FROM topic_messages WHERE topic = $1",
    )
    .bind(topic)
    .fetch_one(store)
    .await
    .unwrap()
}

#[tokio::test]
async fn only_what_is_old_and_settled_by_all_is_removed() {
    let cluster = Cluster::start().await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::raw_sql(MESSAGES).execute(&mut store).await.unwrap();
    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60 + 30);
    assert_eq!(forget_settled(&db, minutes(2_500)).await.unwrap(), 0, "nothing is so old");
    assert_eq!(kept(&mut store, "realtime-updates").await, (Some(1), Some(2_500), 0));

    // Old ones of both topics; all of these are settled.
    assert_eq!(forget_settled(&db, minutes(999)).await.unwrap(), 3_000);
    for topic in ["realtime-updates", "balance-corrections"] {
        assert_eq!(kept(&mut store, topic).await, (Some(1_501), Some(2_500), 1_500));
    }
    assert_eq!(forget_settled(&db, minutes(999)).await.unwrap(), 0, "done");

    // Browsers keep no cursor; the repair has not settled 1801.
    assert_eq!(forget_settled(&db, minutes(99)).await.unwrap(), 900 + 300);
    assert_eq!(kept(&mut store, "realtime-updates").await, (Some(2_401), Some(2_500), 2_400));
    assert_eq!(kept(&mut store, "balance-corrections").await, (Some(1_801), Some(2_500), 1_800));

    // A subscription that never wrote a cursor has settled nothing.
    let never = "DELETE FROM subscription_cursors; UPDATE topics SET forgotten = 0; \
         UPDATE topic_messages SET published_at = now() - interval '1 year'";
    sqlx::raw_sql(AssertSqlSafe(never)).execute(&mut store).await.unwrap();
    assert_eq!(forget_settled(&db, minutes(1)).await.unwrap(), 100);
    assert_eq!(kept(&mut store, "realtime-updates").await, (None, None, 2_500));
    assert_eq!(kept(&mut store, "balance-corrections").await, (Some(1_801), Some(2_500), 0));
    db.close().await;
}

/// The first event of a stream that goes on after a message.
async fn opening(server: &Server, message: i64) -> String {
    let request = server.request(Method::GET, 1, "/v1/orgs/1/realtime");
    let answer = request.header("last-event-id", format!("0.{message}")).send().await.unwrap();
    let mut stream = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("\n\n") {
        text += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    let event = text.lines().find_map(|line| line.strip_prefix("event:")).unwrap();
    event.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_removes_them_and_a_browser_from_before_begins_anew() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::raw_sql(MESSAGES).execute(&mut store).await.unwrap();
    let settings =
        "[pubsub]\nmessages_kept_hours = 1\n[pubsub.realtime]\nresume_updates_max = 10000\n";
    let server = Server::all(&cluster, settings).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while kept(&mut store, "realtime-updates").await.2 < 2_430 {
        assert!(std::time::Instant::now() < deadline, "they were never removed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (first, ..) = kept(&mut store, "realtime-updates").await;
    let first = first.unwrap();
    assert_eq!(opening(&server, first - 1).await, "ready");
    assert_eq!(opening(&server, first - 2).await, "reset");
    server.stop().await;
}
