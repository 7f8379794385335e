//! One loop per job: looks at the table, runs what is due, takes over what died, sleeps until the next instant.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::counter;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Job;
use super::execute::execute;
use super::runs::{Run, Runs, State};
use super::work::Scope;
use crate::config::Jobs;
use crate::db::Database;
use crate::gateway::App;

/// Longest sleep; then the clock of the database is asked again, should the two run apart.
const SLEEP_MAX: Duration = Duration::from_secs(300);

/// Runs all jobs by their schedules until told to stop, while `jobs.enabled` holds. A run in progress is given back at a stop;
/// if jobs are switched off meanwhile, it goes on to its end.
pub(crate) async fn run_schedules(app: Arc<App>, stop: CancellationToken) {
    let (runs, loops) =
        (Runs::new(app.databases.write(Database::HealthCheck).clone()), TaskTracker::new());
    info!(process = runs.process(), "jobs run by their schedules");
    for job in Job::ALL {
        let scheduled =
            Scheduled { app: Arc::clone(&app), runs: runs.clone(), job, stop: stop.clone() };
        loops.spawn(scheduled.run());
    }
    loops.close();
    loops.wait().await;
}

/// What there is to do now.
#[derive(Debug)]
enum Next {
    Run(Run),
    Sleep(Duration),
}

struct Scheduled {
    app: Arc<App>,
    runs: Runs,
    job: Job,
    stop: CancellationToken,
}

impl Scheduled {
    async fn run(self) {
        // Where the job never ran, nothing was missed: its instants count from here on.
        let mut begun = None;
        let mut failing = false;
        let mut changes = self.app.jobs.subscribe();
        while !self.stop.is_cancelled() {
            let jobs = changes.borrow_and_update().clone();
            if !jobs.enabled {
                self.stop.run_until_cancelled(changes.changed()).await;
                continue;
            }
            let wait = match self.next(&jobs, &mut begun).await {
                Ok(Next::Run(run)) => {
                    execute(&self.app, &self.runs, &run, Scope::Recent, &self.stop).await;
                    Duration::ZERO
                }
                Ok(Next::Sleep(wait)) => {
                    failing = false;
                    wait
                }
                Err(error) => {
                    if !failing {
                        warn!(%error, job = %self.job, "the runs of a job could not be looked at");
                    }
                    failing = true;
                    jobs.heartbeat_ms.duration()
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(wait) => {}
                // Other settings: the next instant may be another.
                _ = changes.changed() => {}
            }
        }
    }

    async fn next(&self, jobs: &Jobs, begun: &mut Option<DateTime<Utc>>) -> sqlx::Result<Next> {
        let timing = jobs.timing(self.job);
        let state = self.runs.state(self.job).await?;
        if let Some(heartbeat_at) = state.heartbeat_at {
            return self.beside(jobs, state.now, heartbeat_at).await;
        }
        let last = state.last.unwrap_or(*begun.get_or_insert(state.now));
        let misfire = jobs.misfire_ms.duration();
        let due = timing.schedule.due(last, state.now, timing.catch_up, misfire);
        if let Some(instant) = due.first() {
            // None: another process was quicker, so look again.
            let claimed = self.runs.claim(self.job, Some(*instant)).await?;
            return Ok(claimed.map_or(Next::Sleep(Duration::ZERO), Next::Run));
        }
        Ok(Next::Sleep(self.until_next(jobs, state)))
    }

    /// While there is a run that is not finished: takes it over when its process died.
    async fn beside(
        &self,
        jobs: &Jobs,
        now: DateTime<Utc>,
        heartbeat_at: DateTime<Utc>,
    ) -> sqlx::Result<Next> {
        let timing = jobs.timing(self.job);
        let dead_after = jobs.dead_after_ms.duration();
        let age = (now - heartbeat_at).to_std().unwrap_or_default();
        if age < dead_after {
            return Ok(Next::Sleep((dead_after - age).min(jobs.heartbeat_ms.duration())));
        }
        let taken = self.runs.take_over(self.job, dead_after, timing.if_died).await?;
        let label = if taken.is_some() { "taken-over" } else { "given-up" };
        warn!(job = %self.job, age_ms = age.as_millis(), "a run whose process died is {label}");
        counter!("backend_job_dead_runs_total", "job" => self.job.name(), "outcome" => label)
            .increment(1);
        Ok(taken.map_or(Next::Sleep(Duration::ZERO), Next::Run))
    }

    /// The time to the next instant by the database's clock, and a little more, different for each process and instant.
    fn until_next(&self, jobs: &Jobs, state: State) -> Duration {
        let next = jobs.timing(self.job).schedule.next_after(state.now);
        let Some(next) = next else { return SLEEP_MAX };
        let wait = (next - state.now).to_std().unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (self.runs.process(), self.job.name(), next).hash(&mut hasher);
        let jitter = Duration::from_millis(hasher.finish() % (jobs.jitter_ms.0 + 1));
        (wait + jitter).min(SLEEP_MAX)
    }
}
