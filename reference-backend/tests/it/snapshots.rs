//! Snapshots on a real PostgreSQL: taken from memory or from the store, they never say other than a replay does.

use std::time::{Duration, Instant};

use reference_backend::config;
use reference_backend::db::{Database, Freshness};
use reference_backend::domain::{CashAccount, OrgId, PropertyId, Version};
use reference_backend::events::{
    load_account, load_account_at, read_events, read_snapshot, snapshots,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Backend, Cluster, org, property, revenue};
use crate::http_server::{Server, TOKEN_HEADER, body, first_property, populate, problem_of};

/// Organisation 1, property 7: seeded with one snapshot, of an account that had 36 entries.
async fn seed(cluster: &Cluster) {
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::query(
        "INSERT INTO snapshots (org_id, aggregate_type, aggregate_id, version, state, taken_at) \
         VALUES (1, 1, $1, 36, '{\"revenue_cents\": 5000, \"expense_cents\": 1400, \"entries\": 36}', now())",
    )
    .bind(property(7).uuid())
    .execute(&mut store)
    .await
    .unwrap();
}

const SEEDED: CashAccount = CashAccount { revenue_cents: 5_000, expense_cents: 1_400, entries: 36 };

async fn version(backend: &Backend, (org, property): (OrgId, PropertyId)) -> i32 {
    let mut reader = backend.db.read(Database::EventStore, Freshness::Newest);
    read_snapshot(&mut reader, org, property).await.unwrap().latest.version.get()
}

/// Every state of an account, from whatever is kept, equals the fold of its events over its baseline.
async fn assert_every_version(backend: &Backend, org: OrgId, property: PropertyId) -> i32 {
    let mut reader = backend.db.read(Database::EventStore, Freshness::Newest);
    let kept = read_snapshot(&mut reader, org, property).await.unwrap();
    let mut state = kept.baseline;
    let events = read_events(&mut reader, org, property, state.version, 100_000).await.unwrap();
    for event in events {
        state.account.apply(&event.event);
        state.version = event.version;
        let loaded = load_account_at(&mut reader, org, property, event.version).await.unwrap();
        assert_eq!(loaded, Some(state));
        if kept.latest.version == state.version {
            assert_eq!(kept.latest, state, "the snapshot differs from a replay");
        }
    }
    assert_eq!(load_account(&mut reader, org, property).await.unwrap(), state);
    state.version.get()
}

fn every(events: u32) -> config::Snapshots {
    let text = format!("[snapshots]\nevery_events = {events}\n");
    config::Config::from_toml(&text).unwrap().snapshots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_left_behind_are_caught_up_and_keep_their_baseline() {
    let cluster = Cluster::start().await;
    seed(&cluster).await;
    let backend = Backend::start(&cluster.config("")).await;
    for n in 1..=25 {
        backend.events.append(revenue(1, 7, n)).await.unwrap();
        backend.events.append(revenue(2, 8, n)).await.unwrap();
    }
    for n in 1..=9 {
        backend.events.append(revenue(1, 9, n)).await.unwrap();
    }
    let seeded = (org(1), property(7));
    assert_eq!(snapshots::catch_up(&backend.db, &every(26)).await.unwrap(), 0);
    assert_eq!(snapshots::catch_up(&backend.db, &every(10)).await.unwrap(), 2);
    assert_eq!(snapshots::catch_up(&backend.db, &every(10)).await.unwrap(), 0, "nothing is left");
    assert_eq!(version(&backend, seeded).await, 61);
    assert_eq!(version(&backend, (org(2), property(8))).await, 25);
    assert_eq!(version(&backend, (org(1), property(9))).await, 0, "not far enough behind");
    let mut reader = backend.db.read(Database::EventStore, Freshness::Newest);
    let kept = read_snapshot(&mut reader, org(1), property(7)).await.unwrap();
    assert_eq!((kept.baseline.version.get(), kept.baseline.account), (36, SEEDED));
    for n in 1..=10 {
        backend.events.append(revenue(1, 7, n)).await.unwrap();
    }
    snapshots::catch_up(&backend.db, &every(1)).await.unwrap();
    assert_eq!(assert_every_version(&backend, org(1), property(7)).await, 71);
    assert_eq!(assert_every_version(&backend, org(2), property(8)).await, 25);
    let before = load_account_at(&mut reader, org(1), property(7), Version::new(35)).await.unwrap();
    assert_eq!(before, None, "history before the baseline is one state");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_a_lost_event_gets_no_snapshot() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    for n in 1..=5 {
        backend.events.append(revenue(1, 7, n)).await.unwrap();
    }
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::raw_sql("DELETE FROM events WHERE version = 3").execute(&mut store).await.unwrap();
    let refused = snapshots::catch_up(&backend.db, &every(1)).await.unwrap_err().to_string();
    assert!(refused.contains("has no version 3"), "{refused}");
    assert_eq!(version(&backend, (org(1), property(7))).await, 0);
    backend.stop().await;
}

/// Books entries until the snapshot of the organisation's first property has reached a version.
async fn book(cluster: &Cluster, server: &Server, entries: i64, snapshot_at: i32) -> String {
    let mut token = String::new();
    for n in 1..=entries {
        let answer = server.post(1, "revenues", Uuid::now_v7(), &body(1, n)).await;
        token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
    }
    let mut store = cluster.admin("plimsoll_event_store").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found: Option<i32> =
            sqlx::query_scalar("SELECT version FROM snapshots WHERE org_id = 1")
                .fetch_optional(&mut store)
                .await
                .unwrap();
        if found.is_some_and(|version| version >= snapshot_at) {
            return token;
        }
        assert!(Instant::now() < deadline, "no snapshot at {snapshot_at}, but at {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_takes_them_off_the_request_path_and_shows_states_from_them() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let settings = "[snapshots]\nevery_events = 5\ninterval_ms = 10\n";
    let server = Server::all(&cluster, settings).await;
    book(&cluster, &server, 12, 10).await;
    server.stop().await;
    // Its memory is gone: what came before is read back.
    let server = Server::all(&cluster, settings).await;
    let token = book(&cluster, &server, 9, 20).await;

    let account = format!("/accounts/{}", first_property(1));
    let now = server.get_after(1, &account, &token).await;
    let cents = (1..=12).sum::<i64>() + (1..=9).sum::<i64>();
    assert_eq!((&now["version"], &now["revenue_cents"]), (&json!(21), &json!(cents)));
    for (version, cents) in [(1, 1), (7, 28), (12, 78), (21, cents)] {
        let path = format!("{account}?version={version}");
        let shown: Value = server.get_after(1, &path, &token).await;
        assert_eq!(shown["balance_cents"], cents, "at version {version}");
        assert_eq!(shown["entries"], version);
    }
    let refused = [(format!("{account}?version=22"), 404), (format!("{account}?version=0"), 400)];
    for (path, status) in refused {
        assert_eq!(problem_of(server.get(1, &path).await).await.0, status, "{path}");
    }
    let other = format!("/accounts/{}", property(11).uuid());
    assert_eq!(problem_of(server.get(1, &other).await).await.0, 404);
    server.stop().await;
}
