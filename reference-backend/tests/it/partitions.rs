//! Migration and the partition manager on a real PostgreSQL.

use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Months;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::task::JoinSet;

use crate::common::{Backend, Cluster, Replica, revenue, today};
use reference_backend::config::{Config, Partitions};
use reference_backend::db::{Database, Databases, Freshness, maintenance, migrate};
use reference_backend::partitioning::{self, Finding, Horizon, Maintained, Month, PartitionError};
use reference_backend::projections::Projection;

const REVENUES: &str = "revenues_partitioned";
const EXPENSES: &str = "expenses_partitioned";

fn current() -> Month {
    Month::of(today())
}

async fn run(connection: &mut PgConnection, statement: String) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.unwrap();
}

/// One round of maintenance, as a job would do it.
async fn maintain(config: &Config) -> Result<Maintained, PartitionError> {
    let db = Databases::connect(&config.database).await.unwrap();
    let maintained = partitioning::maintain(&db, config, today()).await;
    db.close().await;
    maintained
}

async fn horizon(cluster: &Cluster) -> Horizon {
    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let horizon = partitioning::horizon(db.write(Database::Finance), today(), 24).await.unwrap();
    db.close().await;
    horizon
}

#[tokio::test]
async fn migrating_again_changes_nothing_but_adds_months() {
    let cluster = Cluster::start().await;
    let month = Month::of(today());
    let end = month.plus(4).first_day();
    assert_eq!(horizon(&cluster).await, Horizon { first: month.minus(2).first_day(), end });
    migrate(&cluster.config(""), 5, today()).await.unwrap();
    migrate(&cluster.config(""), 5, today()).await.unwrap();
    assert_eq!(horizon(&cluster).await, Horizon { first: month.minus(5).first_day(), end });

    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let later = today() + Months::new(12);
    let missing = partitioning::horizon(db.write(Database::Finance), later, 24).await;
    assert!(matches!(missing, Err(PartitionError::CurrentMonthMissing { .. })), "{missing:?}");
    db.close().await;
}

