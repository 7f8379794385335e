//! Followers of the event store: `finance` (entries and daily balances) and `finance-summary` (read models).
//!
//! Each is one task over all shards. Rows and checkpoint move in one transaction, and only from the position the checkpoint
//! had, so that each event counts exactly once. A projection that fails tries again and shows. Only an event that breaks a rule of
//! the tables or a limit of the database, alone and not just in its batch, is set aside as a dead letter, counted and kept; no event is
//! dropped in silence.

mod accounts_at;
mod balances;
mod baseline;
mod booking;
mod caught_up;
mod checkpoint;
mod days;
mod dead_letter;
mod finance;
mod follower;
mod name;
mod observer;
mod progress;
mod rebuild;
mod rebuild_finance;
mod repair;
mod run;
mod summary;
mod watcher;

pub(crate) use accounts_at::{ACCOUNTS_AT, AccountAt, shards_of};
pub use booking::{Booking, booking};
pub(crate) use caught_up::books_caught_up;
pub use checkpoint::ProjectionError;
pub use name::{Projection, UnknownProjection};
pub use observer::Observer;
pub use rebuild::{Rebuilt, rebuild_summaries};
pub use rebuild_finance::{Corrected, rebuild_finance};
pub(crate) use repair::{RepairError, RepairKind, repair};
pub use run::Projections;
