//! Starts and stops the projections of the process that writes them, or follows them in one that does not; answers who waits
//! for one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::checkpoint::{self, Checkpoint};
use super::follower::Follower;
use super::progress::Progress;
use super::watcher::{Watcher, watch_epochs};
use super::{Observer, Projection, ProjectionError};
use crate::config;
use crate::db::{Database, Databases, Lsn};
use crate::events::{ConsistencyToken, EventStore, Feed, Shard, first_recorded_after};

/// Time between two looks at how far behind each projection is.
const LAG_LOOK: Duration = Duration::from_millis(100);

/// The projections of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Projections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// In the order of [`Projection::ALL`].
    progress: Vec<Arc<Progress>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks where they are.
    abandon: CancellationToken,
    drain_timeout: Duration,
    stale_after: Duration,
}

impl Projections {
    /// Reads the checkpoints and starts to project what the store takes.
    pub async fn start(
        db: &Databases,
        events: &EventStore,
        config: &config::Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ProjectionError> {
        let mut inner = Inner::new(config);
        for projection in Projection::ALL {
            checkpoint::make(db.write(projection.database()), projection).await?;
            let (begun, progress) = begin(db, projection, observer.as_ref()).await?;
            note_backlog(db, events.feed(), &progress).await?;
            let subscription = events.subscribe(db, begun.positions);
            let told = (Arc::clone(&progress), Arc::clone(&observer));
            let stop = inner.stop.clone();
            let follower = Follower::new(db, subscription, told, config, stop.clone());
            inner.spawn(follower.run());
            let pause = config.following.interval_ms.duration();
            let observer = Arc::clone(&observer);
            inner.spawn(watch_epochs(db.clone(), projection, begun.epochs, observer, pause, stop));
            inner.progress.push(progress);
        }
        Ok(inner.watch_lag(Arc::clone(events.feed())))
    }

    /// Reads the checkpoints and keeps in step with the process that moves them. The feed need not be ahead of them.
    pub(crate) async fn watch(
        db: &Databases,
        feed: &Arc<Feed>,
        config: &config::Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ProjectionError> {
        let mut inner = Inner::new(config);
        let pause = config.following.interval_ms.duration();
        for projection in Projection::ALL {
            let (begun, progress) = begin(db, projection, observer.as_ref()).await?;
            let store = db.write(Database::EventStore).clone();
            let queue = config.event_store.feed_batches;
            let subscription = feed.subscribe(store, begun.positions, queue);
            let told = (Arc::clone(&progress), Arc::clone(&observer));
            let watcher = Watcher::new(db, subscription, begun, told);
            inner.spawn(watcher.run(pause, inner.stop.clone()));
            inner.progress.push(progress);
        }
        let (feed_of, db, stop) = (Arc::clone(feed), db.clone(), inner.stop.clone());
        inner.spawn(async move { feed_of.follow_store(&db, pause, &stop).await });
        Ok(inner.watch_lag(Arc::clone(feed)))
    }

    /// Waits until a projection has reached a token. The place in the log from which every server shows it, and the event
    /// itself too, since it was committed before; `None` when the time is up.
    pub async fn wait_projected(
        &self,
        projection: Projection,
        token: ConsistencyToken,
        timeout: Duration,
    ) -> Option<Lsn> {
        self.0.of(projection)?.wait(token, timeout).await
    }

    /// Whether what the observer was told of a projection is recent: always so where this process writes it.
    pub fn is_current(&self, projection: Projection) -> bool {
        self.0.of(projection).is_some_and(|progress| progress.is_current(self.0.stale_after))
    }

    /// Projections that failed so often in a row that someone should look; they go on trying.
    pub fn paused(&self) -> Vec<Projection> {
        let paused = self.0.progress.iter().filter(|progress| progress.is_paused());
        paused.map(|progress| progress.projection).collect()
    }

    /// Projects all that the event store has acknowledged, then ends; at the latest after the configured time, with what is
    /// missing left to the next start. Call after [`EventStore::stop`].
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(self.0.drain_timeout, self.0.tasks.wait()).await.is_err() {
            error!("the projections stop behind the store; they will go on from their checkpoints");
            self.0.abandon.cancel();
            self.0.tasks.wait().await;
        }
    }
}

impl Inner {
    fn new(config: &config::Config) -> Self {
        Self {
            progress: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            drain_timeout: config.projections.drain_timeout_ms.duration(),
            stale_after: config.following.stale_after_ms.duration(),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.abandon.clone().run_until_cancelled_owned(task));
    }

    fn of(&self, projection: Projection) -> Option<&Progress> {
        self.progress.iter().find(|progress| progress.projection == projection).map(Arc::as_ref)
    }

    fn watch_lag(self, feed: Arc<Feed>) -> Projections {
        let inner = Arc::new(self);
        let lag = Arc::clone(&inner);
        inner.spawn(async move {
            let mut tick = tokio::time::interval(LAG_LOOK);
            while lag.stop.run_until_cancelled(tick.tick()).await.is_some() {
                lag.publish_lag(&feed);
            }
        });
        Projections(inner)
    }

    fn publish_lag(&self, feed: &Feed) {
        for progress in &self.progress {
            progress.publish(feed);
        }
        for shard in Shard::all() {
            let positions = self.progress.iter().map(|p| p.positions()[shard.index()]);
            let position = positions.min().unwrap_or_default();
            feed.forget_ages(ConsistencyToken { shard, position });
        }
    }
}

/// Where a projection stands, which the observer is told.
async fn begin(
    db: &Databases,
    projection: Projection,
    observer: &dyn Observer,
) -> Result<(Checkpoint, Arc<Progress>), ProjectionError> {
    let pool = db.write(projection.database());
    let begun = checkpoint::read(pool, projection).await?;
    let progress = Progress::new(projection, begun.positions, checkpoint::flushed(pool).await?);
    for shard in Shard::all() {
        observer.begin(projection, shard, begun.positions[shard.index()]);
        observer.corrected(projection, shard, begun.epochs[shard.index()]);
    }
    Ok((begun, Arc::new(progress)))
}

/// Events from before this start are behind too: their age counts from when they were recorded.
async fn note_backlog(
    db: &Databases,
    feed: &Feed,
    progress: &Progress,
) -> Result<(), ProjectionError> {
    let (positions, heads) = (progress.positions(), feed.heads());
    for shard in Shard::all().filter(|shard| positions[shard.index()] < heads[shard.index()]) {
        let store = db.write(Database::EventStore);
        let oldest = first_recorded_after(store, shard, positions[shard.index()]).await?;
        if let Some(recorded_at) = oldest {
            feed.note_age(ConsistencyToken { shard, position: heads[shard.index()] }, recorded_at);
        }
    }
    Ok(())
}
