//! Projections on a real PostgreSQL: every table equals a replay of the store, whatever happened on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Days;
use futures::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::task::JoinSet;

use crate::common::{Backend, Cluster, entry, org, property, revenue, today};
use reference_backend::db::{Database, Freshness};
use reference_backend::domain::{Action, CashAccount, Command, Version};
use reference_backend::events::{Appended, load_account_at, snapshots};
use reference_backend::projections::Projection;
use sqlx::{AssertSqlSafe, PgConnection};

/// The n-th command of a mixed load: both kinds, some categories, some accounts, days up to a month back in no order.
fn mixed(n: u64) -> Command {
    let back = n * 7_919 % 31;
    let entry = entry(
        n.cast_signed() % 97 + 1,
        ["rooms", "bar", "laundry", "Zimmer"][n as usize % 4],
        today() - Days::new(back),
    );
    let action = if n.is_multiple_of(3) {
        Action::RecordExpense(entry)
    } else {
        Action::RecordRevenue(entry)
    };
    Command { action, ..revenue(n.cast_signed() % 9 + 1, u128::from(n) % 18, 1) }
}

async fn append_all(backend: &Backend, numbers: std::ops::Range<u64>) -> Vec<Appended> {
    let mut tasks = JoinSet::new();
    for n in numbers {
        let events = backend.events.clone();
        tasks.spawn(async move { events.append(mixed(n)).await.unwrap() });
    }
    tasks.join_all().await
}

