//! What handlers share: the checks, the caches, the databases, the event store; and the one way a read takes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::Counter;
use tokio::sync::watch;

use super::auth::Verifier;
use super::extract::Consistency;
use super::forward::Targets;
use super::guard::Admission;
use super::problem::Problem;
use super::reply::Reply;
use crate::cache::{Caches, Live, LiveCache, LiveError, Loaded, Lookup};
use crate::config::{self, Config};
use crate::db::{Database, Databases, Freshness};
use crate::domain::OrgId;
use crate::events::{ConsistencyToken, EventStore, Feed, ReadError, Shard, is_committed};
use crate::objects::Objects;
use crate::ota::ChannelManager;
use crate::partitioning::Horizon;
use crate::projections::{Projection, Projections};
use crate::pubsub::Hub;
use crate::resilience::RateLimit;
use crate::services::Service;
use crate::telemetry::{Metrics, set_log_filter};

/// One process's state.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: ArcSwap<config::Server>,
    /// As at the start.
    pub(crate) config: Arc<Config>,
    /// In force now; who waits for the next instant of a job is told of a change.
    pub(crate) jobs: watch::Sender<config::Jobs>,
    /// Room for requests.
    pub(super) admission: Arc<Admission>,
    pub(crate) verifier: Verifier,
    pub(crate) databases: Databases,
    pub(crate) caches: Arc<Caches>,
    pub(crate) objects: Objects,
    /// None where no service that writes is hosted.
    pub(crate) writing: Option<Writing>,
    /// None where no service that shows what events lead to is hosted.
    pub(crate) following: Option<Following>,
    /// The days that entries may be booked on. Grows when partitions are made.
    pub(crate) horizon: ArcSwap<Horizon>,
    pub(crate) partitions: config::Partitions,
    pub(crate) metrics: Metrics,
    /// Streams of browsers.
    pub(crate) realtime: Arc<Hub>,
    /// The services whose routes this process answers.
    pub(crate) hosted: Vec<Service>,
    pub(crate) rate_limit: RateLimit,
    /// Room per service.
    pub(super) bulkheads: config::Bulkheads,
    pub(crate) targets: Targets,
    /// None where none is configured.
    pub(crate) channel_manager: Option<ChannelManager>,
    pub(super) cache_reads: Counter,
}

/// The part that takes commands.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    pub(crate) store: EventStore,
}

/// The parts that know what is committed and projected, by this process or by another.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    pub(crate) feed: Arc<Feed>,
    pub(crate) projections: Projections,
}

impl App {
    /// Puts changed settings into force: those that are marked live in `config/default.toml`.
    pub(super) fn retune(&self, config: &Config) {
        self.settings.store(Arc::new(config.server.clone()));
        self.admission.retune(config);
        self.rate_limit.retune(config.resilience.rate_limit);
        self.databases.retune(&config.database.replica_choice, config.features.use_read_replicas);
        self.caches.retune(&config.cache);
        self.jobs.send_replace(config.jobs.clone());
        set_log_filter(&config.logs.filter);
    }

    /// A read of a projected value: cache → replica → primary. Where this process does not follow the events, or not
    /// now, it cannot keep the cache true, and so asks a server each time.
    pub(crate) async fn cached<L, F>(
        &self,
        cache: &LiveCache<L>,
        org: OrgId,
        consistency: Consistency,
        view: L::View,
        load: impl Fn(Freshness) -> F,
    ) -> Result<Reply, Problem>
    where
        L: Live,
        F: Future<Output = sqlx::Result<Loaded<L>>> + Send,
    {
        let reply = self.cached_if_kept(cache, org, consistency, view, load).await?;
        reply.ok_or_else(|| Problem::not_found("the organisation has no such thing"))
    }

