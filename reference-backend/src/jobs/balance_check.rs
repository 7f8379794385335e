//! `balance-consistency-check`: each day opens as the day before closed, and its sums are those of its entries.
//!
//! Balances and entries are written in one transaction, so in the one snapshot that a statement sees they agree, on
//! whichever server, whatever is in flight. That is why one statement looks at both, a range of organisations at a time.

use chrono::{Days, NaiveDate, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::check::{Finding, Tally, organisations};
use super::runs::Outcome;
use super::work::Scope;
use crate::db::{Database, Freshness};
use crate::gateway::App;
use crate::projections::RepairKind;

/// Per account of organisations $1 ≤ n < $2, the first wrong day from $3 on. Entries are looked at from $4 on, where their
/// partitions begin. The first day of all has none before it: how it opens is taken as it is.
const WRONG: &str = "\
    WITH entries AS ( \
        SELECT org_id, property_id, date, sum(revenue)::bigint AS revenue, sum(expense)::bigint AS expense FROM ( \
            SELECT org_id, property_id, date, amount_cents AS revenue, 0 AS expense \
            FROM revenues_partitioned WHERE org_id >= $1 AND org_id < $2 AND date >= $4 \
            UNION ALL \
            SELECT org_id, property_id, date, 0, amount_cents \
            FROM expenses_partitioned WHERE org_id >= $1 AND org_id < $2 AND date >= $4) AS both_sides \
        GROUP BY org_id, property_id, date), \
    days AS ( \
        SELECT org_id, property_id, date, opening_cents, revenue_cents, expense_cents, \
            coalesce(lag(closing_cents) OVER (PARTITION BY org_id, property_id ORDER BY date), ( \
                SELECT closing_cents FROM daily_cash_balances_partitioned AS b \
                WHERE b.org_id = d.org_id AND b.property_id = d.property_id AND b.date < d.date \
                ORDER BY b.date DESC LIMIT 1)) AS before_cents \
        FROM daily_cash_balances_partitioned AS d \
        WHERE org_id >= $1 AND org_id < $2 AND date >= $3), \
    wrong AS ( \
        SELECT org_id, property_id, date, CASE \
            WHEN d.opening_cents IS NULL THEN format('%s: entries of %s and %s cents, and no balance', \
                date, e.revenue, e.expense) \
            WHEN date >= $4 AND (d.revenue_cents, d.expense_cents) \
                    IS DISTINCT FROM (coalesce(e.revenue, 0), coalesce(e.expense, 0)) \
                THEN format('%s: the balance says %s and %s cents, entries %s and %s', date, \
                    d.revenue_cents, d.expense_cents, coalesce(e.revenue, 0), coalesce(e.expense, 0)) \
            WHEN date >= $4 AND e.revenue IS NULL THEN format('%s: a balance without entries', date) \
            WHEN d.opening_cents <> d.before_cents THEN format( \
                '%s: opens at %s cents, the day before closed at %s', date, d.opening_cents, d.before_cents) \
            END AS reason \
        FROM days d FULL JOIN entries e USING (org_id, property_id, date)) \
    SELECT DISTINCT ON (org_id, property_id) org_id, property_id, date, reason \
    FROM wrong WHERE reason IS NOT NULL ORDER BY org_id, property_id, date";

#[derive(FromRow)]
struct Wrong {
    org_id: i64,
    property_id: Uuid,
    date: NaiveDate,
    reason: String,
}

/// Looks at the recent days of all organisations, or at all days.
pub(super) async fn check(app: &App, scope: Scope) -> Outcome {
    let covered = app.horizon.load().first;
    let from = match scope {
        Scope::Recent => {
            let days = Days::new(u64::from(app.config.jobs.check_recent_days) - 1);
            Utc::now().date_naive() - days
        }
        // 1970: before any books, and a day that PostgreSQL knows.
        Scope::All => NaiveDate::default(),
    };
    let failed = |error: sqlx::Error| format!("look at balances: {error}");
    let (mut tally, mut first) = (Tally::new(RepairKind::Balances), 1);
    loop {
        let page = organisations(app, first - 1).await.map_err(failed)?;
        // The last range has no end: rows of organisations that nobody knows are looked at too.
        let next = page.last().map_or(i64::MAX, |last| last + 1);
        let wrong = wrong(app, first..next, from, from.max(covered)).await.map_err(failed)?;
        tally.take(app, page.len(), &wrong).await?;
        if page.is_empty() {
            return Ok(tally.summary());
        }
        first = next;
    }
}

async fn wrong(
    app: &App,
    orgs: std::ops::Range<i64>,
    from: NaiveDate,
    covered: NaiveDate,
) -> sqlx::Result<Vec<Finding>> {
    let mut reader = app.databases.read(Database::Finance, Freshness::Any);
    let query = || sqlx::query_as(WRONG).bind(orgs.start).bind(orgs.end).bind(from).bind(covered);
    let rows: Vec<Wrong> = reader.fetch_all(query).await?;
    let finding = |Wrong { org_id: org, property_id: property, date: from, reason }| Finding {
        org,
        property,
        from,
        reason,
    };
    Ok(rows.into_iter().map(finding).collect())
}
