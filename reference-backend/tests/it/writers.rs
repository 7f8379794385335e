//! Writers that compete, are killed, or find another history than they left: of each version there is one event, and whoever was
//! acknowledged is in the store once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reference_backend::db::{Database, Databases};
use reference_backend::events::{AppendError, EventStore};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::common::program::Program;
use crate::common::{Backend, Cluster, expecting, revenue};
use crate::http_server::{SECRET, bearer, body, populate};

fn start(cluster: &Cluster, more: &str) -> Result<Program, String> {
    Program::start(cluster, more, "revenues,expenses,health", SECRET)
}

/// Records a revenue of organisation 1 as a client would; status and body of the answer, none when there was no answer.
async fn post(url: &str, key: Uuid, body: &Value) -> Option<(u16, Value)> {
    let request =
        Client::new().post(format!("{url}/v1/orgs/1/revenues")).bearer_auth(bearer(1, 600));
    let answer = request.header("Idempotency-Key", key.to_string()).json(body).send().await.ok()?;
    Some((answer.status().as_u16(), answer.json().await.ok()?))
}

/// Position and version of each event of a command.
async fn stored(cluster: &Cluster, key: Uuid) -> Vec<(i64, i32)> {
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::query_as("SELECT position, version FROM events WHERE command_id = $1")
        .bind(key)
        .fetch_all(&mut store)
        .await
        .unwrap()
}

/// Versions of the only account, in the order of positions; they must be 1, 2, 3 ….
async fn assert_gapless(cluster: &Cluster) -> usize {
    let mut store = cluster.admin("plimsoll_event_store").await;
    let rows: Vec<(i64, i32)> =
        sqlx::query_as("SELECT position, version FROM events ORDER BY position")
            .fetch_all(&mut store)
            .await
            .unwrap();
    for ((position, version), n) in rows.iter().zip(1..) {
        assert_eq!((*position, *version), (i64::from(n), n), "{rows:?}");
    }
    rows.len()
}

