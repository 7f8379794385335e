//! What is counted of one subscription.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use metrics::{Counter, Gauge, counter, gauge};

use crate::domain::RecordedEvent;
use crate::events::Shard;
use crate::projections::{Observer, Projection};

/// Counters and gauges of a subscription, under the label `subscription`.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    /// Handed to the subscriber, first time or again.
    pub(super) delivered: Counter,
    /// Handled with success.
    pub(super) acked: Counter,
    /// Deliveries that ended in an error, a panic or at the deadline.
    pub(super) failed: Counter,
    /// Deliveries after the first of a message.
    pub(super) redelivered: Counter,
    /// Given up after the last attempt.
    pub(super) dead_lettered: Counter,
    /// Not wanted, and so settled without a delivery.
    pub(super) skipped: Counter,
    /// Being handled now.
    pub(super) in_flight: Gauge,
    pub(super) lag: Lag,
    /// Dead letters that wait for someone.
    pub(super) dead_letters: Gauge,
}

impl Meters {
    pub(super) fn of(subscription: &'static str) -> Self {
        Self {
            delivered: counter!("backend_subscription_delivered_total", "subscription" => subscription),
            acked: counter!("backend_subscription_acked_total", "subscription" => subscription),
            failed: counter!("backend_subscription_failed_total", "subscription" => subscription),
            redelivered: counter!("backend_subscription_redelivered_total", "subscription" => subscription),
            dead_lettered: counter!("backend_subscription_dead_lettered_total", "subscription" => subscription),
            skipped: counter!("backend_subscription_skipped_total", "subscription" => subscription),
            in_flight: gauge!("backend_subscription_in_flight", "subscription" => subscription),
            lag: Lag::of(subscription),
            dead_letters: gauge!("backend_subscription_dead_letters", "subscription" => subscription),
        }
    }
}

/// How far a subscription is behind.
#[derive(Debug, Clone)]
pub(crate) struct Lag {
    messages: Gauge,
    seconds: Gauge,
}

impl Lag {
    pub(crate) fn of(subscription: &'static str) -> Self {
        Self {
            messages: gauge!("backend_subscription_lag_messages", "subscription" => subscription),
            seconds: gauge!("backend_subscription_lag_seconds", "subscription" => subscription),
        }
    }

    /// Messages published and not settled, and the age of the oldest of them.
    pub(crate) fn set(&self, messages: i64, seconds: f64) {
        self.messages.set(messages.max(0) as f64);
        self.seconds.set(seconds.max(0.0));
    }
}

/// What is counted of a subscription that takes events as they come, in memory or with its own checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    delivered: Counter,
    acked: Counter,
    dead_lettered: Counter,
}

impl Flow {
    pub(crate) fn of(subscription: &'static str) -> Self {
        Self {
            delivered: counter!("backend_subscription_delivered_total", "subscription" => subscription),
            acked: counter!("backend_subscription_acked_total", "subscription" => subscription),
            dead_lettered: counter!("backend_subscription_dead_lettered_total", "subscription" => subscription),
        }
    }

    /// So many were set aside.
    pub(crate) fn dead_lettered(&self, events: u64) {
        self.dead_lettered.increment(events);
    }

    /// So many events came and were dealt with.
    pub(crate) fn took(&self, events: usize) {
        self.delivered.increment(events as u64);
        self.acked.increment(events as u64);
    }
}

/// An observer that counts what it passes on: the subscriptions `finance` and `finance-summary` where this process projects, and
/// `cache` wherever it follows.
#[derive(Debug)]
pub(crate) struct Counted {
    observer: Arc<dyn Observer>,
    /// By projection; none where another process projects, which then counts them.
    projected: HashMap<Projection, Flow>,
    cache: Flow,
}

impl Counted {
    pub(crate) fn new(observer: Arc<dyn Observer>, projects: bool) -> Self {
        let projected = Projection::ALL.into_iter().filter(|_| projects);
        let projected = projected.map(|projection| (projection, Flow::of(projection.name())));
        Self { observer, projected: projected.collect(), cache: Flow::of("cache") }
    }
}

impl Observer for Counted {
    fn begin(&self, projection: Projection, shard: Shard, position: i64) {
        self.observer.begin(projection, shard, position);
    }

    fn committed<'a>(
        &'a self,
        projection: Projection,
        shard: Shard,
        events: &'a [RecordedEvent],
    ) -> BoxFuture<'a, ()> {
        if let Some(flow) = self.projected.get(&projection) {
            flow.took(events.len());
        }
        // The caches are told of each event by both projections.
        if projection == Projection::Finance {
            self.cache.took(events.len());
        }
        self.observer.committed(projection, shard, events)
    }
}
