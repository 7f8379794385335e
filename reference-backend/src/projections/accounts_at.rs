//! What accounts were at a place in the store: their snapshots, and the events between. What a summary must say.

use chrono::NaiveDate;
use sqlx::FromRow;
use uuid::Uuid;

use crate::domain::{Categories, OrgId};
use crate::events::Shard;

/// The accounts of organisations ($3 their shards, $4 their numbers) when each shard $1 was at position $2. A snapshot may be
/// older than that, and lacks events, or newer, and has some too many: sums bear both. The days and categories are those of
/// the events after the snapshot; history knows others. One category more than a summary lists says that there are more.
pub(crate) const ACCOUNTS_AT: &str = "\
    WITH upto AS (SELECT * FROM unnest($1::smallint[], $2::bigint[]) AS u (shard, position)), \
    orgs AS (SELECT * FROM unnest($3::smallint[], $4::bigint[]) AS o (shard, org_id)), \
    kept AS ( \
        SELECT org_id, aggregate_id, version, (state ->> 'revenue_cents')::bigint AS revenue, \
            (state ->> 'expense_cents')::bigint AS expense, (state ->> 'entries')::bigint AS entries \
        FROM snapshots WHERE org_id = ANY($4) AND aggregate_type = 1), \
    lacking AS ( \
        SELECT e.org_id, e.aggregate_id, e.event_type, e.data, 1 AS weight \
        FROM orgs o JOIN upto u ON u.shard = o.shard \
        JOIN events e ON e.shard = o.shard AND e.org_id = o.org_id AND e.aggregate_type = 1 \
        LEFT JOIN kept k ON k.org_id = e.org_id AND k.aggregate_id = e.aggregate_id \
        WHERE e.version > coalesce(k.version, 0) AND e.position <= u.position), \
    too_many AS ( \
        SELECT e.org_id, e.aggregate_id, e.event_type, e.data, -1 AS weight \
        FROM upto u JOIN events e ON e.shard = u.shard AND e.position > u.position \
        JOIN kept k ON k.org_id = e.org_id AND k.aggregate_id = e.aggregate_id \
        WHERE e.aggregate_type = 1 AND e.version <= k.version), \
    changes AS ( \
        SELECT org_id, aggregate_id, \
            coalesce(sum(weight * (data ->> 'amount_cents')::bigint) FILTER (WHERE event_type = 1), 0)::bigint AS revenue, \
            coalesce(sum(weight * (data ->> 'amount_cents')::bigint) FILTER (WHERE event_type = 2), 0)::bigint AS expense, \
            sum(weight)::bigint AS entries, \
            max((data ->> 'date')::date) FILTER (WHERE weight > 0) AS last_date, \
            (array_agg(DISTINCT (data ->> 'category') COLLATE \"C\" ORDER BY (data ->> 'category') COLLATE \"C\") \
                FILTER (WHERE weight > 0 AND event_type = 1))[1:201] AS revenue_categories, \
            (array_agg(DISTINCT (data ->> 'category') COLLATE \"C\" ORDER BY (data ->> 'category') COLLATE \"C\") \
                FILTER (WHERE weight > 0 AND event_type = 2))[1:201] AS expense_categories \
        FROM (SELECT * FROM lacking UNION ALL SELECT * FROM too_many) AS both_ways \
        GROUP BY org_id, aggregate_id) \
    SELECT org_id, aggregate_id AS property_id, \
        coalesce(k.revenue, 0) + coalesce(c.revenue, 0) AS revenue_cents, \
        coalesce(k.expense, 0) + coalesce(c.expense, 0) AS expense_cents, \
        coalesce(k.entries, 0) + coalesce(c.entries, 0) AS entries, \
        (coalesce(k.version, 0) + coalesce(c.entries, 0))::int AS version, \
        c.last_date AS last_entry_date, c.revenue_categories, c.expense_categories \
    FROM kept k FULL JOIN changes c USING (org_id, aggregate_id)";

/// What [`ACCOUNTS_AT`] and the baselines' statement have written out.
const _: () = assert!(Categories::LISTED_MAX + 1 == 201);

/// A row of [`ACCOUNTS_AT`].
#[derive(Debug, Clone, FromRow)]
pub(crate) struct AccountAt {
    pub(crate) org_id: i64,
    pub(crate) property_id: Uuid,
    pub(crate) revenue_cents: i64,
    pub(crate) expense_cents: i64,
    pub(crate) entries: i64,
    pub(crate) version: i32,
    pub(crate) last_entry_date: Option<NaiveDate>,
    revenue_categories: Option<Vec<String>>,
    expense_categories: Option<Vec<String>>,
}

impl AccountAt {
    pub(crate) fn categories(&self) -> Categories {
        let names = |found: &Option<Vec<String>>| found.clone().unwrap_or_default();
        Categories::of(names(&self.revenue_categories), names(&self.expense_categories))
    }
}

/// The shards of organisations, in their order.
pub(crate) fn shards_of(orgs: &[i64]) -> Vec<i16> {
    let shard = |org: &i64| OrgId::new(*org).map_or(0, |org| Shard::of(org).number());
    orgs.iter().map(shard).collect()
}
