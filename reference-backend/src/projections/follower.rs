//! The task of one projection: takes events, writes what they add, moves the checkpoint; tries again until it works, in
//! smaller parts when a batch is too heavy or holds an event that cannot be written.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use metrics::{Counter, Histogram, counter, histogram};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::progress::Progress;
use super::{Observer, Projection, ProjectionError, checkpoint, dead_letter, finance, summary};
use crate::config;
use crate::db::{Databases, Lsn};
use crate::domain::RecordedEvent;
use crate::events::{Positions, Shard, Slice, Subscription, halves};
use crate::partitioning::Month;
use crate::pubsub::Flow;

pub(super) struct Follower {
    projection: Projection,
    db: Databases,
    subscription: Subscription,
    /// Its own; opened again after a failure.
    connection: Option<PgConnection>,
    /// As the checkpoint has them.
    positions: Positions,
    /// Up to where `progress` and `observer` have been told.
    told: Positions,
    progress: Arc<Progress>,
    observer: Arc<dyn Observer>,
    config: config::Projections,
    /// `partitions.retention_months`.
    kept_months: u32,
    stop: CancellationToken,
    /// Failed tries in a row.
    failures: u32,
    events: Counter,
    dead_letters: Counter,
    seconds: Histogram,
}

/// What one transaction brings to the tables.
#[derive(Clone, Copy)]
enum Change<'a> {
    Rows(&'a [&'a RecordedEvent]),
    /// An event that is not projected, and why.
    DeadLetter(&'a RecordedEvent, &'a str),
}

/// Where a checkpoint was found that was not where it had been left.
enum Moved {
    Forward,
    Back,
}

impl Follower {
    pub(super) fn new(
        db: &Databases,
        subscription: Subscription,
        (progress, observer): (Arc<Progress>, Arc<dyn Observer>),
        config: &config::Config,
        stop: CancellationToken,
    ) -> Self {
        let projection = progress.projection;
        let database = projection.database().label();
        Self {
            projection,
            db: db.clone(),
            subscription,
            connection: None,
            positions: progress.positions(),
            told: progress.positions(),
            progress,
            observer,
            config: config.projections.clone(),
            kept_months: config.partitions.retention_months,
            stop,
            failures: 0,
            events: counter!("backend_projection_events_total", "projection" => projection.name()),
            dead_letters: counter!("backend_projection_dead_letters_total", "projection" => projection.name()),
            seconds: histogram!("backend_db_query_duration_seconds", "database" => database, "kind" => "project"),
        }
    }

    /// Works until told to stop and all that was committed is projected.
    pub(super) async fn run(mut self) {
        loop {
            let next_batch = Instant::now() + self.config.interval_ms.duration();
            match self.subscription.next(self.config.batch_events_max, &self.stop).await {
                Ok(slices) if slices.is_empty() => return,
                Ok(slices) => self.project(slices).await,
                Err(error) => self.failed(&error.into()).await,
            }
            if self.gives_up() {
                let name = self.projection.name();
                error!("{name} stops behind the store; it will go on from its checkpoint");
                return;
            }
            if !self.stop.is_cancelled() {
                sleep_until(next_batch).await;
            }
        }
    }

    /// Only at shutdown: a database that is gone must not hold up the end for ever.
    fn gives_up(&self) -> bool {
        self.stop.is_cancelled() && self.failures >= self.config.tries_before_paused
    }

    /// Projects a batch, however many tries it takes, as a whole or in parts; tells those who follow of each part.
    async fn project(&mut self, batch: Vec<Slice>) {
        // The next part is the last.
        let mut parts = vec![batch];
        while !self.gives_up()
            && let Some(part) = parts.pop()
        {
            match self.write(&part).await {
                Ok(lsn) => self.tell(&part, lsn).await,
                Err(ProjectionError::Moved) => match self.find_checkpoint().await {
                    Ok(Moved::Forward) => parts.push(part),
                    Ok(Moved::Back) => return,
                    Err(error) => {
                        self.failed(&error).await;
                        parts.push(part);
                    }
                },
                Err(error) => {
                    let lasts = self.lasts(&error, &part);
                    if lasts && self.set_aside(&part, &error).await {
                        continue;
                    }
                    let smaller = smaller(part, lasts || error.is_timeout());
                    // What does not pass with time: the search for the event goes on at once.
                    if smaller.len() == 1 || !lasts {
                        self.failed(&error).await;
                    }
                    parts.extend(smaller);
                }
            }
        }
    }

    async fn tell(&mut self, part: &[Slice], lsn: Lsn) {
        for slice in part {
            self.observer.committed(self.projection, slice.shard(), slice.events()).await;
        }
        self.told = checkpoint::after(self.told, part);
        self.progress.committed(self.told, lsn);
        self.succeeded();
    }

    /// Writes those events of a part that are after the checkpoint; returns a place in the log at or after their commit.
    async fn write(&mut self, part: &[Slice]) -> Result<Lsn, ProjectionError> {
        let events: Vec<&RecordedEvent> = part
            .iter()
            .flat_map(|slice| {
                let written = self.positions[slice.shard().index()];
                slice.events().iter().filter(move |event| event.position > written)
            })
            .collect();
        if events.is_empty() {
            return Ok(checkpoint::flushed(self.db.write(self.projection.database())).await?);
        }
        let start = Instant::now();
        let lsn = self.transaction(Change::Rows(&events), part).await?;
        self.seconds.record(start.elapsed().as_secs_f64());
        self.events.increment(events.len() as u64);
        Ok(lsn)
    }

