//! The jobs there are.

use std::fmt;
use std::str::FromStr;

/// A scheduled job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Ranks the busiest organisations, for every process to load into its caches.
    CacheWarming,
    /// Holds daily balances against each other and against the entries.
    BalanceConsistencyCheck,
    /// Holds finance summaries against the events.
    ReadModelConsistencyCheck,
    /// Closes yesterday for every property.
    NightAudit,
    /// Takes over reservations from the channel manager.
    OtaSync,
    /// Notifies of tasks that are due.
    TaskReminders,
    /// Writes snapshots of accounts with many events.
    Snapshotting,
    /// Makes the months ahead, drops those past retention.
    PartitionMaintenance,
}

/// A text that names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such job; there are {}", Job::ALL.map(Job::name).join(", "))]
pub struct UnknownJob;

impl Job {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::CacheWarming,
        Self::BalanceConsistencyCheck,
        Self::ReadModelConsistencyCheck,
        Self::NightAudit,
        Self::OtaSync,
        Self::TaskReminders,
        Self::Snapshotting,
        Self::PartitionMaintenance,
    ];

    /// Its name in runs, metrics and commands. In settings with `_` for `-`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CacheWarming => "cache-warming",
            Self::BalanceConsistencyCheck => "balance-consistency-check",
            Self::ReadModelConsistencyCheck => "read-model-consistency-check",
            Self::NightAudit => "night-audit",
            Self::OtaSync => "ota-sync",
            Self::TaskReminders => "task-reminders",
            Self::Snapshotting => "snapshotting",
            Self::PartitionMaintenance => "partition-maintenance",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Job {
    type Err = UnknownJob;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|job| job.name() == text).ok_or(UnknownJob)
    }
}
