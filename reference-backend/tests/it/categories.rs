//! The document of a summary and its GIN index: what it costs the projection, and what it answers.

use std::process::Command as Process;
use std::time::Duration;

use futures::future::join_all;
use reference_backend::domain::{Action, Command};
use reference_backend::projections::{booking, rebuild_summaries};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::common::{Backend, Cluster, entry, property, revenue, today};
use crate::http_server::{Server, TOKEN_HEADER, first_property, populate};

/// Books of two properties, one entry at a time: an update of a summary for each.
async fn book(cluster: &Cluster, categories: impl Iterator<Item = String>) {
    let backend = Backend::start(&cluster.config("[projections]\ninterval_ms = 1\n")).await;
    for (number, category) in categories.enumerate() {
        let action = Action::RecordRevenue(entry(5, &category, today()));
        let command = Command { action, ..revenue(1, 10 + number as u128 % 2, 1) };
        backend.events.append(command).await.unwrap();
    }
    backend.stop().await;
}

/// Updates of summaries so far: all, and those that touched no index.
async fn updates(models: &mut PgConnection) -> (i64, i64) {
    // A session tells what it counted before it leaves the list of sessions; this one must not remember what it saw before.
    while others(models).await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sqlx::raw_sql("SELECT pg_stat_clear_snapshot()").execute(&mut *models).await.unwrap();
    sqlx::query_as("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'finance_summaries'")
        .fetch_one(models)
        .await
        .unwrap()
}

/// Other sessions of this database: those of a backend that was stopped end a moment after it.
async fn others(models: &mut PgConnection) -> i64 {
    sqlx::raw_sql("SELECT pg_stat_clear_snapshot()").execute(&mut *models).await.unwrap();
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(models)
    .await
    .unwrap()
}

/// Versions of the two rows that fit one page even when none is pruned: another page would need an index entry.
const FIT: usize = 24;

#[tokio::test]
async fn only_a_new_category_makes_an_update_touch_the_index() {
    let cluster = Cluster::start().await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let usual = |times| std::iter::repeat_n("rooms".to_owned(), times);
    book(&cluster, usual(2)).await;
    let (all, hot) = updates(&mut models).await;

    book(&cluster, usual(FIT)).await;
    let (all_then, hot_then) = updates(&mut models).await;
    assert!(all_then > all, "no summary was updated");
    assert_eq!(all_then - all, hot_then - hot, "updates that touched an index");

    // What the figure shows when documents change: none of these is heap-only.
    book(&cluster, (0..6).map(|number| format!("new {number}"))).await;
    let (all, hot) = updates(&mut models).await;
    assert!(all > all_then);
    assert_eq!(hot, hot_then);
}

/// Enough that reading all is the dearer way.
const MANY: &str = "\
    INSERT INTO finance_summaries \
    SELECT org, md5(concat_ws('/', org, n))::uuid, 1, 1, 2, current_date, 2, \
           '{\"revenue_categories\": [\"rooms\"], \"expense_categories\": [\"laundry\"]}' \
    FROM generate_series(100, 200) org, generate_series(1, 50) n";

#[tokio::test]
async fn the_properties_that_book_a_category_are_found_by_the_index() {
    let cluster = Cluster::start().await;
    cluster.log_plans().await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    models.execute(MANY).await.unwrap();
    let rare = "INSERT INTO finance_summaries SELECT 7, $1, 1, 1, 2, NULL, 2, \
         jsonb_build_object('revenue_categories', $2::text[], 'expense_categories', $3::text[])";
    for (number, revenues, expenses) in [
        (1, vec!["sauna"], vec![]),
        (2, vec![], vec!["sauna", "rent"]),
        (3, vec!["saunas"], vec![]),
        (4, vec!["sauna"], vec!["bar", "rent"]),
        (5, vec!["bar", "zoo"], vec!["bar"]),
    ] {
        let rare = sqlx::query(rare).bind(property(number).uuid()).bind(revenues).bind(expenses);
        rare.execute(&mut models).await.unwrap();
    }
    // Lists that were cut: before the name on one side of 4, behind it in 5.
    let cut = "UPDATE finance_summaries SET doc = doc || $2 WHERE property_id = $1";
    for (number, more) in [(4, "more_expense_categories"), (5, "more_revenue_categories")] {
        let cut = sqlx::query(cut).bind(property(number).uuid()).bind(json!({ more: true }));
        cut.execute(&mut models).await.unwrap();
    }
    cluster.analyze("plimsoll_read_models").await;

    let config = cluster.config("");
    let db = reference_backend::db::Databases::connect(&config.database).await.unwrap();
    let pool = db.write(reference_backend::db::Database::ReadModels);
    let found = booking(pool, "sauna", 10).await.unwrap();
    let told = found.iter().map(|one| (one.property_id, one.revenues, one.expenses, one.unlisted));
    let expected = [(1, true, false, false), (2, false, true, false), (4, true, false, true)].map(
        |(number, revenues, expenses, unlisted)| {
            (property(number).uuid(), revenues, expenses, unlisted)
        },
    );
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(booking(pool, "sauna", 1).await.unwrap(), found[..1]);
    assert_eq!(booking(pool, "rooms", 7).await.unwrap().len(), 7);
    db.close().await;

    let said = asked(&config.database.primary.host, "sauna");
    let plan = cluster.last_plan("FROM finance_summaries WHERE doc");
    let line = r#"{"expenses":false,"org":7,"property":"00000000-0000-0000-0000-000000000001","revenues":true,"unlisted":false}"#;
    assert_eq!(said.lines().next(), Some(line));
    assert_eq!(said.lines().count(), 3);
    insta::assert_snapshot!(plan);
}

