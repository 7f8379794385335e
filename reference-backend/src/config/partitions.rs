//! Settings of the monthly partitions.

use serde::{Deserialize, Serialize};

use super::Millis;

/// Monthly partitions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// Months made ahead of the current one.
    pub months_ahead: u32,
    /// Months kept before the current one.
    pub retention_months: u32,
    /// Longest wait for a lock before trying again.
    pub lock_timeout_ms: Millis,
    /// Tries per partition.
    pub lock_tries: u32,
    /// Longest wait for another process that makes or drops partitions; before a drop, also for the books.
    pub busy_wait_ms: Millis,
}

impl Partitions {
    /// What types alone cannot rule out.
    pub(super) fn problems(&self) -> Vec<String> {
        let above_zero = [
            ("lock_timeout_ms", self.lock_timeout_ms.0),
            ("lock_tries", self.lock_tries.into()),
            ("months_ahead", self.months_ahead.into()),
            ("retention_months", self.retention_months.into()),
        ];
        let zeros = above_zero.into_iter().filter(|(_, value)| *value == 0);
        let mut problems: Vec<String> = zeros
            .map(|(name, _)| format!("partitions.{name} = 0: expected a number from 1 up"))
            .collect();
        // A century: beyond it the arithmetic of months, and anybody's patience, ends.
        for (name, months) in
            [("months_ahead", self.months_ahead), ("retention_months", self.retention_months)]
        {
            if months > 1_200 {
                problems.push(format!("partitions.{name} = {months}: expected at most 1200"));
            }
        }
        problems
    }
}
