//! `snapshotting`: takes the snapshots that were left behind, by a process that ended or a database that was away.

use super::runs::Outcome;
use crate::events::snapshots::catch_up;
use crate::gateway::App;

/// Looks at every account of the store.
pub(super) async fn take(app: &App) -> Outcome {
    match catch_up(&app.databases, &app.config.snapshots).await {
        Ok(taken) => Ok(format!("{taken} snapshots")),
        Err(error) => Err(format!("take snapshots: {error}")),
    }
}
