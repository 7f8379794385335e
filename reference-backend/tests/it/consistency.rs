//! The consistency checks: every kind of wrong row is found, right ones and ones in flight are not.

use std::time::{Duration, Instant};

use chrono::{Days, TimeDelta};
use reference_backend::domain::{Action, Command};
use reference_backend::projections::Projection;
use reqwest::Method;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::common::{Backend, Cluster, Replica, entry, org, property, revenue, today};
use crate::http_server::{json_of, populate};
use crate::jobs::command;
use crate::warming::{Program, read_from};

/// Runs a check by hand; what it said.
fn check(cluster: &Cluster, arguments: &[&str]) -> String {
    let (done, said) = command(cluster, &[&["run"], arguments].concat());
    assert!(done, "{said}");
    said
}

const BALANCES: &str = "balance-consistency-check";
const SUMMARIES: &str = "read-model-consistency-check";

/// Both checks, over everything.
fn assert_clean(cluster: &Cluster) {
    for check_of in [BALANCES, SUMMARIES] {
        let clean = format!("{check_of}: 4 organisations, 0 findings\n");
        assert_eq!(check(cluster, &[check_of, "--all"]), clean);
    }
}

/// Organisations 1 to 4 book on each of the last nine days, both ways.
async fn booked(cluster: &Cluster) {
    populate(cluster).await;
    let backend = Backend::start(&cluster.config("")).await;
    for number in 1..=4_i64 {
        for back in 0..9_i64 {
            let on = today() - Days::new(back.unsigned_abs());
            let came = Action::RecordRevenue(entry(100 + back, "rooms", on));
            let went = Action::RecordExpense(entry(10 + back, "laundry", on));
            for action in [came, went] {
                let command = Command {
                    action,
                    ..revenue(number, 10 * u128::from(number.unsigned_abs()), 1)
                };
                backend.events.append(command).await.unwrap();
            }
        }
    }
    backend.stop().await;
}

/// Spoils rows, and then brings them back by the copy kept of the table.
struct Fault<'a> {
    connection: &'a mut PgConnection,
    table: &'static str,
}

impl<'a> Fault<'a> {
    async fn plant(connection: &'a mut PgConnection, table: &'static str, spoil: String) -> Self {
        let keep = format!("CREATE TABLE kept AS TABLE {table}");
        sqlx::raw_sql(AssertSqlSafe(keep)).execute(&mut *connection).await.unwrap();
        let spoilt = sqlx::query(AssertSqlSafe(spoil.clone())).execute(&mut *connection).await;
        assert!(spoilt.unwrap().rows_affected() > 0, "nothing to spoil: {spoil}");
        Self { connection, table }
    }

    async fn undo(self) {
        let Self { connection, table } = self;
        let undo = format!("DELETE FROM {table}; INSERT INTO {table} TABLE kept; DROP TABLE kept");
        sqlx::raw_sql(AssertSqlSafe(undo)).execute(connection).await.unwrap();
    }
}

