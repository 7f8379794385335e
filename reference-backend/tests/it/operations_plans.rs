//! Which index serves which statement of the machinery (exchanges, topics, dead letters, findings, runs of jobs), by the
//! server's own record of what it did. All statements are the backend's own, sent by itself or by what it is asked.

use std::fmt::Write;

use futures::StreamExt;
use reference_backend::db::Databases;
use reference_backend::ota::{ChannelManager, sync_all};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use sqlx::Executor;

use crate::common::Cluster;
use crate::http_server::{Server, json_of, populate};
use crate::jobs::command;

/// Exchanges in the order of time, as a table that is only added to has them. No connection is enabled: nothing is exchanged.
const HOSPITALITY: &str = "\
    INSERT INTO ota_connections (org_id, property_id, hotel_code, rate_cents, push_days, enabled) \
    SELECT org_id, property_id, property_id::text, 1, 1, false FROM properties; \
    INSERT INTO ota_exchanges (org_id, id, property_id, kind, outcome, began_at, ended_at) \
    SELECT org, md5(concat_ws('/', org, n))::uuid, \
           ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + n % 2), 12, '0'))::uuid, 'push', 'done', at, at \
    FROM generate_series(1, 15000) n, generate_series(1, 4) org, \
         LATERAL (SELECT now() - interval '20 days' + n * interval '1 minute') AS s (at)";

/// Topics whose messages are all settled, and letters that were all told of.
const EVENT_STORE: &str = "\
    INSERT INTO topic_messages (topic, position, org_id, data) \
    SELECT topic, n, 1 + n % 50, '{}' FROM topics, generate_series(1, 5000) n; \
    UPDATE topics SET head = 5000; \
    INSERT INTO subscription_cursors (subscription, shard, floor) VALUES ('balance-repair', 0, 5000); \
    INSERT INTO dead_letters (subscription, topic, shard, position, org_id, published_at, attempts, reason, noticed_at) \
    SELECT s, 'balance-corrections', 0, n, 1, now(), 1, 'nonsense', now() \
    FROM generate_series(1, 3000) n, unnest(ARRAY['balance-repair', 'notifications']) s";

const HEALTH_CHECK: &str = "\
    INSERT INTO findings (kind, org_id, property_id, from_date, reason, settled_at) \
    SELECT kind, n % 4 + 1, md5((n / 10)::text)::uuid, current_date, 'wrong', now() \
    FROM generate_series(1, 5000) n, unnest(ARRAY['balances', 'summary']) kind; \
    INSERT INTO job_runs (job, scheduled_at, process, finished_at, outcome) \
    SELECT job, date_trunc('minute', now()) - n * interval '1 minute', 'another', now(), 'done' \
    FROM generate_series(0, 1999) n, unnest(ARRAY['cache-warming', 'balance-consistency-check', \
        'read-model-consistency-check', 'night-audit', 'ota-sync', 'task-reminders', 'snapshotting', 'partition-maintenance']) job";

/// A summary of a property that booked nothing: a finding, and a correction that removes it.
const READ_MODELS: &str = "\
    INSERT INTO finance_summaries SELECT 2, gen_random_uuid(), 1, 1, 1, NULL, 1, \
    '{\"revenue_categories\": [], \"expense_categories\": []}'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_index_of_the_machinery_serves_its_statement() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    cluster.log_plans().await;
    for (database, rows) in [
        ("plimsoll_hospitality", HOSPITALITY),
        ("plimsoll_event_store", EVENT_STORE),
        ("plimsoll_health_check", HEALTH_CHECK),
        ("plimsoll_read_models", READ_MODELS),
    ] {
        cluster.admin(database).await.execute(rows).await.unwrap();
        cluster.analyze(database).await;
    }
    let server = Server::all(&cluster, "").await;
    let (done, said) = command(&cluster, &["run", "read-model-consistency-check", "--all"]);
    assert!(done && said.contains("1 findings"), "{said}");
    json_of(server.get(1, "/ota/exchanges").await).await;
    come_back(&server).await;
    forget_exchanges(&cluster).await;

    let mut text = String::new();
    for (heading, needle) in [
        ("an organisation's exchanges", "FROM ota_exchanges WHERE org_id = $1 AND ($2"),
        ("exchanges kept too long", "DELETE FROM ota_exchanges"),
        ("a subscription's next messages", "published_at FROM topic_messages"),
        ("what a browser missed", "SELECT position, data FROM topic_messages"),
        ("dead letters to deliver again", "replay_asked_at IS NOT NULL"),
        ("dead letters to tell of", "WHERE noticed_at IS NULL"),
        ("a finding", "INSERT INTO findings"),
        ("a finding that is settled", "UPDATE findings"),
        ("a job's last run, and its run in progress", "SELECT clock_timestamp() AS now"),
        ("runs kept too long", "DELETE FROM job_runs"),
    ] {
        writeln!(text, "{heading}\n{}\n", indexes(&cluster.next_plan(needle).await)).unwrap();
    }
    server.stop().await;
    insta::assert_snapshot!(text);
}

/// How a plan finds its rows. Not by which values: they differ from run to run, and so does the job that was looked at last.
fn indexes(plan: &str) -> String {
    let lines = plan.lines().map(|line| line.trim().trim_start_matches("->").trim());
    let found = lines.filter(|line| line.contains(" Scan ") || line.contains("Arbiter"));
    found.collect::<Vec<_>>().join("\n")
}

/// A browser that was there until a while ago.
async fn come_back(server: &Server) {
    let request = server.request(Method::GET, 1, "/v1/orgs/1/realtime");
    let last = HeaderValue::from_static("0.4000");
    let answer = request.header("last-event-id", last).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes_stream().next().await.unwrap().unwrap();
}

/// As `ota-sync` does.
async fn forget_exchanges(cluster: &Cluster) {
    let config = cluster.config("[ota]\nchannel_manager_url = \"http://127.0.0.1:9\"\n");
    let databases = Databases::connect(&config.database).await.unwrap();
    let manager = ChannelManager::new(&config.ota).unwrap();
    let said = sync_all(&databases, manager.as_ref(), &config.ota).await.unwrap();
    assert!(said.ends_with("0 old ones forgotten"), "{said}");
    databases.close().await;
}
