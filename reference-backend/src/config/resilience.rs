//! Settings of what keeps one fault or one eager client from becoming everybody's: rate limit, bulkheads, and how other
//! processes are called.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::services::Service;

/// Limits of what comes in, and of what goes out to other processes of this program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resilience {
    /// Requests per organisation and time.
    pub rate_limit: RateLimit,
    /// Requests in flight, by service.
    pub bulkheads: Bulkheads,
    /// Calls to processes that host other services.
    pub forwarding: Dependency,
}

/// How fast one organisation may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests per second in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

/// How many requests may be inside a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bulkheads {
    /// Of each service that has no number of its own.
    pub in_flight_max: usize,
    /// Numbers of their own.
    pub services: BTreeMap<Service, usize>,
}

impl Bulkheads {
    /// The number for a service.
    pub(crate) fn of(&self, service: Service) -> usize {
        self.services.get(&service).copied().unwrap_or(self.in_flight_max)
    }
}

/// How something outside this process is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Calls in flight; one more is refused at once.
    pub in_flight_max: usize,
    /// Longest time to connect.
    pub connect_timeout_ms: Millis,
    /// Longest time until the answer begins, for each try.
    pub timeout_ms: Millis,
    /// When and how often a failed call is tried again.
    pub retry: Retry,
    /// When calls are not even tried.
    pub breaker: Breaker,
}

/// When and how often a failed call is tried again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tries after the first; 0 for none.
    pub times_max: usize,
    /// Wait before the second try; doubles, with jitter.
    pub first_ms: Millis,
    /// Longest wait.
    pub longest_ms: Millis,
    /// Retries per call over the last ten seconds, from 0 to 1: an outage must not multiply the calls.
    pub budget_ratio: f32,
    /// Retries per second that are allowed however few calls there are.
    pub budget_per_second_min: u32,
}

/// When calls are not even tried.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Share of failed calls that opens it, above 0 and up to 1.
    pub failure_ratio: f64,
    /// The calls that count are those that ended in this time.
    pub window_ms: Millis,
    /// Fewer calls in the window prove nothing.
    pub calls_min: usize,
    /// Time until one call is let through to see whether it works again.
    pub open_ms: Millis,
}

impl Resilience {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.forwarding.problems("resilience.forwarding");
        let named = self.bulkheads.services.iter();
        let rooms = named.map(|(service, room)| (format!("services.{service}"), *room));
        let all = std::iter::once(("in_flight_max".to_owned(), self.bulkheads.in_flight_max));
        for (name, room) in all.chain(rooms) {
            if room == 0 {
                problems
                    .push(format!("resilience.bulkheads.{name} = 0: expected a number from 1 up"));
            }
        }
        problems
    }
}

impl Dependency {
    pub(super) fn problems(&self, section: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, name: &str, expected: &str| {
            if !holds {
                problems.push(format!("{section}.{name}: expected {expected}"));
            }
        };
        let (retry, breaker) = (&self.retry, &self.breaker);
        let positive = "a number from 1 up";
        expect(self.in_flight_max > 0, "in_flight_max", positive);
        expect(self.connect_timeout_ms.0 > 0, "connect_timeout_ms", positive);
        expect(self.timeout_ms.0 > 0, "timeout_ms", positive);
        expect(retry.first_ms.0 > 0, "retry.first_ms", positive);
        expect(retry.longest_ms >= retry.first_ms, "retry.longest_ms", "at least first_ms");
        let ratio = (0.0..=1.0).contains(&retry.budget_ratio);
        expect(ratio, "retry.budget_ratio", "a number from 0 to 1");
        expect(retry.budget_per_second_min <= 1_000, "retry.budget_per_second_min", "up to 1000");
        let ratio = breaker.failure_ratio > 0.0 && breaker.failure_ratio <= 1.0;
        expect(ratio, "breaker.failure_ratio", "a number above 0 and up to 1");
        expect(breaker.window_ms.0 > 0, "breaker.window_ms", positive);
        expect(breaker.calls_min > 0, "breaker.calls_min", positive);
        expect(breaker.open_ms.0 > 0, "breaker.open_ms", positive);
        problems
    }
}
