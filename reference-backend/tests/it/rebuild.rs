//! A projection is built anew under writes and swapped in: no event is lost or doubled, and what was wrong is gone.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reference_backend::projections::{Corrected, Rebuilt, rebuild_finance, rebuild_summaries};
use reference_backend::services::Service;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::common::{Cluster, property, today};
use crate::http_server::{Server, TOKEN_HEADER, body, populate};

/// Organisation 3's first property had entries before the event store: a snapshot, a revenue, and a summary.
async fn seed(cluster: &Cluster) {
    let id = property(30).uuid();
    let mut store = cluster.admin("plimsoll_event_store").await;
    let state = json!({"revenue_cents": 900, "expense_cents": 400, "entries": 2});
    sqlx::query("INSERT INTO snapshots (org_id, aggregate_type, aggregate_id, version, state, taken_at) VALUES (3, 1, $1, 2, $2, now())")
        .bind(id)
        .bind(state)
        .execute(&mut store)
        .await
        .unwrap();
    let mut finance = cluster.admin("plimsoll_finance").await;
    for (table, category, cents) in [("revenues", "spa", 900), ("expenses", "ice", 400)] {
        let entry = format!(
            "INSERT INTO {table}_partitioned VALUES (3, $1, $2, $3, '{category}', {cents}, now())"
        );
        sqlx::query(sqlx::AssertSqlSafe(entry))
            .bind(today())
            .bind(Uuid::new_v8([u8::try_from(cents / 100).unwrap(); 16]))
            .bind(id)
            .execute(&mut finance)
            .await
            .unwrap();
    }
    let mut models = cluster.admin("plimsoll_read_models").await;
    let doc = json!({"revenue_categories": ["spa"], "expense_categories": ["ice"]});
    sqlx::query("INSERT INTO finance_summaries VALUES (3, $1, 900, 400, 2, $2, 2, $3)")
        .bind(id)
        .bind(today())
        .bind(doc)
        .execute(&mut models)
        .await
        .unwrap();
}

/// One line per summary.
const SUMMARIES: &str = "\
    SELECT concat_ws('|', org_id, property_id, revenue_cents, expense_cents, entry_count, last_entry_date, version, doc) \
    FROM finance_summaries ORDER BY 1";

/// What the summaries must be, from baselines and events in plain SQL.
const EXPECTED: &str = "\
    SELECT concat_ws('|', org_id, id, sum(revenue), sum(expense), sum(entries), max(day), max(version), \
        jsonb_build_object( \
            'revenue_categories', coalesce(jsonb_agg(DISTINCT category) FILTER (WHERE revenue > 0), '[]'), \
            'expense_categories', coalesce(jsonb_agg(DISTINCT category) FILTER (WHERE expense > 0), '[]'))) \
    FROM (SELECT org_id, aggregate_id AS id, version, data ->> 'category' AS category, 1 AS entries, \
              (data ->> 'date')::date AS day, \
              CASE event_type WHEN 1 THEN (data ->> 'amount_cents')::bigint ELSE 0 END AS revenue, \
              CASE event_type WHEN 2 THEN (data ->> 'amount_cents')::bigint ELSE 0 END AS expense FROM events \
          UNION ALL SELECT 3, $1, 2, 'spa', 1, current_date, 900, 0 \
          UNION ALL SELECT 3, $1, 2, 'ice', 1, current_date, 0, 400) e \
    GROUP BY org_id, id ORDER BY 1";

