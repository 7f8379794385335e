//! The task of one projection: takes events, writes what they add, moves the checkpoint; tries again until it works.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::progress::Progress;
use super::{Observer, Projection, ProjectionError, checkpoint, finance, summary};
use crate::config;
use crate::db::{Databases, Lsn};
use crate::domain::RecordedEvent;
use crate::events::{Positions, Slice, Subscription};

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
    stop: CancellationToken,
    /// Failed tries in a row.
    failures: u32,
    events: Counter,
    seconds: Histogram,
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
        config: &config::Projections,
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
            config: config.clone(),
            stop,
            failures: 0,
            events: counter!("backend_projection_events_total", "projection" => projection.name()),
            seconds: histogram!("backend_db_query_duration_seconds", "database" => database, "kind" => "project"),
        }
    }

    /// Works until told to stop and all that was committed is projected.
    pub(super) async fn run(mut self) {
        loop {
            let next_batch = Instant::now() + self.config.interval_ms.duration();
            match self.subscription.next(self.config.batch_events_max, &self.stop).await {
                Ok(slices) if slices.is_empty() => return,
                Ok(slices) => self.project(&slices).await,
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

    /// Projects a batch, however many tries it takes; then tells those who follow.
    async fn project(&mut self, slices: &[Slice]) {
        while !self.gives_up() {
            match self.write(slices).await {
                Ok(lsn) => {
                    for slice in slices {
                        let told =
                            self.observer.committed(self.projection, slice.shard(), slice.events());
                        told.await;
                    }
                    self.told = checkpoint::after(self.told, slices);
                    self.progress.committed(self.told, lsn);
                    return self.succeeded();
                }
                Err(ProjectionError::Moved) => match self.find_checkpoint().await {
                    Ok(Moved::Forward) => {}
                    Ok(Moved::Back) => return,
                    Err(error) => self.failed(&error).await,
                },
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// Writes those events of a batch that are after the checkpoint; returns a place in the log at or after their commit.
    async fn write(&mut self, slices: &[Slice]) -> Result<Lsn, ProjectionError> {
        let events: Vec<&RecordedEvent> = slices
            .iter()
            .flat_map(|slice| {
                let written = self.positions[slice.shard().index()];
                slice.events().iter().filter(move |event| event.position > written)
            })
            .collect();
        if events.is_empty() {
            return Ok(checkpoint::flushed(self.db.write(self.projection.database())).await?);
        }
        let to = checkpoint::after(self.positions, slices);
        let start = Instant::now();
        let limit = self.config.transaction_timeout_ms.duration();
        let result = timeout(limit, self.transaction(&events, &to)).await;
        let lsn = result.unwrap_or(Err(ProjectionError::Timeout))?;
        self.seconds.record(start.elapsed().as_secs_f64());
        self.events.increment(events.len() as u64);
        self.positions = to;
        Ok(lsn)
    }

    /// Rows and checkpoint, both or neither; returns a place in the log at or after its commit.
    async fn transaction(
        &mut self,
        events: &[&RecordedEvent],
        to: &Positions,
    ) -> Result<Lsn, ProjectionError> {
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
        match self.projection {
            Projection::Finance => finance::write(&mut transaction, events).await?,
            Projection::FinanceSummary => summary::write(&mut transaction, events).await?,
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
        let found = checkpoint::read(pool, self.projection).await?;
        let back = found.iter().zip(&self.positions).any(|(found, before)| found < before);
        warn!(from = ?self.positions, to = ?found, "checkpoint of {} has moved", self.projection.name());
        self.positions = found;
        if back {
            self.subscription.seek(found);
            self.told = found;
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
            error!(%error, failures = self.failures, "{name} is paused; it tries again, and skips nothing");
            self.progress.set_paused(true);
        } else {
            warn!(%error, failures = self.failures, "{name} failed; trying again");
        }
        let doubled = 1u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait: Duration = self.config.retry_first_ms.duration().saturating_mul(doubled);
        sleep(wait.min(self.config.retry_max_ms.duration())).await;
    }
}
