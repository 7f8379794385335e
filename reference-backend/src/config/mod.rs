//! One typed tree of settings: embedded `default.toml` < a file < the environment (`BACKEND__SECTION__SETTING`).
//! Checked whole; all problems are reported at once.

mod following;
mod jobs;
mod load;
mod objects;
mod pubsub;
mod settings;
mod snapshots;

pub use following::Following;
pub use jobs::{JobTiming, Jobs};
pub use load::{ConfigError, token_secret_from_env};
pub use objects::{BytesMax, ObjectStoreKind, Objects, S3};
pub use pubsub::{Delivery, DeliveryOverride, PubSub, Realtime};
pub use settings::{
    Auth, Cache, CacheNamespace, Config, Database, Endpoint, EventStore, Logs, Millis, Partitions,
    Pools, Projections, ReplicaEndpoint, Replicas, Server,
};
pub use snapshots::Snapshots;
