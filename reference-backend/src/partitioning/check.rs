//! What is wrong with the partitions: each thing that a person should know of before it costs an entry.

use std::collections::BTreeSet;
use std::fmt;

use sqlx::postgres::PgConnection;

use super::catalogue::{self, ENTRY_TABLES, Found};
use super::{Month, PartitionError};
use crate::config;

/// Partitions of the daily balances, by a hash of the organisation.
const BALANCE_PARTITIONS: i64 = 16;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Entries of today have no partition.
    CurrentMonthMissing(&'static str),
    /// Fewer months than wanted follow the current one without a gap.
    Horizon {
        /// The partitioned table.
        table: &'static str,
        /// Months there are.
        ahead: u32,
        /// `partitions.months_ahead`.
        wanted: u32,
    },
    /// A month between the first and the last has no partition.
    Gap(String),
    /// A month past retention is still there.
    Expired(String),
    /// Its name is none of a month, or its bounds are another month's.
    Unreadable(String),
    /// A DETACH that did not end.
    HalfDetached(String),
    /// It bears a partition's name, and no query of the table sees its rows.
    Detached {
        /// The table.
        name: String,
        /// Rows in it.
        rows: i64,
    },
    /// The daily balances have more or fewer partitions than the hash needs.
    BalancePartitions(i64),
    /// Months past retention were not dropped, and why.
    Held(&'static str),
    /// Events that could not be projected because their day has no partition.
    Homeless(i64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CurrentMonthMissing(table) => {
                write!(f, "{table}: the current month has no partition")
            }
            Self::Horizon { table, ahead, wanted } => {
                write!(f, "{table}: {ahead} months ahead, {wanted} wanted")
            }
            Self::Gap(name) => write!(f, "{name}: missing between older and newer months"),
            Self::Expired(name) => write!(f, "{name}: past retention, not dropped"),
            Self::Unreadable(why) => f.write_str(why),
            Self::HalfDetached(name) => write!(f, "{name}: half detached, its rows show no more"),
            Self::Detached { name, rows } => {
                write!(f, "{name}: not attached, and holds {rows} rows that no query sees")
            }
            Self::BalancePartitions(count) => {
                write!(
                    f,
                    "daily_cash_balances_partitioned: {count} partitions of {BALANCE_PARTITIONS}"
                )
            }
            Self::Held(why) => write!(f, "no month was dropped: {why}"),
            Self::Homeless(count) => {
                write!(f, "{count} events could not be projected: their days have no partition")
            }
        }
    }
}

/// All that is wrong; nothing when all is well.
pub async fn check(
    connection: &mut PgConnection,
    current: Month,
    config: &config::Partitions,
) -> Result<Vec<Finding>, PartitionError> {
    let mut findings = Vec::new();
    for table in ENTRY_TABLES {
        let attached = catalogue::attached(&mut *connection, table).await?;
        findings.extend(judge(table, &attached, current, config));
        for found in catalogue::detached(&mut *connection, table).await? {
            let rows = count(connection, &found.name).await?;
            findings.push(Finding::Detached { name: found.name, rows });
        }
    }
    let sql = PartitionError::sql;
    let balances: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'daily_cash_balances_partitioned'::regclass \
         AND NOT inhdetachpending",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(sql("daily_cash_balances_partitioned"))?;
    if balances != BALANCE_PARTITIONS {
        findings.push(Finding::BalancePartitions(balances));
    }
    let homeless: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM projection_dead_letters WHERE reason LIKE '%no partition of relation%'",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(sql("projection_dead_letters"))?;
    if homeless > 0 {
        findings.push(Finding::Homeless(homeless));
    }
    Ok(findings)
}

/// Exactly, because an estimate of 0 may hide rows; such tables are rare.
async fn count(connection: &mut PgConnection, name: &str) -> Result<i64, PartitionError> {
    // The name comes from the catalogue; only an identifier cannot be a parameter.
    let quoted = name.replace('"', "\"\"");
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM public.\"{quoted}\""));
    let counted = sqlx::query_scalar(statement).fetch_one(connection).await;
    counted.map_err(PartitionError::sql(name))
}

fn judge(
    table: &'static str,
    attached: &[Found],
    current: Month,
    config: &config::Partitions,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut months = BTreeSet::new();
    for found in attached {
        match catalogue::month_of(table, found) {
            _ if found.half_detached => findings.push(Finding::HalfDetached(found.name.clone())),
            Ok(month) => drop(months.insert(month)),
            Err(error) => findings.push(Finding::Unreadable(error.to_string())),
        }
    }
    let kept_from = current.minus(config.retention_months);
    let expired = months.iter().filter(|month| **month < kept_from);
    findings.extend(expired.map(|month| Finding::Expired(month.partition_of(table))));
    if let (Some(first), Some(last)) = (months.first(), months.last()) {
        let missing = first.through(*last).filter(|month| !months.contains(month));
        findings.extend(missing.map(|month| Finding::Gap(month.partition_of(table))));
    }
    if months.contains(&current) {
        let ahead = months_ahead(&months, current);
        if ahead < config.months_ahead {
            findings.push(Finding::Horizon { table, ahead, wanted: config.months_ahead });
        }
    } else {
        findings.push(Finding::CurrentMonthMissing(table));
    }
    findings
}

/// Months after the current one, up to the first gap.
pub(super) fn months_ahead(months: &BTreeSet<Month>, current: Month) -> u32 {
    let later = std::iter::successors(Some(current.plus(1)), |month| Some(month.plus(1)));
    u32::try_from(later.take_while(|month| months.contains(month)).count()).unwrap_or(u32::MAX)
}
