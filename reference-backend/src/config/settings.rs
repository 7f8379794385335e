//! The settings, by section. What each means and which values are sensible stands in `config/default.toml`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Environment, Features, Following, Jobs, Monitoring, Partitions, Pools, PubSub, Replicas,
    Snapshots,
};

/// A span of time in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// As the standard library's type.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// All settings.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where the program runs.
    pub environment: Environment,
    /// How requests are taken in.
    pub server: Server,
    /// Bearer tokens.
    pub auth: Auth,
    /// Logs.
    pub logs: Logs,
    /// How the process watches itself.
    pub monitoring: Monitoring,
    /// Parts that can be switched off whole.
    pub features: Features,
    /// PostgreSQL servers, pools and the choice between them.
    pub database: Database,
    /// The event store's writers.
    pub event_store: EventStore,
    /// Snapshots of cash accounts.
    pub snapshots: Snapshots,
    /// The followers of the event store.
    pub projections: Projections,
    /// How a process follows what others write.
    pub following: Following,
    /// Monthly partitions.
    pub partitions: Partitions,
    /// Caches in front of the databases.
    pub cache: Cache,
    /// Scheduled jobs.
    pub jobs: Jobs,
    /// Topics and their subscriptions.
    pub pubsub: PubSub,
    /// Where objects are kept.
    pub objects: super::Objects,
    /// Where the services are that this process does not host.
    pub services: super::Services,
    /// Limits of what comes in, and of what goes out.
    pub resilience: super::Resilience,
    /// The exchange with the outside channel manager.
    pub ota: super::Ota,
}

/// How requests are taken in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Longest time for one request.
    pub request_timeout_ms: Millis,
    /// Requests worked on at a time; more are shed.
    pub in_flight_max: usize,
    /// Open connections; more are closed at once.
    pub connections_max: usize,
    /// Longest wait for a request's head.
    pub head_timeout_ms: Millis,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Whether nobody else can listen in on the network that requests and statements cross.
    pub trusted_network: bool,
    /// Longest wait for requests in flight at shutdown.
    pub drain_timeout_ms: Millis,
    /// Longest wait for a projection to reach a consistency token.
    pub read_your_writes_wait_ms: Millis,
}

/// Bearer tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Tolerated difference between clocks when a token expires, in seconds.
    pub leeway_seconds: u64,
}

/// Logs, written to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// A `tracing` filter, like `info,sqlx=warn`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

impl Logs {
    pub(super) fn problems(&self) -> Vec<String> {
        let parsed = tracing_subscriber::EnvFilter::try_new(&self.filter);
        let refused = |error| format!("logs.filter = {:?}: {error}", self.filter);
        parsed.err().map(refused).into_iter().collect()
    }
}

/// PostgreSQL servers, pools and the choice between them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Superuser of the cluster; used by `migrate` alone.
    pub admin_user: String,
    /// The server that takes writes.
    pub primary: Endpoint,
    /// Servers that follow it and answer reads.
    pub replicas: Vec<ReplicaEndpoint>,
    /// Pools of connections.
    pub pools: Pools,
    /// When a replica may answer.
    pub replica_choice: Replicas,
}

/// Where a PostgreSQL server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// A host name, or a directory that holds the Unix socket.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
}

/// A replica and its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaEndpoint {
    /// Its name in metrics and answers.
    pub name: String,
    /// A host name, or a directory that holds the Unix socket.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
}

/// The event store's writers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventStore {
    /// Appenders, which share the eight shards.
    pub appenders: usize,
    /// Commands that may wait per appender; more are shed.
    pub queue_commands: usize,
    /// Most commands written by one statement.
    pub batch_commands_max: usize,
    /// Shortest time between the starts of two batches of an appender.
    pub batch_interval_ms: Millis,
    /// Longest run of one statement before its outcome counts as unknown.
    pub statement_timeout_ms: Millis,
    /// Longest wait for a shard's lease at start, and for a lost connection to come back.
    pub lease_wait_ms: Millis,
    /// Aggregates per appender whose version is remembered.
    pub heads_cached: u64,
    /// Commands per appender whose answer is remembered.
    pub answers_cached: u64,
    /// Batches that may wait for one subscriber before it has to catch up from the store.
    pub feed_batches: usize,
}

/// The followers of the event store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projections {
    /// Shortest time between the starts of two transactions of a projection.
    pub interval_ms: Millis,
    /// Most events per transaction.
    pub batch_events_max: usize,
    /// Longest run of one transaction.
    pub transaction_timeout_ms: Millis,
    /// First wait after a failed transaction; doubles up to `retry_max_ms`.
    pub retry_first_ms: Millis,
    /// Longest wait between two tries.
    pub retry_max_ms: Millis,
    /// Longest time for all projections to catch up with the store at shutdown.
    pub drain_timeout_ms: Millis,
    /// Failed tries before the projection shows as paused.
    pub tries_before_paused: u32,
}

/// Caches in front of the databases.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Organisations.
    pub organisations: CacheNamespace,
    /// Which properties an organisation has.
    pub properties: CacheNamespace,
    /// Finance summaries.
    pub summaries: CacheNamespace,
    /// Cash positions and balances.
    pub cash: CacheNamespace,
    /// Profit and loss of the last months.
    pub profit_and_loss: CacheNamespace,
    /// First pages of revenues, and of expenses: one namespace each.
    pub first_pages: CacheNamespace,
    /// Events per shard and projection kept to bring loaded values up to date.
    pub recent_events: usize,
    /// From one batch of misses to the next.
    pub miss_gather_ms: Millis,
    /// Batches of organisations warmed at once after a first miss; 0 warms none.
    pub warm_at_once: usize,
    /// From one batch of them to the next.
    pub warm_gather_ms: Millis,
    /// Organisations that may wait to be warmed.
    pub warm_queue: usize,
    /// Whether warming loads the first pages of revenues and expenses too.
    pub warm_first_pages: bool,
}

/// One cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheNamespace {
    /// Most entries kept.
    pub entries: u64,
    /// Time until an entry is loaded again.
    pub ttl_ms: Millis,
    /// Time that "there is no such thing" is remembered.
    pub negative_ttl_ms: Millis,
}
