//! One typed tree of settings: embedded `default.toml` < the overlay of the environment < a file < variables
//! (`BACKEND__SECTION__SETTING`). Checked whole; all problems are reported at once, each with its origin.

mod environment;
mod features;
mod following;
mod jobs;
mod live;
mod load;
mod monitoring;
mod objects;
mod ota;
mod partitions;
mod pools;
mod pubsub;
mod read;
mod replicas;
mod resilience;
mod services;
mod settings;
mod show;
mod snapshots;
mod sources;

pub use environment::{Environment, UnknownEnvironment};
pub use features::Features;
pub use following::Following;
pub use jobs::{JobTiming, Jobs};
pub use live::{ReloadError, Settings, Snapshot};
pub use load::{ConfigError, token_secret_from_env};
pub use monitoring::Monitoring;
pub use objects::{BytesMax, ObjectStoreKind, Objects, S3};
pub use ota::Ota;
pub use partitions::Partitions;
pub use pools::{PoolOverrides, Pools};
pub(crate) use pubsub::HEARTBEAT_MAX;
pub use pubsub::{Delivery, DeliveryOverride, PubSub, Realtime};
pub use replicas::Replicas;
pub use resilience::{Breaker, Bulkheads, Dependency, RateLimit, Resilience, Retry};
pub use services::{BaseUrl, NotABaseUrl, Services};
pub use settings::{
    Auth, Cache, CacheNamespace, Config, Database, Endpoint, EventStore, Logs, Millis, Projections,
    ReplicaEndpoint, Server,
};
pub use snapshots::Snapshots;
pub use sources::Sources;
