//! `partitions`: what there is, what is wrong, make, drop.

use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::{Args, Subcommand};
use sqlx::postgres::PgConnection;

use crate::config::Config;
use crate::db;
use crate::partitioning::{self, ENTRY_TABLES, Month, PartitionError};
use crate::telemetry::init_logs;

#[derive(Debug, Clone, Args)]
pub(super) struct Command {
    /// Settings over the defaults.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// List the partitions, with rows as the planner estimates them.
    Status,
    /// Make the missing months from the oldest up to N months ahead; can be repeated.
    Create {
        /// Months after the current one; partitions.months_ahead by default.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1200))]
        months: Option<u32>,
    },
    /// Say what is wrong: missing months, gaps, strays, names that disagree with bounds. Fails if anything is.
    Check,
    /// Drop the months past retention, without blocking traffic. What an interrupted run left is finished.
    Drop {
        /// Months kept before the current one; partitions.retention_months by default, and never less.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
        retention_months: Option<u32>,
        /// Only say what would be dropped.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(
    command: Command,
    load: impl Fn(Option<&Path>) -> anyhow::Result<Config>,
) -> anyhow::Result<()> {
    let config = load(command.config.as_deref())?;
    init_logs(&config.logs)?;
    let settings = &config.partitions;
    let today = Utc::now().date_naive();
    let current = Month::of(today);
    let connected = db::maintenance(&config.database).await;
    let mut connection = connected
        .map_err(|error| anyhow::anyhow!("connect to the primary for maintenance: {error}"))?;
    partitioning::agree_on_day(&mut connection, today).await?;
    match command.action {
        Action::Status => status(&mut connection).await,
        Action::Check => {
            let findings = partitioning::check(&mut connection, current, settings).await?;
            lines(findings.iter())?;
            anyhow::ensure!(findings.is_empty(), "find all well: {} findings", findings.len());
            Ok(())
        }
        _ if partitioning::on_replica(&mut connection).await? => {
            anyhow::bail!("change partitions: the server is a replica\nhelp: set database.primary")
        }
        Action::Create { months } => {
            let ahead = months.unwrap_or(settings.months_ahead);
            lines(partitioning::create_ahead(&mut connection, today, ahead, settings).await?)
        }
        Action::Drop { retention_months, dry_run } => {
            let months = retention_months.unwrap_or(settings.retention_months);
            // Processes take entries for as long as their settings say; below that, acknowledged ones would be lost.
            anyhow::ensure!(
                months >= settings.retention_months,
                "drop partitions: {months} months are fewer than partitions.retention_months = {}\n\
                 help: lower the setting first, everywhere, and restart the processes",
                settings.retention_months
            );
            if dry_run {
                lines(partitioning::expired(&mut connection, current, months).await?)
            } else {
                lines(drop_expired(&mut connection, current, months, &config).await?)
            }
        }
    }
}

/// As the job does it, but what speaks against it is an error.
async fn drop_expired(
    connection: &mut PgConnection,
    current: Month,
    months: u32,
    config: &Config,
) -> anyhow::Result<Vec<String>> {
    let databases = db::Databases::connect(&config.database).await?;
    let held = partitioning::held(connection, &databases, &config.partitions).await?;
    databases.close().await;
    if let Some(why) = held {
        return Err(PartitionError::Held(why).into());
    }
    Ok(partitioning::drop_expired(connection, current, months, &config.partitions).await?)
}

async fn status(connection: &mut PgConnection) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<32} {:>8} {:>12} {:>10}", "partition", "month", "rows (est.)", "MiB")?;
    for table in ENTRY_TABLES {
        for partition in partitioning::partitions(&mut *connection, table).await? {
            let (month, mib) = (partition.month.to_string(), partition.bytes >> 20);
            let (name, rows) = (partition.name, partition.rows_estimate);
            writeln!(out, "{name:<32} {month:>8} {rows:>12} {mib:>10}")?;
        }
    }
    Ok(())
}

fn lines<T: std::fmt::Display>(of: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in of {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
