//! The document of a summary and its GIN index: what it costs the projection, and what it answers.

use std::process::Command as Process;

use reference_backend::domain::{Action, Command};
use reference_backend::projections::booking;
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::common::{Backend, Cluster, entry, property, revenue, today};

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
    // Sessions that have ended have told what they counted; this one must not remember what it saw before.
    sqlx::raw_sql("SELECT pg_stat_clear_snapshot()").execute(&mut *models).await.unwrap();
    sqlx::query_as("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'finance_summaries'")
        .fetch_one(models)
        .await
        .unwrap()
}

#[tokio::test]
async fn only_a_new_category_makes_an_update_touch_the_index() {
    let cluster = Cluster::start().await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let usual = |times| std::iter::repeat_n("rooms".to_owned(), times);
    book(&cluster, usual(2)).await;
    let (all, hot) = updates(&mut models).await;

    book(&cluster, usual(60)).await;
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
    ] {
        let rare = sqlx::query(rare).bind(property(number).uuid()).bind(revenues).bind(expenses);
        rare.execute(&mut models).await.unwrap();
    }
    cluster.analyze("plimsoll_read_models").await;

    let config = cluster.config("");
    let db = reference_backend::db::Databases::connect(&config.database).await.unwrap();
    let pool = db.write(reference_backend::db::Database::ReadModels);
    let found = booking(pool, "sauna", 10).await.unwrap();
    let told: Vec<(Uuid, bool, bool)> =
        found.iter().map(|one| (one.property_id, one.revenues, one.expenses)).collect();
    assert_eq!(told, [(property(1).uuid(), true, false), (property(2).uuid(), false, true)]);
    assert_eq!(booking(pool, "sauna", 1).await.unwrap(), found[..1]);
    assert_eq!(booking(pool, "rooms", 7).await.unwrap().len(), 7);
    db.close().await;

    let said = asked(&config.database.primary.host, "sauna");
    let plan = cluster.last_plan("FROM finance_summaries WHERE doc");
    let line = r#"{"expenses":false,"org":7,"property":"00000000-0000-0000-0000-000000000001","revenues":true}"#;
    assert_eq!(said.lines().next(), Some(line));
    assert_eq!(said.lines().count(), 2);
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
