//! Starts and stops the projections.

use std::sync::Arc;
use std::time::Duration;

use super::{Observer, Projection};
use crate::config;
use crate::db::{Databases, Lsn};
use crate::events::{ConsistencyToken, EventStore};

/// Why a projection failed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The database failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// The projections of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Projections {}

impl Projections {
    /// Reads the checkpoints and starts to follow the store.
    pub async fn start(
        _db: &Databases,
        _events: &EventStore,
        _config: &config::Projections,
        _observer: Arc<dyn Observer>,
    ) -> Result<Self, ProjectionError> {
        Ok(Self {})
    }

    /// Waits until a projection has reached a token. The place in the log from which every server shows it, and the event
    /// itself too, since it was committed before; `None` when the time is up.
    pub async fn wait_projected(
        &self,
        _projection: Projection,
        _token: ConsistencyToken,
        _timeout: Duration,
    ) -> Option<Lsn> {
        None
    }

    /// Projections that failed so often in a row that someone should look; they go on trying.
    pub fn paused(&self) -> Vec<Projection> {
        Vec::new()
    }

    /// Projects all that the event store has acknowledged, then ends. Call after [`EventStore::stop`].
    pub async fn stop(&self) {}
}
