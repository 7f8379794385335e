//! Laws of the finance database: every event is booked, and the money is right.

use sqlx::postgres::PgConnection;

use super::error::AuditError;
use super::law::Law;
use super::server::{bring, connect, execute};
use super::store::{EVENTS, REPLAYED, REPLAYED_TABLE};
use crate::postgres::database::{EVENT_STORE, FINANCE};
use crate::scenario::PostgresEndpoint;

const SENT_TABLE: &str = "
    CREATE TEMP TABLE sent (command_id uuid, org_id bigint, property_id uuid, event_type smallint,
        amount_cents bigint, date date, category text)";

/// Two sums of a column, each amount times 20 bits of its key's hash. Sums by key agree on both sides of a law exactly when
/// these do, but for one chance in 2⁴⁰: a sum over all rows costs a scan, where one by key costs a sort of them.
macro_rules! sketch {
    ($cents:literal) => {
        concat!("sum((h >> 44) * ", $cents, "), sum(((h << 20) >> 44) * ", $cents, ")")
    };
}
/// Hash of an account and a day.
macro_rules! day {
    () => {
        "hashint8extended(org_id, uuid_hash_extended(property_id, date - date '2000-01-01'))"
    };
}
/// Hash of an account.
macro_rules! account {
    () => {
        "hashint8extended(org_id, uuid_hash_extended(property_id, 0))"
    };
}

