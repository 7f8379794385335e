//! Connections for reads: borrowed for one statement, given back without a word to the server.
//!
//! sqlx's pool pings every connection that is given back, which is a second round trip, and half the wake-ups, of each read.
//! The ping is needed where a statement may have been left in the middle, or a transaction open. A read has no transaction,
//! and here it is known whether its answer was taken in whole: only a connection that was left in the middle is pinged, and
//! one whose statement failed in any other way than by PostgreSQL's word is closed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Connection, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Database;

/// When statements are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planning {
    /// As the server sees fit: anew for each execution where the values change the plan, as with optional filters.
    AsFit,
    /// Once for each connection.
    Once,
}

/// The lanes of one server: by [`Planning`], and of each by [`Database::index`].
#[derive(Debug)]
pub(super) struct Lanes(Vec<Arc<Lane>>);

/// The connections to one database of one server.
#[derive(Debug)]
pub(super) struct Lane {
    options: PgConnectOptions,
    size: u32,
    /// Longest wait for a free connection, for a new one, and for one left in the middle to become clean.
    patience: Duration,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Open>>,
    /// Of the server; raised when a connection broke, because then the others broke with it.
    epoch: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Open {
    connection: PgConnection,
    epoch: u64,
}

impl Lanes {
    /// Opens nothing yet. `of` gives a database's options, the number of its connections for each planning, and the patience
    /// with them.
    pub(super) fn new(
        of: impl Fn(Database, Planning) -> (PgConnectOptions, u32, Duration),
    ) -> Self {
        let epoch = Arc::new(AtomicU64::new(0));
        let lane = |planning, database| {
            let (options, size, patience) = of(database, planning);
            Arc::new(Lane {
                options,
                size,
                patience,
                free: Arc::new(Semaphore::new(size as usize)),
                idle: Mutex::default(),
                epoch: Arc::clone(&epoch),
            })
        };
        let lanes_of = |planning| Database::ALL.map(|database| lane(planning, database));
        Self([Planning::AsFit, Planning::Once].into_iter().flat_map(lanes_of).collect())
    }

    pub(super) fn of(&self, database: Database, planning: Planning) -> &Arc<Lane> {
        &self.0[planning as usize * Database::ALL.len() + database.index()]
    }

    /// Connections to a database that are borrowed now.
    pub(super) fn in_use(&self, database: Database) -> u32 {
        [Planning::AsFit, Planning::Once]
            .map(|planning| self.of(database, planning).in_use())
            .iter()
            .sum()
    }

    /// The server went away: no connection made before now is used again.
    pub(super) fn forget(&self) {
        self.0[0].epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes no more reads, waits for those that run, and says goodbye.
    pub(super) async fn close(&self) {
        futures::future::join_all(self.0.iter().map(|lane| lane.close())).await;
    }
}

impl Lane {
    /// A connection for one statement.
    pub(super) async fn borrow(self: &Arc<Self>) -> Result<Borrowed, Error> {
        let free = Arc::clone(&self.free).acquire_owned();
        let permit = match tokio::time::timeout(self.patience, free).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Error::PoolClosed),
            Err(_) => return Err(Error::PoolTimedOut),
        };
        let open = match self.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        Ok(Borrowed { lane: Arc::clone(self), open: Some(open), permit: Some(permit) })
    }

    fn in_use(&self) -> u32 {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        if self.free.is_closed() { 0 } else { self.size.saturating_sub(free) }
    }

    /// The one used last, which is the most likely to be warm.
    fn take(&self) -> Option<Open> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.last().is_some_and(|open| open.epoch != epoch) {
            idle.retain(|open| open.epoch == epoch);
        }
        idle.pop()
    }

    async fn open(&self) -> Result<Open, Error> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        match tokio::time::timeout(self.patience, self.options.connect()).await {
            Ok(connected) => Ok(Open { connection: connected?, epoch }),
            Err(_) => Err(Error::PoolTimedOut),
        }
    }

    fn put(&self, open: Open) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(open);
    }

    async fn close(&self) {
        // Who holds all permits holds all connections.
        if let Ok(all) = self.free.acquire_many(self.size).await {
            self.free.close();
            drop(all);
        }
        while let Some(open) = self.take() {
            let _ = open.connection.close().await;
        }
    }
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Borrowed {
    lane: Arc<Lane>,
    /// None once given back.
    open: Option<Open>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Borrowed {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.open.as_mut().expect("given back only by value").connection
    }

    /// Gives it back after its statement's end.
    pub(super) fn done(mut self, error: Option<&Error>) {
        let Some(open) = self.open.take() else { return };
        match error {
            None => self.lane.put(open),
            Some(Error::Database(error)) if !ended_the_session(error.as_ref()) => {
                self.lane.put(open);
            }
            Some(Error::Database(_) | Error::Io(_) | Error::Protocol(_) | Error::Tls(_)) => {
                // Once per broken generation: connections made meanwhile are good.
                let _ = self.lane.epoch.compare_exchange(
                    open.epoch,
                    open.epoch + 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            // An answer that could not be decoded, say: its rest may still come.
            Some(_) => {}
        }
    }
}

impl Drop for Borrowed {
    /// Left in the middle of a statement, because nobody waits for the answer any more: the connection is of use again once
    /// the server has said all of it.
    fn drop(&mut self) {
        let (Some(mut open), Some(permit)) = (self.open.take(), self.permit.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let lane = Arc::clone(&self.lane);
        runtime.spawn(async move {
            let clean = tokio::time::timeout(lane.patience, open.connection.ping()).await;
            if matches!(clean, Ok(Ok(()))) {
                lane.put(open);
            }
            drop(permit);
        });
    }
}

fn ended_the_session(error: &dyn sqlx::error::DatabaseError) -> bool {
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    severity.is_none_or(|severity| matches!(severity, PgSeverity::Fatal | PgSeverity::Panic))
}