#[tokio::test]
async fn a_locked_table_is_tried_again_and_then_told() {
    let cluster = Cluster::start().await;
    let mut holder = cluster.admin("plimsoll_finance").await;
    let mut maker = cluster.admin("plimsoll_finance").await;
    let mut config: Partitions = cluster.config("").partitions;
    (config.lock_timeout_ms.0, config.lock_tries) = (20, 2);
    let next = Month::of(today()).plus(4);

    let mut transaction = holder.begin().await.unwrap();
    transaction
        .execute("LOCK TABLE expenses_partitioned IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let refused = partitioning::create(&mut maker, next, next, &config).await;
    assert!(matches!(refused, Err(PartitionError::Locked { tries: 2, .. })), "{refused:?}");
    transaction.rollback().await.unwrap();

    // The table that was not locked has its partition already; only the other one is missing.
    let made = partitioning::create(&mut maker, next, next, &config).await.unwrap();
    assert_eq!(made, [next.partition_of("expenses_partitioned")]);
    let again = partitioning::create(&mut maker, next, next, &config).await.unwrap();
    assert_eq!(again, Vec::<String>::new());
}

#[tokio::test]
async fn a_round_fills_gaps_makes_ahead_drops_and_checks() {
    let cluster = Cluster::start().await;
    let config = cluster.config("[partitions]\nmonths_ahead = 5\nretention_months = 1\n");
    let mut finance = cluster.admin("plimsoll_finance").await;
    let gap = current().minus(1).partition_of(REVENUES);
    run(&mut finance, format!("DROP TABLE {gap}")).await;

    let done = maintain(&config).await.unwrap();
    let ahead = |table| [4, 5].map(|months| current().plus(months).partition_of(table));
    let made = [vec![gap], ahead(REVENUES).to_vec(), ahead(EXPENSES).to_vec()].concat();
    assert_eq!(done.made, made);
    let past = current().minus(2);
    assert_eq!(done.dropped, [past.partition_of(REVENUES), past.partition_of(EXPENSES)]);
    assert_eq!(done.findings, []);
    let end = current().plus(6).first_day();
    assert_eq!(horizon(&cluster).await, Horizon { first: current().minus(1).first_day(), end });

    // Made by the role that owns them, so the next round needs no superuser either; and there is nothing left to do.
    assert_eq!(maintain(&config).await.unwrap(), Maintained::default());
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM partition_runs")
        .fetch_one(&mut finance)
        .await
        .unwrap();
    assert_eq!(runs, 2);
    // A second index of the partitions would cost every entry: those made later have the same as those of the migration.
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass";
    for (month, table) in [(current(), REVENUES), (current().plus(5), REVENUES)] {
        let name = month.partition_of(table);
        let found: i64 =
            sqlx::query_scalar(indexes).bind(name).fetch_one(&mut finance).await.unwrap();
        let parent: i64 =
            sqlx::query_scalar(indexes).bind(table).fetch_one(&mut finance).await.unwrap();
        assert_eq!(found, parent);
    }
}

#[tokio::test]
async fn days_past_retention_are_no_longer_booked_even_before_they_are_dropped() {
    let cluster = Cluster::start().await;
    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let horizon = partitioning::horizon(db.write(Database::Finance), today(), 1).await.unwrap();
    assert_eq!(horizon.first, current().minus(1).first_day());
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_while_months_are_made_and_dropped() {
    let cluster = Cluster::start().await;
    migrate(&cluster.config(""), 20, today()).await.unwrap();
    let config = cluster.config("[partitions]\nmonths_ahead = 24\nretention_months = 2\n");
    let backend = Backend::start(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for org in 1..=8 {
        let (events, stop) = (backend.events.clone(), Arc::clone(&stop));
        writers.spawn(async move {
            let (mut written, mut slowest) = (0_u32, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                events.append(revenue(org, 1, 1)).await.unwrap();
                (written, slowest) = (written + 1, slowest.max(start.elapsed()));
            }
            (written, slowest)
        });
    }
    let mut readers = JoinSet::new();
    let (db, until) = (backend.db.clone(), Arc::clone(&stop));
    readers.spawn(async move {
        let (mut read, mut slowest) = (0_u32, Duration::ZERO);
        while !until.load(Ordering::Relaxed) {
            let start = Instant::now();
            let all = || sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM revenues_partitioned");
            db.read(Database::Finance, Freshness::Newest).fetch_all(all).await.unwrap();
            (read, slowest) = (read + 1, slowest.max(start.elapsed()));
        }
        (read, slowest)
    });

    let done = partitioning::maintain(&backend.db, &config, today()).await;
    stop.store(true, Ordering::Relaxed);
    let done = done.unwrap();
    assert_eq!((done.made.len(), done.dropped.len(), done.findings), (42, 36, vec![]));
    let written = writers.join_all().await;
    let read = readers.join_all().await;
    let (events, slowest) = (
        written.iter().map(|(n, _)| u64::from(*n)).sum::<u64>(),
        written.iter().map(|(_, slowest)| *slowest).max().unwrap(),
    );
    println!(
        "42 partitions made and 36 dropped under load: {events} events, 0 refused, slowest {slowest:?}; \
         {} reads of all partitions, 0 failed, slowest {:?}",
        read[0].0, read[0].1
    );
    assert!(events > 0 && read[0].0 > 0);

    // Every event found its row.
    let mut finance = cluster.admin("plimsoll_finance").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM revenues_partitioned")
            .fetch_one(&mut finance)
            .await
            .unwrap();
        if rows.unsigned_abs() == events {
            break;
        }
        assert!(Instant::now() < deadline, "{rows} rows of {events} events");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(backend.projections.paused().is_empty());
    assert_eq!(backend.told.events(Projection::Finance).unsigned_abs(), events);
    backend.stop().await;
}

/// A transaction that has read `table`, and so stands in the way of the second half of a DETACH.
async fn reading<'a>(
    connection: &'a mut PgConnection,
    table: &str,
) -> sqlx::Transaction<'a, sqlx::Postgres> {
    let mut transaction = connection.begin().await.unwrap();
    let read = format!("SELECT count(*) FROM {table}");
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(read))).await.unwrap();
    transaction
}

