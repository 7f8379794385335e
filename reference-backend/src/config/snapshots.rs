//! Snapshots of cash accounts.

use serde::{Deserialize, Serialize};

use super::Millis;

/// Snapshots of cash accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    /// Events of an account from one snapshot to the next.
    pub every_events: u32,
    /// Shortest time between two writes of the accounts that are due.
    pub interval_ms: Millis,
    /// Most accounts written by one statement.
    pub batch_accounts_max: usize,
    /// Accounts whose events since their snapshot are summed in memory.
    pub accounts_remembered: usize,
}

impl Snapshots {
    /// What types alone cannot rule out.
    pub(super) fn problems(&self) -> Vec<String> {
        let settings = [
            ("snapshots.every_events", u64::from(self.every_events)),
            ("snapshots.batch_accounts_max", self.batch_accounts_max as u64),
            ("snapshots.accounts_remembered", self.accounts_remembered as u64),
        ];
        let zero = settings.into_iter().filter(|(_, value)| *value == 0);
        zero.map(|(name, _)| format!("{name} = 0: expected a number from 1 up")).collect()
    }
}
