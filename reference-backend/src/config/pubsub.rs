//! Settings of topics and their subscriptions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Millis;

/// Topics and their subscriptions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PubSub {
    /// How messages are delivered, unless a subscription says otherwise.
    pub delivery: Delivery,
    /// What single subscriptions have otherwise, by name.
    #[serde(default)]
    pub subscriptions: BTreeMap<String, DeliveryOverride>,
    /// Messages that a subscription may have read and not settled.
    pub window_messages: usize,
    /// Time between two writes of a cursor.
    pub cursor_interval_ms: Millis,
    /// Time between two looks for new messages of a topic other than `finance-events`.
    pub poll_interval_ms: Millis,
    /// Longest wait for one statement of a subscription.
    pub statement_timeout_ms: Millis,
    /// Time between two tries to take a subscription over.
    pub lease_retry_ms: Millis,
    /// An organisation is notified of entries from this amount up.
    pub large_entry_cents: i64,
    /// Age up to which a message is kept that every subscription has settled.
    pub messages_kept_hours: u32,
    /// Streams of browsers.
    pub realtime: Realtime,
}

/// Streams of browsers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realtime {
    /// Streams of this process.
    pub streams_max: usize,
    /// Streams of one organisation in this process.
    pub streams_per_organisation_max: usize,
    /// Updates that may wait for one browser; one that reads more slowly is cut off.
    pub buffer_updates: usize,
    /// Longest silence on a stream; then a comment is sent.
    pub heartbeat_ms: Millis,
    /// Updates read back for a browser that returns; one that missed more has to load its page anew.
    pub resume_updates_max: usize,
    /// Time after which a browser that lost its stream comes back.
    pub reconnect_ms: Millis,
    /// Batches of events that may wait for the streams' feeder.
    pub feed_batches: usize,
}

/// How messages of a subscription are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Messages being handled at a time.
    pub max_concurrency: usize,
    /// A message that is not acknowledged by then counts as failed.
    pub ack_deadline_ms: Millis,
    /// Wait before the second delivery; doubles up to `retry_max_ms`, with jitter.
    pub retry_first_ms: Millis,
    /// Longest wait between two deliveries, jitter apart.
    pub retry_max_ms: Millis,
    /// Deliveries before a message is set aside as a dead letter.
    pub max_attempts: u32,
}

/// What one subscription has otherwise.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryOverride {
    /// As [`Delivery::max_concurrency`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<usize>,
    /// As [`Delivery::ack_deadline_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_deadline_ms: Option<Millis>,
    /// As [`Delivery::retry_first_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_first_ms: Option<Millis>,
    /// As [`Delivery::retry_max_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_max_ms: Option<Millis>,
    /// As [`Delivery::max_attempts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

/// Twelve hours: a handler that may run longer is not a handler.
const ACK_DEADLINE_MAX: Millis = Millis(12 * 3_600_000);

/// Half of the silence after which a process that forwards a stream takes it for dead.
pub(crate) const HEARTBEAT_MAX: Millis = Millis(30_000);

impl PubSub {
    /// Age up to which a settled message is kept.
    pub fn messages_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.messages_kept_hours) * 3_600)
    }

    /// How the messages of a subscription are delivered.
    pub fn delivery_of(&self, subscription: &str) -> Delivery {
        let base = &self.delivery;
        let Some(own) = self.subscriptions.get(subscription) else { return base.clone() };
        Delivery {
            max_concurrency: own.max_concurrency.unwrap_or(base.max_concurrency),
            ack_deadline_ms: own.ack_deadline_ms.unwrap_or(base.ack_deadline_ms),
            retry_first_ms: own.retry_first_ms.unwrap_or(base.retry_first_ms),
            retry_max_ms: own.retry_max_ms.unwrap_or(base.retry_max_ms),
            max_attempts: own.max_attempts.unwrap_or(base.max_attempts),
        }
    }

    /// What types alone cannot rule out.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.delivery.problems("pubsub.delivery");
        for name in self.subscriptions.keys() {
            let place = format!("pubsub.subscriptions.{name}");
            if !crate::pubsub::is_delivered(name) {
                problems.push(format!("{place}: no subscription of this name has a delivery"));
            }
            problems.extend(self.delivery_of(name).problems(&place));
        }
        for (name, zero) in [
            ("window_messages", self.window_messages == 0),
            ("cursor_interval_ms", self.cursor_interval_ms.0 == 0),
            ("poll_interval_ms", self.poll_interval_ms.0 == 0),
            ("statement_timeout_ms", self.statement_timeout_ms.0 == 0),
            ("lease_retry_ms", self.lease_retry_ms.0 == 0),
            ("messages_kept_hours", self.messages_kept_hours == 0),
            (
                "realtime.streams_per_organisation_max",
                self.realtime.streams_per_organisation_max == 0,
            ),
            ("realtime.buffer_updates", self.realtime.buffer_updates == 0),
            ("realtime.heartbeat_ms", self.realtime.heartbeat_ms.0 == 0),
            ("realtime.feed_batches", self.realtime.feed_batches == 0),
        ] {
            if zero {
                problems.push(format!("pubsub.{name} = 0: expected a number from 1 up"));
            }
        }
        if self.realtime.heartbeat_ms > HEARTBEAT_MAX {
            let (max, found) = (HEARTBEAT_MAX.0, self.realtime.heartbeat_ms.0);
            problems
                .push(format!("pubsub.realtime.heartbeat_ms = {found}: expected at most {max}"));
        }
        problems
    }
}

impl Delivery {
    fn problems(&self, place: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if self.max_concurrency == 0 {
            problems.push(format!("{place}.max_concurrency = 0: expected a number from 1 up"));
        }
        if self.max_attempts == 0 {
            problems.push(format!("{place}.max_attempts = 0: expected a number from 1 up"));
        }
        if self.retry_first_ms.0 == 0 || self.retry_first_ms > self.retry_max_ms {
            problems.push(format!("{place}.retry_first_ms: expected 1 to retry_max_ms"));
        }
        if self.ack_deadline_ms.0 == 0 || self.ack_deadline_ms > ACK_DEADLINE_MAX {
            problems.push(format!("{place}.ack_deadline_ms: expected 1 to {}", ACK_DEADLINE_MAX.0));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_subscription_may_differ_in_one_setting() {
        let config =
            Config::from_toml("[pubsub.subscriptions.balance-repair]\nmax_attempts = 3\n").unwrap();
        let (own, base) =
            (config.pubsub.delivery_of("balance-repair"), config.pubsub.delivery.clone());
        assert_eq!(own.max_attempts, 3);
        assert_eq!(own.ack_deadline_ms, base.ack_deadline_ms);
        assert_eq!(config.pubsub.delivery_of("notifications"), base);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let bad = "[pubsub]\nwindow_messages = 0\n[pubsub.delivery]\nretry_max_ms = 1\n\
                   [pubsub.subscriptions.balance-repair]\nack_deadline_ms = 50_000_000\n\
                   [pubsub.subscriptions.finance]\nmax_concurrency = 9\n\
                   [pubsub.realtime]\nheartbeat_ms = 30_001\n";
        let message = Config::from_toml(bad).unwrap_err().to_string();
        for part in [
            "pubsub.window_messages",
            "pubsub.delivery.retry_first_ms",
            "balance-repair.ack_deadline_ms",
            "pubsub.subscriptions.finance: no subscription",
            "pubsub.realtime.heartbeat_ms = 30001: expected at most 30000",
        ] {
            assert!(message.contains(part), "{part} missing in: {message}");
        }
    }
}
