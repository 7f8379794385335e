//! Which index and which partitions serve the statements on money, events and summaries, by the server's own record of what
//! it did. A plan that changes shows in the snapshot: a partition too many, or a table read whole.

use std::fmt::Write;

use chrono::{Days, NaiveDate};
use reference_backend::db::maintenance;
use reference_backend::partitioning::{self, Month};
use sqlx::Executor;

use crate::common::{Cluster, today};
use crate::http_server::{Server, first_property, json_of, populate};

/// Enough rows of the organisations 1 to 4 that reading all is the dearer way. The ids look random and are not, so that plans
/// repeat.
const FINANCE: &str = "\
    INSERT INTO revenues_partitioned \
    SELECT org, date_trunc('month', current_date)::date + n % 28 - CASE WHEN n % 4 = 0 THEN 28 ELSE 0 END, md5(concat_ws('/', org, n))::uuid, \
           ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + n % 2), 12, '0'))::uuid, 'rooms', n, now() \
    FROM generate_series(1, 4) org, generate_series(1, 4000) n; \
    INSERT INTO expenses_partitioned SELECT * FROM revenues_partitioned; \
    INSERT INTO daily_cash_balances_partitioned \
    SELECT org, ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + p), 12, '0'))::uuid, current_date - n, 0, n, 0, n \
    FROM generate_series(1, 160) org, generate_series(0, 3) p, generate_series(0, 99) n; \
    INSERT INTO projection_dead_letters (projection, shard, position, org_id, command_id, reason) \
    SELECT 'finance', 1, n, 1, gen_random_uuid(), 'something else' FROM generate_series(1, 5000) n";

const READ_MODELS: &str = "\
    INSERT INTO finance_summaries \
    SELECT org, md5(concat_ws('/', org, n))::uuid, 1, 1, 2, current_date, 2, \
           '{\"revenue_categories\": [\"rooms\"], \"expense_categories\": []}' \
    FROM generate_series(1, 40) org, generate_series(1, 50) n";

const EVENT_STORE: &str = "\
    INSERT INTO events \
    SELECT s.shard, n, org, 1, ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org), 12, '0'))::uuid, n, 1, 1, \
           md5(concat_ws('/', org, n))::uuid, now(), \
           jsonb_build_object('date', current_date, 'category', 'rooms', 'amount_cents', n) \
    FROM generate_series(1, 4) org, generate_series(1, 4000) n, generate_series(0, 7) AS s (shard) \
    WHERE s.shard = org; \
    INSERT INTO snapshots \
    SELECT org, 1, md5(concat_ws('/', org, n))::uuid, 0, 1, '{}', now() FROM generate_series(1, 40) org, generate_series(1, 50) n";

/// Names of months and days become words that are true in any month.
fn timeless(plan: &str) -> String {
    let mut text = plan.to_owned();
    let current = Month::of(today());
    for months in 0..6 {
        for (month, word) in [
            (current.minus(months), format!("_{months}_months_ago")),
            (current.plus(months), format!("_in_{months}_months")),
        ] {
            text = text.replace(&format!("_{month}"), &word);
        }
    }
    let first: NaiveDate = today() - Days::new(400);
    for day in first.iter_days().take(900) {
        text = text.replace(&day.to_string(), "[day]");
    }
    text
}

#[tokio::test]
async fn each_statement_reads_by_an_index_from_the_partitions_that_it_needs() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    cluster.log_plans().await;
    for (database, rows) in [("plimsoll_finance", FINANCE), ("plimsoll_read_models", READ_MODELS)] {
        cluster.admin(database).await.execute(rows).await.unwrap();
        cluster.analyze(database).await;
    }
    let config = cluster.config("");
    let server = Server::all(&cluster, "").await;
    // After the start, whose projections would else take them for their own.
    cluster.admin("plimsoll_event_store").await.execute(EVENT_STORE).await.unwrap();
    cluster.analyze("plimsoll_event_store").await;

    let month = Month::of(today()).first_day();
    let own = first_property(1);
    let mut text = String::new();
    for (heading, path, needle) in [
        ("a month of revenues", format!("/revenues?from={month}&to={}", today()), "FROM revenues_"),
        ("a day of expenses", format!("/expenses?from={0}&to={0}", today()), "FROM expenses_"),
        ("a day of balances", format!("/cash/balances?from={0}&to={0}", today()), "FROM daily_"),
        (
            "a month of one property",
            format!("/cash/balances?property={own}&from={month}&to={}", today()),
            "FROM daily_",
        ),
        ("all balances", "/cash/position".to_owned(), "DISTINCT ON (property_id)"),
        ("summaries", "/finance-summary".to_owned(), "FROM finance_summaries"),
        ("events of an account", format!("/events?property={own}"), "FROM events WHERE"),
        ("its snapshot", format!("/events?property={own}"), "FROM snapshots"),
    ] {
        json_of(server.get(1, &path).await).await;
        writeln!(text, "{heading}\n{}\n", timeless(&cluster.last_plan(needle))).unwrap();
    }
    let mut owner = maintenance(&config.database).await.unwrap();
    let current = Month::of(today());
    partitioning::check(&mut owner, current, &config.partitions).await.unwrap();
    let homeless = cluster.last_plan("no partition of relation");
    writeln!(text, "events without a partition\n{homeless}").unwrap();
    server.stop().await;
    insta::assert_snapshot!(text);
}
