//! Starts and stops the projections, and answers who waits for one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::follower::Follower;
use super::progress::Progress;
use super::{Observer, Projection, ProjectionError, checkpoint};
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
    followers: TaskTracker,
    stop: CancellationToken,
}

impl Projections {
    /// Reads the checkpoints and starts to follow the store.
    pub async fn start(
        db: &Databases,
        events: &EventStore,
        config: &config::Projections,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ProjectionError> {
        let (followers, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut all = Vec::new();
        for projection in Projection::ALL {
            let progress = Arc::new(begin(db, projection).await?);
            note_backlog(db, events.feed(), &progress).await?;
            let subscription = events.subscribe(db, progress.positions());
            for shard in Shard::all() {
                observer.begin(projection, shard, progress.positions()[shard.index()]);
            }
            let told = (Arc::clone(&progress), Arc::clone(&observer));
            followers.spawn(Follower::new(db, subscription, told, config, stop.clone()).run());
            all.push(progress);
        }
        followers.close();
        let inner = Arc::new(Inner { progress: all, followers, stop });
        let (lag, feed) = (Arc::clone(&inner), Arc::clone(events.feed()));
        inner.followers.spawn(async move { lag.watch_lag(&feed).await });
        Ok(Self(inner))
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

    /// Projections that failed so often in a row that someone should look; they go on trying.
    pub fn paused(&self) -> Vec<Projection> {
        let paused = self.0.progress.iter().filter(|progress| progress.is_paused());
        paused.map(|progress| progress.projection).collect()
    }

    /// Projects all that the event store has acknowledged, then ends. Call after [`EventStore::stop`].
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.followers.wait().await;
    }
}

impl Inner {
    fn of(&self, projection: Projection) -> Option<&Progress> {
        self.progress.iter().find(|progress| progress.projection == projection).map(Arc::as_ref)
    }

    async fn watch_lag(&self, feed: &Feed) {
        let mut tick = tokio::time::interval(LAG_LOOK);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
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
}

async fn begin(db: &Databases, projection: Projection) -> Result<Progress, ProjectionError> {
    let pool = db.write(projection.database());
    let positions = checkpoint::read(pool, projection).await?;
    Ok(Progress::new(projection, positions, checkpoint::flushed(pool).await?))
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
