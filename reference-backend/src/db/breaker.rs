//! A circuit breaker before each replica: the monitor's looks may succeed while reads fail.

use std::fmt;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use metrics::counter;
use sqlx::Error;
use tower::Service;
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, FailureClassifier,
};
use tracing::{info, warn};

use super::fault::Fault;
use crate::config::Replicas;

/// Lets reads through while they are answered; after some failures in a row none for a while, then a few to see.
#[derive(Clone)]
pub(super) struct Breaker(CircuitBreaker<Run, ServerFaults>);

/// A read is its own service: the request is the future.
#[derive(Debug, Clone, Copy)]
struct Run;

impl<F, T> Service<F> for Run
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    type Response = T;
    type Error = Error;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, read: F) -> F {
        read
    }
}

/// A bad statement fails everywhere, and a recovery conflict is a matter of that one read.
#[derive(Debug, Clone, Copy)]
struct ServerFaults;

impl<T> FailureClassifier<T, Error> for ServerFaults {
    fn classify(&self, result: &Result<T, Error>) -> bool {
        result.as_ref().is_err_and(|error| Fault::of(error) == Some(Fault::Server))
    }
}

impl Breaker {
    pub(super) fn new(replica: &'static str, config: &Replicas) -> Self {
        let layer = CircuitBreakerLayer::builder()
            .name(replica)
            .consecutive_failures(config.breaker_failures as usize)
            .wait_duration_in_open(config.breaker_open_ms.duration())
            .permitted_calls_in_half_open(config.breaker_probes as usize)
            .on_state_transition(move |_, to| match to {
                CircuitState::Open => {
                    warn!("{replica} is asked no reads for a while: too many failed in a row");
                    counter!("backend_replica_breaker_opened_total", "replica" => replica)
                        .increment(1);
                }
                CircuitState::HalfOpen => info!("{replica} is asked a few reads, to see"),
                CircuitState::Closed => info!("{replica} is asked reads again"),
            })
            .failure_classifier_type(ServerFaults)
            .build()
            .expect("the settings were checked");
        Self(layer.layer_fn(Run))
    }

    /// The answer, or None where the breaker let the read not through.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        read: BoxFuture<'static, Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        // Without poll_ready, which would wait for a lock by sleeping; `call` asks the breaker as well, and `Run` is ready.
        match self.0.clone().call(read).await {
            Ok(answer) => Some(Ok(answer)),
            Err(CircuitBreakerError::Inner(error)) => Some(Err(error)),
            Err(_) => None,
        }
    }

    /// 0 closed, 1 half open, 2 open.
    pub(super) fn state(&self) -> u8 {
        match self.0.state_sync() {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker").field(&self.0.state_sync()).finish()
    }
}