#[tokio::test]
async fn an_interrupted_drop_is_finished_by_the_next() {
    let cluster = Cluster::start().await;
    let mut config = cluster.config("[partitions]\nretention_months = 1\n");
    (config.partitions.lock_timeout_ms.0, config.partitions.lock_tries) = (20, 2);
    let past = current().minus(2);
    let mut other = cluster.admin("plimsoll_finance").await;
    let reader = reading(&mut other, REVENUES).await;
    let refused = maintain(&config).await;
    assert!(matches!(refused, Err(PartitionError::Locked { .. })), "{refused:?}");

    let mut connection = maintenance(&config.database).await.unwrap();
    let found = partitioning::check(&mut connection, current(), &config.partitions).await.unwrap();
    let half = Finding::HalfDetached(past.partition_of(REVENUES));
    assert_eq!(found, [half, Finding::Expired(past.partition_of(EXPENSES))]);
    let left = partitioning::expired(&mut connection, current(), 1).await.unwrap();
    assert_eq!(left, [past.partition_of(REVENUES), past.partition_of(EXPENSES)]);
    // The half that is done does no harm: the other months are there, and can be made.
    horizon(&cluster).await;

    reader.rollback().await.unwrap();
    let done = maintain(&config).await.unwrap();
    assert_eq!((done.dropped, done.findings), (left, vec![]));
}

#[tokio::test]
async fn what_others_left_is_told_and_not_touched() {
    let cluster = Cluster::start().await;
    let config = cluster.config("[partitions]\nretention_months = 1\n");
    let past = current().minus(2).partition_of(REVENUES);
    let future = current().plus(3).partition_of(EXPENSES);
    let mut finance = cluster.admin("plimsoll_finance").await;
    let day = current().minus(2).first_day();
    run(
        &mut finance,
        format!(
            "INSERT INTO {REVENUES} VALUES (1, '{day}', gen_random_uuid(), gen_random_uuid(), 'bar', 1, now());
             ALTER TABLE {REVENUES} DETACH PARTITION {past};
             ALTER TABLE {EXPENSES} DETACH PARTITION {future};
             INSERT INTO projection_dead_letters VALUES ('finance', 1, 1, 1, gen_random_uuid(),
                 'no partition of relation \"revenues_partitioned\" found for row')"
        ),
    )
    .await;
    let mut connection = maintenance(&config.database).await.unwrap();
    let check = partitioning::check(&mut connection, current(), &config.partitions).await.unwrap();
    let expected = [
        Finding::Detached { name: past.clone(), rows: 1 },
        Finding::Expired(current().minus(2).partition_of(EXPENSES)),
        Finding::Horizon { table: EXPENSES, ahead: 2, wanted: 3 },
        Finding::Detached { name: future.clone(), rows: 0 },
        Finding::Homeless(1),
    ];
    assert_eq!(check, expected);
    // A table of the name is in the way: nobody can know whether its rows belong there.
    let refused = maintain(&config).await;
    assert!(
        matches!(&refused, Err(PartitionError::NameTaken { partition }) if *partition == future),
        "{refused:?}"
    );
    run(&mut finance, format!("DROP TABLE {future}")).await;
    let done = maintain(&config).await.unwrap();
    assert_eq!(done.made, [future]);
    assert_eq!(done.dropped, [current().minus(2).partition_of(EXPENSES)]);
    assert_eq!(done.findings, [Finding::Detached { name: past, rows: 1 }, Finding::Homeless(1)]);
}

