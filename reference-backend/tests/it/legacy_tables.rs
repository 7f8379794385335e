//! The unpartitioned tables: equal to the partitioned ones after every statement while a sync is on, and untouched otherwise.

use std::time::{Duration, Instant};

use chrono::Days;
use reference_backend::db::maintenance;
use reference_backend::domain::{Action, Command};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::common::{Backend, Cluster, entry, revenue, today};

async fn run(connection: &mut PgConnection, statements: &str) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))).await.unwrap();
}

/// `table: rows only in the legacy one, rows only in the partitioned one`, where there are any.
async fn differences(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%s: %s, %s', legacy, only_legacy, only_partitioned) FROM legacy_differences() \
         WHERE only_legacy + only_partitioned > 0",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

async fn rows(connection: &mut PgConnection, table: &str) -> i64 {
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(count).fetch_one(connection).await.unwrap()
}

/// Entries of both kinds on a month of days, projected.
async fn book(cluster: &Cluster, backend: &Backend, numbers: std::ops::Range<u64>) {
    let until = numbers.end;
    for n in numbers {
        let entry = entry(n.cast_signed() + 1, "rooms", today() - Days::new(n * 7 % 31));
        let action = if n % 3 == 0 { Action::RecordExpense } else { Action::RecordRevenue };
        let command = revenue(n.cast_signed() % 4 + 1, 1, 1);
        backend.events.append(Command { action: action(entry), ..command }).await.unwrap();
    }
    let mut finance = cluster.admin("plimsoll_finance").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let entries =
        "(SELECT id FROM revenues_partitioned UNION ALL SELECT id FROM expenses_partitioned) e";
    while rows(&mut finance, entries).await < until.cast_signed() {
        assert!(Instant::now() < deadline, "never projected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_keeps_both_sides_equal_in_either_direction() {
    let cluster = Cluster::start().await;
    let config = cluster.config("");
    let backend = Backend::start(&config).await;
    book(&cluster, &backend, 0..40).await;
    let mut admin = cluster.admin("plimsoll_finance").await;
    // Off unless asked for: nothing was copied.
    assert_eq!(rows(&mut admin, "revenues").await, 0);
    assert_eq!(rows(&mut admin, "pg_trigger WHERE tgname LIKE 'legacy%'").await, 0);

    let mut owner = maintenance(&config.database).await.unwrap();
    run(&mut owner, "SELECT legacy_sync_enable('to_legacy')").await;
    book(&cluster, &backend, 40..80).await;
    assert!(!differences(&mut admin).await.is_empty(), "what was there before is still missing");
    run(&mut owner, "SELECT legacy_backfill(1, 3); SELECT legacy_backfill(3, 1000)").await;
    assert_eq!(differences(&mut admin).await, [] as [&str; 0]);
    // The balances are upserts, of rows that are new and of rows that are not.
    book(&cluster, &backend, 80..120).await;
    assert_eq!(differences(&mut admin).await, [] as [&str; 0]);
    assert_eq!(rows(&mut admin, "revenues").await + rows(&mut admin, "expenses").await, 120);
    backend.stop().await;

    // Both directions do the same to what is changed, moved to another month, and removed.
    for (direction, side) in [("to_legacy", "_partitioned"), ("to_partitioned", "")] {
        run(&mut owner, "SELECT legacy_sync_disable()").await;
        run(&mut owner, &format!("SELECT legacy_sync_enable('{direction}')")).await;
        for change in [
            format!("UPDATE revenues{side} SET amount_cents = amount_cents + 1 WHERE org_id = 1"),
            format!("UPDATE revenues{side} SET date = date - 15"),
            format!(
                "UPDATE expenses{side} SET date = date - 15, category = 'bar' WHERE org_id < 3"
            ),
            format!("DELETE FROM expenses{side} WHERE org_id = 2"),
            format!("DELETE FROM daily_cash_balances{side} WHERE org_id = 3"),
            format!("UPDATE revenues{side} SET date = date + 15"),
            format!(
                "INSERT INTO revenues{side} SELECT org_id, date, gen_random_uuid(), property_id, 'new', 7, now() \
                 FROM revenues{side} WHERE org_id = 1"
            ),
        ] {
            let before = rows(&mut admin, "revenues").await;
            run(&mut admin, &change).await;
            assert_eq!(differences(&mut admin).await, [] as [&str; 0], "{direction}: {change}");
            let moved = change.starts_with("UPDATE revenues");
            assert!(!moved || rows(&mut admin, "revenues").await == before, "{change}");
        }
        let truncate = format!("TRUNCATE revenues{side}");
        let refused = admin.execute(sqlx::raw_sql(AssertSqlSafe(truncate))).await.unwrap_err();
        assert!(refused.to_string().contains("while it is synchronised"), "{refused}");
    }
    assert!(rows(&mut admin, "revenues").await > 80);

    // A row that one side lacks, or has otherwise, is found.
    run(&mut owner, "SELECT legacy_sync_disable()").await;
    run(&mut admin, "DELETE FROM expenses WHERE ctid = (SELECT min(ctid) FROM expenses)").await;
    run(&mut admin, "UPDATE revenues SET amount_cents = amount_cents + 1 WHERE ctid = (SELECT min(ctid) FROM revenues)").await;
    assert_eq!(differences(&mut admin).await, ["revenues: 1, 1", "expenses: 0, 1"]);
}

#[tokio::test]
async fn one_direction_at_a_time_and_only_by_the_owner() {
    let cluster = Cluster::start().await;
    let config = cluster.config("");
    let mut owner = maintenance(&config.database).await.unwrap();
    run(&mut owner, "SELECT legacy_sync_enable('to_partitioned')").await;
    for direction in ["to_legacy", "to_partitioned"] {
        let other = format!("SELECT legacy_sync_enable('{direction}')");
        let refused = owner.execute(sqlx::raw_sql(AssertSqlSafe(other))).await.unwrap_err();
        assert!(refused.to_string().contains("on already: to_partitioned"), "{refused}");
    }
    run(&mut owner, "SELECT legacy_sync_disable(); SELECT legacy_sync_disable()").await;
    let refused = owner.execute(sqlx::raw_sql("SELECT legacy_backfill(1, 2)")).await.unwrap_err();
    assert!(refused.to_string().contains("no sync is on"), "{refused}");
    let refused = owner.execute(sqlx::raw_sql("SELECT legacy_sync_enable('sideways')")).await;
    assert!(refused.is_err());

    let mut writer = cluster.admin("plimsoll_finance").await;
    run(&mut writer, "SET ROLE app_rw").await;
    let refused = writer.execute(sqlx::raw_sql("SELECT legacy_sync_disable()")).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
}
