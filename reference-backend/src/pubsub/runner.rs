//! The task of one subscription: takes its lease, and works as its owner until the lease is lost or the program ends.

use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Subscriber;
use super::lease::{Lease, LeaseLost};
use super::log::Log;
use super::meters::Meters;
use super::owner::Owner;
use crate::config::{Delivery, PubSub};
use crate::db::Databases;

/// What the owner of a subscription works with.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    pub(super) db: Databases,
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) log: Log,
    pub(super) settings: PubSub,
    /// In force now.
    pub(super) delivery: Arc<ArcSwap<Delivery>>,
    pub(super) meters: Meters,
    pub(super) stop: CancellationToken,
}

impl Runner {
    /// Works until told to stop.
    pub(super) async fn run(self) {
        let name = self.subscriber.name();
        let owned = gauge!("backend_subscription_owned", "subscription" => name);
        while !self.stop.is_cancelled() {
            let worked = self.stop.run_until_cancelled(self.acquire()).await;
            let ended = match worked {
                None => return,
                Some(Err(error)) => Err(error),
                Some(Ok(lease)) => {
                    info!("{name} is owned by this process");
                    owned.set(1.0);
                    let ended = self.own(lease).await;
                    owned.set(0.0);
                    self.meters.in_flight.set(0.0);
                    ended
                }
            };
            if let Err(error) = ended {
                warn!(%error, "{name} has lost its connection; another owner may go on");
                let wait = tokio::time::sleep(self.settings.lease_retry_ms.duration());
                self.stop.run_until_cancelled(wait).await;
            }
        }
    }

    /// Waits until the lease is ours.
    async fn acquire(&self) -> Result<Lease, LeaseLost> {
        let limit = self.settings.statement_timeout_ms.duration();
        let mut lease = Lease::connect(&self.db, self.subscriber.name(), limit).await?;
        while !lease.take().await? {
            tokio::time::sleep(self.settings.lease_retry_ms.duration()).await;
        }
        Ok(lease)
    }

    async fn own(&self, lease: Lease) -> Result<(), LeaseLost> {
        Owner::begin(self.clone(), lease).await?.work().await
    }
}
