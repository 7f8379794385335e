//! Makes the audit: waits for projections, then holds each database to its laws.

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::deadline::Deadline;
use super::error::AuditError;
use super::law::{Law, hold, judged};
use super::{drain, finance, read_models, replicas, store};
use crate::archive::{AuditCheck, AuditState, Ledger};
use crate::scenario::{LiveTarget, PostgresEndpoint};

/// Holds the ledger, and each part of the system, against the databases of a target that is idle.
///
/// `wait` bounds each wait: for the projections to read the whole store, and for a replica to replay the log. Always ends,
/// and answers with every check: one that could not be made is grey. What is found wrong is looked at once more before it
/// is believed, since a command that nobody waits for any more may be committed between two looks.
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
    let mut drained = drain(primary, wait).await;
    let mut laws = examine(primary, ledger, deadline, |_| true).await;
    let red = |check: &AuditCheck| check.state == AuditState::Red;
    if !red(&drained) && laws.iter().any(red) {
        drained = drain(primary, wait).await;
        let was_red = |law: &Law| laws.iter().any(|check| check.check == law.check && red(check));
        let again = examine(primary, ledger, deadline, was_red).await;
        revise(&mut laws, again);
    }
    let copies = replicas::compare(primary, copies, wait, deadline).await;
    [drained].into_iter().chain(laws).chain(copies).collect()
}

async fn drain(primary: &PostgresEndpoint, wait: Duration) -> AuditCheck {
    let limit = wait + Duration::from_secs(30);
    let drained = tokio::time::timeout(limit, drain::projections(primary, wait))
        .await
        .unwrap_or(Err(AuditError::TimeOut { seconds: limit.as_secs() }));
    judged("projections have read the whole store", drained)
}

/// Holds each database to those of its laws that are wanted.
async fn examine(
    primary: &PostgresEndpoint,
    ledger: &Ledger,
    deadline: Deadline,
    wanted: impl Fn(&Law) -> bool,
) -> Vec<AuditCheck> {
    let chosen = |laws: &'static [Law]| laws.iter().filter(|law| wanted(law)).collect();
    let (mut store, finance, read_models) = tokio::join!(
        ask(chosen(store::LAWS), store::prepare(primary, &ledger.entries), deadline),
        ask(chosen(finance::LAWS), finance::prepare(primary), deadline),
        ask(chosen(read_models::LAWS), read_models::prepare(primary), deadline),
    );
    for check in &mut store {
        if let Some(reason) = silence(check, ledger) {
            check.state = AuditState::Grey;
            check.detail = reason.to_owned();
        }
    }
    store.into_iter().chain(finance).chain(read_models).collect()
}

async fn ask(
    laws: Vec<&Law>,
    prepare: impl Future<Output = Result<PgConnection, AuditError>>,
    deadline: Deadline,
) -> Vec<AuditCheck> {
    if laws.is_empty() {
        return Vec::new();
    }
    hold(&laws, deadline.limit(prepare).await, deadline).await
}

/// Why the ledger cannot bear out what a check found.
fn silence(check: &AuditCheck, ledger: &Ledger) -> Option<&'static str> {
    match check.check.as_str() {
        // A command that the ledger does not know may well have been sent.
        store::NOTHING_UNSENT if !ledger.whole => {
            Some("the worker was lost, and with it part of the ledger")
        }
        store::NOTHING_LOST if check.state == AuditState::Green && check.count == 0 => {
            Some("the ledger holds no acknowledged command")
        }
        _ => None,
    }
}

/// Takes over what a second look found; where that could not be had, the first stands.
fn revise(checks: &mut [AuditCheck], again: Vec<AuditCheck>) {
    for second in again.into_iter().filter(|check| check.state != AuditState::Grey) {
        if let Some(first) = checks.iter_mut().find(|check| check.check == second.check) {
            *first = second;
        }
    }
}
