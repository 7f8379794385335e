//! `partition-maintenance`: the months ahead are made, those past retention dropped, and what is wrong all the same fails the run.

use chrono::Utc;

use super::runs::Outcome;
use crate::gateway::App;
use crate::partitioning::{Finding, maintain};

/// As of today, also when the instant was missed and is made up for: what was due then is due now.
pub(super) async fn run(app: &App) -> Outcome {
    let round = maintain(&app.databases, &app.config, Utc::now().date_naive()).await;
    let round = round.map_err(|error| error.to_string())?;
    if let Some(why) = round.skipped {
        return Ok(why.to_owned());
    }
    let did = format!("{} partitions made, {} dropped", round.made.len(), round.dropped.len());
    if round.findings.is_empty() {
        return Ok(did);
    }
    let findings: Vec<String> = round.findings.iter().map(Finding::to_string).collect();
    Err(format!("{did}; {}", findings.join("; ")))
}