    /// [`App::cached`], or nothing where the cache keeps no such answer.
    pub(crate) async fn cached_if_kept<L, F>(
        &self,
        cache: &LiveCache<L>,
        org: OrgId,
        consistency: Consistency,
        view: L::View,
        load: impl Fn(Freshness) -> F,
    ) -> Result<Option<Reply>, Problem>
    where
        L: Live,
        F: Future<Output = sqlx::Result<Loaded<L>>> + Send,
    {
        let freshness = self.as_of(org, cache.projection(), consistency).await?;
        let follows = self.follows(cache.projection());
        let (body, lookup, from) = if follows {
            // What the token names has been taken in by the caches, so a value of any age will do: it is brought up to date.
            let answer = cache.read(org, view, load).await?;
            (answer.body, answer.lookup, answer.from)
        } else {
            let loaded = load(freshness).await?;
            (loaded.value.render(view), Lookup::Miss, loaded.from)
        };
        Ok(body.map(|body| Reply { body, from: self.answered(lookup, from) }))
    }

    /// Whether the caches are told what becomes of a projection. Not while the leases are gone: another process may write.
    fn follows(&self, projection: Projection) -> bool {
        let holds_leases = self.writing.as_ref().is_none_or(|writing| writing.store.leases_held());
        holds_leases
            && self.following.as_ref().is_some_and(|f| f.projections.is_current(projection))
    }

    /// Who answered; a hit is counted, because a statement counts itself where it runs.
    pub(crate) fn answered(&self, lookup: Lookup, loaded_from: &'static str) -> &'static str {
        if lookup == Lookup::Hit {
            self.cache_reads.increment(1);
            "cache"
        } else {
            loaded_from
        }
    }

    /// What a server must have for a read of a projection to show the client's write; waits for the projection.
    pub(crate) async fn as_of(
        &self,
        org: OrgId,
        projection: Projection,
        consistency: Consistency,
    ) -> Result<Freshness, Problem> {
        let Consistency(Some(token)) = consistency else { return Ok(Freshness::Any) };
        let following = self.following.as_ref().ok_or_else(|| {
            Problem::unavailable("this process does not follow the writes; leave the token out")
        })?;
        // Who waits holds room that others need: nobody waits for a write that was never made.
        if !self.was_given(following, org, token).await? {
            return Err(Problem::malformed(
                "the header X-Consistency-Token is not one that a write of this organisation gave",
            ));
        }
        let wait = self.settings.load().read_your_writes_wait_ms.duration();
        match following.projections.wait_projected(projection, token, wait).await {
            Some(lsn) => Ok(Freshness::AtLeast(lsn)),
            None => Err(Problem::unavailable("the write of the token is not yet projected")),
        }
    }
}

impl App {
    /// Whether a token names a write of an organisation. What another process has written lately is asked of the store.
    async fn was_given(
        &self,
        following: &Following,
        org: OrgId,
        token: ConsistencyToken,
    ) -> Result<bool, Problem> {
        if token.shard != Shard::of(org) {
            return Ok(false);
        }
        if token.position <= following.feed.heads()[token.shard.index()] {
            return Ok(true);
        }
        if self.writing.as_ref().is_some_and(|writing| writing.store.leases_held()) {
            return Ok(false);
        }
        Ok(is_committed(self.databases.write(Database::EventStore), token).await?)
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&sqlx::Error> for Problem {
    fn from(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed => {
                tracing::warn!(%error, "a database could not be reached");
                let problem = Self::unavailable("a database could not be reached in time");
                // Without a connection no statement was sent; one that broke may have carried it.
                if matches!(error, sqlx::Error::Io(_)) { problem } else { problem.before_all() }
            }
            _ => {
                tracing::error!(%error, "a statement failed");
                Self::internal()
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Sql(error) => Self::from(error),
            error => {
                tracing::error!(%error, "events could not be read");
                Self::internal()
            }
        }
    }
}

impl From<LiveError<sqlx::Error>> for Problem {
    fn from(error: LiveError<sqlx::Error>) -> Self {
        match error {
            LiveError::Load(error) => Self::from(&*error),
            LiveError::Outrun => Self::unavailable("the events outran the read"),
        }
    }
}