async fn assert_equal_to_a_replay(cluster: &Cluster) {
    let mut store = cluster.admin("plimsoll_event_store").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let expected: Vec<String> =
        sqlx::query_scalar(EXPECTED).bind(property(30).uuid()).fetch_all(&mut store).await.unwrap();
    let found: Vec<String> = sqlx::query_scalar(SUMMARIES).fetch_all(&mut models).await.unwrap();
    assert_eq!(found, expected);
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Three kinds of damage; returns when the cluster's summaries show it.
async fn corrupt(models: &mut PgConnection) {
    run(
        models,
        "UPDATE finance_summaries SET revenue_cents = revenue_cents + 1 WHERE org_id = 3; \
         DELETE FROM finance_summaries WHERE org_id = 1; \
         INSERT INTO finance_summaries VALUES (99, gen_random_uuid(), 1, 1, 1, NULL, 1, '{}')",
    )
    .await;
}

/// Writes to all four organisations until told to stop; each answer must be good.
fn write_on(server: &Arc<Server>, stop: &Arc<AtomicBool>) -> JoinSet<(i64, String, usize)> {
    let mut writers = JoinSet::new();
    for org in 1..=4_i64 {
        let (server, stop) = (Arc::clone(server), Arc::clone(stop));
        writers.spawn(async move {
            let (mut token, mut writes) = (String::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let side = if writes % 3 == 0 { "expenses" } else { "revenues" };
                let answer = server.post(org, side, Uuid::now_v7(), &body(org, 7)).await;
                assert_eq!(answer.status(), 201);
                token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
                let read = server.get(org, "/finance-summary").await;
                assert_eq!(read.status(), 200);
                writes += 1;
            }
            (org, token, writes)
        });
    }
    writers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_writes_what_was_wrong_is_gone_and_nothing_is_lost_or_doubled() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    seed(&cluster).await;
    // Snapshots move on meanwhile: the baseline must not.
    let server =
        Arc::new(Server::all(&cluster, "[snapshots]\nevery_events = 3\ninterval_ms = 5\n").await);
    let reads = cluster.config("[server]\nlisten = \"127.0.0.1:0\"\n");
    let reader = Server::start(reads, &[Service::ReadModels]).await;
    for org in 1..=4 {
        for _ in 0..20 {
            assert_eq!(
                server.post(org, "revenues", Uuid::now_v7(), &body(org, 5)).await.status(),
                201
            );
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = write_on(&server, &stop);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    corrupt(&mut models).await;
    // As a build that was broken off leaves it.
    run(&mut models, "CREATE TABLE finance_summaries_rebuild (n int)").await;
    let Rebuilt { baselines, events, held, .. } =
        rebuild_summaries(&cluster.config("")).await.unwrap();
    println!("{events} events, the projection was kept out for {held:?}");
    assert!(baselines >= 1 && events >= 80, "{baselines}, {events}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let written = writers.join_all().await;
    assert!(written.iter().map(|(_, _, writes)| writes).sum::<usize>() > 20, "{written:?}");

    for (org, token, _) in &written {
        let [here, there] =
            [&*server, &reader].map(|server| server.get_after(*org, "/finance-summary", token));
        let (here, there): (Value, Value) = tokio::join!(here, there);
        assert_eq!(here, there, "both processes show the same");
    }
    assert_equal_to_a_replay(&cluster).await;
    for (org, ..) in &written {
        let shown = crate::http_server::json_of(server.get(*org, "/finance-summary").await).await;
        let stored: i64 = sqlx::query_scalar(
            "SELECT sum(revenue_cents)::bigint FROM finance_summaries WHERE org_id = $1",
        )
        .bind(org)
        .fetch_one(&mut models)
        .await
        .unwrap();
        assert_eq!(shown["revenue_cents"], stored, "the cache of the writer");
    }
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'finance_summaries'::regclass ORDER BY 1",
    )
    .fetch_all(&mut models)
    .await
    .unwrap();
    assert_eq!(names, ["finance_summaries_doc", "finance_summaries_pkey"]);
    reader.stop().await;
    Arc::into_inner(server).unwrap().stop().await;
    assert_equal_to_a_replay(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_end_delays_the_swap_and_not_the_writes() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    seed(&cluster).await;
    let server = Arc::new(Server::all(&cluster, "").await);
    let mut models = cluster.admin("plimsoll_read_models").await;
    corrupt(&mut models).await;
    let mut reader = cluster.admin("plimsoll_read_models").await;
    run(&mut reader, "BEGIN; SELECT count(*) FROM finance_summaries").await;
    let config = cluster.config("");
    let rebuilding = tokio::spawn(async move { rebuild_summaries(&config).await });
    let mut watching = cluster.admin("plimsoll_read_models").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watching).await.unwrap() == 0 {
        assert!(Instant::now() < deadline, "the swap never waited");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // While it waits, and after it gave up: projected all the same.
    let answer = server.post(1, "revenues", Uuid::now_v7(), &body(1, 7)).await;
    let token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
    assert_eq!(server.get_after(1, "/finance-summary", &token).await["revenue_cents"], 7);
    assert!(!rebuilding.is_finished());
    run(&mut reader, "COMMIT").await;
    assert_eq!(rebuilding.await.unwrap().unwrap().corrected, 2);
    Arc::into_inner(server).unwrap().stop().await;
    assert_equal_to_a_replay(&cluster).await;
}

#[tokio::test]
async fn an_event_that_is_missing_from_the_store_leaves_the_live_table_as_it_is() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    for _ in 0..5 {
        server.post(1, "revenues", Uuid::now_v7(), &body(1, 7)).await;
    }
    server.stop().await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    run(&mut store, "DELETE FROM events WHERE version = 3").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let before: Vec<String> = sqlx::query_scalar(SUMMARIES).fetch_all(&mut models).await.unwrap();
    let error = rebuild_summaries(&cluster.config("")).await.unwrap_err().to_string();
    assert!(error.contains("no event at position 3"), "{error}");
    let after: Vec<String> = sqlx::query_scalar(SUMMARIES).fetch_all(&mut models).await.unwrap();
    assert_eq!(before, after);
    let left: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('finance_summaries_rebuild')::text")
            .fetch_one(&mut models)
            .await
            .unwrap();
    assert_eq!(left, None);
}

#[tokio::test]
async fn the_command_says_what_it_did_and_what_it_cannot_do() {
    let cluster = Cluster::start().await;
    seed(&cluster).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backend.toml");
    let socket = cluster.config("").database.primary.host;
    std::fs::write(&file, format!("[database.primary]\nhost = \"{socket}\"\nport = 5432\n"))
        .unwrap();
    let rebuild = |projection: &str| {
        Command::new(env!("CARGO_BIN_EXE_reference-backend"))
            .args(["projections", "rebuild", projection, "--config"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let done = rebuild("finance-summary");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&line["baselines"], &line["events"], &line["corrected"]),
        (&json!(1), &json!(0), &json!(0))
    );
    // The history's balances are not there: the command makes them from its entries.
    let done = rebuild("finance");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&line["entries_removed"], &line["days_written"]), (&json!(0), &json!(1)));
    let refused = rebuild("money");
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("finance-summary"), "{told}");
}

/// Entries and days, one line each.
const BOOKS: &str = "\
    SELECT concat_ws('|', kind, org_id, property_id, id, date, category, amount_cents, recorded_at) FROM ( \
        SELECT 1 AS kind, * FROM revenues_partitioned UNION ALL SELECT 2, * FROM expenses_partitioned) e \
    UNION ALL SELECT concat_ws('|', d.*::text) FROM daily_cash_balances_partitioned d ORDER BY 1";

/// One wrong, one missing and one invented entry; wrong, missing and invented days.
const DAMAGE: &str = "\
             UPDATE revenues_partitioned SET amount_cents = 6 \
             WHERE id = (SELECT id FROM revenues_partitioned WHERE org_id = 1 ORDER BY id LIMIT 1); \
         DELETE FROM revenues_partitioned \
             WHERE id = (SELECT id FROM revenues_partitioned WHERE org_id = 2 ORDER BY id LIMIT 1); \
         INSERT INTO expenses_partitioned SELECT 4, date, '00000000-0000-4000-8000-000000000000', property_id, 'ghost', 1, now() \
             FROM revenues_partitioned WHERE org_id = 4 LIMIT 1; \
         UPDATE daily_cash_balances_partitioned SET revenue_cents = revenue_cents + 3, closing_cents = closing_cents + 3 \
             WHERE org_id = 3 AND date > '2021-01-01'; \
         DELETE FROM daily_cash_balances_partitioned WHERE org_id = 1; \
         INSERT INTO daily_cash_balances_partitioned SELECT 2, property_id, current_date - 5, 0, 0, 0, 0 \
             FROM daily_cash_balances_partitioned WHERE org_id = 2 LIMIT 1";

/// The history's day, which opened with money from before the books; and one past retention, of which no entry is left.
async fn add_history(finance: &mut PgConnection) {
    const DAY: &str = "INSERT INTO daily_cash_balances_partitioned VALUES (3, $1, $2::date, $3, $4, $5, $3 + $4 - $5)";
    let days = [("2020-01-01".parse().unwrap(), [10, 90, 0]), (today(), [100, 900, 400])];
    for (date, [opening, revenue, expense]) in days {
        let insert = sqlx::query(DAY).bind(property(30).uuid()).bind(date);
        insert.bind(opening).bind(revenue).bind(expense).execute(&mut *finance).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_and_days_are_corrected_in_place_under_writes() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    seed(&cluster).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    add_history(&mut finance).await;
    let server = Arc::new(Server::all(&cluster, "").await);
    for org in 1..=4 {
        for _ in 0..10 {
            assert_eq!(
                server.post(org, "revenues", Uuid::now_v7(), &body(org, 5)).await.status(),
                201
            );
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = write_on(&server, &stop);
    assert_eq!(
        rebuild_finance(&cluster.config("")).await.unwrap(),
        Corrected::default(),
        "all is well"
    );
    stop.store(true, Ordering::Relaxed);
    for (org, token, _) in writers.join_all().await {
        server.get_after(org, "/cash/position", &token).await;
        server.get_after(org, "/revenues", &token).await;
    }
    let sound: Vec<String> = sqlx::query_scalar(BOOKS).fetch_all(&mut finance).await.unwrap();
    run(&mut finance, DAMAGE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = write_on(&server, &stop);
    let corrected = rebuild_finance(&cluster.config("")).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    println!("{corrected:?}");
    assert_eq!((corrected.entries_removed, corrected.entries_written), (2, 2));
    // Organisation 1's day may have been made again, wrongly, by a write before the correction: then it was corrected.
    assert_eq!((corrected.days_removed, corrected.days_written), (1, 2));
    for (org, token, _) in writers.join_all().await {
        let shown = server.get_after(org, "/cash/position", &token).await;
        let stored: i64 = sqlx::query_scalar(
            "SELECT sum(closing_cents)::bigint FROM daily_cash_balances_partitioned WHERE org_id = $1 AND date = $2",
        )
        .bind(org)
        .bind(today())
        .fetch_one(&mut finance)
        .await
        .unwrap();
        assert_eq!(shown["total_cents"], stored, "the cache of the writer");
    }
    Arc::into_inner(server).unwrap().stop().await;
    let books: Vec<String> = sqlx::query_scalar(BOOKS).fetch_all(&mut finance).await.unwrap();
    let entries = |lines: &[String]| {
        lines.iter().filter(|line| line.starts_with(['1', '2'])).cloned().collect::<Vec<_>>()
    };
    for line in entries(&sound) {
        assert!(books.contains(&line), "{line} is missing");
    }
    assert_eq!(
        rebuild_finance(&cluster.config("")).await.unwrap(),
        Corrected::default(),
        "nothing is left"
    );
}
