//! `projections`: build one anew.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Config;
use crate::projections::{Projection, rebuild_summaries};

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
    /// Build a projection's tables anew from baselines and events, beside the live ones, and swap them in. Writes and reads go on.
    Rebuild {
        /// Which: finance-summary.
        projection: Projection,
    },
}

pub(super) async fn run(command: Command, config: &Config) -> anyhow::Result<()> {
    let Action::Rebuild { projection } = command.action;
    anyhow::ensure!(
        projection == Projection::FinanceSummary,
        "rebuild finance: its entries from before the event store, and the balances of months past retention, are kept \
         nowhere else\nhelp: correct single properties by the balance consistency check and its repair"
    );
    let rebuilt = rebuild_summaries(config).await?;
    let line = json!({
        "event": "rebuilt", "projection": projection.name(), "baselines": rebuilt.baselines,
        "events": rebuilt.events, "corrected": rebuilt.corrected, "held_ms": rebuilt.held.as_millis() as u64,
    });
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
