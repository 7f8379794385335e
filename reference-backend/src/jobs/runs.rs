//! The table of runs: who has which, and how they ended. All times are the database's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use sqlx::postgres::PgPool;
use sqlx::postgres::types::PgInterval;

use super::{IfDied, Job};

/// Runs of one job may be tried so often: once, and once more by who takes over. One that was given back does not count.
const ATTEMPTS_MAX: i32 = 2;

/// How a run ended: what it did, or why it failed.
pub(super) type Outcome = Result<String, String>;

/// A run that this process has.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) job: Job,
    pub(super) scheduled_at: DateTime<Utc>,
    pub(super) attempts: i32,
    process: String,
}

/// A job as the table has it.
#[derive(Debug, Clone, Copy, FromRow)]
pub(super) struct State {
    /// The database's clock.
    pub(super) now: DateTime<Utc>,
    /// The latest instant with a run; runs by hand do not count.
    pub(super) last: Option<DateTime<Utc>>,
    /// Last sign of life of the run that is not finished; [`GIVEN_BACK`] if it waits for another process.
    pub(super) heartbeat_at: Option<DateTime<Utc>>,
}

/// The last sign of life of a run that its process gave back when it was stopped.
pub(super) const GIVEN_BACK: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// A run, for people.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Past {
    pub(super) job: String,
    pub(super) scheduled_at: DateTime<Utc>,
    pub(super) process: String,
    pub(super) by_hand: bool,
    pub(super) attempts: i32,
    pub(super) started_at: DateTime<Utc>,
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) outcome: Option<String>,
    pub(super) detail: Option<String>,
}

/// The runs, as one process sees them.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    pool: PgPool,
    /// Different for every start of a process.
    process: String,
}

const STATE: &str = "\
    SELECT clock_timestamp() AS now, \
        (SELECT max(scheduled_at) FROM job_runs WHERE job = $1 AND NOT by_hand) AS last, \
        (SELECT heartbeat_at FROM job_runs WHERE job = $1 AND finished_at IS NULL) AS heartbeat_at";

/// Does nothing where the instant has a run already, or another run of the job is not finished.
const CLAIM: &str = "\
    INSERT INTO job_runs (job, scheduled_at, process, by_hand) \
    VALUES ($1, coalesce($2, clock_timestamp()), $3, $2 IS NULL) \
    ON CONFLICT DO NOTHING RETURNING scheduled_at";

/// What was given back is taken in any case; what died, where $5 says so, and not too often.
const TAKE_OVER: &str = "\
    UPDATE job_runs SET process = $2, attempts = attempts + 1, \
        started_at = clock_timestamp(), heartbeat_at = clock_timestamp() \
    WHERE job = $1 AND finished_at IS NULL AND (heartbeat_at = 'epoch' \
        OR $5 AND heartbeat_at < clock_timestamp() - $3 AND attempts < $4) \
    RETURNING scheduled_at, attempts";

const GIVE_UP: &str = "\
    UPDATE job_runs SET finished_at = clock_timestamp(), outcome = 'failed', detail = 'its process ended before it did' \
    WHERE job = $1 AND finished_at IS NULL AND heartbeat_at < clock_timestamp() - $2 AND heartbeat_at <> 'epoch'";

/// No row when the run is another's by now.
const HEARTBEAT: &str = "\
    UPDATE job_runs SET heartbeat_at = clock_timestamp() \
    WHERE job = $1 AND scheduled_at = $2 AND process = $3 AND finished_at IS NULL";

/// As [`GIVEN_BACK`]. A stop is no fault of the run: the next to have it tries for as many a time as this one did.
const RELEASE: &str = "\
    UPDATE job_runs SET heartbeat_at = 'epoch', attempts = attempts - 1 \
    WHERE job = $1 AND scheduled_at = $2 AND process = $3 AND finished_at IS NULL";

const FINISH: &str = "\
    UPDATE job_runs SET finished_at = clock_timestamp(), outcome = $4, detail = $5 \
    WHERE job = $1 AND scheduled_at = $2 AND process = $3 AND finished_at IS NULL";

/// Not the latest: it says which instants have passed.
const PRUNE: &str = "\
    DELETE FROM job_runs WHERE job = $1 AND finished_at IS NOT NULL AND scheduled_at < clock_timestamp() - $2 \
        AND scheduled_at < (SELECT max(scheduled_at) FROM job_runs WHERE job = $1 AND NOT by_hand)";

