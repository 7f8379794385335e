//! A call to something outside this process, with everything around it:
//!
//! ```text
//! bulkhead (one call, however often tried) → retries within the budget → breaker → time-out → the call
//! ```

use std::time::Duration;

use metrics::{Counter, counter};

use super::breaker::{Breaker, Broken, Open};
use super::bulkhead::{Bulkhead, Full, Place};
use super::retry::Retries;
use crate::config;

/// Something outside this process that may be slow, broken or gone.
#[derive(Debug)]
pub(crate) struct Dependency {
    bulkhead: Bulkhead,
    retries: Retries,
    breaker: Breaker,
    limit: Duration,
    outcomes: Outcomes,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError<E> {
    /// Too many calls are in flight.
    #[error("too many calls are in flight")]
    Full,
    /// It failed too often lately and is given a rest.
    #[error("it failed too often; the next call is let through in {} ms", wait.as_millis())]
    Open {
        /// Time until a call is let through.
        wait: Duration,
    },
    /// No answer in time.
    #[error("no answer within {} ms", limit.as_millis())]
    TimedOut {
        /// The time that one try has.
        limit: Duration,
    },
    /// It failed in its own way.
    #[error("{0}")]
    Failed(E),
}

/// How calls ended, by what the caller saw.
#[derive(Debug)]
struct Outcomes {
    ok: Counter,
    failed: Counter,
    timed_out: Counter,
    open: Counter,
    full: Counter,
}

impl Dependency {
    /// `name` is the value of the label `dependency`.
    pub(crate) fn new(name: &str, settings: &config::Dependency) -> Self {
        let outcome = |outcome| counter!("backend_dependency_calls_total", "dependency" => name.to_owned(), "outcome" => outcome);
        Self {
            bulkhead: Bulkhead::new(format!("to {name}"), settings.in_flight_max),
            retries: Retries::new(name, settings.retry),
            breaker: Breaker::new(name, settings.breaker),
            limit: settings.timeout_ms.duration(),
            outcomes: Outcomes {
                ok: outcome("ok"),
                failed: outcome("failed"),
                timed_out: outcome("timed-out"),
                open: outcome("open"),
                full: outcome("full"),
            },
        }
    }

    /// A place for one call; refuses at once where the call would be, so that nothing is prepared for it.
    pub(crate) fn enter<E>(&self) -> Result<Entered<'_>, CallError<E>> {
        let entered = match self.breaker.check() {
            Ok(()) => self.bulkhead.enter().map_err(CallError::from),
            Err(open) => Err(open.into()),
        };
        match entered {
            Ok(place) => Ok(Entered { dependency: self, _place: place }),
            Err(refused) => {
                self.outcomes.count(Some(&refused));
                Err(refused)
            }
        }
    }
}

/// A place for one call.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    dependency: &'a Dependency,
    _place: Place<'a>,
}

impl Entered<'_> {
    /// Makes the call, and makes it again while `again` allows that, the error permitting. A time-out is such an error only if
    /// `repeatable`: what timed out may have taken effect.
    pub(crate) async fn call<T, E, F>(
        &self,
        repeatable: bool,
        again: impl Fn(&E) -> bool,
        attempt: impl Fn() -> F,
    ) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call_until(repeatable, again, tokio::time::sleep, attempt).await
    }

    /// The same, where a try's time may not begin with it: `overdue` returns when the time of the try just begun is up.
    pub(crate) async fn call_until<T, E, F, O>(
        &self,
        repeatable: bool,
        again: impl Fn(&E) -> bool,
        overdue: impl Fn(Duration) -> O,
        attempt: impl Fn() -> F,
    ) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        O: Future<Output = ()> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let Dependency { retries, breaker, limit, outcomes, .. } = self.dependency;
        let limit = *limit;
        let once = async || {
            breaker.check()?;
            let (answer, overdue) = (attempt(), overdue(limit));
            let timed = async move {
                tokio::select! {
                    biased;
                    answer = answer => answer.map_err(CallError::Failed),
                    () = overdue => Err(CallError::TimedOut { limit }),
                }
            };
            breaker.call(timed).await.map_err(|broken| match broken {
                Broken::Open(open) => open.into(),
                Broken::Failed(error) => error,
            })
        };
        let retry = |error: &CallError<E>| match error {
            CallError::Failed(error) => again(error),
            CallError::TimedOut { .. } => repeatable,
            CallError::Full | CallError::Open { .. } => false,
        };
        let ended = retries.run(retry, once).await;
        outcomes.count(ended.as_ref().err());
        ended
    }
}

impl Outcomes {
    fn count<E>(&self, error: Option<&CallError<E>>) {
        let outcome = match error {
            None => &self.ok,
            Some(CallError::Failed(_)) => &self.failed,
            Some(CallError::TimedOut { .. }) => &self.timed_out,
            Some(CallError::Open { .. }) => &self.open,
            Some(CallError::Full) => &self.full,
        };
        outcome.increment(1);
    }
}

impl<E> From<Full> for CallError<E> {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl<E> From<Open> for CallError<E> {
    fn from(open: Open) -> Self {
        Self::Open { wait: open.wait }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::{Config, Millis};

    fn dependency(change: impl Fn(&mut config::Dependency)) -> Dependency {
        let mut settings = Config::from_toml("").unwrap().resilience.forwarding;
        change(&mut settings);
        Dependency::new("test", &settings)
    }

    #[tokio::test]
    async fn a_slow_call_ends_in_time_and_is_repeated_only_if_that_is_safe() {
        let dependency = dependency(|settings| {
            settings.timeout_ms = Millis(5);
            settings.retry.times_max = 1;
        });
        for (repeatable, expected) in [(false, 1), (true, 2)] {
            let tries = Arc::new(AtomicUsize::new(0));
            let attempt = || {
                tries.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<Result<(), ()>>()
            };
            let entered = dependency.enter::<()>().unwrap();
            let ended = entered.call(repeatable, |()| true, attempt).await;
            assert!(matches!(ended, Err(CallError::TimedOut { .. })));
            assert_eq!(tries.load(Ordering::Relaxed), expected);
        }
    }

    #[tokio::test]
    async fn a_broken_one_is_left_alone_before_anything_is_prepared() {
        let dependency = dependency(|settings| {
            settings.breaker.calls_min = 1;
            settings.retry.times_max = 5;
        });
        let tries = Arc::new(AtomicUsize::new(0));
        let attempt = || {
            tries.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err::<(), _>("broken"))
        };
        let ended = dependency.enter::<&str>().unwrap().call(true, |_| true, attempt).await;
        assert!(matches!(ended, Err(CallError::Open { .. })), "the retry met the open breaker");
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        assert!(matches!(dependency.enter::<()>(), Err(CallError::Open { .. })));
    }

    #[tokio::test]
    async fn no_more_calls_than_its_room_are_in_flight() {
        let dependency = dependency(|settings| settings.in_flight_max = 1);
        let held = dependency.enter::<()>().unwrap();
        assert!(matches!(dependency.enter::<()>(), Err(CallError::Full)));
        drop(held);
        assert!(dependency.enter::<()>().is_ok());
    }
}