/// What the last check published: kind, first wrong day, organisation, reason.
async fn published(store: &mut PgConnection) -> Vec<(String, String, i64, String)> {
    sqlx::query_as(
        "SELECT data ->> 'kind', data ->> 'from', org_id, data ->> 'reason' FROM topic_messages \
         WHERE topic = 'balance-corrections' ORDER BY position DESC",
    )
    .fetch_all(store)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_balances_are_found_and_right_ones_are_not() {
    const TABLE: &str = "daily_cash_balances_partitioned";
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    let clean = format!("{BALANCES}: 4 organisations, 0 findings\n");
    assert_eq!(check(&cluster, &[BALANCES]), clean);
    assert_eq!(check(&cluster, &[BALANCES, "--all"]), clean);

    // What is done to which day (so many days back), and what is said of it.
    let faults = [
        (
            "UPDATE {t} SET revenue_cents = revenue_cents + 5, closing_cents = closing_cents + 5 WHERE org_id = 3 AND date = {d}",
            1,
            "the balance says 106 and 11 cents, entries 101 and 11",
        ),
        (
            "UPDATE {t} SET opening_cents = opening_cents - 7, closing_cents = closing_cents - 7 WHERE org_id = 3 AND date >= {d}",
            1,
            "the day before closed at",
        ),
        // The first recent day: the one before it has to be looked up.
        (
            "UPDATE {t} SET opening_cents = opening_cents - 7, closing_cents = closing_cents - 7 WHERE org_id = 3 AND date >= {d}",
            2,
            "the day before closed at",
        ),
        ("DELETE FROM {t} WHERE org_id = 3 AND date = {d}", 0, "and no balance"),
        (
            "INSERT INTO {t} SELECT org_id, property_id, {d}::date, closing_cents, 0, 0, closing_cents FROM {t} \
             WHERE org_id = 3 AND date = {d}::date - 1",
            -1,
            "a balance without entries",
        ),
        (
            "UPDATE {t} SET expense_cents = expense_cents + 1, closing_cents = closing_cents - 1 WHERE org_id = 3 AND date = {d}",
            7,
            "the balance says 107 and 18 cents, entries 107 and 17",
        ),
    ];
    for (spoil, back, reason) in faults {
        let day = today() - TimeDelta::days(back);
        let spoil = spoil.replace("{t}", TABLE).replace("{d}", &format!("'{day}'"));
        let fault = Fault::plant(&mut finance, TABLE, spoil.clone()).await;
        let found = format!("{BALANCES}: 4 organisations, 1 findings\n");
        if back > 2 {
            assert_eq!(check(&cluster, &[BALANCES]), clean, "not recent: {spoil}");
            assert_eq!(check(&cluster, &[BALANCES, "--all"]), found, "{spoil}");
        } else {
            assert_eq!(check(&cluster, &[BALANCES]), found, "{spoil}");
        }
        let (kind, from, org, said) = published(&mut store).await.swap_remove(0);
        assert_eq!((kind.as_str(), org), ("balances", 3));
        assert!(said.contains(reason) && said.starts_with(&from), "{spoil}: {said}");
        fault.undo().await;
    }
    assert_eq!(check(&cluster, &[BALANCES, "--all"]), clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_summaries_are_found_and_right_ones_are_not() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    let clean = format!("{SUMMARIES}: 4 organisations, 0 findings\n");
    assert_eq!(check(&cluster, &[SUMMARIES]), clean);
    let nothing_new = format!("{SUMMARIES}: 0 organisations, 0 findings\n");
    assert_eq!(check(&cluster, &[SUMMARIES]), nothing_new);
    assert_eq!(check(&cluster, &[SUMMARIES, "--all"]), clean);

    // An organisation with new events is looked at again.
    let fault =
        Fault::plant(&mut models, "finance_summaries", "DELETE FROM finance_summaries".to_owned());
    let fault = fault.await;
    sqlx::raw_sql("UPDATE check_progress SET position = position - 1 WHERE shard = 6")
        .execute(&mut cluster.admin("plimsoll_health_check").await)
        .await
        .unwrap();
    let one = format!("{SUMMARIES}: 1 organisations, 1 findings\n");
    assert_eq!(check(&cluster, &[SUMMARIES]), one, "shard 6 is that of organisation 2");
    fault.undo().await;

    let faults = [
        (
            "UPDATE finance_summaries SET revenue_cents = revenue_cents + 1 WHERE org_id = 2",
            "the summary says",
        ),
        (
            "UPDATE finance_summaries SET entry_count = entry_count - 1 WHERE org_id = 2",
            "the summary says 17 entries",
        ),
        ("UPDATE finance_summaries SET version = version + 1 WHERE org_id = 2", "at version 19"),
        ("DELETE FROM finance_summaries WHERE org_id = 2", "no summary"),
        (
            "INSERT INTO finance_summaries SELECT org_id, gen_random_uuid(), 1, 1, 1, NULL, 1, doc FROM finance_summaries \
             WHERE org_id = 2",
            "without events",
        ),
        (
            "UPDATE finance_summaries SET last_entry_date = last_entry_date - 1 WHERE org_id = 2",
            "last day",
        ),
        (
            "UPDATE finance_summaries SET doc = doc || '{\"expense_categories\": []}' WHERE org_id = 2",
            "lacks a category",
        ),
    ];
    for (spoil, reason) in faults {
        let fault = Fault::plant(&mut models, "finance_summaries", spoil.to_owned()).await;
        let found = format!("{SUMMARIES}: 4 organisations, 1 findings\n");
        assert_eq!(check(&cluster, &[SUMMARIES, "--all"]), found, "{spoil}");
        let (kind, _, org, said) = published(&mut store).await.swap_remove(0);
        assert_eq!((kind.as_str(), org), ("summary", 2));
        assert!(said.contains(reason), "{spoil}: {said}");
        fault.undo().await;
    }
    assert_eq!(check(&cluster, &[SUMMARIES, "--all"]), clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_in_flight_and_a_snapshot_ahead_are_no_findings() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let mut store = cluster.admin("plimsoll_event_store").await;
    // A snapshot half-way, and one that is newer than the projection.
    let snapshot = "INSERT INTO snapshots (org_id, aggregate_type, aggregate_id, version, state, taken_at) \
         SELECT $1, 1, aggregate_id, max(version), jsonb_build_object( \
             'revenue_cents', sum((data ->> 'amount_cents')::bigint) FILTER (WHERE event_type = 1), \
             'expense_cents', sum((data ->> 'amount_cents')::bigint) FILTER (WHERE event_type = 2), \
             'entries', count(*)), now() \
         FROM events WHERE org_id = $1 AND version <= $2 GROUP BY aggregate_id";
    sqlx::query(snapshot).bind(1_i64).bind(5).execute(&mut store).await.unwrap();

    // Appended, and projected nowhere.
    let config = cluster.config("");
    let db = reference_backend::db::Databases::connect(&config.database).await.unwrap();
    let events =
        reference_backend::events::EventStore::start(&db, &config.event_store).await.unwrap();
    for number in [1, 2, 2] {
        let first = 10 * u128::try_from(number).unwrap();
        events.append(revenue(number, first, 5)).await.unwrap();
    }
    events.stop().await;
    db.close().await;
    sqlx::query(snapshot).bind(2_i64).bind(20).execute(&mut store).await.unwrap();
    for check_of in [SUMMARIES, BALANCES] {
        let clean = format!("{check_of}: 4 organisations, 0 findings\n");
        assert_eq!(check(&cluster, &[check_of, "--all"]), clean);
    }

    // And still a projection that lost an event is found: its checkpoint says that it had it.
    let shard = reference_backend::events::Shard::of(org(2)).number();
    let mut models = cluster.admin("plimsoll_read_models").await;
    sqlx::query("UPDATE projection_checkpoints SET position = position + 1 WHERE projection = $1 AND shard = $2")
        .bind(Projection::FinanceSummary.name())
        .bind(shard)
        .execute(&mut models)
        .await
        .unwrap();
    let found = format!("{SUMMARIES}: 4 organisations, 1 findings\n");
    assert_eq!(check(&cluster, &[SUMMARIES, "--all"]), found);
    let of: i64 = sqlx::query_scalar("SELECT org_id FROM topic_messages")
        .fetch_one(&mut store)
        .await
        .unwrap();
    assert_eq!(of, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_due_is_reminded_of_once_and_again_when_put_off() {
    const REMIND: &str = "task-reminders";
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    let mut shared = cluster.admin("plimsoll_shared").await;
    for (number, status, due) in [(1, "open", -1), (2, "open", 60), (3, "done", -1)] {
        sqlx::query(
            "INSERT INTO tasks (org_id, id, property_id, title, status, due_at) \
             VALUES (1, $1, $2, 'Mend the lift', $3, now() + make_interval(mins => $4))",
        )
        .bind(property(number).uuid())
        .bind(property(10).uuid())
        .bind(status)
        .bind(due)
        .execute(&mut hospitality)
        .await
        .unwrap();
    }
    assert_eq!(check(&cluster, &[REMIND]), format!("{REMIND}: 1 tasks\n"));
    assert_eq!(check(&cluster, &[REMIND]), format!("{REMIND}: 0 tasks\n"));
    // As after a crash between the two databases: reminded again, and told once.
    let run = async |connection: &mut PgConnection, sql: &'static str| {
        assert_eq!(sqlx::query(sql).execute(connection).await.unwrap().rows_affected(), 1, "{sql}");
    };
    run(&mut hospitality, "UPDATE tasks SET reminded_at = NULL WHERE reminded_at IS NOT NULL")
        .await;
    assert_eq!(check(&cluster, &[REMIND]), format!("{REMIND}: 1 tasks\n"));
    let told = "SELECT title FROM notifications WHERE org_id = 1 AND kind = 'task-due'";
    let mut store = cluster.admin("plimsoll_event_store").await;
    let streamed: Vec<String> = sqlx::query_scalar(
        "SELECT data ->> 'title' FROM topic_messages WHERE topic = 'realtime-updates' AND org_id = 1 \
         AND data ->> 'type' = 'notification' AND data ->> 'kind' = 'task-due'",
    )
    .fetch_all(&mut store)
    .await
    .unwrap();
    assert_eq!(streamed, ["Due: Mend the lift"; 2], "published each time, with one id");
    let titles: Vec<String> = sqlx::query_scalar(told).fetch_all(&mut shared).await.unwrap();
    assert_eq!(titles, ["Due: Mend the lift"]);

    run(&mut hospitality,
        "UPDATE tasks SET reminded_at = NULL, due_at = due_at + interval '1 second' WHERE reminded_at IS NOT NULL").await;
    check(&cluster, &[REMIND]);
    assert_eq!(
        sqlx::query_scalar::<_, String>(told).fetch_all(&mut shared).await.unwrap().len(),
        2
    );
}

/// Until the repair has settled all findings.
async fn settled(cluster: &Cluster) {
    let mut health = cluster.admin("plimsoll_health_check").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let open = "SELECT count(*) FROM findings WHERE settled_at IS NULL";
    while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut health).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "the findings were never repaired");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until an answer of organisation 1 says so.
async fn until_shown(program: &Program, path: &str, figure: &str, cents: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = program.request(Method::GET, path).send().await.unwrap();
        let shown = json_of(answer).await[figure].as_i64().unwrap();
        if shown == cents {
            return;
        }
        assert!(Instant::now() < deadline, "{path} still shows {shown}, not {cents}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_found_published_repaired_and_shown_right_while_entries_come() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let spoil = async |finance: &mut PgConnection, models: &mut PgConnection| {
        sqlx::raw_sql(
            "UPDATE daily_cash_balances_partitioned SET revenue_cents = revenue_cents + 1000, closing_cents = closing_cents + 1000 \
                 WHERE org_id = 1 AND date = current_date - 2; \
             UPDATE daily_cash_balances_partitioned SET opening_cents = opening_cents + 1000, closing_cents = closing_cents + 1000 \
                 WHERE org_id = 1 AND date > current_date - 2",
        )
        .execute(finance)
        .await
        .unwrap();
        sqlx::raw_sql(
            "UPDATE finance_summaries SET revenue_cents = revenue_cents + 1000 WHERE org_id = 1",
        )
        .execute(models)
        .await
        .unwrap();
    };
    spoil(&mut finance, &mut models).await;
    // A replica that has the wrong rows and will not see the repair, and yet may be asked.
    let replica = Replica::of(&cluster).await;
    let mut on_replica = replica.admin().await;
    sqlx::raw_sql("SELECT pg_wal_replay_pause()").execute(&mut on_replica).await.unwrap();
    let settings = format!(
        "[database.replica_choice]\nlag_max_ms = 600000\n[cache]\nwarm_at_once = 0\n\
         [[database.replicas]]\nname = \"replica-1\"\nhost = \"{}\"\nport = {}\n",
        replica.socket().display(),
        replica.port(),
    );
    let program = Program::start(&cluster, &settings);
    program.until_counted(r#"backend_replica_healthy{replica="replica-1"}"#, 1).await;
    let revenue: i64 = (0..9).map(|back| 100 + back).sum();
    let total = revenue - (0..9).map(|back| 10 + back).sum::<i64>();
    let first = program.request(Method::GET, "/cash/position").send().await.unwrap();
    assert_eq!(read_from(&first), "replica-1");
    until_shown(&program, "/cash/position", "total_cents", total + 1000).await;
    until_shown(&program, "/finance-summary", "revenue_cents", revenue + 1000).await;

    // Entries of the same account come all the while.
    let entries = async {
        for _ in 0..30 {
            program.post("revenues", 1).await;
        }
    };
    let repairs = async {
        for check_of in [BALANCES, SUMMARIES] {
            let found = format!("{check_of}: 4 organisations, 1 findings\n");
            assert_eq!(check(&cluster, &[check_of, "--all"]), found);
        }
        settled(&cluster).await;
    };
    tokio::join!(entries, repairs);
    until_shown(&program, "/cash/position", "total_cents", total + 30).await;
    until_shown(&program, "/finance-summary", "revenue_cents", revenue + 30).await;
    // Nothing old comes back, and what comes now counts once.
    program.post("revenues", 1).await;
    until_shown(&program, "/cash/position", "total_cents", total + 31).await;
    until_shown(&program, "/finance-summary", "revenue_cents", revenue + 31).await;
    assert_clean(&cluster);
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_wrong_row_is_repaired() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let program = Program::start(&cluster, "");
    for spoil in [
        "DELETE FROM daily_cash_balances_partitioned WHERE org_id = 1 AND date = current_date - 8",
        "DELETE FROM daily_cash_balances_partitioned WHERE org_id = 1 AND date > current_date - 3",
        "INSERT INTO daily_cash_balances_partitioned SELECT org_id, property_id, date + 1, 0, 7, 0, 7 \
             FROM daily_cash_balances_partitioned WHERE org_id = 1 AND date = current_date",
    ] {
        sqlx::raw_sql(spoil).execute(&mut finance).await.unwrap();
        assert!(check(&cluster, &[BALANCES, "--all"]).ends_with("1 findings\n"), "{spoil}");
        settled(&cluster).await;
    }
    for spoil in [
        "DELETE FROM finance_summaries WHERE org_id = 2",
        "UPDATE finance_summaries SET doc = doc || '{\"expense_categories\": []}', last_entry_date = NULL WHERE org_id = 3",
        "INSERT INTO finance_summaries SELECT org_id, gen_random_uuid(), 1, 1, 1, NULL, 1, doc FROM finance_summaries \
             WHERE org_id = 4",
    ] {
        sqlx::raw_sql(spoil).execute(&mut models).await.unwrap();
        assert!(check(&cluster, &[SUMMARIES, "--all"]).ends_with("1 findings\n"), "{spoil}");
        settled(&cluster).await;
    }
    assert_clean(&cluster);
    program.stop();
}
