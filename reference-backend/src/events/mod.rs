//! The event store: one writer per shard, acknowledged after the commit, followed from memory.
//!
//! A shard is a fixed function of the organisation. Its appender, which may have more than one, holds a lease (a session advisory lock on the
//! very connection it writes with), assigns versions and positions in memory, and writes a batch as one statement: one
//! transaction, one round trip, one batch in flight. So positions are gapless, and a position at or below the highest committed one can never
//! appear later. The primary key stays the arbiter: nothing here is ever written with `ON CONFLICT DO NOTHING`.

mod account;
mod appender;
mod feed;
mod plan;
mod read;
mod remote;
mod shard;
mod snapshot_rows;
pub mod snapshots;
mod store;
mod token;
mod writer;

pub use account::{Loaded, Snapshot, load_account, load_account_at, read_snapshot};
pub(crate) use feed::{Feed, Positions, Slice, Subscription, halves};
pub use read::{ReadError, read_events};
pub(crate) use read::{
    events_of, first_recorded_after, read_event, read_organisations, read_shard,
};
pub(crate) use remote::is_committed;
pub use shard::Shard;
pub use store::{AppendError, Appended, EventStore, StartError};
pub use token::{ConsistencyToken, TokenError};
