//! Followers of the event store: `finance` (entries and daily balances) and `finance-summary` (read models).
//!
//! Each is one task over all shards. Rows and checkpoint move in one transaction, and only from the position the checkpoint
//! had, so that each event counts exactly once. A projection that fails tries again and shows; it never skips an event.

mod balances;
mod checkpoint;
mod finance;
mod follower;
mod name;
mod observer;
mod progress;
mod run;
mod summary;

pub use checkpoint::ProjectionError;
pub use name::Projection;
pub use observer::Observer;
pub use run::Projections;
