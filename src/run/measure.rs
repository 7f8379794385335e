//! Load and observation, side by side on one time axis, while somebody watches over the stack.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::error::RunError;
use super::ground::Ground;
use super::plan::Plan;
use super::progress::{LoadProgress, Progress};
use crate::archive::{Incident, LedgerEntry, LoadRecord, Timeline, Window};
use crate::load::{Auth, DriveEvent, Driven, PROTOCOL, Shard, WorkerPlan, drive};
use crate::observe::{Axis, Observed, observe};
use crate::scenario::{LiveTarget, ProcessGroup, Scenario, Target};

/// What came of the load.
pub(super) struct Measured {
    pub(super) load: LoadRecord,
    pub(super) ledger: Vec<LedgerEntry>,
    pub(super) timeline: Timeline,
    pub(super) incidents: Vec<Incident>,
}

/// The seconds of a scenario's axis.
pub(super) fn window(scenario: &Scenario) -> Window {
    let seconds = |span: crate::units::Micros| usize::try_from(span.secs_ceil()).unwrap_or(usize::MAX);
    Window { warm_up_s: seconds(scenario.load.warm_up), measure_s: seconds(scenario.load.measure) }
}

/// Drives the target with a worker and observes it meanwhile.
pub(super) async fn measure(
    plan: &Plan,
    ground: &Ground,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Measured, RunError> {
    let orders = worker_plan(plan, ground.live())?;
    let window = window(&plan.scenario);
    let (started, when) = oneshot::channel();
    let over = CancellationToken::new();
    let abandon = cancel.child_token();

    let mut told = Telling { started: Some(started), generator: None, total_s: window.end(), progress };
    let load = async {
        let driven =
            drive(&plan.program, &["worker"], &orders, |event| told.hear(event), &abandon).await;
        over.cancel();
        driven
    };
    let observation = observation(ground.live(), window, when, &over);
    let death = fatal_death(ground.watch(), &abandon);
    let (driven, observed, died) = tokio::join!(load, observation, death_until(death, &over));

    if let Some(incident) = died {
        return Err(RunError::Died(incident));
    }
    if cancel.is_cancelled() {
        return Err(RunError::Interrupted);
    }
    Ok(joined(driven?, observed, ground.watch()))
}
