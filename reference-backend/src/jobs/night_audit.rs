//! `night-audit`: closes the day before the instant, for every property. A night that was missed and is made up for closes
//! its own day.

use chrono::{DateTime, Days, Utc};

use super::runs::Outcome;
use crate::gateway::App;
use crate::services::audit_all;

/// Days that are closed already stay as they are.
pub(super) async fn audit(app: &App, instant: DateTime<Utc>) -> Outcome {
    let day = instant.date_naive() - Days::new(1);
    match audit_all(&app.databases, day).await {
        Ok(night) => Ok(format!("{day}: {} of {} properties", night.closed, night.properties)),
        Err(error) => Err(format!("close {day}: {error}")),
    }
}
