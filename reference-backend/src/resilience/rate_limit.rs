//! How fast each organisation may ask. One eager client is told to wait before it costs the others anything.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use metrics::{Counter, counter};

use crate::config;
use crate::domain::OrgId;

/// A bucket per organisation that asked lately.
#[derive(Debug)]
pub(crate) struct RateLimit {
    buckets: ArcSwap<Buckets>,
    clock: DefaultClock,
    limited: Counter,
}

/// The buckets of one rate.
#[derive(Debug)]
struct Buckets {
    settings: config::RateLimit,
    limiter: DefaultKeyedRateLimiter<OrgId>,
}

/// The organisation is beyond its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFast {
    /// Time until one request more would pass.
    pub(crate) wait: Duration,
}

impl RateLimit {
    pub(crate) fn new(settings: config::RateLimit) -> Self {
        Self {
            buckets: ArcSwap::from_pointee(Buckets::new(settings)),
            clock: DefaultClock::default(),
            limited: counter!("backend_rate_limited_total"),
        }
    }

    /// From now on another rate; if it is another, all buckets are full again.
    pub(crate) fn retune(&self, settings: config::RateLimit) {
        if self.buckets.load().settings != settings {
            self.buckets.store(Arc::new(Buckets::new(settings)));
        }
    }

    /// Takes one request in, or says how long it is too early.
    pub(crate) fn check(&self, org: OrgId) -> Result<(), TooFast> {
        self.buckets.load().limiter.check_key(&org).map_err(|early| {
            self.limited.increment(1);
            TooFast { wait: early.wait_time_from(self.clock.now()) }
        })
    }

    /// Forgets the organisations whose buckets are full again; without it every organisation ever seen stays in memory.
    pub(crate) fn tend(&self) {
        self.buckets.load().limiter.retain_recent();
    }
}

impl Buckets {
    fn new(settings: config::RateLimit) -> Self {
        let quota = Quota::per_second(settings.per_second).allow_burst(settings.burst);
        Self { settings, limiter: DefaultKeyedRateLimiter::keyed(quota) }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limit(per_second: u32, burst: u32) -> RateLimit {
        let number = |n| NonZeroU32::new(n).unwrap();
        RateLimit::new(config::RateLimit { per_second: number(per_second), burst: number(burst) })
    }

    #[test]
    fn each_organisation_has_its_own_burst() {
        let (limit, one, other) = (limit(1, 3), OrgId::new(1).unwrap(), OrgId::new(2).unwrap());
        for _ in 0..3 {
            assert_eq!(limit.check(one), Ok(()));
        }
        let TooFast { wait } = limit.check(one).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(limit.check(other), Ok(()), "the other's burst is its own");
    }

    #[test]
    fn another_rate_begins_with_full_buckets_and_the_same_rate_does_not() {
        let (limit, org) = (limit(1, 1), OrgId::new(1).unwrap());
        let rate = |n| config::RateLimit {
            per_second: NonZeroU32::MIN,
            burst: NonZeroU32::new(n).unwrap(),
        };
        limit.check(org).unwrap();
        limit.retune(rate(1));
        assert!(limit.check(org).is_err());
        limit.retune(rate(2));
        assert!(limit.check(org).is_ok() && limit.check(org).is_ok() && limit.check(org).is_err());
    }

    #[test]
    fn who_pauses_is_forgotten_and_who_does_not_is_kept() {
        let (quick, slow) = (limit(1_000_000_000, 1), limit(1, 1));
        let org = OrgId::new(1).unwrap();
        for limit in [&quick, &slow] {
            limit.check(org).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            limit.tend();
        }
        assert_eq!((quick.buckets.load().limiter.len(), slow.buckets.load().limiter.len()), (0, 1));
    }
}
