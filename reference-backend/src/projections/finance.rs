//! `finance`: every entry, and every property's balance by day.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::balances::{Added, Balance, add};
use crate::domain::{Event, OrgId, PropertyId, RecordedEvent};

type Property = (OrgId, PropertyId);

/// Writes what the events add. Rows are sorted by key, so that two writers cannot lock each other out.
pub(super) async fn write(
    connection: &mut PgConnection,
    events: &[&RecordedEvent],
) -> Result<(), sqlx::Error> {
    insert_events(connection, events).await?;
    let added = added_by_property(events);
    let stored = read_touched(connection, &added).await?;
    let changed = added.iter().flat_map(|(property, days)| {
        let stored = stored.get(property).map_or(&[][..], Vec::as_slice);
        add(stored, days).into_iter().map(|row| (*property, row))
    });
    write_balances(connection, changed.collect()).await
}

/// Writes the entries of events.
pub(super) async fn insert_events(
    connection: &mut PgConnection,
    events: &[&RecordedEvent],
) -> Result<(), sqlx::Error> {
    let is_revenue = |event: &RecordedEvent| matches!(event.event, Event::RevenueRecorded(_));
    let (revenues, expenses): (Vec<_>, Vec<_>) = events.iter().partition(|event| is_revenue(event));
    insert_entries(connection, INSERT_REVENUES, revenues).await?;
    insert_entries(connection, INSERT_EXPENSES, expenses).await
}

macro_rules! insert_entries {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (org_id, date, id, property_id, category, amount_cents, recorded_at) SELECT * FROM \
             unnest($1::bigint[], $2::date[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], \
             $7::timestamptz[])"
        )
    };
}
const INSERT_REVENUES: &str = insert_entries!("revenues_partitioned");
const INSERT_EXPENSES: &str = insert_entries!("expenses_partitioned");

async fn insert_entries(
    connection: &mut PgConnection,
    statement: &'static str,
    mut events: Vec<&RecordedEvent>,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    events.sort_unstable_by_key(|event| (event.org, event.event.entry().date, event.command));
    let entries = || events.iter().map(|event| event.event.entry());
    let orgs: Vec<i64> = events.iter().map(|event| event.org.get()).collect();
    let dates: Vec<NaiveDate> = entries().map(|entry| entry.date).collect();
    let ids: Vec<Uuid> = events.iter().map(|event| event.command.uuid()).collect();
    let properties: Vec<Uuid> = events.iter().map(|event| event.property.uuid()).collect();
    let categories: Vec<&str> = entries().map(|entry| entry.category.as_str()).collect();
    let amounts: Vec<i64> = entries().map(|entry| entry.amount.cents()).collect();
    let recorded_at: Vec<DateTime<Utc>> = events.iter().map(|event| event.recorded_at).collect();
    sqlx::query(statement)
        .bind(orgs)
        .bind(dates)
        .bind(ids)
        .bind(properties)
        .bind(categories)
        .bind(amounts)
        .bind(recorded_at)
        .execute(connection)
        .await?;
    Ok(())
}

fn added_by_property(events: &[&RecordedEvent]) -> BTreeMap<Property, BTreeMap<NaiveDate, Added>> {
    let mut added: BTreeMap<Property, BTreeMap<NaiveDate, Added>> = BTreeMap::new();
    for event in events {
        let days = added.entry((event.org, event.property)).or_default();
        let day = days.entry(event.event.entry().date).or_default();
        let cents = event.event.entry().amount.cents();
        match event.event {
            Event::RevenueRecorded(_) => day.revenue_cents += cents,
            Event::ExpenseRecorded(_) => day.expense_cents += cents,
        }
    }
    added
}

/// What [`add`] asks for. Nearly all entries are of a property's last day, or of a later one: then its last row is all that counts, and one
/// look into the index finds it.
async fn read_touched(
    connection: &mut PgConnection,
    added: &BTreeMap<Property, BTreeMap<NaiveDate, Added>>,
) -> Result<BTreeMap<Property, Vec<Balance>>, sqlx::Error> {
    let mut stored = read_last(connection, added).await?;
    let is_earlier = |property: &Property, days: &BTreeMap<NaiveDate, Added>| {
        let last = stored.get(property).and_then(|rows| rows.last());
        last.zip(days.keys().next()).is_some_and(|(last, first_day)| *first_day < last.date)
    };
    let earlier: BTreeMap<_, _> = added
        .iter()
        .filter(|(property, days)| is_earlier(property, days))
        .map(|(property, days)| (*property, days.clone()))
        .collect();
    if !earlier.is_empty() {
        stored.extend(read_balances(connection, &earlier).await?);
    }
    Ok(stored)
}