const HISTORY: &str = "\
    SELECT job, scheduled_at, process, by_hand, attempts, started_at, finished_at, outcome, detail \
    FROM job_runs WHERE $1::text IS NULL OR job = $1 ORDER BY scheduled_at DESC, job LIMIT $2";

impl Runs {
    pub(super) fn new(pool: PgPool) -> Self {
        let process = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        Self { pool, process }
    }

    /// Differs between processes, to spread them.
    pub(super) fn process(&self) -> &str {
        &self.process
    }

    pub(super) async fn state(&self, job: Job) -> sqlx::Result<State> {
        sqlx::query_as(STATE).bind(job.name()).fetch_one(&self.pool).await
    }

    /// The run of an instant, or one by hand; none when somebody else has it, or another run is not finished.
    pub(super) async fn claim(
        &self,
        job: Job,
        instant: Option<DateTime<Utc>>,
    ) -> sqlx::Result<Option<Run>> {
        let claim = sqlx::query_scalar(CLAIM).bind(job.name()).bind(instant).bind(&self.process);
        let claimed: Option<DateTime<Utc>> = claim.fetch_optional(&self.pool).await?;
        Ok(claimed.map(|scheduled_at| self.run(job, scheduled_at, 1)))
    }

    /// The run that was given back, or whose process died if it may be tried again; otherwise that is ended.
    pub(super) async fn take_over(
        &self,
        job: Job,
        dead_after: Duration,
        if_died: IfDied,
    ) -> sqlx::Result<Option<Run>> {
        let taken: Option<(DateTime<Utc>, i32)> = sqlx::query_as(TAKE_OVER)
            .bind(job.name())
            .bind(&self.process)
            .bind(interval(dead_after))
            .bind(ATTEMPTS_MAX)
            .bind(if_died == IfDied::TakeOver)
            .fetch_optional(&self.pool)
            .await?;
        if let Some((scheduled_at, attempts)) = taken {
            return Ok(Some(self.run(job, scheduled_at, attempts)));
        }
        let give_up = sqlx::query(GIVE_UP).bind(job.name()).bind(interval(dead_after));
        give_up.execute(&self.pool).await.map(|_| None)
    }

    /// Says that the run goes on; whether it is still this process's.
    pub(super) async fn heartbeat(&self, run: &Run) -> sqlx::Result<bool> {
        self.change(HEARTBEAT, run).await
    }

    /// Gives an unfinished run back, for another process to take over at once.
    pub(super) async fn release(&self, run: &Run) -> sqlx::Result<bool> {
        self.change(RELEASE, run).await
    }

    async fn change(&self, statement: &'static str, run: &Run) -> sqlx::Result<bool> {
        let change = sqlx::query(statement).bind(run.job.name()).bind(run.scheduled_at);
        let changed = change.bind(&run.process).execute(&self.pool).await?;
        Ok(changed.rows_affected() > 0)
    }

    /// Records how a run ended; whether it was still this process's.
    pub(super) async fn finish(&self, run: &Run, outcome: &Outcome) -> sqlx::Result<bool> {
        let (word, detail) = match outcome {
            Ok(detail) => ("done", detail),
            Err(detail) => ("failed", detail),
        };
        let finished = sqlx::query(FINISH)
            .bind(run.job.name())
            .bind(run.scheduled_at)
            .bind(&run.process)
            .bind(word)
            .bind(detail)
            .execute(&self.pool)
            .await?;
        Ok(finished.rows_affected() > 0)
    }

    /// Removes runs of a job that are older than so many days.
    pub(super) async fn prune(&self, job: Job, days: u32) -> sqlx::Result<u64> {
        let age = Duration::from_secs(u64::from(days) * 86_400);
        let prune = sqlx::query(PRUNE).bind(job.name()).bind(interval(age));
        Ok(prune.execute(&self.pool).await?.rows_affected())
    }

    /// The latest runs, of one job or of all, the latest first.
    pub(super) async fn history(&self, job: Option<Job>, limit: u32) -> sqlx::Result<Vec<Past>> {
        let history = sqlx::query_as(HISTORY).bind(job.map(Job::name)).bind(i64::from(limit));
        history.fetch_all(&self.pool).await
    }

    fn run(&self, job: Job, scheduled_at: DateTime<Utc>, attempts: i32) -> Run {
        Run { job, scheduled_at, attempts, process: self.process.clone() }
    }
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
