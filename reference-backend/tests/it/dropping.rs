//! What is past retention is dropped only when nothing else still needs it, and only by who knows what day it is.

use chrono::Months;
use reference_backend::config::Config;
use reference_backend::db::Databases;
use reference_backend::domain::{Action, Command};
use reference_backend::events::EventStore;
use reference_backend::partitioning::{self, Maintained, Month, PartitionError};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::common::{Backend, Cluster, entry, revenue, today};

/// One month is kept, and a cluster begins with two.
const ONE_MONTH: &str = "[partitions]\nretention_months = 1\nbusy_wait_ms = 100\n";

fn past() -> Month {
    Month::of(today()).minus(2)
}

/// A revenue of a month past retention.
fn late() -> Command {
    let action = Action::RecordRevenue(entry(5, "rooms", past().first_day()));
    Command { action, ..revenue(1, 10, 1) }
}

async fn maintain(config: &Config, months_from_now: u32) -> Result<Maintained, PartitionError> {
    let db = Databases::connect(&config.database).await.unwrap();
    let day = today() + Months::new(months_from_now);
    let maintained = partitioning::maintain(&db, config, day).await;
    db.close().await;
    maintained
}

async fn run(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap();
}

/// Nothing is dropped, and that is told.
fn assert_held(done: &Maintained, why: &str) {
    assert_eq!(done.dropped, Vec::<String>::new());
    let told: Vec<String> = done.findings.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|finding| finding.contains(why)), "{told:?}");
}

#[tokio::test]
async fn no_month_goes_while_the_books_lack_an_event() {
    let cluster = Cluster::start().await;
    let config = cluster.config(ONE_MONTH);
    let db = Databases::connect(&config.database).await.unwrap();
    let events = EventStore::start(&db, &config.event_store).await.unwrap();
    events.append(late()).await.unwrap();
    events.stop().await;
    db.close().await;
    assert_held(&maintain(&config, 0).await.unwrap(), "the books do not hold all events");

    Backend::start(&config).await.stop().await;
    let done = maintain(&config, 0).await.unwrap();
    assert_eq!((done.dropped.len(), done.findings), (2, vec![]));
}

#[tokio::test]
async fn no_month_goes_while_it_is_kept_equal_to_the_legacy_tables() {
    let cluster = Cluster::start().await;
    let config = cluster.config(ONE_MONTH);
    let mut finance = cluster.admin("plimsoll_finance").await;
    run(&mut finance, "SELECT legacy_sync_enable('to_legacy')").await;
    assert_held(&maintain(&config, 0).await.unwrap(), "a sync with the legacy tables");

    run(&mut finance, "SELECT legacy_sync_disable()").await;
    assert_eq!(maintain(&config, 0).await.unwrap().dropped.len(), 2);
}

#[tokio::test]
async fn a_clock_that_is_wrong_makes_and_drops_nothing() {
    let cluster = Cluster::start().await;
    let config = cluster.config(ONE_MONTH);
    let mut finance = cluster.admin("plimsoll_finance").await;
    let count =
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'revenues_partitioned'::regclass";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut finance).await.unwrap();
    // Within the months made ahead, so that nothing else stands in the way.
    let refused = maintain(&config, 2).await.unwrap_err().to_string();
    assert!(refused.contains("clock"), "{refused}");
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut finance).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_month_that_is_gone_is_set_aside_and_holds_up_no_other() {
    let cluster = Cluster::start().await;
    let config = cluster
        .config(&format!("{ONE_MONTH}[projections]\ninterval_ms = 300\nretry_first_ms = 1\n"));
    let mut finance = cluster.admin("plimsoll_finance").await;
    assert_eq!(maintain(&config, 0).await.unwrap().dropped.len(), 2);
    let backend = Backend::start(&config).await;
    for command in [revenue(1, 10, 1), late(), revenue(1, 10, 2)] {
        backend.events.append(command).await.unwrap();
    }
    backend.stop().await;
    let found: Vec<i64> = sqlx::query_scalar(
        "SELECT sum(amount_cents)::bigint FROM revenues_partitioned UNION ALL \
         SELECT count(*) FROM projection_dead_letters WHERE reason LIKE '%no partition of relation%'",
    )
    .fetch_all(&mut finance)
    .await
    .unwrap();
    assert_eq!(found, [3, 1]);
    let done = maintain(&config, 0).await.unwrap();
    assert_eq!(done.findings, [partitioning::Finding::Homeless(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_kept_month_waits_for_its_partition() {
    let cluster = Cluster::start().await;
    let more = "[projections]\nretry_first_ms = 1\nretry_max_ms = 20\ntries_before_paused = 3\n";
    let backend = Backend::start(&cluster.config(more)).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    run(&mut finance, &format!("DROP TABLE {}", past().partition_of("revenues_partitioned"))).await;
    backend.events.append(late()).await.unwrap();
    backend.stop().await;
    let aside: i64 = sqlx::query_scalar("SELECT count(*) FROM projection_dead_letters")
        .fetch_one(&mut finance)
        .await
        .unwrap();
    assert_eq!(aside, 0);
}
