//! Rows as the read statements give them, and their way to checked values.
//!
//! A statement for a cached value starts from the organisation or the projection's checkpoint and left-joins the rows, so that it
//! tells the position and the epoch of its own snapshot, on whichever server and even when there are no rows.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::cache::{Balance, Row, Summary};
use crate::domain::{Categories, OrgId, PropertyId, Version};
use crate::events::Shard;

/// A row with the position of the snapshot that it was read in.
#[derive(Debug, FromRow)]
pub(super) struct At<T: for<'r> FromRow<'r, PgRow>> {
    pub(super) position: i64,
    pub(super) epoch: i64,
    #[sqlx(flatten)]
    pub(super) row: T,
}

/// Where the projection stood in a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stand {
    pub(super) position: i64,
    pub(super) epoch: i64,
}

/// Where a snapshot stands, and its rows.
pub(super) fn split<T, U>(found: Vec<At<T>>, checked: impl Fn(T) -> Option<U>) -> (Stand, Vec<U>)
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let stand = |at: &At<T>| Stand { position: at.position, epoch: at.epoch };
    let stand = found.first().map_or_else(Stand::default, stand);
    (stand, found.into_iter().filter_map(|at| checked(at.row)).collect())
}

/// A row of a statement for many organisations.
#[derive(Debug, FromRow)]
pub(super) struct Of<T: for<'r> FromRow<'r, PgRow>> {
    org_id: i64,
    #[sqlx(flatten)]
    at: At<T>,
}

/// Organisations and their shards, as a statement for many organisations takes them.
pub(super) fn with_shards(orgs: &[OrgId]) -> (Vec<i64>, Vec<i16>) {
    orgs.iter().map(|org| (org.get(), Shard::of(*org).number())).unzip()
}

/// [`split`] for each organisation.
pub(super) fn split_by_org<T, U>(
    found: Vec<Of<T>>,
    checked: impl Fn(T) -> Option<U>,
) -> HashMap<OrgId, (Stand, Vec<U>)>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let mut by_org: HashMap<OrgId, (Stand, Vec<U>)> = HashMap::new();
    for Of { org_id, at: At { position, epoch, row } } in found {
        let Ok(org) = OrgId::new(org_id) else { continue };
        let (_, rows) = by_org.entry(org).or_insert((Stand { position, epoch }, Vec::new()));
        rows.extend(checked(row));
    }
    by_org
}

/// A daily balance, or nothing where the left join found none.
#[derive(Debug, FromRow)]
pub(super) struct BalanceRow {
    property_id: Option<Uuid>,
    date: Option<NaiveDate>,
    opening_cents: Option<i64>,
    revenue_cents: Option<i64>,
    expense_cents: Option<i64>,
    closing_cents: Option<i64>,
}

impl BalanceRow {
    pub(super) fn checked(self) -> Option<Balance> {
        Some(Balance {
            property: PropertyId::from(self.property_id?),
            date: self.date?,
            opening_cents: self.opening_cents?,
            revenue_cents: self.revenue_cents?,
            expense_cents: self.expense_cents?,
            closing_cents: self.closing_cents?,
        })
    }
}

/// A revenue or an expense, or nothing.
#[derive(Debug, FromRow)]
pub(super) struct EntryRow {
    id: Option<Uuid>,
    property_id: Option<Uuid>,
    category: Option<String>,
    amount_cents: Option<i64>,
    date: Option<NaiveDate>,
    recorded_at: Option<DateTime<Utc>>,
}

impl EntryRow {
    pub(super) fn checked(self) -> Option<Row> {
        Some(Row {
            id: self.id?.into(),
            property: PropertyId::from(self.property_id?),
            category: self.category?.into(),
            amount_cents: self.amount_cents?,
            date: self.date?,
            recorded_at: self.recorded_at?,
        })
    }
}

/// A finance summary, or nothing.
#[derive(Debug, FromRow)]
pub(super) struct SummaryRow {
    property_id: Option<Uuid>,
    revenue_cents: Option<i64>,
    expense_cents: Option<i64>,
    entry_count: Option<i64>,
    last_entry_date: Option<NaiveDate>,
    version: Option<i32>,
    doc: Option<Json<Categories>>,
}

impl SummaryRow {
    pub(super) fn checked(self) -> Option<Summary> {
        let Json(categories) = self.doc?;
        Some(Summary {
            property: PropertyId::from(self.property_id?),
            revenue_cents: self.revenue_cents?,
            expense_cents: self.expense_cents?,
            entry_count: self.entry_count?,
            last_entry_date: self.last_entry_date,
            version: Version::new(self.version?),
            categories,
        })
    }
}
