//! How the process watches itself.

use serde::{Deserialize, Serialize};

use super::Millis;

/// How the process watches itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitoring {
    /// Time between two rounds of upkeep of histograms and caches.
    pub upkeep_interval_ms: Millis,
    /// A request that takes longer is logged; 0 logs none.
    pub slow_request_ms: Millis,
}

impl Monitoring {
    pub(super) fn problems(&self) -> Vec<String> {
        let interval = self.upkeep_interval_ms.0;
        if (100..=60_000).contains(&interval) {
            return Vec::new();
        }
        vec![format!("monitoring.upkeep_interval_ms = {interval}: expected 100 to 60000")]
    }
}
