//! The public face of the event store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Counter, counter};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::appender::{Appender, Meters, Pending};
use super::feed::{Feed, Positions, Subscription};
use super::writer::{LeaseError, Writer};
use super::{ConsistencyToken, Shard};
use crate::config;
use crate::db::{Database, Databases};
use crate::domain::{Command, CommandId, PropertyId, Version};

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
    /// The command id was used before, for another property or with other content. Nothing was written.
    #[error("command {0} was used before, with other content")]
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

/// The event store of this process: eight shards and their appenders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventStore(Arc<Inner>);

struct Inner {
    /// One per appender; which of them a shard has, [`Shard::dealt_to`] says.
    queues: Vec<mpsc::Sender<Pending>>,
    /// By shard: the index of its queue.
    queue_of: [usize; Shard::COUNT],
    feed: Arc<Feed>,
    feed_batches: usize,
    lease_held: Arc<[AtomicBool; Shard::COUNT]>,
    meters: Meters,
    shed: Counter,
    stop: CancellationToken,
    appenders: TaskTracker,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStore").field("heads", &self.feed.heads()).finish_non_exhaustive()
    }
}

impl EventStore {
    /// Takes the leases of all shards, waiting up to the configured time, and starts the appenders.
    pub async fn start(db: &Databases, config: &config::EventStore) -> Result<Self, StartError> {
        let dealt = Shard::dealt_to(config.appenders);
        let mut queue_of = [0; Shard::COUNT];
        for (queue, shards) in dealt.iter().enumerate() {
            shards.iter().for_each(|shard| queue_of[shard.index()] = queue);
        }
        let leases = dealt.into_iter().map(|shards| take_leases(db, config, shards));
        let writers = futures::future::try_join_all(leases).await?;
        let (feed, stop) = (Arc::new(Feed::default()), CancellationToken::new());
        let (lease_held, appenders) = (Arc::new(Default::default()), TaskTracker::new());
        let queues = writers.into_iter().map(|writer| {
            let (sender, queue) = mpsc::channel(config.queue_commands);
            let (feed, lease_held) = (Arc::clone(&feed), Arc::clone(&lease_held));
            let appender = Appender::new(writer, feed, lease_held, config, stop.clone());
            appenders.spawn(appender.run(queue));
            sender
        });
        let queues = queues.collect();
        appenders.close();
        Ok(Self(Arc::new(Inner {
            queues,
            queue_of,
            feed,
            feed_batches: config.feed_batches,
            lease_held,
            meters: Meters::new(),
            shed: counter!("backend_shed_total", "where" => "append"),
            stop,
            appenders,
        })))
    }

    /// Appends what the command leads to; answers after the commit. A retry gets the first answer again. Once called, the
    /// command may be written even if the caller no longer waits.
    pub async fn append(&self, command: Command) -> Result<Appended, AppendError> {
        let shard = Shard::of(command.org);
        let (reply, answer) = oneshot::channel();
        let queue = &self.0.queues[self.0.queue_of[shard.index()]];
        let refused = match queue.try_send(Pending { command, reply }) {
            Ok(()) => {
                let lost = || AppendError::Unknown("its appender ended".to_owned());
                return answer.await.unwrap_or_else(|_| Err(lost()));
            }
            Err(TrySendError::Full(_)) => {
                self.0.shed.increment(1);
                Err(AppendError::Overloaded(shard))
            }
            Err(TrySendError::Closed(_)) => Err(AppendError::Stopping),
        };
        self.0.meters.count(&refused);
        refused
    }

    /// Whether every appender holds its lease.
    pub fn leases_held(&self) -> bool {
        self.0.lease_held.iter().all(|held| held.load(Ordering::Relaxed))
    }

    /// Writes what is queued, then gives the leases back. New commands are refused from the first moment.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.appenders.wait().await;
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.0.feed
    }

    pub(crate) fn subscribe(&self, db: &Databases, seen: Positions) -> Subscription {
        self.0.feed.subscribe(db.write(Database::EventStore).clone(), seen, self.0.feed_batches)
    }
}

async fn take_leases(
    db: &Databases,
    config: &config::EventStore,
    shards: Vec<Shard>,
) -> Result<(Writer, Positions), StartError> {
    let first = shards[0];
    let mut writer = Writer::new(db.clone(), shards, config.statement_timeout_ms.duration());
    match writer.acquire(config.lease_wait_ms.duration()).await {
        Ok(heads) => Ok((writer, heads)),
        Err(LeaseError::Held(shard)) => Err(StartError::LeaseHeld(shard)),
        Err(LeaseError::Sql(source)) => Err(StartError::Database { shard: first, source }),
    }
}
