//! `[jobs]`: when each job runs, and what becomes of missed and broken runs.

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::jobs::{CatchUp, IfDied, Job, Schedule};

/// Scheduled jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Whether this process runs any.
    pub enabled: bool,
    /// Time between two signs of life of a run.
    pub heartbeat_ms: Millis,
    /// Age of the last sign of life from which a run counts as dead.
    pub dead_after_ms: Millis,
    /// Age up to which an instant is on time.
    pub misfire_ms: Millis,
    /// Longest wait after an instant, to spread processes and jobs.
    pub jitter_ms: Millis,
    /// Days for which runs are kept.
    pub history_days: u32,
    /// Most organisations in the warm list.
    pub warm_organisations: u32,
    /// Events per shard from which the list is made.
    pub warm_recent_events: u32,
    /// Time between two looks for a new list.
    pub warm_list_interval_ms: Millis,
    /// Days that a balance check looks at unless told to look at all.
    pub check_recent_days: u32,
    /// Organisations that a check looks at with one statement.
    pub check_organisations: u32,
    /// See [`Job::CacheWarming`].
    pub cache_warming: JobTiming,
    /// See [`Job::BalanceConsistencyCheck`].
    pub balance_consistency_check: JobTiming,
    /// See [`Job::ReadModelConsistencyCheck`].
    pub read_model_consistency_check: JobTiming,
    /// See [`Job::NightAudit`].
    pub night_audit: JobTiming,
    /// See [`Job::OtaSync`].
    pub ota_sync: JobTiming,
    /// See [`Job::TaskReminders`].
    pub task_reminders: JobTiming,
    /// See [`Job::Snapshotting`].
    pub snapshotting: JobTiming,
    /// See [`Job::PartitionMaintenance`].
    pub partition_maintenance: JobTiming,
}

/// When a job runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTiming {
    /// Cron pattern, UTC.
    pub schedule: Schedule,
    /// What is made up for.
    pub catch_up: CatchUp,
    /// What becomes of a run whose process died.
    pub if_died: IfDied,
    /// Longest run.
    pub time_limit_ms: Millis,
}

impl Jobs {
    /// When a job runs.
    pub fn timing(&self, job: Job) -> &JobTiming {
        match job {
            Job::CacheWarming => &self.cache_warming,
            Job::BalanceConsistencyCheck => &self.balance_consistency_check,
            Job::ReadModelConsistencyCheck => &self.read_model_consistency_check,
            Job::NightAudit => &self.night_audit,
            Job::OtaSync => &self.ota_sync,
            Job::TaskReminders => &self.task_reminders,
            Job::Snapshotting => &self.snapshotting,
            Job::PartitionMaintenance => &self.partition_maintenance,
        }
    }

    /// What types alone cannot rule out.
    pub(super) fn problems(&self) -> Vec<String> {
        let above_zero = [
            ("heartbeat_ms", self.heartbeat_ms.0),
            ("warm_list_interval_ms", self.warm_list_interval_ms.0),
            ("history_days", self.history_days.into()),
            ("check_recent_days", self.check_recent_days.into()),
            ("check_organisations", self.check_organisations.into()),
        ];
        let zero = above_zero.into_iter().filter(|(_, value)| *value == 0);
        let mut problems: Vec<String> =
            zero.map(|(name, _)| format!("jobs.{name} = 0: expected a number from 1 up")).collect();
        if self.dead_after_ms.0 < 3 * self.heartbeat_ms.0 {
            problems.push(
                "jobs.dead_after_ms: below three times jobs.heartbeat_ms; one late sign of life would end a run".to_owned(),
            );
        }
        for job in Job::ALL {
            let (timing, name) = (self.timing(job), job.name().replace('-', "_"));
            if timing.time_limit_ms.0 == 0 {
                problems
                    .push(format!("jobs.{name}.time_limit_ms = 0: expected a number from 1 up"));
            }
            if timing.catch_up == CatchUp::Each(0) {
                problems.push(format!("jobs.{name}.catch_up: each = 0: say \"skip\""));
            }
        }
        problems
    }
}
