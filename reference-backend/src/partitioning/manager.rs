//! Makes partitions: those ahead, and those missing in between.

use sqlx::postgres::PgConnection;
use tracing::info;

use super::catalogue::{self, ENTRY_TABLES};
use super::ddl::{self, Change};
use super::{Month, PartitionError};
use crate::config;

/// Makes the missing partitions from one month to another, both included; returns the names of the new ones.
pub async fn create(
    connection: &mut PgConnection,
    from: Month,
    to: Month,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    ddl::alone(connection, config, async |connection| {
        create_missing(connection, from, to, config).await
    })
    .await
}

/// Makes the missing partitions from the oldest that stays up to `to`: months ahead, and gaps.
pub(super) async fn create_ahead(
    connection: &mut PgConnection,
    kept_from: Month,
    current: Month,
    ahead: u32,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    let mut oldest = current;
    for table in ENTRY_TABLES {
        let months = catalogue::months(&mut *connection, table).await?;
        oldest = months.into_iter().filter(|month| *month >= kept_from).fold(oldest, Month::min);
    }
    create_missing(connection, oldest, current.plus(ahead), config).await
}

async fn create_missing(
    connection: &mut PgConnection,
    from: Month,
    to: Month,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    let mut made = Vec::new();
    for table in ENTRY_TABLES {
        let existing = catalogue::months(&mut *connection, table).await?;
        for month in from.through(to).filter(|month| !existing.contains(month)) {
            let partition = month.partition_of(table);
            ddl::change(connection, config, &partition, &creation(table, month)).await?;
            info!("made partition {partition}");
            made.push(partition);
        }
    }
    Ok(made)
}

/// Makes one partition apart and then attaches it: `CREATE … PARTITION OF` would lock out every reader of the table.
fn creation(table: &'static str, month: Month) -> Change {
    let partition = month.partition_of(table);
    let (from, to) = (month.first_day(), month.plus(1).first_day());
    // The CHECK spares ATTACH its scan; once attached it says nothing new.
    Change::Together(format!(
        "CREATE TABLE {partition} (LIKE {table} INCLUDING ALL,
             CONSTRAINT in_month CHECK (date >= '{from}' AND date < '{to}'));
         ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{from}') TO ('{to}');
         ALTER TABLE {partition} DROP CONSTRAINT in_month;"
    ))
}