async fn wait_until_held(cluster: &Cluster) {
    let mut admin = cluster.admin("postgres").await;
    let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'appender %'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while sqlx::query_scalar::<_, i64>(held).fetch_one(&mut admin).await.unwrap() == 0 {
        assert!(Instant::now() < deadline, "no commit ever waited");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_between_commit_and_answer_the_retry_gets_the_first_answer() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut program = start(&cluster, "").unwrap();
    assert_eq!(post(&program.url, Uuid::now_v7(), &body(1, 1)).await.unwrap().0, 201);
    cluster.hold_answers(true).await;
    // One of each kind: a retry must not turn into a conflict because its own first try moved the version.
    let mut expecting = body(1, 250);
    expecting["expected_version"] = json!(1);
    let key = Uuid::now_v7();
    let url = program.url.clone();
    let sent = expecting.clone();
    let unanswered = tokio::spawn(async move { post(&url, key, &sent).await });
    wait_until_held(&cluster).await;
    program.kill();
    assert_eq!(unanswered.await.unwrap(), None, "nobody was told");
    cluster.hold_answers(false).await;
    let first = stored(&cluster, key).await;
    assert_eq!(first.len(), 1, "it was committed all the same");

    let program = start(&cluster, "").unwrap();
    for _ in 0..2 {
        let (status, answer) = post(&program.url, key, &expecting).await.unwrap();
        assert_eq!(status, 201, "{answer}");
        assert_eq!(
            (&answer["position"], &answer["version"]),
            (&json!(first[0].0), &json!(first[0].1))
        );
    }
    assert_eq!(
        post(&program.url, key, &body(1, 251)).await.unwrap().0,
        422,
        "the key has other content"
    );
    assert_eq!(stored(&cluster, key).await, first);
    assert_eq!(assert_gapless(&cluster).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_appends_and_after_its_death_the_other_goes_on() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut first = start(&cluster, "").unwrap();
    let refused = start(&cluster, "[event_store]\nlease_wait_ms = 100\n").map(drop).unwrap_err();
    assert!(refused.contains("another process holds it"), "{refused}");

    let cluster = Arc::new(cluster);
    let waiting = {
        let cluster = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || {
            start(&cluster, "[event_store]\nlease_wait_ms = 30000\n")
        })
    };
    // Twenty at once for each version; the process is killed amid them.
    let mut won = Vec::new();
    for version in 0..6 {
        let mut expecting = body(1, 5);
        expecting["expected_version"] = json!(version);
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let (url, expecting) = (first.url.clone(), expecting.clone());
            let key = Uuid::now_v7();
            tasks.spawn(async move { (key, post(&url, key, &expecting).await) });
        }
        if version == 5 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            first.kill();
        }
        let answers = tasks.join_all().await;
        let winners: Vec<Uuid> = answers
            .iter()
            .filter(|(_, a)| a.as_ref().is_some_and(|a| a.0 == 201))
            .map(|(key, _)| *key)
            .collect();
        if version < 5 {
            let lost =
                answers.iter().filter(|(_, a)| a.as_ref().is_some_and(|a| a.0 == 409)).count();
            assert_eq!((winners.len(), lost), (1, 19), "version {version}");
        }
        won.extend(winners);
    }
    let second = waiting.await.unwrap().unwrap();
    for key in won {
        assert_eq!(stored(&cluster, key).await.len(), 1);
    }
    // Whether the sixth was written before the end is for the store to say; the second process knows it.
    let events = assert_gapless(&cluster).await;
    let mut expecting = body(1, 5);
    expecting["expected_version"] = json!(events);
    let (status, answer) = post(&second.url, Uuid::now_v7(), &expecting).await.unwrap();
    assert_eq!((status, &answer["version"]), (201, &json!(events + 1)), "{answer}");
    expecting["expected_version"] = json!(events - 1);
    assert_eq!(post(&second.url, Uuid::now_v7(), &expecting).await.unwrap().0, 409);
    assert_eq!(assert_gapless(&cluster).await, events + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_its_leases_fails_and_never_interleaves() {
    let cluster = Cluster::start().await;
    let config = cluster.config("[event_store]\nlease_wait_ms = 100\n");
    let first = Backend::start(&config).await;
    first.events.append(expecting(revenue(1, 7, 1), 0)).await.unwrap();

    let patient = cluster.config("[event_store]\nlease_wait_ms = 30000\n");
    let second_db = Databases::connect(&patient.database).await.unwrap();
    let taking = {
        let db = second_db.clone();
        tokio::spawn(async move { EventStore::start(&db, &patient.event_store).await.unwrap() })
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !taking.is_finished() {
        assert!(Instant::now() < deadline, "the second never got all leases");
        // Also those that the second has: only together do they let it start.
        cluster.terminate("appender %").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let second = taking.await.unwrap();
    for version in 1..6 {
        let (here, there) =
            (expecting(revenue(1, 7, 2), version), expecting(revenue(1, 7, 3), version));
        let (lost, won) = tokio::join!(first.events.append(here), second.append(there));
        // On a connection that just broke it cannot know.
        let refused = matches!(lost, Err(AppendError::Unavailable(_) | AppendError::Unknown(_)));
        assert!(refused, "{lost:?}");
        assert_eq!(won.unwrap().version.get(), version + 1);
    }
    second.stop().await;
    second_db.close().await;
    // The first takes its leases again, and finds what was written meanwhile.
    let stale = first.events.append(expecting(revenue(1, 7, 4), 1)).await;
    assert!(
        matches!(stale, Err(AppendError::Conflict { actual, .. }) if actual.get() == 6),
        "{stale:?}"
    );
    assert_eq!(first.events.append(expecting(revenue(1, 7, 4), 6)).await.unwrap().version.get(), 7);
    assert_eq!(assert_gapless(&cluster).await, 7);
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_lacks_acknowledged_events_ends_the_program_at_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut program = start(&cluster, "").unwrap();
    for _ in 0..3 {
        assert_eq!(post(&program.url, Uuid::now_v7(), &body(1, 1)).await.unwrap().0, 201);
    }
    // As a server that was promoted too early, or restored from before.
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::raw_sql("DELETE FROM events WHERE version = 3").execute(&mut store).await.unwrap();
    assert!(cluster.terminate("appender %").await > 0);
    let key = Uuid::now_v7();
    let answer = post(&program.url, key, &body(1, 1)).await;
    assert!(answer.is_none_or(|(status, _)| status == 503));
    let (status, log) = tokio::task::spawn_blocking(move || program.ended()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("ends before its last acknowledged event"), "{log}");
    assert_eq!(stored(&cluster, key).await, [], "no position was given a second time");
}

#[tokio::test]
async fn a_pooled_session_that_forgets_its_transaction_is_ended_by_the_server() {
    let cluster = Cluster::start().await;
    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let patience = "SELECT current_setting('idle_in_transaction_session_timeout')";
    for database in Database::ALL {
        let found: String =
            sqlx::query_scalar(patience).fetch_one(db.write(database)).await.unwrap();
        assert_eq!(found, "30s", "{database:?}");
    }
    db.close().await;
}