/// `reference-backend projections category …`
fn asked(socket: &str, category: &str) -> String {
    let output = Process::new(env!("CARGO_BIN_EXE_reference-backend"))
        .args(["projections", "category", category])
        .env("BACKEND__DATABASE__PRIMARY__HOST", socket)
        .env("BACKEND__DATABASE__PRIMARY__PORT", "5432")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a summary must list, from the events in plain SQL: its documents by property.
const LISTED: &str = "\
    WITH names AS ( \
        SELECT DISTINCT aggregate_id, event_type, (data ->> 'category') COLLATE \"C\" AS name FROM events), \
    placed AS ( \
        SELECT *, row_number() OVER (PARTITION BY aggregate_id, event_type ORDER BY name) AS place FROM names) \
    SELECT aggregate_id, jsonb_strip_nulls(jsonb_build_object( \
        'revenue_categories', coalesce(jsonb_agg(name ORDER BY name) FILTER (WHERE event_type = 1 AND place <= 200), '[]'), \
        'more_revenue_categories', CASE WHEN max(place) FILTER (WHERE event_type = 1) > 200 THEN true END, \
        'expense_categories', coalesce(jsonb_agg(name ORDER BY name) FILTER (WHERE event_type = 2 AND place <= 200), '[]'), \
        'more_expense_categories', CASE WHEN max(place) FILTER (WHERE event_type = 2) > 200 THEN true END)) \
    FROM placed GROUP BY aggregate_id ORDER BY aggregate_id";

/// The table's documents, which must be those of a replay.
async fn listed(cluster: &Cluster) -> Vec<(Uuid, Value)> {
    let mut store = cluster.admin("plimsoll_event_store").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let docs = "SELECT property_id, doc FROM finance_summaries ORDER BY property_id";
    let found: Vec<(Uuid, Value)> = sqlx::query_as(docs).fetch_all(&mut models).await.unwrap();
    let expected: Vec<(Uuid, Value)> = sqlx::query_as(LISTED).fetch_all(&mut store).await.unwrap();
    assert_eq!(found, expected);
    found
}

/// Many categories in no order, expenses and revenues, in two houses of organisation 1: of these, one has few.
fn many(number: u32) -> Command {
    let name = format!("Z\u{e4}hler {}", number * 7_919 % 331);
    let (house, entry) = if number.is_multiple_of(50) {
        (11, entry(5, &name[..1], today()))
    } else {
        (10, entry(5, &name, today()))
    };
    let action = if number.is_multiple_of(9) {
        Action::RecordExpense(entry)
    } else {
        Action::RecordRevenue(entry)
    };
    Command { action, ..revenue(1, house, 1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_lists_so_many_categories_however_many_there_are() {
    let cluster = Cluster::start().await;
    // Parts of all sizes, so that lists are joined before and after they are cut.
    for (batch, numbers) in [(3, 1..150), (500, 150..900), (41, 900..2_700)] {
        let settings = format!("[projections]\ninterval_ms = 1\nbatch_events_max = {batch}\n");
        let backend = Backend::start(&cluster.config(&settings)).await;
        let appended = numbers.map(|number| backend.events.append(many(number)));
        assert!(join_all(appended).await.iter().all(Result::is_ok));
        backend.stop().await;
        listed(&cluster).await;
    }
    let docs = listed(&cluster).await;
    let count = |doc: usize, side: &str| docs[doc].1[side].as_array().unwrap().len();
    assert_eq!([count(0, "revenue_categories"), count(0, "expense_categories")], [200, 200]);
    assert_eq!([count(1, "revenue_categories"), count(1, "expense_categories")], [1, 1]);
    assert_eq!(docs[0].1["more_revenue_categories"], true);
    assert_eq!(docs[1].1.get("more_revenue_categories"), None);

    let mut models = cluster.admin("plimsoll_read_models").await;
    let lost = "UPDATE finance_summaries SET doc = doc - 'more_expense_categories' #- '{revenue_categories,7}'";
    assert_eq!(models.execute(lost).await.unwrap().rows_affected(), 2);
    let rebuilt = rebuild_summaries(&cluster.config("")).await.unwrap();
    assert_eq!(rebuilt.corrected, 1);
    assert_eq!(listed(&cluster).await, docs);

    // What comes after the last that is listed changes nothing, and so touches no index.
    let (all, hot) = updates(&mut models).await;
    book(
        &cluster,
        (0..40).map(|n| if n % 2 == 0 { format!("\u{e4} {n}") } else { "Z".to_owned() }),
    )
    .await;
    let (all_then, hot_then) = updates(&mut models).await;
    assert!(all_then > all);
    assert_eq!(all_then - all, hot_then - hot, "updates that touched an index");
    listed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_in_memory_lists_what_the_table_lists() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let backend = Backend::start(&cluster.config("")).await;
    let appended = (1..1_000).map(|number| backend.events.append(many(number)));
    assert!(join_all(appended).await.iter().all(Result::is_ok));
    backend.stop().await;

    let server = Server::all(&cluster, "").await;
    assert_eq!(server.get(1, "/finance-summary").await.status(), 200);
    for (side, name) in
        [("revenues", "first"), ("revenues", "\u{e4}"), ("expenses", "ZZ"), ("expenses", "\u{e4}")]
    {
        let entry = json!({"property": first_property(1), "amount_cents": 5, "category": name});
        let answer = server.post(1, side, Uuid::now_v7(), &entry).await;
        let token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
        let mut held = server.get_after(1, "/finance-summary", &token).await["properties"].take();
        let docs = listed(&cluster).await;
        assert_eq!(docs.len(), 2);
        for (held, (id, doc)) in held.as_array_mut().unwrap().iter_mut().zip(docs) {
            let held = held.as_object_mut().unwrap();
            assert_eq!(held["property"], json!(id));
            held.retain(|field, _| field.ends_with("_categories"));
            assert_eq!(held, doc.as_object().unwrap(), "after {name}");
        }
    }
    server.stop().await;

    let checked = crate::jobs::command(&cluster, &["run", "read-model-consistency-check", "--all"]);
    let clean = "read-model-consistency-check: 4 organisations, 0 findings\n".to_owned();
    assert_eq!(checked, (true, clean));
}

#[tokio::test]
async fn what_grew_before_there_was_a_bound_is_cut() {
    const CUT: &str = include_str!("../../migrations/read_models/0030_listed_categories.sql");
    let cluster = Cluster::start().await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    models
        .execute(
            "INSERT INTO projection_checkpoints (projection, shard, position) VALUES ('finance-summary', 1, 0); \
             INSERT INTO finance_summaries SELECT 1, gen_random_uuid(), 1, 1, 1, NULL, 1, \
                 jsonb_build_object('revenue_categories', jsonb_agg(n::text), 'expense_categories', '[]'::jsonb) \
             FROM generate_series(1000, 1250) n",
        )
        .await
        .unwrap();
    let mut epochs = Vec::new();
    for _ in 0..2 {
        sqlx::raw_sql(CUT).execute(&mut models).await.unwrap();
        let doc: Value = sqlx::query_scalar("SELECT doc FROM finance_summaries")
            .fetch_one(&mut models)
            .await
            .unwrap();
        let names: Vec<String> = (1_000..1_200).map(|n: i32| n.to_string()).collect();
        let cut = json!({"revenue_categories": names, "more_revenue_categories": true, "expense_categories": []});
        assert_eq!(doc, cut);
        let epoch = "SELECT epoch FROM projection_checkpoints";
        let epoch: i64 = sqlx::query_scalar(epoch).fetch_one(&mut models).await.unwrap();
        epochs.push(epoch);
    }
    assert_eq!(epochs, [1, 1], "the second time there was nothing to cut");
}
