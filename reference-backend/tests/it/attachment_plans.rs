//! Which index serves which statement of receipts, night audits and reports, by the server's own record of what it did.

use std::fmt::Write;

use sqlx::Executor;

use crate::common::{Cluster, property};
use crate::http_server::{Server, first_property, json_of, populate};

/// Enough rows of the organisations 1 to 4 that reading all is the dearer way.
const FINANCE: &str = "\
    INSERT INTO receipts (org_id, id, parent_id, object, media, bytes, sha256) \
    SELECT org, md5(concat_ws('/', org, n))::uuid, md5((n / 2)::text)::uuid, md5(concat_ws('/', 'o', org, n))::uuid, \
           'image/png', 1, sha256('') \
    FROM generate_series(1, 4) org, generate_series(1, 3000) n; \
    INSERT INTO night_audits \
    SELECT org, ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + n % 2), 12, '0'))::uuid, \
           date '2020-01-01' + n / 2, 0, 0, 0, 0, 0, 0, 0, now() \
    FROM generate_series(1, 4) org, generate_series(0, 2999) n; \
    INSERT INTO revenues_partitioned \
    SELECT org, current_date, md5(concat_ws('/', org, n))::uuid, \
           ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + n % 2), 12, '0'))::uuid, 'c' || n % 5, 1, now() \
    FROM generate_series(1, 4) org, generate_series(1, 3000) n; \
    INSERT INTO expenses_partitioned SELECT * FROM revenues_partitioned; \
    INSERT INTO daily_cash_balances_partitioned \
    SELECT org, ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + n % 2), 12, '0'))::uuid, \
           date '2020-01-01' + n / 2, 0, 0, 0, 0 \
    FROM generate_series(1, 4) org, generate_series(0, 2999) n";

/// The scans of a plan, with their indexes: what joins and sorts them may change with the figures.
fn scans(plan: &str) -> String {
    let lines = plan.lines().map(str::trim).filter(|line| line.contains("Scan"));
    let named = lines.map(|line| line.trim_start_matches("->").trim());
    named.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn each_index_serves_its_statement() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    cluster.log_plans().await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    finance.execute(sqlx::raw_sql(FINANCE)).await.unwrap();
    cluster.analyze("plimsoll_finance").await;
    let server = Server::all(&cluster, "").await;
    let mut found = String::new();
    let month = chrono::Utc::now().format("%Y-%m-01");
    for (path, needle) in [
        ("/receipts".to_owned(), "FROM receipts"),
        (format!("/receipts?expense={}", property(1)), "FROM receipts"),
        (format!("/night-audits?property={}", first_property(1)), "FROM night_audits"),
        ("/night-audits".to_owned(), "FROM night_audits"),
        (format!("/reports/profit-and-loss?from={month}"), "AS is_revenue"),
        (
            format!("/reports/profit-and-loss?from={month}&property={}", first_property(1)),
            "AS is_revenue",
        ),
    ] {
        json_of(server.get(1, &path).await).await;
        let path = path.replace(&month.to_string(), "<month>");
        writeln!(found, "{path}\n{}\n", scans(&cluster.last_plan(needle))).unwrap();
    }
    let month = chrono::Utc::now().format("%Y_%m").to_string();
    insta::assert_snapshot!(found.replace(&month, "<month>"));
    server.stop().await;
}
