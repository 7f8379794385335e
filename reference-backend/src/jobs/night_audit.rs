//! `night-audit`: closes the day before the instant, for every property, and before it days that earlier nights left open,
//! the oldest first. What fails is tried again for as long as the job may run, and by the nights after it.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::runs::Outcome;
use crate::gateway::App;
use crate::services::{audit_all, begin_night};

/// Wait before the second try; doubled for each one more, up to the other.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Days left open by earlier nights that one night makes up for: so that a long outage does not take its own day's time.
const OLDER_DAYS_MAX: i64 = 7;

/// Days that are closed already stay as they are, so a try goes on where the one before ended.
pub(super) async fn audit(app: &App, instant: DateTime<Utc>) -> Outcome {
    let day = instant.date_naive() - Days::new(1);
    let limit = app.jobs.borrow().night_audit.time_limit_ms.duration();
    let ends = Instant::now() + limit;
    let (mut wait, mut told) = (RETRY_FIRST, Vec::new());
    loop {
        match try_all(app, day, &mut told).await {
            Ok(()) => return Ok(told.join("; ")),
            // With no time for another try, the reason is worth more than that the time is up.
            Err(reason) if Instant::now() + 2 * wait >= ends => return Err(reason),
            Err(reason) => warn!(%day, "{reason}; trying again"),
        }
        sleep(wait).await;
        wait = (2 * wait).min(RETRY_MAX);
    }
}

/// Closes what is open, and adds what that came to. One day that cannot be closed does not keep the others open.
async fn try_all(app: &App, day: NaiveDate, told: &mut Vec<String>) -> Result<(), String> {
    let first = app.horizon.load().first;
    let older = begin_night(&app.databases, day, first, OLDER_DAYS_MAX).await;
    let older = older.map_err(|error| format!("look for days left open: {error}"))?;
    let mut failed = None;
    for date in older.into_iter().chain([day]) {
        match audit_all(&app.databases, date).await {
            Ok(night) => {
                told.push(format!("{date}: {} of {} properties", night.closed, night.properties));
            }
            Err(error) => {
                failed.get_or_insert(format!("close {date}: {error}"));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
