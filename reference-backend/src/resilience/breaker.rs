//! Stops calling what does not answer: after enough failures calls are refused at once, until one that is let through
//! works. Closed → open → half open → closed, or open again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use metrics::{Counter, counter, gauge};
use tower::Service;
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, DefaultClassifier,
    SlidingWindowType,
};

use crate::config;

/// The breaker of one dependency.
pub(super) struct Breaker {
    circuit: CircuitBreaker<Run, DefaultClassifier>,
    shut: Arc<Shut>,
    refused: Counter,
}

/// The breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    /// Time until a call is let through.
    pub(super) wait: Duration,
}

/// Why a call through the breaker gave nothing.
#[derive(Debug)]
pub(super) enum Broken<E> {
    Open(Open),
    Failed(E),
}

/// Until when an open breaker lets nothing through: the library knows it only behind a lock.
#[derive(Debug)]
struct Shut {
    since: Instant,
    /// In ms after `since`; 0 unless open.
    until_ms: AtomicU64,
    open_for: Duration,
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Breaker").field("state", &self.circuit.state_sync()).finish_non_exhaustive()
    }
}

impl Breaker {
    pub(super) fn new(name: &str, settings: config::Breaker) -> Self {
        let shut = Arc::new(Shut {
            since: Instant::now(),
            until_ms: AtomicU64::new(0),
            open_for: settings.open_ms.duration(),
        });
        let state = gauge!("backend_breaker_state", "dependency" => name.to_owned());
        state.set(severity(CircuitState::Closed));
        let (label, noting) = (name.to_owned(), Arc::clone(&shut));
        let layer = CircuitBreakerLayer::builder()
            // By time: the library's window of a number of calls does not slide.
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(settings.window_ms.duration())
            .minimum_number_of_calls(settings.calls_min)
            .failure_rate_threshold(settings.failure_ratio)
            .wait_duration_in_open(settings.open_ms.duration())
            // More than one might never come together within a window, and then it would stay half open.
            .permitted_calls_in_half_open(1)
            .on_state_transition(move |from, to| {
                noting.note(to);
                state.set(severity(to));
                counter!("backend_breaker_transitions_total", "dependency" => label.clone(), "to" => word(to))
                    .increment(1);
                tracing::warn!(dependency = label, from = word(from), to = word(to), "breaker");
            })
            .build()
            .expect("the settings were checked");
        let refused = counter!("backend_breaker_refused_total", "dependency" => name.to_owned());
        Self { circuit: layer.layer_fn(Run), shut, refused }
    }

    /// Refuses when it is certain that a call would be. Costs no lock; [`Breaker::call`] still decides.
    pub(super) fn check(&self) -> Result<(), Open> {
        match self.shut.remaining() {
            Some(wait) => Err(self.refuse(wait)),
            None => Ok(()),
        }
    }

    /// Runs a call, unless it is open. Each `Err` counts as a failure; a call that is dropped counts as nothing.
    pub(super) async fn call<T, E, F>(&self, call: F) -> Result<T, Broken<E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        // Not asked whether it is ready: it always is, and so the call itself is what is refused.
        self.circuit.clone().call(call).await.map_err(|error| match error {
            CircuitBreakerError::Inner(error) => Broken::Failed(error),
            // Half open, and the one call that is let through is under way.
            _ => Broken::Open(self.refuse(self.shut.remaining().unwrap_or_default())),
        })
    }

    fn refuse(&self, wait: Duration) -> Open {
        self.refused.increment(1);
        Open { wait }
    }
}

impl Shut {
    fn note(&self, state: CircuitState) {
        let until = (self.since.elapsed() + self.open_for).as_millis();
        let until = if state == CircuitState::Open { u64::try_from(until).unwrap_or(0) } else { 0 };
        self.until_ms.store(until, Ordering::Release);
    }

    fn remaining(&self) -> Option<Duration> {
        let until = Duration::from_millis(self.until_ms.load(Ordering::Acquire));
        until.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())
    }
}

/// The value of the gauge: the higher, the worse.
fn severity(state: CircuitState) -> f64 {
    match state {
        CircuitState::Closed => 0.0,
        CircuitState::HalfOpen => 1.0,
        CircuitState::Open => 2.0,
    }
}

fn word(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::HalfOpen => "half-open",
        CircuitState::Open => "open",
    }
}

/// The innermost service: a request is a future, and answering is awaiting it. So one breaker serves calls of all types.
#[derive(Debug, Clone, Copy)]
struct Run;

impl<T, E, F: Future<Output = Result<T, E>>> Service<F> for Run {
    type Response = T;
    type Error = E;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: F) -> F {
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    fn breaker(calls_min: usize, open_ms: u64) -> Breaker {
        let settings = config::Breaker {
            failure_ratio: 0.5,
            window_ms: Millis(60_000),
            calls_min,
            open_ms: Millis(open_ms),
        };
        Breaker::new("test", settings)
    }

    async fn ask(breaker: &Breaker, works: bool) -> Result<(), Broken<()>> {
        breaker.call(async move { if works { Ok(()) } else { Err(()) } }).await
    }

    #[tokio::test]
    async fn it_opens_at_the_ratio_and_refuses_at_once() {
        let breaker = breaker(4, 60_000);
        for works in [true, true, false] {
            let _ = ask(&breaker, works).await;
            assert_eq!(breaker.check(), Ok(()));
        }
        assert!(matches!(ask(&breaker, false).await, Err(Broken::Failed(()))));
        let Err(Broken::Open(Open { wait })) = ask(&breaker, true).await else {
            panic!("half of four calls failed and it is not open");
        };
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
        assert!(breaker.check().is_err());
    }

    #[tokio::test]
    async fn one_call_that_works_closes_it_and_one_that_fails_opens_it_again() {
        let breaker = breaker(1, 1);
        let rest = || tokio::time::sleep(Duration::from_millis(3));
        ask(&breaker, false).await.unwrap_err();
        rest().await;
        assert!(matches!(ask(&breaker, false).await, Err(Broken::Failed(()))), "let through");
        assert_eq!(breaker.circuit.state_sync(), CircuitState::Open);
        rest().await;
        ask(&breaker, true).await.unwrap();
        assert_eq!(breaker.circuit.state_sync(), CircuitState::Closed);
        assert_eq!(breaker.check(), Ok(()));
    }

    #[tokio::test]
    async fn while_half_open_only_one_is_let_through_and_leaving_it_gives_the_place_back() {
        let breaker = breaker(1, 1);
        ask(&breaker, false).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(3)).await;
        let mut endless = Box::pin(breaker.call(std::future::pending::<Result<(), ()>>()));
        assert!(futures::poll!(&mut endless).is_pending());
        assert!(matches!(ask(&breaker, true).await, Err(Broken::Open(_))));
        drop(endless);
        ask(&breaker, true).await.unwrap();
    }
}
