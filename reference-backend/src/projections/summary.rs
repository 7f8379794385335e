//! `finance-summary`: one row per property with its totals and categories.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{CashAccount, Categories, OrgId, PropertyId, RecordedEvent, Version};

/// What a batch of events adds to one property's summary.
#[derive(Debug, Default)]
struct Added {
    account: CashAccount,
    last_entry_date: NaiveDate,
    version: Version,
    categories: Categories,
}

impl Added {
    fn take(&mut self, event: &RecordedEvent) {
        self.account.apply(&event.event);
        self.categories.apply(&event.event);
        self.last_entry_date = self.last_entry_date.max(event.event.entry().date);
        self.version = self.version.max(event.version);
    }
}

/// One side of two documents joined, as [`Categories::join`] does: what is listed then, and whether there is more.
macro_rules! joined {
    ($names:literal, $more:literal) => {
        concat!(
            "(SELECT coalesce(jsonb_agg(name ORDER BY place) FILTER (WHERE place <= $9), '[]') AS listed, \
                 CASE WHEN count(*) > $9 OR s.doc ? '",
            $more,
            "' OR EXCLUDED.doc ? '",
            $more,
            "' THEN true END AS more \
             FROM (SELECT name, row_number() OVER (ORDER BY name) AS place FROM ( \
                 SELECT DISTINCT n COLLATE \"C\" AS name FROM jsonb_array_elements_text( \
                     coalesce(s.doc -> '",
            $names,
            "', '[]') || (EXCLUDED.doc -> '",
            $names,
            "')) AS n) AS names) AS placed)"
        )
    };
}

/// The document is written again only when it is another; otherwise the same value keeps the update off the GIN index. The
/// first look spares most events the joining.
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
    doc = CASE WHEN s.doc @> EXCLUDED.doc THEN s.doc ELSE (
        SELECT CASE WHEN s.doc = joined.doc THEN s.doc ELSE joined.doc END
        FROM (SELECT jsonb_strip_nulls(jsonb_build_object(
                  'revenue_categories', r.listed, 'more_revenue_categories', r.more,
                  'expense_categories', e.listed, 'more_expense_categories', e.more)) AS doc
              FROM ",
            joined!("revenue_categories", "more_revenue_categories"),
            " AS r, ",
            joined!("expense_categories", "more_expense_categories"),
            " AS e) AS joined)
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
    let mut added: BTreeMap<(OrgId, PropertyId), Added> = BTreeMap::new();
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
    let docs: Vec<Json<&Categories>> = added.values().map(|new| Json(&new.categories)).collect();
    let listed_max = i64::try_from(Categories::LISTED_MAX).unwrap_or(i64::MAX);
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
        .bind(listed_max)
        .execute(connection)
        .await?;
    Ok(())
}