/// The last row of each property that has one.
async fn read_last(
    connection: &mut PgConnection,
    added: &BTreeMap<Property, BTreeMap<NaiveDate, Added>>,
) -> Result<BTreeMap<Property, Vec<Balance>>, sqlx::Error> {
    let orgs: Vec<i64> = added.keys().map(|(org, _)| org.get()).collect();
    let properties: Vec<Uuid> = added.keys().map(|(_, property)| property.uuid()).collect();
    let rows: Vec<BalanceRow> = sqlx::query_as(
        "SELECT p.org_id, p.id, b.date, b.opening_cents, b.revenue_cents, b.expense_cents \
         FROM unnest($1::bigint[], $2::uuid[]) AS p (org_id, id) \
         CROSS JOIN LATERAL ( \
             SELECT date, opening_cents, revenue_cents, expense_cents \
             FROM daily_cash_balances_partitioned \
             WHERE org_id = p.org_id AND property_id = p.id \
             ORDER BY date DESC LIMIT 1 \
         ) b",
    )
    .bind(orgs)
    .bind(properties)
    .fetch_all(connection)
    .await?;
    Ok(by_property(rows))
}

type BalanceRow = (i64, Uuid, NaiveDate, i64, i64, i64);

/// Each property's rows, by date.
fn by_property(rows: Vec<BalanceRow>) -> BTreeMap<Property, Vec<Balance>> {
    let mut stored: BTreeMap<Property, Vec<Balance>> = BTreeMap::new();
    for (org, property, date, opening_cents, revenue_cents, expense_cents) in rows {
        let org = OrgId::new(org).expect("it was asked for by this very number");
        let balance = Balance { date, opening_cents, revenue_cents, expense_cents };
        stored.entry((org, property.into())).or_default().push(balance);
    }
    for rows in stored.values_mut() {
        rows.sort_unstable_by_key(|row| row.date);
    }
    stored
}

/// Per property: the last row before the first day added to, and all rows from that day on, by date.
pub(super) async fn read_balances(
    connection: &mut PgConnection,
    added: &BTreeMap<Property, BTreeMap<NaiveDate, Added>>,
) -> Result<BTreeMap<Property, Vec<Balance>>, sqlx::Error> {
    let orgs: Vec<i64> = added.keys().map(|(org, _)| org.get()).collect();
    let properties: Vec<Uuid> = added.keys().map(|(_, property)| property.uuid()).collect();
    let first_days: Vec<NaiveDate> =
        added.values().filter_map(|d| d.keys().next()).copied().collect();
    let rows: Vec<BalanceRow> = sqlx::query_as(
        "SELECT p.org_id, p.id, b.date, b.opening_cents, b.revenue_cents, b.expense_cents \
         FROM unnest($1::bigint[], $2::uuid[], $3::date[]) AS p (org_id, id, first_day) \
         CROSS JOIN LATERAL ( \
             (SELECT date, opening_cents, revenue_cents, expense_cents \
              FROM daily_cash_balances_partitioned \
              WHERE org_id = p.org_id AND property_id = p.id AND date < p.first_day \
              ORDER BY date DESC LIMIT 1) \
             UNION ALL \
             (SELECT date, opening_cents, revenue_cents, expense_cents \
              FROM daily_cash_balances_partitioned \
              WHERE org_id = p.org_id AND property_id = p.id AND date >= p.first_day) \
         ) b",
    )
    .bind(orgs)
    .bind(properties)
    .bind(first_days)
    .fetch_all(connection)
    .await?;
    Ok(by_property(rows))
}

/// Through the parent with `ON CONFLICT`, which locks the partitions it touches; `UPDATE … FROM` would lock all of them.
pub(super) async fn write_balances(
    connection: &mut PgConnection,
    rows: Vec<(Property, Balance)>,
) -> Result<(), sqlx::Error> {
    let orgs: Vec<i64> = rows.iter().map(|((org, _), _)| org.get()).collect();
    let properties: Vec<Uuid> = rows.iter().map(|((_, property), _)| property.uuid()).collect();
    let dates: Vec<NaiveDate> = rows.iter().map(|(_, row)| row.date).collect();
    let openings: Vec<i64> = rows.iter().map(|(_, row)| row.opening_cents).collect();
    let revenues: Vec<i64> = rows.iter().map(|(_, row)| row.revenue_cents).collect();
    let expenses: Vec<i64> = rows.iter().map(|(_, row)| row.expense_cents).collect();
    let closings: Vec<i64> = rows.iter().map(|(_, row)| row.closing_cents()).collect();
    sqlx::query(
        "INSERT INTO daily_cash_balances_partitioned (org_id, property_id, date, opening_cents, \
             revenue_cents, expense_cents, closing_cents) \
         SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::date[], $4::bigint[], $5::bigint[], \
             $6::bigint[], $7::bigint[]) \
         ON CONFLICT (org_id, property_id, date) DO UPDATE SET \
             opening_cents = EXCLUDED.opening_cents, revenue_cents = EXCLUDED.revenue_cents, \
             expense_cents = EXCLUDED.expense_cents, closing_cents = EXCLUDED.closing_cents",
    )
    .bind(orgs)
    .bind(properties)
    .bind(dates)
    .bind(openings)
    .bind(revenues)
    .bind(expenses)
    .bind(closings)
    .execute(connection)
    .await?;
    Ok(())
}
