//! Puts the rows of one account right, from what they were made of: balances from the entries, a summary from the events.
//!
//! All under the lock of the shard's checkpoint, which the projection takes first in each of its transactions: nothing it
//! writes can come between the reading and the writing here. The checkpoint does not move, but its epoch does, in the same
//! transaction: whoever holds rows of the shard in memory, in whichever process, learns that they are of an older epoch,
//! and takes none from a server that does not have the new one. Done twice, the second finds nothing to do.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgTransaction};
use sqlx::types::Json;
use tracing::info;
use uuid::Uuid;

use super::accounts_at::{ACCOUNTS_AT, AccountAt, shards_of};
use super::balances::{Added, rebuild};
use super::checkpoint::correct;
use super::finance::read_balances;
use super::{Projection, days};
use crate::db::{Database, Databases};
use crate::domain::{Categories, OrgId, PropertyId};
use crate::events::Shard;
use crate::partitioning::{self, PartitionError};

/// Which rows of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RepairKind {
    /// Daily cash balances.
    Balances,
    /// The finance summary.
    Summary,
}

impl RepairKind {
    /// As messages and findings have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Balances => "balances",
            Self::Summary => "summary",
        }
    }
}

/// What a message of `balance-corrections` says.
#[derive(Debug, Deserialize)]
struct Correction {
    property: PropertyId,
    from: NaiveDate,
    kind: RepairKind,
}

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    /// The message is not one of ours; it never will be.
    #[error("read the correction: {0}")]
    Correction(#[from] serde_json::Error),
    /// A database failed.
    #[error("repair: {0}")]
    Sql(#[from] sqlx::Error),
    /// It is not known which days the entries cover.
    #[error(transparent)]
    Partitions(#[from] PartitionError),
}

const SETTLE: &str = "\
    UPDATE findings SET settled_at = clock_timestamp(), settled_by = $4 \
    WHERE kind = $1 AND org_id = $2 AND property_id = $3 AND settled_at IS NULL";

/// Repairs the account that a message of `balance-corrections` names; how many rows were changed.
pub(crate) async fn repair(
    databases: &Databases,
    org: OrgId,
    data: &Value,
) -> Result<u64, RepairError> {
    let Correction { property, from, kind } = Correction::deserialize(data)?;
    let changed = match kind {
        RepairKind::Balances => repair_balances(databases, org, property, from).await?,
        RepairKind::Summary => repair_summary(databases, org, property).await?,
    };
    info!(%org, %property, kind = kind.name(), changed, "rows were repaired");
    metrics::counter!("backend_repaired_rows_total", "kind" => kind.name()).increment(changed);
    let settle = sqlx::query(SETTLE).bind(kind.name()).bind(org.get()).bind(property.uuid());
    let settled = settle.bind(format!("{changed} rows changed"));
    settled.execute(databases.write(Database::HealthCheck)).await?;
    Ok(changed)
}

/// Where nothing was wrong, nobody need drop what they hold.
async fn end(transaction: PgTransaction<'_>, changed: u64) -> Result<u64, RepairError> {
    if changed > 0 {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(changed)
}

/// More months than any table has.
const MONTHS_EVER: u32 = 1_200;

/// All days from one on, however many later days its mistake has moved.
async fn repair_balances(
    databases: &Databases,
    org: OrgId,
    property: PropertyId,
    from: NaiveDate,
) -> Result<u64, RepairError> {
    let pool = databases.write(Database::Finance);
    // Also months past retention, as long as their entries are there.
    let today = Utc::now().date_naive();
    let covered = partitioning::horizon(pool, today, MONTHS_EVER).await?.first;
    let mut transaction = pool.begin().await?;
    correct(&mut transaction, Projection::Finance, Shard::of(org)).await?;
    let account = (org, property);
    let whole = BTreeMap::from([(account, BTreeMap::from([(from, Added::default())]))]);
    let stored = read_balances(&mut transaction, &whole).await?.remove(&account);
    let sums = days::of_account(&mut transaction, account, from.max(covered)).await?;
    let rebuilt = rebuild(&stored.unwrap_or_default(), from, covered, &sums);
    let changed = (rebuilt.changed.len() + rebuilt.gone.len()) as u64;
    if changed > 0 {
        days::put_right(&mut transaction, account, rebuilt).await?;
    }
    end(transaction, changed).await
}

const SUMMARY: &str = "\
    SELECT last_entry_date, doc FROM finance_summaries WHERE org_id = $1 AND property_id = $2";

const REMOVE_SUMMARY: &str = "DELETE FROM finance_summaries WHERE org_id = $1 AND property_id = $2";

const WRITE_SUMMARY: &str = "\
    INSERT INTO finance_summaries AS s (org_id, property_id, revenue_cents, expense_cents, \
        entry_count, last_entry_date, version, doc) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (org_id, property_id) DO UPDATE SET revenue_cents = EXCLUDED.revenue_cents, \
        expense_cents = EXCLUDED.expense_cents, entry_count = EXCLUDED.entry_count, \
        last_entry_date = EXCLUDED.last_entry_date, version = EXCLUDED.version, doc = EXCLUDED.doc \
    WHERE (s.revenue_cents, s.expense_cents, s.entry_count, s.last_entry_date, s.version, s.doc) \
        IS DISTINCT FROM (EXCLUDED.revenue_cents, EXCLUDED.expense_cents, EXCLUDED.entry_count, \
        EXCLUDED.last_entry_date, EXCLUDED.version, EXCLUDED.doc)";

type Stored = (Option<NaiveDate>, Json<Categories>);

/// As of the checkpoint. Days and categories from before the first event are in the summary alone, and stay.
async fn repair_summary(
    databases: &Databases,
    org: OrgId,
    property: PropertyId,
) -> Result<u64, RepairError> {
    let mut transaction = databases.write(Database::ReadModels).begin().await?;
    let position = correct(&mut transaction, Projection::FinanceSummary, Shard::of(org)).await?;
    let (shard, orgs) = (vec![Shard::of(org).number()], vec![org.get()]);
    let accounts: Vec<AccountAt> = sqlx::query_as(ACCOUNTS_AT)
        .bind(shard)
        .bind(vec![position])
        .bind(shards_of(&orgs))
        .bind(orgs)
        .fetch_all(databases.write(Database::EventStore))
        .await?;
    let account = accounts.into_iter().find(|account| account.property_id == property.uuid());
    let changed = match account {
        Some(account) => write_summary(&mut transaction, org, account).await?,
        None => {
            let remove = sqlx::query(REMOVE_SUMMARY).bind(org.get()).bind(property.uuid());
            remove.execute(&mut *transaction).await?.rows_affected()
        }
    };
    end(transaction, changed).await
}

async fn write_summary(
    connection: &mut PgConnection,
    org: OrgId,
    account: AccountAt,
) -> sqlx::Result<u64> {
    let property: Uuid = account.property_id;
    let stored = sqlx::query_as(SUMMARY).bind(org.get()).bind(property);
    let stored: Option<Stored> = stored.fetch_optional(&mut *connection).await?;
    let (last, Json(mut categories)) = stored.unwrap_or_default();
    categories.join(account.categories());
    let written = sqlx::query(WRITE_SUMMARY)
        .bind(org.get())
        .bind(property)
        .bind(account.revenue_cents)
        .bind(account.expense_cents)
        .bind(account.entries)
        .bind(last.max(account.last_entry_date))
        .bind(account.version)
        .bind(Json(categories))
        .execute(connection)
        .await?;
    Ok(written.rows_affected())
}
