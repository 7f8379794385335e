//! A process's life: open everything in order, answer until told to stop, close everything in reverse order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::Utc;
use metrics::counter;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app::{App, Following, Writing};
use super::auth::Verifier;
use super::forward::Targets;
use super::guard::Admission;
use super::listen;
use super::router::router;
use crate::cache::Caches;
use crate::config::{Config, Settings};
use crate::db::{Database, Databases, DbError};
use crate::events::{EventStore, Feed, StartError, snapshots};
use crate::jobs;
use crate::objects::{self, Objects};
use crate::ota::ChannelManager;
use crate::partitioning::{self, PartitionError};
use crate::projections::{ProjectionError, Projections};
use crate::pubsub::{self, Hub};
use crate::resilience::RateLimit;
use crate::services::{self, Service};
use crate::telemetry::Metrics;

/// Time between two looks at which partitions there are.
const HORIZON: Duration = Duration::from_secs(60);

/// The services that keep objects, and so remove their leftovers.
const KEEPERS: [Service; 4] =
    [Service::Receipts, Service::GuestDocuments, Service::Tasks, Service::Branding];

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The primary is not there.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The partitions are not there.
    #[error(transparent)]
    Partitions(#[from] PartitionError),
    /// The event store cannot write.
    #[error(transparent)]
    EventStore(#[from] StartError),
    /// Whose objects are kept cannot be told.
    #[error("ask PostgreSQL which cluster it is: {0}")]
    Cluster(#[source] sqlx::Error),
    /// The projections cannot follow.
    #[error("start the projections: {0}")]
    Projections(#[from] ProjectionError),
    /// The client of other servers cannot be made.
    #[error("prepare to call other servers: {0}")]
    Client(#[from] reqwest::Error),
    /// The address is taken, or not ours.
    #[error(
        "listen on {address}: {source}\nhelp: set server.listen to a free address, or to port 0"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Serves `hosted` services until `stop` is cancelled and all that was in flight is answered, written and projected.
/// `listening` is told the address as soon as requests are accepted.
///
/// # Errors
/// When something that the services need is missing at the start.
pub async fn serve(
    settings: &Settings,
    secret: &SecretString,
    hosted: &[Service],
    metrics: Metrics,
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let snapshot = settings.current();
    let config = &snapshot.config;
    let app = open(config, secret, hosted, metrics.clone()).await?;
    let live = Arc::clone(&app);
    settings.on_change(move |config| live.retune(config));
    let upkeep = TaskTracker::new();
    let closing = CancellationToken::new();
    let interval = config.monitoring.upkeep_interval_ms.duration();
    upkeep.spawn(metrics.upkeep(interval, closing.clone()));
    upkeep.spawn(tend(Arc::clone(&app), interval, closing.clone()));
    if let Some(Writing { store }) = &app.writing {
        let events = store.subscribe(&app.databases, store.feed().heads());
        let settings = config.snapshots.clone();
        let snapshots = snapshots::follow(app.databases.clone(), events, settings, closing.clone());
        upkeep.spawn(snapshots);
    }
    let together = services::load_together(Arc::clone(&app));
    upkeep.spawn(closing.clone().run_until_cancelled_owned(together));
    let warm = services::warm(Arc::clone(&app), hosted.to_vec(), config.cache.warm_first_pages);
    upkeep.spawn(closing.clone().run_until_cancelled_owned(warm));
    let (first_pages, at_once) = (config.cache.warm_first_pages, config.cache.warm_at_once);
    let listed = services::warm_listed(Arc::clone(&app), hosted.to_vec(), first_pages, at_once);
    upkeep.spawn(closing.clone().run_until_cancelled_owned(listed));
    if hosted.contains(&Service::Orgs) {
        let pause = config.following.interval_ms.duration();
        let following = services::follow_org_changes(Arc::clone(&app), pause);
        upkeep.spawn(closing.clone().run_until_cancelled_owned(following));
    }
    // Ends at the first moment of a stop: a run that is given back is taken over the sooner.
    let jobs_stop = stop.child_token();
    upkeep.spawn(jobs::run_schedules(Arc::clone(&app), jobs_stop.clone()));
    let subscriptions = pubsub::begin(&app, &config.pubsub, &stop);
    let live = subscriptions.clone();
    settings.on_change(move |config| live.retune(&config.pubsub));
    subscriptions.retune(&settings.current().config.pubsub);
    if hosted.iter().any(|service| KEEPERS.contains(service)) {
        let app = Arc::clone(&app);
        let sweeping = async move { objects::sweeping(&app.objects, &app.databases).await };
        upkeep.spawn(closing.clone().run_until_cancelled_owned(sweeping));
    }

    let served = answer(Arc::clone(&app), config.server.listen, hosted, stop, listening).await;

    jobs_stop.cancel();
    subscriptions.stop().await;
    if let Some(writing) = &app.writing {
        writing.store.stop().await;
    }
    if let Some(following) = &app.following {
        following.projections.stop().await;
    }
    closing.cancel();
    upkeep.close();
    upkeep.wait().await;
    app.databases.close().await;
    served
}

/// One process's state, ready to answer; what [`serve`] does before it listens.
pub(crate) async fn open(
    config: &Config,
    secret: &SecretString,
    hosted: &[Service],
    metrics: Metrics,
) -> Result<Arc<App>, ServeError> {
    let databases = Databases::connect(&config.database).await?;
    let today = Utc::now().date_naive();
    let kept = config.partitions.retention_months;
    let horizon = partitioning::horizon(databases.write(Database::Finance), today, kept).await?;
    let caches = Arc::new(Caches::new(&config.cache));
    let (writing, following) = take_part(config, hosted, &databases, &caches).await?;
    let keeps = hosted.iter().any(|service| KEEPERS.contains(service));
    let cluster = if keeps { Some(objects::cluster(&databases).await) } else { None };
    let cluster = cluster.transpose().map_err(ServeError::Cluster)?;
    Ok(Arc::new(App {
        settings: ArcSwap::from_pointee(config.server.clone()),
        admission: Arc::new(Admission::new(config)),
        config: Arc::new(config.clone()),
        jobs: watch::Sender::new(config.jobs.clone()),
        verifier: Verifier::new(secret, config.auth.leeway_seconds),
        databases,
        caches,
        objects: Objects::new(&config.objects).of_cluster(cluster),
        writing,
        following,
        horizon: ArcSwap::from_pointee(horizon),
        partitions: config.partitions.clone(),
        metrics,
        realtime: Arc::new(Hub::new(&config.pubsub.realtime)),
        hosted: hosted.to_vec(),
        rate_limit: RateLimit::new(config.resilience.rate_limit),
        bulkheads: config.resilience.bulkheads.clone(),
        targets: Targets::new(config)?,
        channel_manager: ChannelManager::new(&config.ota)?,
        cache_reads: counter!("backend_reads_total",
            "source" => "cache", "server" => "cache", "reason" => "none"),
    }))
}

/// Starts to write events and project them, or to follow who does, as the hosted services need.
async fn take_part(
    config: &Config,
    hosted: &[Service],
    databases: &Databases,
    caches: &Arc<Caches>,
) -> Result<(Option<Writing>, Option<Following>), ServeError> {
    let appends = hosted.iter().any(|service| service.appends_events());
    let observer = Arc::new(pubsub::Counted::new(Arc::clone(caches) as _, appends));
    if appends {
        let store = EventStore::start(databases, &config.event_store).await?;
        let projections = Projections::start(databases, &store, config, observer).await?;
        let feed = Arc::clone(store.feed());
        return Ok((Some(Writing { store }), Some(Following { feed, projections })));
    }
    if !hosted.iter().any(|service| service.shows_events()) {
        return Ok((None, None));
    }
    let feed = Feed::of_store(databases).await.map_err(ProjectionError::from)?;
    let feed = Arc::new(feed);
    let projections = Projections::watch(databases, &feed, config, observer).await?;
    Ok((None, Some(Following { feed, projections })))
}

/// Accepts and answers until told to stop; then gives what is in flight a bounded time.
async fn answer(
    app: Arc<App>,
    address: SocketAddr,
    hosted: &[Service],
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let refused = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let settings = app.settings.load_full();
    let drain = settings.drain_timeout_ms.duration();
    let routes = router(app, hosted, &stop);
    let serving = listen::serve(listener, routes, &settings, stop.clone());
    listening(bound);
    tokio::select! {
        () = serving => Ok(()),
        () = async { stop.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!(after_ms = drain.as_millis(), "requests still in flight were cut off");
            Ok(())
        }
    }
}

/// Upkeep of the caches, of the rate limit and of the days that can be booked.
async fn tend(app: Arc<App>, interval: Duration, stop: CancellationToken) {
    let mut caches = tokio::time::interval(interval);
    let mut horizon = tokio::time::interval(HORIZON);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = caches.tick() => {
                app.caches.tend().await;
                app.rate_limit.tend();
            }
            _ = horizon.tick() => {
                if let Err(error) = look_at_partitions(&app).await {
                    tracing::warn!(%error, "the partitions could not be read");
                }
            }
        }
    }
}

async fn look_at_partitions(app: &App) -> Result<(), PartitionError> {
    let (finance, today) = (app.databases.write(Database::Finance), Utc::now().date_naive());
    let found = partitioning::horizon(finance, today, app.partitions.retention_months).await?;
    app.horizon.store(Arc::new(found));
    partitioning::status(finance).await?.publish(today);
    Ok(())
}
