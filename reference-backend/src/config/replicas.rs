//! Settings of the choice between servers for reads.

use serde::{Deserialize, Serialize};

use super::Millis;

/// When a replica may answer, and what happens when it does not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    /// Time between two looks at a replica.
    pub poll_interval_ms: Millis,
    /// Longest wait for an answer to such a look.
    pub poll_timeout_ms: Millis,
    /// Looks that must fail in a row before a replica counts as unhealthy.
    pub failures_before_unhealthy: u32,
    /// A replica further behind answers no reads, in bytes of WAL.
    pub lag_bytes_max: u64,
    /// A replica further behind answers no reads.
    pub lag_max_ms: Millis,
    /// Longest wait for a replica's answer; then another server is asked.
    pub read_timeout_ms: Millis,
    /// Reads that must fail in a row before a replica's breaker opens.
    pub breaker_failures: u32,
    /// How long an open breaker lets no read through.
    pub breaker_open_ms: Millis,
    /// Reads that are then let through, and must all succeed.
    pub breaker_probes: u32,
    /// Reads at a time that the primary answers in place of replicas.
    pub primary_fallback_max: u32,
}

impl Replicas {
    /// What types alone cannot rule out.
    pub(super) fn problems(&self) -> Vec<String> {
        let above_zero = [
            ("poll_interval_ms", self.poll_interval_ms.0),
            ("poll_timeout_ms", self.poll_timeout_ms.0),
            ("failures_before_unhealthy", self.failures_before_unhealthy.into()),
            ("read_timeout_ms", self.read_timeout_ms.0),
            ("breaker_failures", self.breaker_failures.into()),
            ("breaker_open_ms", self.breaker_open_ms.0),
            ("breaker_probes", self.breaker_probes.into()),
            ("primary_fallback_max", self.primary_fallback_max.into()),
        ];
        let zeros = above_zero.into_iter().filter(|(_, value)| *value == 0);
        zeros
            .map(|(name, _)| {
                format!("database.replica_choice.{name} = 0: expected a number from 1 up")
            })
            .collect()
    }
}
