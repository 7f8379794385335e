//! Every wait of the audit has an end.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::error::AuditError;

/// Longest that one statement may take; the servers are told the same.
pub(super) const STATEMENT_MAX: Duration = Duration::from_secs(240);
/// Longest that all checks together may take, once projections and replicas have been waited for.
const AUDIT_MAX: Duration = Duration::from_secs(900);

/// When the audit must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait + AUDIT_MAX)
    }

    /// Waits for one step, at most as long as a statement may take.
    pub(super) async fn limit<T>(
        self,
        step: impl Future<Output = Result<T, AuditError>>,
    ) -> Result<T, AuditError> {
        let left = self.0.saturating_duration_since(Instant::now()).min(STATEMENT_MAX);
        timeout(left, step).await.unwrap_or(Err(AuditError::TimeOut { seconds: left.as_secs() }))
    }
}
