//! Entries and daily balances are corrected in place: what is right, or cannot be known to be wrong, stays.

use chrono::{Days, NaiveDate};
use reference_backend::domain::{Action, Command};
use reference_backend::partitioning::Month;
use reference_backend::projections::{Corrected, rebuild_finance};
use sqlx::PgConnection;

use crate::common::{Backend, Cluster, entry, revenue, today};

/// Entries and days, one line each.
const BOOKS: &str = "\
    SELECT concat_ws('|', kind, org_id, property_id, id, date, category, amount_cents, recorded_at) FROM ( \
        SELECT 1 AS kind, * FROM revenues_partitioned UNION ALL SELECT 2, * FROM expenses_partitioned) e \
    UNION ALL SELECT concat_ws('|', d.*::text) FROM daily_cash_balances_partitioned d ORDER BY 1";

async fn books(finance: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(BOOKS).fetch_all(finance).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

fn on(date: NaiveDate, cents: i64) -> Command {
    Command { action: Action::RecordRevenue(entry(cents, "rooms", date)), ..revenue(1, 10, 1) }
}

/// Organisation 1 books these amounts on these days.
async fn booked(cluster: &Cluster, entries: &[(NaiveDate, i64)]) {
    let backend = Backend::start(&cluster.config("")).await;
    for (date, cents) in entries {
        backend.events.append(on(*date, *cents)).await.unwrap();
    }
    backend.stop().await;
}

#[tokio::test]
async fn entries_of_a_month_past_retention_stay_until_it_is_dropped() {
    let cluster = Cluster::start().await;
    let past = Month::of(today()).minus(2).first_day();
    booked(&cluster, &[(past, 5), (today(), 7)]).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let before = books(&mut finance).await;
    let config = cluster.config("[partitions]\nretention_months = 1\n");
    assert_eq!(rebuild_finance(&config).await.unwrap(), Corrected::default());
    assert_eq!(books(&mut finance).await, before);
}

#[tokio::test]
async fn a_first_day_that_was_lost_comes_back_and_moves_no_other() {
    let cluster = Cluster::start().await;
    let [first, second] = [2, 1].map(|back| today() - Days::new(back));
    booked(&cluster, &[(first, 5), (second, 7), (today(), 11)]).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let before = books(&mut finance).await;
    run(
        &mut finance,
        "DELETE FROM daily_cash_balances_partitioned d \
         WHERE date = (SELECT min(date) FROM daily_cash_balances_partitioned)",
    )
    .await;
    let corrected = rebuild_finance(&cluster.config("")).await.unwrap();
    assert_eq!(corrected, Corrected { days_written: 1, ..Corrected::default() });
    assert_eq!(books(&mut finance).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_set_aside_is_written_when_its_rule_is_gone() {
    let cluster = Cluster::start().await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    run(
        &mut finance,
        "ALTER TABLE revenues_partitioned ADD CONSTRAINT poison CHECK (amount_cents NOT IN (5, 6))",
    )
    .await;
    booked(&cluster, &[(today(), 5), (today(), 7), (today(), 6)]).await;
    let letters = "SELECT count(*) FROM projection_dead_letters";
    let aside: i64 = sqlx::query_scalar(letters).fetch_one(&mut finance).await.unwrap();
    assert_eq!(aside, 2);
    // While the rule stands, they cannot be written.
    let config = cluster.config("");
    assert_eq!(rebuild_finance(&config).await.unwrap(), Corrected::default());

    run(
        &mut finance,
        "ALTER TABLE revenues_partitioned DROP CONSTRAINT poison, \
             ADD CONSTRAINT poison CHECK (amount_cents <> 6)",
    )
    .await;
    let corrected = rebuild_finance(&config).await.unwrap();
    assert_eq!((corrected.entries_written, corrected.days_written), (1, 1));
    let aside: i64 = sqlx::query_scalar(letters).fetch_one(&mut finance).await.unwrap();
    assert_eq!(aside, 1);
    let day: i64 = sqlx::query_scalar("SELECT closing_cents FROM daily_cash_balances_partitioned")
        .fetch_one(&mut finance)
        .await
        .unwrap();
    assert_eq!(day, 12);
    assert_eq!(rebuild_finance(&config).await.unwrap(), Corrected::default());
}