async fn rows(connection: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

/// The events as lines, and what the tables of both projections would be if computed from them in plain SQL.
async fn assert_tables_equal_a_replay(cluster: &Cluster, events: usize) {
    let mut store = cluster.admin("plimsoll_event_store").await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let mut models = cluster.admin("plimsoll_read_models").await;

    let stored = rows(
        &mut store,
        "SELECT concat_ws('|', event_type, org_id, aggregate_id, command_id, data ->> 'date', \
             data ->> 'category', data ->> 'amount_cents', recorded_at) FROM events ORDER BY command_id",
    )
    .await;
    let entries = rows(
        &mut finance,
        "SELECT concat_ws('|', kind, org_id, property_id, id, date, category, amount_cents, recorded_at) FROM ( \
             SELECT 1 AS kind, * FROM revenues_partitioned UNION ALL \
             SELECT 2, * FROM expenses_partitioned) e ORDER BY id",
    )
    .await;
    assert_eq!(stored.len(), events);
    assert_eq!(stored, entries, "entries differ from the store");

    let wanted = rows(
        &mut finance,
        "WITH days AS ( \
             SELECT org_id, property_id, date, sum(r) AS r, sum(e) AS e FROM ( \
                 SELECT org_id, property_id, date, amount_cents AS r, 0 AS e FROM revenues_partitioned UNION ALL \
                 SELECT org_id, property_id, date, 0, amount_cents FROM expenses_partitioned) x \
             GROUP BY 1, 2, 3), books AS ( \
             SELECT *, sum(r - e) OVER (PARTITION BY org_id, property_id ORDER BY date) AS closing FROM days) \
         SELECT concat_ws('|', org_id, property_id, date, closing - r + e, r, e, closing) FROM books ORDER BY 1",
    )
    .await;
    let balances = rows(
        &mut finance,
        "SELECT concat_ws('|', org_id, property_id, date, opening_cents, revenue_cents, expense_cents, \
             closing_cents) FROM daily_cash_balances_partitioned ORDER BY 1",
    )
    .await;
    assert_eq!(balances, wanted, "daily balances differ from the entries");

    let wanted = rows(
        &mut store,
        "SELECT concat_ws('|', org_id, aggregate_id, \
             coalesce(sum((data ->> 'amount_cents')::bigint) FILTER (WHERE event_type = 1), 0), \
             coalesce(sum((data ->> 'amount_cents')::bigint) FILTER (WHERE event_type = 2), 0), \
             count(*), max((data ->> 'date')::date), max(version), jsonb_build_object( \
             'revenue_categories', coalesce(jsonb_agg(DISTINCT data ->> 'category' COLLATE \"C\" \
                 ORDER BY data ->> 'category' COLLATE \"C\") FILTER (WHERE event_type = 1), '[]'), \
             'expense_categories', coalesce(jsonb_agg(DISTINCT data ->> 'category' COLLATE \"C\" \
                 ORDER BY data ->> 'category' COLLATE \"C\") FILTER (WHERE event_type = 2), '[]'))) \
         FROM events GROUP BY org_id, aggregate_id ORDER BY 1",
    )
    .await;
    let summaries = rows(
        &mut models,
        "SELECT concat_ws('|', org_id, property_id, revenue_cents, expense_cents, entry_count, \
             last_entry_date, version, doc) FROM finance_summaries ORDER BY 1",
    )
    .await;
    assert_eq!(summaries, wanted, "summaries differ from the store");

    for database in [&mut finance, &mut models] {
        let done: i64 =
            sqlx::query_scalar("SELECT sum(position)::bigint FROM projection_checkpoints")
                .fetch_one(database)
                .await
                .unwrap();
        assert_eq!(usize::try_from(done).unwrap(), events, "checkpoints are not at the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_equal_a_replay_with_entries_of_any_day() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    append_all(&backend, 0..600).await;
    append_all(&backend, 600..900).await;
    backend.stop().await;
    assert_tables_equal_a_replay(&cluster, 900).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_catches_up_and_counts_nothing_twice() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    append_all(&backend, 0..100).await;
    backend.stop().await;

    // Appended while no projection runs; it must find them in the store.
    let config = cluster.config("");
    let db = reference_backend::db::Databases::connect(&config.database).await.unwrap();
    let events =
        reference_backend::events::EventStore::start(&db, &config.event_store).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 100..300 {
        let events = events.clone();
        tasks.spawn(async move { events.append(mixed(n)).await.unwrap() });
    }
    tasks.join_all().await;
    events.stop().await;
    db.close().await;

    let backend = Backend::start(&cluster.config("[projections]\nbatch_events_max = 16\n")).await;
    append_all(&backend, 300..400).await;
    backend.stop().await;
    assert_tables_equal_a_replay(&cluster, 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_falls_behind_reads_the_store() {
    let cluster = Cluster::start().await;
    // Room for one batch, and slow to take it: nearly every batch is dropped and has to be read back.
    let more = "[event_store]\nfeed_batches = 1\nbatch_commands_max = 3\nbatch_interval_ms = 1\n\
                [projections]\ninterval_ms = 60\n";
    let backend = Backend::start(&cluster.config(more)).await;
    append_all(&backend, 0..500).await;
    backend.stop().await;
    assert_tables_equal_a_replay(&cluster, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_of_projections_lose_and_double_nothing() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    let mut killed = 0;
    for round in 0..8 {
        append_all(&backend, round * 60..(round + 1) * 60).await;
        killed += cluster.terminate("finance%").await;
    }
    assert!(killed > 0, "nothing was there to be killed");
    let told = std::sync::Arc::clone(&backend.told);
    backend.stop().await;
    for projection in Projection::ALL {
        assert_eq!(told.events(projection), 480, "{projection:?}: its observer missed events");
    }
    assert_tables_equal_a_replay(&cluster, 480).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_not_projected_again() {
    let cluster = Cluster::start().await;
    // Slow to start its next transaction, so that the append is answered before answers are held.
    let backend = Backend::start(&cluster.config("[projections]\ninterval_ms = 1500\n")).await;
    append_all(&backend, 0..10).await;
    append_all(&backend, 10..20).await;
    cluster.hold_answers(true).await;
    for projection in Projection::ALL {
        cluster.terminate_after_commit(projection.name()).await;
    }
    cluster.hold_answers(false).await;
    let told = std::sync::Arc::clone(&backend.told);
    backend.stop().await;
    assert_tables_equal_a_replay(&cluster, 20).await;
    assert_eq!(Projection::ALL.map(|projection| told.events(projection)), [20, 20]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_without_its_table_pauses_and_skips_nothing() {
    let cluster = Cluster::start().await;
    let more = "[projections]\nretry_first_ms = 1\nretry_max_ms = 20\ntries_before_paused = 3\n";
    let backend = Backend::start(&cluster.config(more)).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let run = |sql| sqlx::raw_sql(sql);
    run("ALTER TABLE revenues_partitioned RENAME TO away").execute(&mut finance).await.unwrap();
    let answer = backend.events.append(revenue(1, 7, 13)).await.unwrap();
    append_all(&backend, 0..50).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while backend.projections.paused() != [Projection::Finance] {
        assert!(tokio::time::Instant::now() < until, "the projection never showed as paused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let short = Duration::from_millis(50);
    let waited = backend.projections.wait_projected(Projection::Finance, answer.token(), short);
    assert_eq!(waited.await, None);

    run("ALTER TABLE away RENAME TO revenues_partitioned").execute(&mut finance).await.unwrap();
    let long = Duration::from_secs(20);
    let waited = backend.projections.wait_projected(Projection::Finance, answer.token(), long);
    assert!(waited.await.is_some());
    backend.stop().await;
    assert_tables_equal_a_replay(&cluster, 51).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_breaks_a_rule_is_set_aside_alone() {
    let cluster = Cluster::start().await;
    // Long enough between transactions that the event is one of a batch.
    let more = "[projections]\ninterval_ms = 500\nretry_first_ms = 1\nretry_max_ms = 1\n";
    let backend = Backend::start(&cluster.config(more)).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql(
        "ALTER TABLE revenues_partitioned ADD CONSTRAINT poison CHECK (amount_cents <> 1300)",
    )
    .execute(&mut finance)
    .await
    .unwrap();
    append_all(&backend, 0..50).await;
    let poison = backend.events.append(revenue(1, 7, 1_300)).await.unwrap();
    append_all(&backend, 50..100).await;
    let told = std::sync::Arc::clone(&backend.told);
    backend.stop().await;
    assert_eq!(Projection::ALL.map(|projection| told.events(projection)), [101, 101]);

    let kept: Vec<(String, i16, i64, uuid::Uuid)> = sqlx::query_as(
        "SELECT projection, shard, position, command_id FROM projection_dead_letters",
    )
    .fetch_all(&mut finance)
    .await
    .unwrap();
    let expected = (poison.shard.number(), poison.position, poison.command.uuid());
    assert_eq!(kept, [("finance".to_owned(), expected.0, expected.1, expected.2)]);
    let projected: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM revenues_partitioned UNION ALL SELECT FROM expenses_partitioned) e \
         UNION ALL SELECT sum(position)::bigint FROM projection_checkpoints",
    )
    .fetch_all(&mut finance)
    .await
    .unwrap();
    assert_eq!(projected, [100, 101], "all other events are in the tables");
}

/// Has a table refuse amounts that end in 7 with one error and in 8 with another.
fn refusing(table: &str, amount: &str) -> String {
    format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.{amount} % 10 = 7 THEN RAISE 'too much' USING ERRCODE = '54000'; END IF; \
             IF NEW.{amount} % 10 = 8 THEN RAISE 'out of range' USING ERRCODE = '22003'; END IF; \
             RETURN NEW; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_rows_exceed_a_limit_is_set_aside_alone() {
    let cluster = Cluster::start().await;
    let more = "[projections]\ninterval_ms = 300\nretry_first_ms = 1\nretry_max_ms = 1\n";
    let backend = Backend::start(&cluster.config(more)).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let plant = AssertSqlSafe(refusing("revenues_partitioned", "amount_cents"));
    sqlx::raw_sql(plant).execute(&mut finance).await.unwrap();
    let plant = AssertSqlSafe(refusing("finance_summaries", "revenue_cents"));
    sqlx::raw_sql(plant).execute(&mut models).await.unwrap();
    // All of one shard; each in a summary of its own, so that the summary's total is the amount.
    for (house, cents) in [(1, 10), (2, 17), (3, 20), (4, 28), (5, 30)] {
        backend.events.append(revenue(1, house, cents)).await.unwrap();
    }
    let told = std::sync::Arc::clone(&backend.told);
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while Projection::ALL.iter().any(|projection| told.events(*projection) < 5) {
        assert!(tokio::time::Instant::now() < until, "an event blocks its shard for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    backend.stop().await;

    let booked = "SELECT amount_cents FROM revenues_partitioned ORDER BY 1";
    let summed = "SELECT revenue_cents FROM finance_summaries ORDER BY 1";
    for (database, query) in [(&mut finance, booked), (&mut models, summed)] {
        let kept: Vec<i64> = sqlx::query_scalar(query).fetch_all(&mut *database).await.unwrap();
        assert_eq!(kept, [10, 20, 30]);
        let reasons = "SELECT reason FROM projection_dead_letters ORDER BY position";
        let reasons = rows(database, reasons).await;
        assert_eq!(reasons.len(), 2);
        assert!(reasons[0].contains("too much") && reasons[1].contains("out of range"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_too_heavy_for_one_transaction_is_written_in_parts() {
    let cluster = Cluster::start().await;
    let more = "[projections]\ninterval_ms = 500\ntransaction_timeout_ms = 500\n\
                retry_first_ms = 1\nretry_max_ms = 1\n";
    let backend = Backend::start(&cluster.config(more)).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'; \
         CREATE TRIGGER dawdle BEFORE INSERT ON revenues_partitioned \
             FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    .execute(&mut finance)
    .await
    .unwrap();
    append_all(&backend, 0..90).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while backend.told.events(Projection::Finance) < 90 {
        assert!(tokio::time::Instant::now() < until, "the batch is tried as a whole for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    backend.stop().await;
    assert_tables_equal_a_replay(&cluster, 90).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_token_reads_their_write() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    for n in 1..=20 {
        let answer = backend.events.append(revenue(1, 7, n)).await.unwrap();
        for projection in Projection::ALL {
            let wait = Duration::from_secs(20);
            let lsn = backend.projections.wait_projected(projection, answer.token(), wait).await;
            let freshness = Freshness::AtLeast(lsn.unwrap());
            let mut reader = backend.db.read(projection.database(), freshness);
            let query = match projection {
                Projection::Finance => {
                    "SELECT sum(amount_cents)::bigint FROM revenues_partitioned WHERE org_id = $1 AND property_id = $2"
                }
                Projection::FinanceSummary => {
                    "SELECT revenue_cents FROM finance_summaries WHERE org_id = $1 AND property_id = $2"
                }
            };
            let found: Option<(i64,)> = reader
                .fetch_optional(|| {
                    sqlx::query_as(query).bind(org(1).get()).bind(property(7).uuid())
                })
                .await
                .unwrap();
            assert_eq!(found, Some((n * (n + 1) / 2,)), "{projection:?} after {n} writes");
        }
    }
    backend.stop().await;
}

/// One entry of a history: organisation, property, kind, cents, days back.
type Booked = (i64, u128, bool, i64, u64);

fn command((org, property, is_revenue, cents, back): Booked) -> Command {
    let entry =
        entry(cents, ["rooms", "bar", "Ärger"][back as usize % 3], today() - Days::new(back));
    let action =
        if is_revenue { Action::RecordRevenue(entry) } else { Action::RecordExpense(entry) };
    Command { action, ..revenue(org, property, 1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_in_any_batches_is_a_replay_in_every_table_and_at_every_version() {
    let cluster = Cluster::start().await;
    let mut runner = TestRunner::deterministic();
    let booked = (1..4_i64, 0..3_u128, any::<bool>(), 1..1_000_000_i64, 0..40_u64);
    let histories = (prop::collection::vec(booked, 1..150), 1..60_usize, 1..30_usize, 1..40_u32);
    let mut expected: BTreeMap<(i64, u128), Vec<CashAccount>> = BTreeMap::new();
    let mut events = 0;
    for _ in 0..4 {
        let (history, per_projection, per_append, every) =
            histories.new_tree(&mut runner).unwrap().current();
        let settings = format!(
            "[projections]\nbatch_events_max = {per_projection}\ninterval_ms = 1\n\
             [event_store]\nbatch_commands_max = {per_append}\nbatch_interval_ms = 0\n\
             [snapshots]\nevery_events = {every}\nbatch_accounts_max = 2\n"
        );
        let config = cluster.config(&settings);
        let backend = Backend::start(&config).await;
        events += history.len();
        let appended = history.iter().map(|booked| backend.events.append(command(*booked)));
        for (answer, booked) in join_all(appended).await.into_iter().zip(&history) {
            let states = expected.entry((booked.0, booked.1)).or_default();
            let mut state = states.last().copied().unwrap_or_default();
            state.apply(&command(*booked).action.into_event());
            states.push(state);
            assert_eq!(answer.unwrap().version.get() as usize, states.len());
        }
        snapshots::catch_up(&backend.db, &config.snapshots).await.unwrap();
        let mut reader = backend.db.read(Database::EventStore, Freshness::Newest);
        for ((org_number, property_number), states) in &expected {
            for (state, version) in states.iter().zip(1..) {
                let (org, property) = (org(*org_number), property(*property_number));
                let version = Version::new(version);
                let loaded = load_account_at(&mut reader, org, property, version).await.unwrap();
                // History up to the snapshot is still there, from the beginning.
                assert_eq!(loaded.map(|loaded| loaded.account), Some(*state));
            }
        }
        backend.stop().await;
        assert_tables_equal_a_replay(&cluster, events).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_does_not_wait_for_ever_for_a_database_that_stands_still() {
    let cluster = Cluster::start().await;
    let more = "[projections]\ndrain_timeout_ms = 300\ntransaction_timeout_ms = 600000\n";
    let backend = Backend::start(&cluster.config(more)).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql("BEGIN; LOCK TABLE projection_checkpoints").execute(&mut finance).await.unwrap();
    backend.events.append(revenue(1, 7, 13)).await.unwrap();
    backend.events.stop().await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), backend.projections.stop()).await;
    assert!(stopped.is_ok(), "it waits for the lock");
    sqlx::raw_sql("ROLLBACK").execute(&mut finance).await.unwrap();
    backend.db.close().await;
    Backend::start(&cluster.config("")).await.stop().await;
    assert_tables_equal_a_replay(&cluster, 1).await;
}
