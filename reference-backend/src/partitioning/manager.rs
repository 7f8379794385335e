//! Makes partitions and says which there are.

use std::time::Duration;

use chrono::NaiveDate;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection, Executor, PgExecutor};
use tracing::{debug, info};

use super::{Month, MonthError};
use crate::config;

/// The tables partitioned by month.
pub const ENTRY_TABLES: [&str; 2] = ["revenues_partitioned", "expenses_partitioned"];

/// Held while partitions are made, so that two processes do not make the same. Any number no one else uses.
const LOCK_KEY: i64 = 0x706C_696D_7061_7274;

/// Why partitions could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The database failed.
    #[error("partitions of {table}: {source}")]
    Sql {
        /// The partitioned table.
        table: &'static str,
        /// What PostgreSQL said.
        #[source]
        source: sqlx::Error,
    },
    /// Traffic held the table through all tries.
    #[error(
        "make partition {partition}: no lock in {tries} tries\n\
         help: a long transaction holds the table; end it, or raise partitions.lock_tries"
    )]
    Locked {
        /// The partition.
        partition: String,
        /// Tries made.
        tries: u32,
    },
    /// A partition with a foreign name.
    #[error(transparent)]
    Name(#[from] MonthError),
    /// Entries dated today would fail.
    #[error(
        "{table} has no partition for {month}\n\
         help: run `reference-backend migrate`, which makes the months ahead"
    )]
    CurrentMonthMissing {
        /// The partitioned table.
        table: &'static str,
        /// The current month.
        month: Month,
    },
}

/// The days for which every entry table has a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// First day covered.
    pub first: NaiveDate,
    /// First day no longer covered.
    pub end: NaiveDate,
}

impl Horizon {
    /// Whether an entry of this day has a partition.
    pub fn covers(&self, day: NaiveDate) -> bool {
        (self.first..self.end).contains(&day)
    }
}

/// Makes the missing partitions from one month to another, both included; returns the names of the new ones.
pub async fn create(
    connection: &mut PgConnection,
    from: Month,
    to: Month,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    let sql = |source| PartitionError::Sql { table: ENTRY_TABLES[0], source };
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK_KEY)
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    let made = create_all(connection, from, to, config).await;
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(LOCK_KEY)
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    made
}

async fn create_all(
    connection: &mut PgConnection,
    from: Month,
    to: Month,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    let mut made = Vec::new();
    for table in ENTRY_TABLES {
        let existing = months(&mut *connection, table).await?;
        for month in from.through(to).filter(|month| !existing.contains(month)) {
            create_one(connection, table, month, config).await?;
            made.push(month.partition_of(table));
        }
    }
    Ok(made)
}

/// Makes one partition apart and then attaches it: `CREATE … PARTITION OF` would lock out every reader of the table.
async fn create_one(
    connection: &mut PgConnection,
    table: &'static str,
    month: Month,
    config: &config::Partitions,
) -> Result<(), PartitionError> {
    let partition = month.partition_of(table);
    let (from, to) = (month.first_day(), month.plus(1).first_day());
    // Names come from a constant and two numbers. The CHECK spares ATTACH its scan; once attached it says nothing new.
    let statements = format!(
        "SET LOCAL lock_timeout = {lock_timeout};
         CREATE TABLE {partition} (LIKE {table} INCLUDING ALL,
             CONSTRAINT in_month CHECK (date >= '{from}' AND date < '{to}'));
         ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{from}') TO ('{to}');
         ALTER TABLE {partition} DROP CONSTRAINT in_month;",
        lock_timeout = config.lock_timeout_ms.0,
    );
    for attempt in 1..=config.lock_tries {
        let result = async {
            let mut transaction = connection.begin().await?;
            transaction.execute(sqlx::raw_sql(AssertSqlSafe(statements.clone()))).await?;
            transaction.commit().await
        };
        match result.await {
            Ok(()) => {
                info!("made partition {partition}");
                return Ok(());
            }
            Err(error) if is_lock_timeout(&error) => {
                debug!(attempt, "{table} is locked; trying again to make {partition}");
                tokio::time::sleep(Duration::from_millis(50 * u64::from(attempt))).await;
            }
            Err(source) => return Err(PartitionError::Sql { table, source }),
        }
    }
    Err(PartitionError::Locked { partition, tries: config.lock_tries })
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// The months for which a table has partitions, in order, read back from their names.
async fn months(
    executor: impl PgExecutor<'_>,
    table: &'static str,
) -> Result<Vec<Month>, PartitionError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = $1::text::regclass ORDER BY c.relname",
    )
    .bind(table)
    .fetch_all(executor)
    .await
    .map_err(|source| PartitionError::Sql { table, source })?;
    names.iter().map(|name| Ok(Month::from_partition(table, name)?)).collect()
}

/// The days that all entry tables cover without a gap, around `today`; an error if today itself is not covered.
pub async fn horizon(finance: &PgPool, today: NaiveDate) -> Result<Horizon, PartitionError> {
    let mut horizon: Option<Horizon> = None;
    for table in ENTRY_TABLES {
        let months = months(finance, table).await?;
        let covered = covered_around(&months, Month::of(today))
            .ok_or(PartitionError::CurrentMonthMissing { table, month: Month::of(today) })?;
        horizon = Some(match horizon {
            None => covered,
            Some(h) => Horizon { first: h.first.max(covered.first), end: h.end.min(covered.end) },
        });
    }
    Ok(horizon.expect("there are entry tables"))
}

/// The unbroken run of months that holds `current`.
fn covered_around(months: &[Month], current: Month) -> Option<Horizon> {
    if !months.contains(&current) {
        return None;
    }
    let has = |month: &Month| months.contains(month);
    let earlier = std::iter::successors(Some(current), |month| Some(month.minus(1)));
    let later = std::iter::successors(Some(current), |month| Some(month.plus(1)));
    let first = earlier.take_while(has).last()?.first_day();
    let end = later.take_while(has).last()?.plus(1).first_day();
    Some(Horizon { first, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn the_horizon_ends_at_the_first_gap() {
        let current = Month::of(day("2026-11-23"));
        let months = [1, 9, 10, 11, 12].map(|m| Month::of(day(&format!("2026-{m:02}-01"))));
        let horizon = covered_around(&months, current).unwrap();
        assert_eq!(horizon, Horizon { first: day("2026-09-01"), end: day("2027-01-01") });
        assert!(horizon.covers(day("2026-12-31")) && !horizon.covers(day("2027-01-01")));
        assert_eq!(covered_around(&months[..2], current), None);
    }
}
