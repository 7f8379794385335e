//! Keeps in step with a projection that another process writes: looks at its checkpoint, and tells what lies before it.
//!
//! What the caches are told comes from the events, as in the process that writes, but only up to the checkpoint; so a value that
//! is brought up to date in memory is never ahead of one that is loaded. Events that the projection set aside are left out here too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::checkpoint::{self, Checkpoint, Epochs, Look};
use super::progress::Progress;
use super::{Observer, Projection, ProjectionError};
use crate::db::Databases;
use crate::events::{Positions, Shard, Slice, Subscription};

/// Most events taken at a time.
const TAKE_EVENTS: usize = 5_000;

pub(super) struct Watcher {
    projection: Projection,
    db: Databases,
    subscription: Subscription,
    /// Committed, but beyond the checkpoint when last looked at.
    pending: VecDeque<Slice>,
    /// Up to where `observer` has been told.
    told: Positions,
    epochs: Epochs,
    progress: Arc<Progress>,
    observer: Arc<dyn Observer>,
    events: Counter,
    failures: Counter,
}

impl Watcher {
    /// `subscription` goes on from where `begun` stands, which `observer` has been told of.
    pub(super) fn new(
        db: &Databases,
        subscription: Subscription,
        begun: Checkpoint,
        (progress, observer): (Arc<Progress>, Arc<dyn Observer>),
    ) -> Self {
        let projection = progress.projection;
        let name = projection.name();
        Self {
            projection,
            db: db.clone(),
            subscription,
            pending: VecDeque::new(),
            told: begun.positions,
            epochs: begun.epochs,
            progress,
            observer,
            events: counter!("backend_projection_followed_events_total", "projection" => name),
            failures: counter!("backend_projection_look_failures_total", "projection" => name),
        }
    }

    /// Looks until told to stop.
    pub(super) async fn run(mut self, pause: Duration, stop: CancellationToken) {
        let mut tick = interval(pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.look().await {
                Ok(()) => self.progress.looked(),
                Err(error) => {
                    warn!(%error, "{} could not be followed", self.projection.name());
                    self.failures.increment(1);
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), ProjectionError> {
        let pool = self.db.write(self.projection.database());
        let found = checkpoint::look(pool, self.projection, &self.told).await?;
        let Checkpoint { positions, epochs } = found.checkpoint;
        tell_corrections(self.observer.as_ref(), self.projection, &mut self.epochs, epochs);
        if positions.iter().zip(&self.told).any(|(found, told)| found < told) {
            self.begin_again(positions);
        }
        let caught_up = self.catch_up(&found).await;
        // Also where one shard fails: whoever waits for another's event has it.
        self.progress.committed(self.told, found.lsn);
        caught_up
    }

    /// Tells all that lies before the checkpoint.
    async fn catch_up(&mut self, found: &Look) -> Result<(), ProjectionError> {
        let positions = found.checkpoint.positions;
        while self.told.iter().zip(&positions).any(|(told, found)| told < found) {
            let taken = match self.subscription.take_up_to(positions, TAKE_EVENTS).await {
                Err(error) if error.lies_in_an_event() => {
                    error!(%error, "{} passes over events that cannot be read", self.projection.name());
                    self.failures.increment(1);
                    self.pass_over(positions);
                    return Ok(());
                }
                taken => taken?,
            };
            if taken.is_empty() && self.pending.is_empty() {
                // The checkpoint is ahead of the store, which was set back: the events may come yet.
                return Err(ProjectionError::Moved);
            }
            self.pending.extend(taken);
            self.tell_pending(found).await;
        }
        Ok(())
    }

    /// Goes on from the checkpoint where events before it cannot be told: the tables hold them, and what is held in memory of
    /// their shards is loaded from there again, as after an event that was set aside.
    fn pass_over(&mut self, positions: Positions) {
        for shard in Shard::all() {
            let position = positions[shard.index()];
            if self.told[shard.index()] < position {
                self.observer.begin(self.projection, shard, position);
            }
        }
        self.subscription.seek(positions);
        self.pending.clear();
        self.told = positions;
    }

    /// Tells what lies before the checkpoint, and keeps the rest.
    async fn tell_pending(&mut self, found: &Look) {
        for slice in std::mem::take(&mut self.pending) {
            let shard = slice.shard();
            let (reached, beyond) = slice.split_after(found.checkpoint.positions[shard.index()]);
            self.pending.extend(beyond);
            if let Some(slice) = reached {
                self.tell(&slice, found).await;
                self.told[shard.index()] = slice.last_position();
            }
        }
    }

    async fn tell(&self, slice: &Slice, found: &Look) {
        let shard = slice.shard();
        let set_aside = |position| found.set_aside.contains(&(shard, position));
        for run in slice
            .events()
            .chunk_by(|event, next| set_aside(event.position) == set_aside(next.position))
        {
            let Some(last) = run.last() else { continue };
            if set_aside(last.position) {
                self.observer.begin(self.projection, shard, last.position);
            } else {
                self.observer.committed(self.projection, shard, run).await;
                self.events.increment(run.len() as u64);
            }
        }
    }

    /// The tables have lost what was in them: a server restored, or the projection begun anew.
    fn begin_again(&mut self, positions: Positions) {
        error!(from = ?self.told, to = ?positions, "checkpoint of {} went back", self.projection.name());
        self.subscription.seek(positions);
        self.pending.clear();
        self.told = positions;
        self.progress.went_back(positions);
        for shard in Shard::all() {
            self.observer.begin(self.projection, shard, positions[shard.index()]);
        }
    }
}

/// Tells of each shard whose epoch is another than it was.
fn tell_corrections(
    observer: &dyn Observer,
    projection: Projection,
    known: &mut Epochs,
    found: Epochs,
) {
    for shard in Shard::all().filter(|shard| known[shard.index()] != found[shard.index()]) {
        observer.corrected(projection, shard, found[shard.index()]);
        counter!("backend_projection_corrections_total", "projection" => projection.name())
            .increment(1);
    }
    *known = found;
}

/// In the process that writes a projection: tells when its rows were written otherwise, which its own writing does not show.
pub(super) async fn watch_epochs(
    db: Databases,
    projection: Projection,
    mut known: Epochs,
    observer: Arc<dyn Observer>,
    pause: Duration,
    stop: CancellationToken,
) {
    let mut tick = interval(pause);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        // A failed look is made good by the next; the projection itself says when its database is gone.
        if let Ok(found) = checkpoint::read(db.write(projection.database()), projection).await {
            tell_corrections(observer.as_ref(), projection, &mut known, found.epochs);
        }
    }
}
