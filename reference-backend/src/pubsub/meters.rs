//! What is counted of one subscription.

use metrics::{Counter, Gauge, counter, gauge};

/// Counters and gauges of a subscription, under the label `subscription`.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    /// Handed to the subscriber, first time or again.
    pub(crate) delivered: Counter,
    /// Handled with success.
    pub(crate) acked: Counter,
    /// Deliveries that ended in an error, a panic or at the deadline.
    pub(super) failed: Counter,
    /// Deliveries after the first of a message.
    pub(super) redelivered: Counter,
    /// Given up after the last attempt.
    pub(crate) dead_lettered: Counter,
    /// Not wanted, and so settled without a delivery.
    pub(super) skipped: Counter,
    /// Being handled now.
    pub(super) in_flight: Gauge,
    /// Published and not settled.
    pub(crate) lag_messages: Gauge,
    /// Age of the oldest of them.
    pub(crate) lag_seconds: Gauge,
    /// 1 where this process has the lease.
    pub(super) owned: Gauge,
    /// Dead letters that wait for someone.
    pub(super) dead_letters: Gauge,
}

impl Meters {
    pub(crate) fn of(subscription: &'static str) -> Self {
        Self {
            delivered: counter!("backend_subscription_delivered_total", "subscription" => subscription),
            acked: counter!("backend_subscription_acked_total", "subscription" => subscription),
            failed: counter!("backend_subscription_failed_total", "subscription" => subscription),
            redelivered: counter!("backend_subscription_redelivered_total", "subscription" => subscription),
            dead_lettered: counter!("backend_subscription_dead_lettered_total", "subscription" => subscription),
            skipped: counter!("backend_subscription_skipped_total", "subscription" => subscription),
            in_flight: gauge!("backend_subscription_in_flight", "subscription" => subscription),
            lag_messages: gauge!("backend_subscription_lag_messages", "subscription" => subscription),
            lag_seconds: gauge!("backend_subscription_lag_seconds", "subscription" => subscription),
            owned: gauge!("backend_subscription_owned", "subscription" => subscription),
            dead_letters: gauge!("backend_subscription_dead_letters", "subscription" => subscription),
        }
    }
}
