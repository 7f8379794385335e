//! Load and observation, side by side on one time axis, while somebody watches over the stack.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use secrecy::SecretString;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::climb::Climber;
use super::error::RunError;
use super::ground::Ground;
use super::plan::Plan;
use super::progress::{LoadProgress, Progress};
use crate::archive::{Environment, Incident, Ledger, LoadRecord, Timeline, Window, WorkerEnd};
use crate::load::{Auth, DriveEvent, Driven, PROTOCOL, Reins, Shard, WorkerPlan, drive};
use crate::observe::{Axis, Observed, SeriesFilter, Sight, observe};
use crate::scenario::{HttpTarget, LiveTarget, ProcessGroup, Scenario, Target};

/// What came of the load.
pub(super) struct Measured {
    /// The axis as it became: shorter than the plan's when the load was ended before its schedule.
    pub(super) window: Window,
    pub(super) load: LoadRecord,
    pub(super) ledger: Ledger,
    pub(super) timeline: Timeline,
    pub(super) incidents: Vec<Incident>,
}

/// The seconds of a scenario's axis.
pub(super) fn window(scenario: &Scenario) -> Window {
    let seconds =
        |span: crate::units::Micros| usize::try_from(span.secs_ceil()).unwrap_or(usize::MAX);
    Window { warm_up_s: seconds(scenario.load.warm_up), measure_s: seconds(scenario.load.measure) }
}

/// Drives the target with a worker and observes it meanwhile.
pub(super) async fn measure(
    plan: &Plan,
    ground: &Ground,
    environment: &Environment,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Measured, RunError> {
    let orders = worker_plan(plan, ground.live())?;
    let window = window(&plan.scenario);
    let (over, abandon) = (CancellationToken::new(), cancel.child_token());
    let reins = Reins { abandon: abandon.clone(), stop: CancellationToken::new() };
    let sight = Sight::default();
    let mut climber =
        Climber::new(plan, environment, sight.clone(), progress.clone(), reins.stop.clone());
    let origin = Arc::new(OnceLock::new());
    let (mut hearing, started, groups) =
        Hearing::new(window, ground.live(), origin.clone(), progress);

    // The load may be done before the axis is over: what the servers do until then is observed all the same.
    let stop = abandon.child_token();
    let load = async {
        let heard = |event, told: &LoadRecord| {
            if let DriveEvent::Second(progress) = event {
                climber.hear(progress.second + 1, told);
            }
            hearing.hear(event);
        };
        let driven = drive(&plan.program, &["worker"], &orders, heard, &reins).await;
        // A load that was ended before its schedule has no axis after that.
        let whole = |driven: &Driven| {
            driven.record.worker == WorkerEnd::Finished && driven.axis() == window.end()
        };
        if !driven.as_ref().is_ok_and(whole) {
            stop.cancel();
        }
        // Whoever still waits for second 0 learns that it never came.
        drop(hearing);
        driven
    };
    let observed = Watch { window, stop: &stop, sight: &sight };
    let observation = observation(plan, ground.live(), observed, started, groups);
    let measuring = async {
        let measured = tokio::join!(load, observation);
        over.cancel();
        measured
    };
    let watch = watch_deaths(ground.deaths(), &origin, &over, &abandon);
    let ((driven, observed), deaths) = tokio::join!(measuring, watch);

    if let Some(incident) = deaths.fatal {
        return Err(RunError::Died(incident));
    }
    if cancel.is_cancelled() {
        return Err(RunError::Interrupted);
    }
    Ok(joined(driven?, observed, deaths, window))
}

/// One worker with the whole schedule.
fn worker_plan(plan: &Plan, live: &LiveTarget) -> Result<WorkerPlan, RunError> {
    Ok(WorkerPlan {
        protocol: PROTOCOL,
        scenario: plan.scenario.clone(),
        run: plan.id.clone(),
        base_url: live.base_url.clone(),
        auth: auth(&plan.scenario.target, live)?,
        shard: Shard::WHOLE,
        today: plan.today(),
    })
}

/// A token for each organisation against our own backend; the one from the environment elsewhere, if one is named.
fn auth(target: &Target, live: &LiveTarget) -> Result<Auth, RunError> {
    let token = match target {
        Target::Reference(_) => None,
        Target::Http(target) => bearer_token(target)?,
    };
    Ok(match (&live.token_secret, token) {
        (Some(secret), _) => Auth::Organisation { secret: secret.clone() },
        (None, Some(token)) => Auth::Bearer { token },
        (None, None) => Auth::None,
    })
}

/// The token that a service's scenario names, from the environment.
pub(super) fn bearer_token(target: &HttpTarget) -> Result<Option<SecretString>, RunError> {
    let Some(name) = &target.bearer_token_env else { return Ok(None) };
    match std::env::var(name) {
        Ok(token) if !token.is_empty() => Ok(Some(token.into())),
        _ => Err(RunError::Token(name.clone())),
    }
}

/// Hears the worker: passes progress on, and tells the observers when second 0 is and who the generator is.
struct Hearing {
    window: Window,
    progress: Arc<dyn Progress>,
    origin: Arc<OnceLock<Instant>>,
    started: Option<oneshot::Sender<Instant>>,
    groups: watch::Sender<Vec<ProcessGroup>>,
}

impl Hearing {
    fn new(
        window: Window,
        live: &LiveTarget,
        origin: Arc<OnceLock<Instant>>,
        progress: Arc<dyn Progress>,
    ) -> (Self, oneshot::Receiver<Instant>, watch::Receiver<Vec<ProcessGroup>>) {
        let (started, when) = oneshot::channel();
        let (groups, watched) = watch::channel(live.processes.clone());
        (Self { window, progress, origin, started: Some(started), groups }, when, watched)
    }

    fn hear(&mut self, event: DriveEvent) {
        match event {
            DriveEvent::Ready { pid } => {
                let group = ProcessGroup { name: "generator".to_owned(), pid };
                self.groups.send_modify(|groups| groups.push(group));
            }
            DriveEvent::Started { at } => {
                self.origin.get_or_init(|| at);
                if let Some(started) = self.started.take() {
                    // The observers may have ended already: then there is nobody to tell.
                    let _ = started.send(at);
                }
            }
            DriveEvent::Second(second) => self.progress.second(LoadProgress {
                elapsed_s: (second.second + 1).min(self.window.end()),
                total_s: self.window.end(),
                answered: second.ok + second.failed,
                failed: second.failed + second.dropped,
            }),
        }
    }
}

/// How long the servers are observed, and where what is read can be seen.
struct Watch<'a> {
    window: Window,
    stop: &'a CancellationToken,
    sight: &'a Sight,
}

