//! Daily balances made anew from the entries: of one account, or of organisations with neighbouring numbers.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::balances::{Added, Rebuilt};
use super::finance::write_balances;
use crate::domain::{OrgId, PropertyId};

/// What the entries of each account come to on each day; an organisation by its number, which may be nobody's.
pub(super) type Sums = BTreeMap<(i64, Uuid), BTreeMap<NaiveDate, Added>>;

macro_rules! sums {
    ($of:literal) => {
        concat!(
            "SELECT org_id, property_id, date, sum(revenue)::bigint, sum(expense)::bigint FROM ( \
                 SELECT org_id, property_id, date, amount_cents AS revenue, 0 AS expense \
                 FROM revenues_partitioned WHERE date >= $1 AND ",
            $of,
            " UNION ALL \
                 SELECT org_id, property_id, date, 0, amount_cents \
                 FROM expenses_partitioned WHERE date >= $1 AND ",
            $of,
            ") AS both_sides GROUP BY org_id, property_id, date"
        )
    };
}

type Row = (i64, Uuid, NaiveDate, i64, i64);

/// From a day on, of the organisations from one number to another.
pub(super) async fn of_organisations(
    connection: &mut PgConnection,
    (from, to): (i64, i64),
    first_day: NaiveDate,
) -> sqlx::Result<Sums> {
    let query = sqlx::query_as(sums!("org_id BETWEEN $2 AND $3")).bind(first_day);
    Ok(by_account(query.bind(from).bind(to).fetch_all(connection).await?))
}

/// From a day on, of one account.
pub(super) async fn of_account(
    connection: &mut PgConnection,
    (org, property): (OrgId, PropertyId),
    first_day: NaiveDate,
) -> sqlx::Result<BTreeMap<NaiveDate, Added>> {
    let query = sqlx::query_as(sums!("org_id = $2 AND property_id = $3")).bind(first_day);
    let rows = query.bind(org.get()).bind(property.uuid()).fetch_all(connection).await?;
    Ok(by_account(rows).into_values().next().unwrap_or_default())
}

fn by_account(rows: Vec<Row>) -> Sums {
    let mut sums = Sums::new();
    for (org, property, date, revenue_cents, expense_cents) in rows {
        let added = Added { revenue_cents, expense_cents };
        sums.entry((org, property)).or_default().insert(date, added);
    }
    sums
}

const REMOVE: &str = "\
    DELETE FROM daily_cash_balances_partitioned WHERE org_id = $1 AND property_id = $2 AND date = ANY($3)";

/// Brings an account's rows to what [`rebuild`](super::balances::rebuild) found.
pub(super) async fn put_right(
    connection: &mut PgConnection,
    account: (OrgId, PropertyId),
    Rebuilt { changed, gone }: Rebuilt,
) -> sqlx::Result<()> {
    let (org, property) = account;
    let remove = sqlx::query(REMOVE).bind(org.get()).bind(property.uuid()).bind(gone);
    remove.execute(&mut *connection).await?;
    write_balances(connection, changed.into_iter().map(|row| (account, row)).collect()).await
}
