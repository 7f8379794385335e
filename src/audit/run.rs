//! Makes the audit: waits for projections, then holds each database to its laws.

use std::time::Duration;

use super::deadline::Deadline;
use super::law::{hold, judged};
use super::{drain, finance, read_models, replicas, store};
use crate::archive::{AuditCheck, AuditState, Ledger};
use crate::scenario::LiveTarget;

/// Holds the ledger, and each part of the system, against the databases of a target that is idle.
///
/// `wait` bounds each wait: for the projections to read the whole store, and for a replica to replay the log. Always ends,
/// and answers with every check: one that could not be made is grey.
pub async fn audit(target: &LiveTarget, ledger: &Ledger, wait: Duration) -> Vec<AuditCheck> {
    let Some((primary, copies)) = target.postgres.split_first() else {
        return vec![AuditCheck {
            check: "the ledger agrees with the databases".to_owned(),
            state: AuditState::Grey,
            count: 0,
            detail: "this target's databases cannot be read".to_owned(),
        }];
    };
    let deadline = Deadline::after(wait);
    let drained =
        tokio::time::timeout(wait + Duration::from_secs(30), drain::projections(primary, wait))
            .await
            .unwrap_or(Err(super::error::AuditError::TimeOut { seconds: wait.as_secs() + 30 }));
    let mut checks = vec![judged("projections have read the whole store", drained)];
    let store = async {
        let prepared = deadline.limit(store::prepare(primary, &ledger.entries)).await;
        hold(store::LAWS, prepared, deadline).await
    };
    let finance = async {
        let prepared = deadline.limit(finance::prepare(primary)).await;
        hold(finance::LAWS, prepared, deadline).await
    };
    let read_models = async {
        let prepared = deadline.limit(read_models::prepare(primary)).await;
        hold(read_models::LAWS, prepared, deadline).await
    };
    let (mut store, finance, read_models) = tokio::join!(store, finance, read_models);
    if !ledger.whole {
        excuse_unsent(&mut store);
    }
    checks.extend(store.into_iter().chain(finance).chain(read_models));
    checks.extend(replicas::compare(primary, copies, wait, deadline).await);
    checks
}

/// With part of the ledger lost, a command that it does not know may well have been sent.
fn excuse_unsent(checks: &mut [AuditCheck]) {
    for check in checks.iter_mut().filter(|check| check.check == store::NOTHING_UNSENT) {
        check.state = AuditState::Grey;
        check.detail = "the worker was lost, and with it part of the ledger".to_owned();
    }
}
