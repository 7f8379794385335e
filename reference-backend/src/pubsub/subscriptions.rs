//! The subscriptions of this process: started together, stopped together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log::Log;
use super::meters::Meters;
use super::runner::Runner;
use super::{Subscriber, Topic};
use crate::config::{Delivery, PubSub};
use crate::db::Databases;
use crate::events::EventStore;

/// A subscription's name, and how it delivers now.
type Delivering = (&'static str, Arc<ArcSwap<Delivery>>);

/// The subscriptions that this process works for, or stands by to take over. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// What a change of settings is put into.
    deliveries: Arc<Mutex<Vec<Delivering>>>,
}

impl Subscriptions {
    /// Starts to work for the subscribers. Those of `finance-events` are left to the process that writes events: `events` is
    /// None in the others.
    pub fn start(
        db: &Databases,
        events: Option<&EventStore>,
        settings: &PubSub,
        subscribers: Vec<Arc<dyn Subscriber>>,
    ) -> Self {
        let started = Self::under(CancellationToken::new());
        started.work_for(db, events, settings, subscribers);
        started
    }

    /// None yet; all of them will end when `stop` is cancelled.
    pub(super) fn under(stop: CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        tasks.close();
        Self { tasks, stop, deliveries: Arc::default() }
    }

    pub(super) fn work_for(
        &self,
        db: &Databases,
        events: Option<&EventStore>,
        settings: &PubSub,
        subscribers: Vec<Arc<dyn Subscriber>>,
    ) {
        for subscriber in subscribers {
            let log = match (subscriber.topic(), events) {
                (Topic::FinanceEvents, Some(store)) => Log::Events(store.clone()),
                (Topic::FinanceEvents, None) => continue,
                (topic, _) => Log::Messages(topic),
            };
            let name = subscriber.name();
            let delivery = Arc::new(ArcSwap::from_pointee(settings.delivery_of(name)));
            self.deliveries().push((name, Arc::clone(&delivery)));
            let runner = Runner {
                db: db.clone(),
                log,
                settings: settings.clone(),
                delivery,
                meters: Meters::of(name),
                subscriber,
                stop: self.stop.clone(),
            };
            self.tasks.spawn(runner.run());
        }
    }

    fn deliveries(&self) -> MutexGuard<'_, Vec<Delivering>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on delivers otherwise. What is in hand keeps the deadline that it began with.
    pub fn retune(&self, settings: &PubSub) {
        for (name, delivery) in self.deliveries().iter() {
            delivery.store(Arc::new(settings.delivery_of(name)));
        }
    }

    /// A task that ends with the subscriptions.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        task: impl FnOnce(CancellationToken) -> F,
    ) {
        self.tasks.spawn(task(self.stop.clone()));
    }

    /// Lets handlers finish for a short time, writes the cursors, and gives the leases back.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
