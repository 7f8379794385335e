//! One run: the work, under a time limit, while heartbeats say that it goes on.

use std::panic::AssertUnwindSafe;

use backon::{ExponentialBuilder, Retryable};
use futures::FutureExt;
use metrics::{counter, gauge, histogram};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::runs::{Outcome, Run, Runs};
use super::work::{Scope, work};
use crate::gateway::App;

/// Does the work of a run that this process has and records how it ended. None when the run was broken off: at a stop it is
/// given back, and otherwise it is another's by now.
pub(super) async fn execute(
    app: &App,
    runs: &Runs,
    run: &Run,
    scope: Scope,
    stop: &CancellationToken,
) -> Option<Outcome> {
    let (job, started) = (run.job, Instant::now());
    info!(%job, scheduled_at = %run.scheduled_at, attempts = run.attempts, "a job runs");
    let limit = app.jobs.borrow().timing(job).time_limit_ms.duration();
    let working =
        AssertUnwindSafe(timeout(limit, work(app, job, scope, run.scheduled_at))).catch_unwind();
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => {
            if let Err(error) = runs.release(run).await {
                warn!(%error, %job, "a run could not be given back; it will count as dead");
            }
            return None;
        }
        done = working => match done {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(format!("it took longer than {} ms", limit.as_millis())),
            Err(_) => Err("it panicked; the log says where".to_owned()),
        },
        () = until_lost(app, runs, run) => {
            warn!(%job, scheduled_at = %run.scheduled_at, "a run was lost to another process");
            counter!("backend_job_runs_total", "job" => job.name(), "outcome" => "lost").increment(1);
            return None;
        }
    };
    histogram!("backend_job_duration_seconds", "job" => job.name()).record(started.elapsed());
    publish(run, &outcome);
    record(app, runs, run, &outcome).await;
    Some(outcome)
}

/// Sends heartbeats; ends when the run is another's, or must be taken to be because no heartbeat came through for too long.
async fn until_lost(app: &App, runs: &Runs, run: &Run) {
    let (interval, dead_after) =
        (app.config.jobs.heartbeat_ms.duration(), app.config.jobs.dead_after_ms.duration());
    let mut last = Instant::now();
    loop {
        sleep(interval).await;
        let sent = Instant::now();
        // Gives up one interval early: the others' patience began when the last heartbeat arrived.
        let patience = dead_after.saturating_sub(interval).saturating_sub(last.elapsed());
        match timeout(patience, runs.heartbeat(run)).await {
            Ok(Ok(true)) => last = sent,
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => warn!(%error, job = %run.job, "no heartbeat could be written"),
        }
    }
}

fn publish(run: &Run, outcome: &Outcome) {
    let (job, scheduled_at) = (run.job, run.scheduled_at);
    let label = match outcome {
        Ok(detail) => {
            info!(%job, %scheduled_at, "a job is done: {detail}");
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit 52 bits")]
            gauge!("backend_job_last_success_timestamp_seconds", "job" => job.name())
                .set(chrono::Utc::now().timestamp() as f64);
            "done"
        }
        Err(reason) => {
            warn!(%job, %scheduled_at, "a job failed: {reason}");
            "failed"
        }
    };
    counter!("backend_job_runs_total", "job" => job.name(), "outcome" => label).increment(1);
}

/// A run whose end cannot be recorded would be taken for dead and done again: hence some tries.
async fn record(app: &App, runs: &Runs, run: &Run, outcome: &Outcome) {
    let finish = || runs.finish(run, outcome);
    match finish.retry(ExponentialBuilder::default().with_max_times(5)).await {
        Ok(true) => {}
        Ok(false) => warn!(job = %run.job, "a run ended that was another's by then"),
        Err(error) => warn!(%error, job = %run.job, "the end of a run could not be recorded"),
    }
    if let Err(error) = runs.prune(run.job, app.config.jobs.history_days).await {
        warn!(%error, job = %run.job, "old runs could not be removed");
    }
}
