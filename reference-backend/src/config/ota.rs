//! Settings of the exchange with the outside channel manager.

use serde::{Deserialize, Serialize};

use super::{BaseUrl, Dependency};

/// The exchange with the outside channel manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ota {
    /// Where it is; without it the service answers 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_manager_url: Option<BaseUrl>,
    /// Connections that the regular exchange works on at once.
    pub sync_at_once: usize,
    /// Time that exchanges stay on record, in days.
    pub exchanges_kept_days: u32,
    /// How it is called.
    pub calls: Dependency,
}

impl Ota {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.calls.problems("ota.calls");
        if self.sync_at_once == 0 {
            problems.push("ota.sync_at_once = 0: expected a number from 1 up".to_owned());
        }
        if !(1..=3_650).contains(&self.exchanges_kept_days) {
            problems.push("ota.exchanges_kept_days: expected 1 to 3650".to_owned());
        }
        problems
    }
}
