//! Which work belongs to which job.

use chrono::{DateTime, Utc};

use super::Job;
use super::runs::Outcome;
use crate::gateway::App;
use crate::ota::sync_all;

/// How much a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What is recent.
    Recent,
    /// Everything.
    All,
}

/// Does a job's work once, that of an instant which may have been long ago.
pub(super) async fn work(app: &App, job: Job, scope: Scope, instant: DateTime<Utc>) -> Outcome {
    match job {
        Job::CacheWarming => super::cache_warming::rank(app).await,
        Job::BalanceConsistencyCheck => super::balance_check::check(app, scope).await,
        Job::ReadModelConsistencyCheck => super::read_model_check::check(app, scope).await,
        Job::TaskReminders => super::task_reminders::remind(app).await,
        Job::Snapshotting => super::snapshotting::take(app).await,
        Job::NightAudit => super::night_audit::audit(app, instant).await,
        Job::OtaSync => {
            sync_all(&app.databases, app.channel_manager.as_ref(), &app.config.ota).await
        }
        Job::PartitionMaintenance => Ok("nothing to do yet".to_owned()),
    }
}