const ACCOUNTS_HOLD: &str = concat!(
    "SELECT (e.n, r.cents, x.cents) IS NOT DISTINCT FROM (p.n, p.revenue, p.expense)
     FROM (SELECT row(",
    sketch!("entries"),
    ") AS n, row(",
    sketch!("revenue_cents"),
    ") AS revenue,
                  row(",
    sketch!("expense_cents"),
    ") AS expense
           FROM (SELECT *, ",
    account!(),
    " AS h FROM pg_temp.replayed) p) p,
          (SELECT row(",
    sketch!("amount_cents"),
    ") AS cents
           FROM (SELECT amount_cents, ",
    account!(),
    " AS h FROM revenues_partitioned) r) r,
          (SELECT row(",
    sketch!("amount_cents"),
    ") AS cents
           FROM (SELECT amount_cents, ",
    account!(),
    " AS h FROM expenses_partitioned) x) x,
          (SELECT row(",
    sketch!("1"),
    ") AS n
           FROM (SELECT ",
    account!(),
    " AS h FROM revenues_partitioned
                 UNION ALL SELECT ",
    account!(),
    " FROM expenses_partitioned) e) e",
);

const BALANCES_HOLD: &str = concat!(
    "SELECT (r.cents, x.cents) IS NOT DISTINCT FROM (d.revenue, d.expense)
     FROM (SELECT row(",
    sketch!("amount_cents"),
    ") AS cents
           FROM (SELECT amount_cents, ",
    day!(),
    " AS h FROM revenues_partitioned) r) r,
          (SELECT row(",
    sketch!("amount_cents"),
    ") AS cents
           FROM (SELECT amount_cents, ",
    day!(),
    " AS h FROM expenses_partitioned) x) x,
          (SELECT row(",
    sketch!("revenue_cents"),
    ") AS revenue, row(",
    sketch!("expense_cents"),
    ") AS expense
           FROM (SELECT revenue_cents, expense_cents, ",
    day!(),
    " AS h
                 FROM daily_cash_balances_partitioned) d) d",
);

pub(super) const LAWS: &[Law] = &[
    Law {
        check: "every event is booked exactly once, as it says",
        counted: "SELECT count(*) FROM pg_temp.sent",
        holds: None,
        broken: "
            SELECT format('command %s of organisation %s is booked %s times%s', e.command_id, min(e.org_id), count(b.id),
                          CASE WHEN NOT bool_and((b.kind, b.org_id, b.property_id, b.amount_cents, b.date, b.category)
                          = (e.event_type, e.org_id, e.property_id, e.amount_cents, e.date, e.category)) THEN ', not as the event says' END) AS what
            FROM pg_temp.sent e
            LEFT JOIN (SELECT 1::smallint AS kind, id, org_id, property_id, amount_cents, date, category
                       FROM revenues_partitioned
                       UNION ALL
                       SELECT 2::smallint, id, org_id, property_id, amount_cents, date, category
                       FROM expenses_partitioned) b ON b.id = e.command_id
            GROUP BY e.command_id
            HAVING count(b.id) <> 1 OR NOT bool_and((b.kind, b.org_id, b.property_id, b.amount_cents, b.date, b.category)
                          = (e.event_type, e.org_id, e.property_id, e.amount_cents, e.date, e.category))",
    },
    // Counts every row of both tables, so it also finds one that no event explains, and an id in two months.
    Law {
        check: "entries of each account come to its snapshot and events",
        counted: "SELECT count(*) FROM pg_temp.replayed",
        holds: Some(ACCOUNTS_HOLD),
        broken: "
            SELECT format('account %s of organisation %s: %s entries of %s and %s cents, expected %s of %s and %s',
                          property_id, org_id, coalesce(b.entries, 0), coalesce(b.revenue, 0), coalesce(b.expense, 0),
                          coalesce(r.entries, 0), coalesce(r.revenue_cents, 0), coalesce(r.expense_cents, 0)) AS what
            FROM pg_temp.replayed r
            FULL JOIN (
                SELECT org_id, property_id, sum(entries)::bigint AS entries, sum(revenue)::bigint AS revenue,
                       sum(expense)::bigint AS expense
                FROM (SELECT org_id, property_id, count(*) AS entries, sum(amount_cents) AS revenue, 0 AS expense
                      FROM revenues_partitioned GROUP BY org_id, property_id
                      UNION ALL
                      SELECT org_id, property_id, count(*), 0, sum(amount_cents)
                      FROM expenses_partitioned GROUP BY org_id, property_id) e
                GROUP BY org_id, property_id
            ) b USING (org_id, property_id)
            WHERE (coalesce(b.entries, 0), coalesce(b.revenue, 0), coalesce(b.expense, 0))
                  IS DISTINCT FROM (r.entries, r.revenue_cents, r.expense_cents)",
    },
    Law {
        check: "each day's balance is the sum of its entries",
        counted: "SELECT count(*) FROM daily_cash_balances_partitioned",
        holds: Some(BALANCES_HOLD),
        broken: "
            SELECT format('%s of property %s, organisation %s: entries say %s and %s cents, the balance %s and %s',
                          date, property_id, org_id, coalesce(b.revenue, 0), coalesce(b.expense, 0),
                          coalesce(d.revenue_cents, 0), coalesce(d.expense_cents, 0)) AS what
            FROM (SELECT org_id, property_id, date, sum(revenue)::bigint AS revenue, sum(expense)::bigint AS expense
                  FROM (SELECT org_id, property_id, date, amount_cents AS revenue, 0 AS expense FROM revenues_partitioned
                        UNION ALL
                        SELECT org_id, property_id, date, 0, amount_cents FROM expenses_partitioned) e
                  GROUP BY org_id, property_id, date) b
            FULL JOIN daily_cash_balances_partitioned d USING (org_id, property_id, date)
            WHERE (b.revenue, b.expense) IS DISTINCT FROM (d.revenue_cents, d.expense_cents)",
    },
    Law {
        check: "each day opens as the one before it closed",
        counted: "SELECT count(*) FROM daily_cash_balances_partitioned",
        holds: None,
        broken: "
            SELECT format('%s of property %s, organisation %s: opens at %s, the day before closed at %s',
                          date, property_id, org_id, opening_cents, expected) AS what
            FROM (SELECT org_id, property_id, date, opening_cents,
                         coalesce(lag(closing_cents) OVER (PARTITION BY org_id, property_id ORDER BY date), 0) AS expected
                  FROM daily_cash_balances_partitioned) d
            WHERE opening_cents <> expected",
    },
];

/// Connects and brings the events and the replayed accounts.
pub(super) async fn prepare(primary: &PostgresEndpoint) -> Result<PgConnection, AuditError> {
    let mut store = connect(primary, EVENT_STORE).await?;
    // Both as of one moment: an event between them would be in one alone.
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    execute(&mut store, "open a snapshot of the store", snapshot).await?;
    let mut connection = connect(primary, FINANCE).await?;
    execute(&mut connection, "bring the events", SENT_TABLE).await?;
    bring("bring the events", EVENTS, &mut store, "pg_temp.sent", &mut connection).await?;
    execute(&mut connection, "replay the accounts", REPLAYED_TABLE).await?;
    bring("replay the accounts", REPLAYED, &mut store, "pg_temp.replayed", &mut connection).await?;
    Ok(connection)
}