/// Observes from second 0 until the axis is over or nothing is left to see; nothing when second 0 never comes.
async fn observation(
    plan: &Plan,
    live: &LiveTarget,
    watch: Watch<'_>,
    started: oneshot::Receiver<Instant>,
    groups: watch::Receiver<Vec<ProcessGroup>>,
) -> Observed {
    let Watch { window, stop, sight } = watch;
    let Ok(origin) = started.await else {
        return Observed { timeline: Timeline::default(), incidents: Vec::new() };
    };
    let axis = Axis { origin, seconds: window.end() };
    let keep = SeriesFilter::of(&plan.scenario.target);
    observe(live, axis, keep, stop.clone(), groups, sight).await
}

/// What is known of the stack's deaths when the load is over.
struct Deaths {
    /// All of them, with their second.
    all: Vec<Incident>,
    /// The first without whose process there is nothing to measure.
    fatal: Option<Incident>,
}

/// Notes deaths with their second until load and axis are over; a fatal one abandons the load.
async fn watch_deaths(
    deaths: Option<watch::Receiver<Vec<Incident>>>,
    origin: &OnceLock<Instant>,
    over: &CancellationToken,
    abandon: &CancellationToken,
) -> Deaths {
    let mut known = Deaths { all: Vec::new(), fatal: None };
    let Some(mut deaths) = deaths else {
        return known;
    };
    loop {
        let fresh = deaths.borrow_and_update().iter().skip(known.all.len()).cloned().collect();
        known.add(fresh, origin.get().copied());
        if known.fatal.is_some() {
            abandon.cancel();
            return known;
        }
        tokio::select! {
            changed = deaths.changed() => if changed.is_err() { return known },
            () = over.cancelled() => return known,
        }
    }
}

impl Deaths {
    fn add(&mut self, fresh: Vec<Incident>, origin: Option<Instant>) {
        let now = Instant::now();
        let second = origin.map(|origin| {
            usize::try_from(now.saturating_duration_since(origin).as_secs()).unwrap_or(usize::MAX)
        });
        for incident in fresh {
            let incident = Incident { second, ..incident };
            if self.fatal.is_none() && Incident::is_of_the_system(&incident.what) {
                self.fatal = Some(incident.clone());
            }
            self.all.push(incident);
        }
    }
}

fn joined(driven: Driven, observed: Observed, deaths: Deaths, planned: Window) -> Measured {
    let mut incidents = observed.incidents;
    incidents.extend(deaths.all);
    let whole = driven.record.worker == WorkerEnd::Finished;
    let (window, timeline) = cut(planned, driven.axis(), observed.timeline);
    let ledger = Ledger { entries: driven.ledger, whole };
    Measured { window, load: driven.record, ledger, timeline, incidents }
}

/// The axis as it became, and what was seen on it.
fn cut(planned: Window, end_s: usize, mut timeline: Timeline) -> (Window, Timeline) {
    let measure_s = planned.measure_s.min(end_s.saturating_sub(planned.warm_up_s));
    let window = Window { measure_s, ..planned };
    timeline.seconds = timeline.seconds.min(window.end());
    for series in &mut timeline.series {
        series.values.truncate(timeline.seconds + 1);
    }
    (window, timeline)
}

impl Measured {
    /// Adds what went wrong after the axis was over and is not known yet.
    pub(super) fn add_late(&mut self, incidents: Vec<Incident>) {
        for incident in incidents {
            if !self.incidents.iter().any(|known| known.what == incident.what) {
                self.incidents.push(Incident { second: Some(self.window.end()), ..incident });
            }
        }
    }
}