#[tokio::test]
async fn a_name_that_lies_about_its_bounds_stops_everything() {
    let cluster = Cluster::start().await;
    let config = cluster.config("[partitions]\nretention_months = 1\n");
    let (next, liar) = (current().plus(3), current().minus(7).partition_of(REVENUES));
    let mut finance = cluster.admin("plimsoll_finance").await;
    let honest = next.partition_of(REVENUES);
    run(&mut finance, format!("ALTER TABLE {honest} RENAME TO {liar}")).await;
    // By its name it would be dropped, by its bounds it would be missed.
    let refused = maintain(&config).await;
    assert!(matches!(refused, Err(PartitionError::Disagreement { .. })), "{refused:?}");
    let mut connection = maintenance(&config.database).await.unwrap();
    let found = partitioning::check(&mut connection, current(), &config.partitions).await.unwrap();
    assert!(matches!(&found[0], Finding::Unreadable(why) if why.contains(&liar)), "{found:?}");
}

#[tokio::test]
async fn two_managers_take_turns() {
    let cluster = Cluster::start().await;
    let config = cluster.config("[partitions]\nmonths_ahead = 9\nbusy_wait_ms = 30000\n");
    let (one, other) = tokio::join!(maintain(&config), maintain(&config));
    let made = [one.unwrap().made, other.unwrap().made];
    assert_eq!(made.iter().map(Vec::len).sum::<usize>(), 12, "{made:?}");

    let mut holder = cluster.admin("plimsoll_finance").await;
    run(&mut holder, "SELECT pg_advisory_lock(x'706C696D70617274'::bigint)".to_owned()).await;
    let impatient = cluster.config("[partitions]\nbusy_wait_ms = 1\n");
    let refused = maintain(&impatient).await;
    assert!(matches!(refused, Err(PartitionError::Busy { waited_ms: 1 })), "{refused:?}");
}

#[tokio::test]
async fn switched_off_nothing_is_done() {
    let cluster = Cluster::start().await;
    let config = cluster.config(
        "[partitions]\nmonths_ahead = 9\n[features]\nenable_partition_maintenance = false\n",
    );
    let done = maintain(&config).await.unwrap();
    assert!(done.skipped.is_some() && done.made.is_empty(), "{done:?}");
}

#[tokio::test]
async fn on_a_replica_nothing_is_done() {
    let cluster = Cluster::start().await;
    let replica = Replica::of(&cluster).await;
    let mut config = cluster.config("[partitions]\nmonths_ahead = 9\n");
    config.database.primary.host = replica.socket().display().to_string();
    config.database.primary.port = replica.port();
    let done = maintain(&config).await.unwrap();
    assert!(done.skipped.is_some_and(|why| why.contains("a replica")), "{done:?}");
    assert_eq!(Maintained { skipped: None, ..done }, Maintained::default());
}

#[tokio::test]
async fn the_commands_show_make_and_drop() {
    let cluster = Cluster::start().await;
    let config = cluster.config("[partitions]\nretention_months = 2\n");
    let program = |arguments: &[&str]| {
        let output = Process::new(env!("CARGO_BIN_EXE_reference-backend"))
            .arg("partitions")
            .args(arguments)
            .env("BACKEND__DATABASE__PRIMARY__HOST", &config.database.primary.host)
            .env("BACKEND__PARTITIONS__RETENTION_MONTHS", "2")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (ok, table, _) = program(&["status"]);
    assert!(ok && table.contains(&current().partition_of(EXPENSES)), "{table}");
    assert_eq!(program(&["check"]).1, "");
    let (ok, made, _) = program(&["create", "--months", "4"]);
    let names = [REVENUES, EXPENSES].map(|table| current().plus(4).partition_of(table));
    assert!(ok);
    assert_eq!(made.lines().collect::<Vec<_>>(), names);

    // Four months of history, two of which are kept.
    migrate(&config, 4, today()).await.unwrap();
    let (healthy, findings, _) = program(&["check"]);
    assert!(!healthy && findings.lines().count() == 4, "{findings}");
    let (_, planned, _) = program(&["drop", "--dry-run"]);
    assert_eq!(planned.lines().count(), 4);
    let (ok, _, error) = program(&["drop", "--retention-months", "1"]);
    assert!(!ok && error.contains("fewer than partitions.retention_months"), "{error}");
    let (ok, dropped, _) = program(&["drop"]);
    assert!(ok && dropped == planned, "{dropped}");
    assert_eq!(program(&["check"]), (true, String::new(), String::new()));
}
