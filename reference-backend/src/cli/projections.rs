//! `projections`: build one anew.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Config;
use crate::projections::{Projection, rebuild_finance, rebuild_summaries};
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
}

pub(super) async fn run(config: &Config, command: &Command) -> anyhow::Result<()> {
    init_logs(&config.logs)?;
    let Action::Rebuild { projection } = command.action;
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
