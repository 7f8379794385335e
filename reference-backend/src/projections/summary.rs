//! `finance-summary`: one row per property with its totals and categories.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{CashAccount, Event, OrgId, PropertyId, RecordedEvent, Version};

/// What a batch of events adds to one property's summary.
#[derive(Debug, Default)]
struct Added<'a> {
    account: CashAccount,
    last_entry_date: NaiveDate,
    version: Version,
    categories: Categories<'a>,
}

/// The document of a summary: categories in use, sorted.
#[derive(Debug, Default, Serialize)]
struct Categories<'a> {
    revenue_categories: BTreeSet<&'a str>,
    expense_categories: BTreeSet<&'a str>,
}

impl<'a> Added<'a> {
    fn take(&mut self, event: &'a RecordedEvent) {
        let entry = event.event.entry();
        self.account.apply(&event.event);
        self.last_entry_date = self.last_entry_date.max(entry.date);
        self.version = self.version.max(event.version);
        let categories = match event.event {
            Event::RevenueRecorded(_) => &mut self.categories.revenue_categories,
            Event::ExpenseRecorded(_) => &mut self.categories.expense_categories,
        };
        categories.insert(entry.category.as_str());
    }
}

/// The document is written again only when a category is new; otherwise the same value keeps the update off the GIN index.
/// Sorted by bytes, as this program sorts.
macro_rules! upsert {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " AS s
    (org_id, property_id, revenue_cents, expense_cents, entry_count, last_entry_date, version, doc)
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::date[],
    $7::int[], $8::jsonb[])
ON CONFLICT (org_id, property_id) DO UPDATE SET
    revenue_cents = s.revenue_cents + EXCLUDED.revenue_cents,
    expense_cents = s.expense_cents + EXCLUDED.expense_cents,
    entry_count = s.entry_count + EXCLUDED.entry_count,
    last_entry_date = greatest(s.last_entry_date, EXCLUDED.last_entry_date),
    version = greatest(s.version, EXCLUDED.version),
    doc = CASE WHEN s.doc @> EXCLUDED.doc THEN s.doc ELSE jsonb_build_object(
        'revenue_categories', (
            SELECT coalesce(jsonb_agg(DISTINCT c COLLATE \"C\" ORDER BY c COLLATE \"C\"), '[]')
            FROM jsonb_array_elements_text(
                coalesce(s.doc -> 'revenue_categories', '[]') || (EXCLUDED.doc -> 'revenue_categories')) AS c),
        'expense_categories', (
            SELECT coalesce(jsonb_agg(DISTINCT c COLLATE \"C\" ORDER BY c COLLATE \"C\"), '[]')
            FROM jsonb_array_elements_text(
                coalesce(s.doc -> 'expense_categories', '[]') || (EXCLUDED.doc -> 'expense_categories')) AS c))
    END"
        )
    };
}

const UPSERT_LIVE: &str = upsert!("finance_summaries");
const UPSERT_REBUILD: &str = upsert!("finance_summaries_rebuild");

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// The one that reads are answered from.
    Live,
    /// The one that is being built beside it.
    Rebuild,
}

/// Adds the events to the summaries, sorted by key, so that two writers cannot lock each other out.
pub(super) async fn write(
    connection: &mut PgConnection,
    into: Into,
    events: &[&RecordedEvent],
) -> Result<(), sqlx::Error> {
    let mut added: BTreeMap<(OrgId, PropertyId), Added<'_>> = BTreeMap::new();
    for event in events {
        added.entry((event.org, event.property)).or_default().take(event);
    }
    let orgs: Vec<i64> = added.keys().map(|(org, _)| org.get()).collect();
    let properties: Vec<Uuid> = added.keys().map(|(_, property)| property.uuid()).collect();
    let revenues: Vec<i64> = added.values().map(|new| new.account.revenue_cents).collect();
    let expenses: Vec<i64> = added.values().map(|new| new.account.expense_cents).collect();
    let counts: Vec<i64> = added.values().map(|new| new.account.entries).collect();
    let dates: Vec<NaiveDate> = added.values().map(|new| new.last_entry_date).collect();
    let versions: Vec<i32> = added.values().map(|new| new.version.get()).collect();
    let docs: Vec<Json<&Categories<'_>>> =
        added.values().map(|new| Json(&new.categories)).collect();
    let upsert = match into {
        Into::Live => UPSERT_LIVE,
        Into::Rebuild => UPSERT_REBUILD,
    };
    sqlx::query(upsert)
        .bind(orgs)
        .bind(properties)
        .bind(revenues)
        .bind(expenses)
        .bind(counts)
        .bind(dates)
        .bind(versions)
        .bind(docs)
        .execute(connection)
        .await?;
    Ok(())
}