    /// Whether an error lies in an event of the part: its rows break a rule, or its month is past retention, for which nobody
    /// will make a partition again.
    fn lasts(&self, error: &ProjectionError, part: &[Slice]) -> bool {
        let kept_from = Month::of(Utc::now().date_naive()).minus(self.kept_months).first_day();
        let mut events = part.iter().flat_map(|slice| slice.events());
        error.is_broken_rule()
            || error.is_missing_partition()
                && events.any(|event| event.event.entry().date < kept_from)
    }

    /// Sets an event aside, if it is alone, because of an error that lies in it; whether that was so and is done.
    async fn set_aside(&mut self, part: &[Slice], error: &ProjectionError) -> bool {
        let [slice] = part else { return false };
        let [event] = slice.events() else { return false };
        let (name, shard, position) = (self.projection.name(), slice.shard(), event.position);
        match self.transaction(Change::DeadLetter(event, &error.to_string()), part).await {
            Ok(lsn) => {
                error!(%error, %shard, position, "{name} has set an event aside; its tables lack it");
                self.dead_letters.increment(1);
                Flow::of(name).dead_lettered(1);
                self.observer.begin(self.projection, shard, position);
                self.told = checkpoint::after(self.told, part);
                self.progress.committed(self.told, lsn);
                self.succeeded();
                true
            }
            Err(error) => {
                warn!(%error, %shard, position, "{name} could not set an event aside");
                false
            }
        }
    }

    /// A change and the checkpoint, both or neither; returns a place in the log at or after its commit.
    async fn transaction(
        &mut self,
        change: Change<'_>,
        part: &[Slice],
    ) -> Result<Lsn, ProjectionError> {
        let to = checkpoint::after(self.positions, part);
        let limit = self.config.transaction_timeout_ms.duration();
        let result = timeout(limit, self.commit(change, &to)).await;
        let lsn = result.unwrap_or(Err(ProjectionError::Timeout))?;
        self.positions = to;
        Ok(lsn)
    }

    async fn commit(&mut self, change: Change<'_>, to: &Positions) -> Result<Lsn, ProjectionError> {
        // Taken out: if this is broken off anywhere, the connection closes and the server rolls back.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let limit = self.config.transaction_timeout_ms.duration();
                self.db.writer(self.projection.database(), self.projection.name(), limit).await?
            }
        };
        let mut transaction = connection.begin().await?;
        checkpoint::advance(&mut transaction, self.projection, &self.positions, to).await?;
        match (change, self.projection) {
            (Change::Rows(events), Projection::Finance) => {
                finance::write(&mut transaction, events).await?;
            }
            (Change::Rows(events), Projection::FinanceSummary) => {
                summary::write(&mut transaction, summary::Into::Live, events).await?;
            }
            (Change::DeadLetter(event, reason), projection) => {
                dead_letter::keep(&mut transaction, projection, event, reason).await?;
            }
        }
        transaction.commit().await?;
        let lsn = checkpoint::flushed(&mut connection).await?;
        self.connection = Some(connection);
        Ok(lsn)
    }

    /// Reads the checkpoint again. Moved forward: a commit of unknown outcome did take place, or another process is at work;
    /// what it covers need not be written, but must be told.
    async fn find_checkpoint(&mut self) -> Result<Moved, ProjectionError> {
        let pool = self.db.write(self.projection.database());
        let found = checkpoint::read(pool, self.projection).await?.positions;
        let back = found.iter().zip(&self.positions).any(|(found, before)| found < before);
        warn!(from = ?self.positions, to = ?found, "checkpoint of {} has moved", self.projection.name());
        self.positions = found;
        if back {
            self.subscription.seek(found);
            self.told = found;
            self.progress.went_back(found);
            for shard in Shard::all() {
                self.observer.begin(self.projection, shard, found[shard.index()]);
            }
            return Ok(Moved::Back);
        }
        Ok(Moved::Forward)
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            info!(failures = self.failures, "{} works again", self.projection.name());
            self.failures = 0;
            self.progress.set_paused(false);
        }
    }

    /// Says so, and waits before the next try.
    async fn failed(&mut self, error: &ProjectionError) {
        self.failures = self.failures.saturating_add(1);
        let name = self.projection.name();
        if self.failures == self.config.tries_before_paused {
            error!(%error, failures = self.failures, "{name} is paused; it goes on trying");
            self.progress.set_paused(true);
        } else {
            warn!(%error, failures = self.failures, "{name} failed; trying again");
        }
        let doubled = 1u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait: Duration = self.config.retry_first_ms.duration().saturating_mul(doubled);
        sleep(wait.min(self.config.retry_max_ms.duration())).await;
    }
}

/// What to try after a part could not be written, the last of these first: halves where less at a time may help.
fn smaller(part: Vec<Slice>, divides: bool) -> Vec<Vec<Slice>> {
    if !divides {
        return vec![part];
    }
    let (first, second) = halves(part);
    [second, first].into_iter().filter(|half| !half.is_empty()).collect()
}
