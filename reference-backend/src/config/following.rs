//! How a process follows what others write.

use serde::{Deserialize, Serialize};

use super::Millis;

/// How a process follows what others write.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Following {
    /// Time between two looks at the checkpoints and the store.
    pub interval_ms: Millis,
    /// After so long without a look that worked, the caches answer nothing until one works again.
    pub stale_after_ms: Millis,
}

impl Following {
    /// What types alone cannot rule out.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.interval_ms.0 == 0 {
            problems.push("following.interval_ms = 0: expected a number from 1 up".to_owned());
        }
        if self.stale_after_ms < self.interval_ms {
            problems.push("following.stale_after_ms: below interval_ms".to_owned());
        }
        problems
    }
}
