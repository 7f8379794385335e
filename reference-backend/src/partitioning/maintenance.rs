//! The monthly round: make what is missing, drop what is past retention, check, and say so.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use metrics::gauge;
use sqlx::postgres::{PgConnection, PgPool};
use tracing::warn;

use super::catalogue::{self, ENTRY_TABLES, Partition};
use super::check::{Finding, check, months_ahead};
use super::{Month, PartitionError, ddl, hold, manager, retention};
use crate::config::{self, Config};
use crate::db::Databases;

/// What a round did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Why nothing was done, if so.
    pub skipped: Option<&'static str>,
    /// Partitions made.
    pub made: Vec<String>,
    /// Partitions dropped.
    pub dropped: Vec<String>,
    /// What is wrong all the same.
    pub findings: Vec<Finding>,
}

/// The monthly round. Safe at any time and from several processes at once. Days that it takes away are refused by every
/// process from the first of the month (see [`super::horizon`]): a run some hours into the month meets no late entry.
pub async fn maintain(
    databases: &Databases,
    config: &Config,
    today: NaiveDate,
) -> Result<Maintained, PartitionError> {
    let skipped = |why| Ok(Maintained { skipped: Some(why), ..Maintained::default() });
    if !config.features.enable_partition_maintenance {
        return skipped("features.enable_partition_maintenance is off");
    }
    let connected = databases.maintenance().await;
    let mut connection = connected.map_err(PartitionError::sql("finance"))?;
    if on_replica(&mut connection).await? {
        return skipped("the server is a replica; its primary's partitions come by themselves");
    }
    hold::agree_on_day(&mut connection, today).await?;
    let config = &config.partitions;
    let current = Month::of(today);
    let months = config.retention_months;
    let (made, dropped, held) = ddl::alone(&mut connection, config, async |connection| {
        let (kept, ahead) = (current.minus(months), config.months_ahead);
        // What can be booked comes first: a drop that fails must not cost the months ahead.
        let made = manager::create_ahead(connection, kept, current, ahead, config).await?;
        let nothing = retention::expired(connection, current, months).await?.is_empty();
        let held = if nothing { None } else { hold::held(connection, databases, config).await? };
        if held.is_some() {
            return Ok((made, Vec::new(), held));
        }
        let dropped = retention::drop_found(connection, current, months, config).await?;
        Ok((made, dropped, None))
    })
    .await?;
    let mut findings = check(&mut connection, current, config).await?;
    findings.extend(held.map(Finding::Held));
    for finding in &findings {
        warn!("partitions: {finding}");
    }
    let maintained = Maintained { skipped: None, made, dropped, findings };
    record(&mut connection, &maintained).await?;
    Ok(maintained)
}

/// Makes the missing partitions from the oldest that stays up to `ahead` months from now: a part of [`maintain`].
pub async fn create_ahead(
    connection: &mut PgConnection,
    today: NaiveDate,
    ahead: u32,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    let current = Month::of(today);
    let kept_from = current.minus(config.retention_months);
    ddl::alone(connection, config, async |connection| {
        manager::create_ahead(connection, kept_from, current, ahead, config).await
    })
    .await
}

/// Whether the server follows another, where partitions come by themselves.
pub async fn on_replica(connection: &mut PgConnection) -> Result<bool, PartitionError> {
    let asked = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await;
    asked.map_err(PartitionError::sql("finance"))
}

async fn record(
    connection: &mut PgConnection,
    maintained: &Maintained,
) -> Result<(), PartitionError> {
    let findings: Vec<String> = maintained.findings.iter().map(ToString::to_string).collect();
    sqlx::query("INSERT INTO partition_runs (made, dropped, findings) VALUES ($1, $2, $3)")
        .bind(&maintained.made)
        .bind(&maintained.dropped)
        .bind(findings)
        .execute(connection)
        .await
        .map_err(PartitionError::sql("partition_runs"))?;
    Ok(())
}

/// The partitions, and the last round.
#[derive(Debug, Clone)]
pub struct Status {
    /// By table, in order of months.
    pub tables: Vec<(&'static str, Vec<Partition>)>,
    /// When the last round ended, and how many things it found wrong.
    pub last_run: Option<(DateTime<Utc>, i32)>,
}

/// Reads the partitions and the last round.
pub async fn status(finance: &PgPool) -> Result<Status, PartitionError> {
    let mut tables = Vec::new();
    for table in ENTRY_TABLES {
        tables.push((table, catalogue::partitions(finance, table).await?));
    }
    let last_run = sqlx::query_as(
        "SELECT ran_at, cardinality(findings) FROM partition_runs ORDER BY ran_at DESC LIMIT 1",
    )
    .fetch_optional(finance)
    .await
    .map_err(PartitionError::sql("partition_runs"))?;
    Ok(Status { tables, last_run })
}

impl Status {
    /// Sets the gauges that the alert rules on partitions read.
    pub fn publish(&self, today: NaiveDate) {
        let current = Month::of(today);
        for (table, partitions) in &self.tables {
            let months: BTreeSet<Month> = partitions.iter().map(|p| p.month).collect();
            let ahead = months_ahead(&months, current);
            gauge!("backend_partitions", "table" => *table).set(partitions.len() as f64);
            gauge!("backend_partitions_months_ahead", "table" => *table).set(f64::from(ahead));
            // As points in time, so that an alert need not trust that the gauges are still being set.
            let end = current.plus(if months.contains(&current) { ahead + 1 } else { 0 });
            gauge!("backend_partitions_end_timestamp_seconds", "table" => *table)
                .set(seconds(end.first_day()));
            let oldest = months.first().map_or(0.0, |month| seconds(month.first_day()));
            gauge!("backend_partitions_oldest_timestamp_seconds", "table" => *table).set(oldest);
        }
        let (last, findings) = self.last_run.map_or((0.0, 0), |(at, n)| (at.timestamp() as f64, n));
        gauge!("backend_partitions_last_run_timestamp_seconds").set(last);
        gauge!("backend_partitions_findings").set(f64::from(findings));
    }
}

fn seconds(day: NaiveDate) -> f64 {
    day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp() as f64
}
