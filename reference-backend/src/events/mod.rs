//! The event store: one writer per shard, acknowledged after the commit, followed from memory.
//!
//! A shard is a fixed function of the organisation. Its appender holds a lease (a session advisory lock on the very connection
//! it writes with), assigns versions and positions in memory, and writes a batch as one statement: one transaction, one
//! round trip, one batch in flight. So positions are gapless, and a position at or below the highest committed one can never
//! appear later. The primary key stays the arbiter: nothing here is ever written with `ON CONFLICT DO NOTHING`.

mod appender;
mod feed;
mod plan;
mod read;
mod shard;
mod store;
mod token;
mod writer;

pub(crate) use feed::{Feed, Positions, Slice, Subscription, halves};
pub use read::{Loaded, ReadError, load_account, read_events, snapshot_version};
pub(crate) use read::{events_of, first_recorded_after, read_event};
pub use shard::Shard;
pub use store::{AppendError, Appended, EventStore, StartError};
pub use token::{ConsistencyToken, TokenError};
