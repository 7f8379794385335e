//! `night-audit`: closes the day before the instant, for every property. A night that was missed and is made up for closes
//! its own day. One that fails is tried again for as long as the job may run: a day that is left open stays open, since the
//! next instant closes another one.

use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::runs::Outcome;
use crate::gateway::App;
use crate::services::audit_all;

/// Wait before the second try; doubled for each one more, up to the other.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Days that are closed already stay as they are, so a try goes on where the one before ended.
pub(super) async fn audit(app: &App, instant: DateTime<Utc>) -> Outcome {
    let day = instant.date_naive() - Days::new(1);
    let limit = app.jobs.borrow().night_audit.time_limit_ms.duration();
    let ends = Instant::now() + limit;
    let mut wait = RETRY_FIRST;
    loop {
        match audit_all(&app.databases, day).await {
            Ok(night) => {
                return Ok(format!("{day}: {} of {} properties", night.closed, night.properties));
            }
            // With no time for another try, the reason is worth more than that the time is up.
            Err(error) if Instant::now() + 2 * wait >= ends => {
                return Err(format!("close {day}: {error}"));
            }
            Err(error) => warn!(%error, %day, "a day could not be closed; trying again"),
        }
        sleep(wait).await;
        wait = (2 * wait).min(RETRY_MAX);
    }
}
