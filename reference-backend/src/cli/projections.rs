//! `projections`: build one anew, or ask one something.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Config;
use crate::db::{Database, Databases};
use crate::domain::Category;
use crate::projections::{Projection, booking, rebuild_finance, rebuild_summaries};
use crate::telemetry::init_logs;

#[derive(Debug, Clone, Args)]
pub(super) struct Command {
    /// Settings over the defaults.
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make a projection's tables what history and events say, while writes and reads go on: finance-summary is built anew beside
    /// the live table and swapped in, finance is corrected in place.
    Rebuild {
        /// Which: finance, finance-summary.
        projection: Projection,
    },
    /// Which properties, of all organisations, have booked a category: to know before it is renamed. One line of JSON each;
    /// `unlisted` if the property has more categories than are listed, and may have booked this one.
    Category {
        /// The category.
        name: String,
        /// Most properties told of.
        #[arg(long, default_value_t = 1_000)]
        limit: u32,
    },
}

pub(super) async fn run(config: &Config, command: &Command) -> anyhow::Result<()> {
    init_logs(&config.logs)?;
    match &command.action {
        Action::Rebuild { projection } => rebuild(config, *projection).await,
        Action::Category { name, limit } => category(config, name, *limit).await,
    }
}

async fn category(config: &Config, name: &str, limit: u32) -> anyhow::Result<()> {
    let name = Category::new(name).context("read the category")?;
    let db = Databases::connect(&config.database).await?;
    let found = booking(db.write(Database::ReadModels), name.as_str(), limit).await;
    db.close().await;
    let mut out = std::io::stdout().lock();
    for one in found.context("look for the category")? {
        let line = json!({
            "org": one.org_id, "property": one.property_id, "revenues": one.revenues, "expenses": one.expenses,
            "unlisted": one.unlisted,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

async fn rebuild(config: &Config, projection: Projection) -> anyhow::Result<()> {
    let line = match projection {
        Projection::FinanceSummary => {
            let rebuilt = rebuild_summaries(config).await?;
            json!({
                "event": "rebuilt", "projection": projection.name(), "baselines": rebuilt.baselines,
                "events": rebuilt.events, "corrected": rebuilt.corrected,
                "held_ms": rebuilt.held.as_millis() as u64,
            })
        }
        Projection::Finance => {
            let corrected = rebuild_finance(config).await?;
            json!({
                "event": "rebuilt", "projection": projection.name(),
                "entries_removed": corrected.entries_removed, "entries_written": corrected.entries_written,
                "days_removed": corrected.days_removed, "days_written": corrected.days_written,
                "dead_letters_settled": corrected.dead_letters_settled,
            })
        }
    };
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
