//! One typed tree of settings: embedded `default.toml` < a file < the environment (`BACKEND__SECTION__SETTING`).
//! Checked whole; all problems are reported at once.

mod load;
mod partitions;
mod replicas;
mod settings;

pub use load::{ConfigError, token_secret_from_env};
pub use partitions::Partitions;
pub use replicas::Replicas;
pub use settings::{
    Auth, Cache, CacheNamespace, Config, Database, Endpoint, EventStore, Logs, Millis, Pools,
    Projections, ReplicaEndpoint, Server,
};
