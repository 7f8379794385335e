//! The engine: goose runs the users and counts what they send. The only place that knows goose.
//!
//! goose's own users wait for each answer before they ask again, and so hide a slow server. Here every user is a goose
//! user whose one transaction takes due arrivals from a desk that all share, until the schedule is at its end: who
//! comes late takes the next overdue arrival at once, and the wait is charged to its response time. Each request is
//! also reported to goose, by the user itself, so that goose's count can be held against ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goose::config::GooseConfiguration;
use goose::goose::{GooseUser, Scenario, Transaction};
use goose::{GooseAttack, GooseError};

use super::request::method;
use super::user::Shared;
use crate::archive::GooseCount;

/// Why goose could not run, or what it ended on.
#[derive(Debug, thiserror::Error)]
// Its Display leaves out which option it does not like.
#[error("goose: {0:?}")]
pub(crate) struct EngineError(#[from] GooseError);

/// Runs `users` goose users until every arrival is dealt with. Says so on `ready` when all of them are up.
pub(crate) async fn attack(
    shared: Arc<Shared>,
    base_url: &str,
    users: usize,
    ready: flume::Sender<()>,
) -> Result<GooseCount, EngineError> {
    let up = Arc::new(AtomicUsize::new(0));
    let transaction = Transaction::new(Arc::new(move |user| {
        let (shared, ready, up) = (Arc::clone(&shared), ready.clone(), Arc::clone(&up));
        Box::pin(async move {
            let number = up.fetch_add(1, Ordering::SeqCst);
            if number + 1 == users {
                // Whoever waited for this may be gone; then the process ends.
                let _ = ready.send_async(()).await;
            }
            take_arrivals(user, number, &shared).await;
            Ok(())
        })
    }));
    let scenario = Scenario::new("load").register_transaction(transaction);
    let metrics = GooseAttack::initialize_with_config(configuration(base_url, users))?
        .set_client_builder_without_cookies(
            goose::client::GooseClientBuilder::new().without_cookies(),
        )?
        .register_scenario(scenario)
        .execute()
        .await?;
    let count = |one: fn(&goose::metrics::GooseRequestMetricAggregate) -> usize| {
        metrics.requests.values().map(|aggregate| one(aggregate) as u64).sum()
    };
    Ok(GooseCount { ok: count(|a| a.success_count), failed: count(|a| a.fail_count) })
}

/// A user's whole life. Records on the user that goose gave: what a clone of it records may be lost.
async fn take_arrivals(user: &mut GooseUser, number: usize, shared: &Shared) {
    // Reporting to goose comes after it: that, too, is the generator's own time.
    let (mut line, mut free_us) = (shared.line(), 0);
    while let Some(arrival) = shared.desk.take(number).await {
        let sent = shared.serve(number, &mut line, free_us, arrival).await;
        let Some(sent) = sent else { continue };
        free_us = sent.done_us;
        let operation = &shared.operations[arrival.operation];
        let counted = user
            .record_custom_request_duration(
                method(operation.request.method).as_str(),
                &operation.name,
                sent.response,
                sent.exchange.reason.is_none(),
                sent.exchange.status,
                sent.exchange.reason,
            )
            .await;
        // The arrival is in our own record; that goose missed it shows when the counts are compared.
        if let Err(error) = counted {
            tracing::warn!(%error, operation = operation.name, "goose did not count a request");
        }
    }
}

/// Users and their one transaction, nothing else: no controller that listens, no report, no table. With `iterations`,
/// the attack ends when its users do, and goose does not reset its counts when all users are up.
fn configuration(base_url: &str, users: usize) -> GooseConfiguration {
    let mut configuration = GooseConfiguration::default();
    configuration.host = Some(base_url.to_owned());
    configuration.users = Some(users);
    configuration.increase_rate = Some("2000".to_owned());
    configuration.iterations = Some(1);
    configuration.quiet = 2;
    configuration.no_telnet = true;
    configuration.no_print_metrics = true;
    configuration.no_error_summary = true;
    configuration.no_transaction_metrics = true;
    configuration.no_scenario_metrics = true;
    configuration
}
