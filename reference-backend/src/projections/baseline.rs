//! What each account was before the store's first event of it, put into the side table of a rebuild.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::types::Json;
use uuid::Uuid;

use super::ProjectionError;
use crate::db::{Database, Databases};
use crate::domain::{CashAccount, Categories};

/// Accounts copied by one statement.
const PAGE: i64 = 2_000;

type Account = (i64, Uuid);

/// Where baselines come from.
pub(super) struct Baselines {
    store: PgPool,
    finance: PgPool,
}

/// Version 0 says that there was nothing.
const STATES: &str = "\
    SELECT org_id, aggregate_id, coalesce(baseline_version, version), coalesce(baseline_state, state) \
    FROM snapshots \
    WHERE aggregate_type = 1 AND (org_id, aggregate_type, aggregate_id) > ($1, 1::smallint, $2) \
    ORDER BY org_id, aggregate_type, aggregate_id LIMIT $3";

/// Entries from before the event store have ids of version 8, which no command may use.
const ENTRIES: &str = "\
    SELECT org_id, property_id, kind, max(date), \
        (array_agg(DISTINCT category COLLATE \"C\" ORDER BY category COLLATE \"C\"))[1:201] \
    FROM (SELECT org_id, property_id, date, id, category, true AS kind FROM revenues_partitioned \
          WHERE org_id BETWEEN $1 AND $2 \
          UNION ALL \
          SELECT org_id, property_id, date, id, category, false FROM expenses_partitioned \
          WHERE org_id BETWEEN $1 AND $2) e \
    WHERE substr(id::text, 15, 1) = '8' GROUP BY org_id, property_id, kind";

const INSERT: &str = "\
    INSERT INTO finance_summaries_rebuild (org_id, property_id, revenue_cents, expense_cents, \
        entry_count, last_entry_date, version, doc) \
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], \
        $6::date[], $7::int[], $8::jsonb[])";

/// The days and categories of an account's entries.
#[derive(Debug, Default)]
struct History {
    last_entry_date: Option<NaiveDate>,
    doc: Categories,
}

impl Baselines {
    pub(super) fn new(databases: &Databases) -> Self {
        let pool = |database| databases.write(database).clone();
        Self { store: pool(Database::EventStore), finance: pool(Database::Finance) }
    }

    /// Copies all into the side table; how many there are.
    pub(super) async fn copy(&self, models: &mut PgConnection) -> Result<u64, ProjectionError> {
        let (mut copied, mut after) = (0, (0, Uuid::nil()));
        loop {
            let states: Vec<(i64, Uuid, i32, Json<CashAccount>)> = sqlx::query_as(STATES)
                .bind(after.0)
                .bind(after.1)
                .bind(PAGE)
                .fetch_all(&self.store)
                .await?;
            let (Some(first), Some(last)) = (states.first(), states.last()) else {
                return Ok(copied);
            };
            let histories = self.histories(first.0, last.0).await?;
            after = (last.0, last.1);
            copied += insert(models, states, histories).await?;
        }
    }

    async fn histories(
        &self,
        from: i64,
        to: i64,
    ) -> Result<BTreeMap<Account, History>, sqlx::Error> {
        let rows: Vec<(i64, Uuid, bool, NaiveDate, Vec<String>)> =
            sqlx::query_as(ENTRIES).bind(from).bind(to).fetch_all(&self.finance).await?;
        let mut histories: BTreeMap<Account, History> = BTreeMap::new();
        for (org, property, is_revenue, last_date, names) in rows {
            let History { last_entry_date, doc } = histories.entry((org, property)).or_default();
            *last_entry_date = (*last_entry_date).max(Some(last_date));
            let none = Vec::new();
            let (revenues, expenses) = if is_revenue { (names, none) } else { (none, names) };
            doc.join(Categories::of(revenues, expenses));
        }
        Ok(histories)
    }
}

async fn insert(
    models: &mut PgConnection,
    mut states: Vec<(i64, Uuid, i32, Json<CashAccount>)>,
    mut histories: BTreeMap<Account, History>,
) -> Result<u64, sqlx::Error> {
    states.retain(|(_, _, version, _)| *version > 0);
    let histories: Vec<History> = states
        .iter()
        .map(|(org, property, ..)| histories.remove(&(*org, *property)).unwrap_or_default())
        .collect();
    let amounts = |of: fn(&CashAccount) -> i64| -> Vec<i64> {
        states.iter().map(|(_, _, _, Json(account))| of(account)).collect()
    };
    let written = sqlx::query(INSERT)
        .bind(states.iter().map(|state| state.0).collect::<Vec<_>>())
        .bind(states.iter().map(|state| state.1).collect::<Vec<_>>())
        .bind(amounts(|account| account.revenue_cents))
        .bind(amounts(|account| account.expense_cents))
        .bind(amounts(|account| account.entries))
        .bind(histories.iter().map(|history| history.last_entry_date).collect::<Vec<_>>())
        .bind(states.iter().map(|state| state.2).collect::<Vec<_>>())
        .bind(histories.iter().map(|history| Json(&history.doc)).collect::<Vec<_>>())
        .execute(models)
        .await?;
    Ok(written.rows_affected())
}
