//! What stands in front of every handler: room for it (or a quick 503), a time limit, a net for panics, and the count of
//! what came out. One middleware, because each layer costs every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use metrics::{Counter, counter};
use tokio::sync::{Semaphore, TryAcquireError};

use super::meter::Meter;
use super::problem::Problem;

/// How many requests may be inside the process at once, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    room: Arc<Semaphore>,
    limit: Duration,
    shed: Counter,
}

impl Admission {
    pub(super) fn new(in_flight_max: usize, limit: Duration) -> Self {
        let shed = counter!("backend_shed_total", "where" => "gateway");
        Self { room: Arc::new(Semaphore::new(in_flight_max)), limit, shed }
    }

    /// Runs a request if there is room, and within the limit. Nobody queues here: under overload a queue only turns
    /// answers that are late into answers that are too late.
    async fn run(&self, request: Request, next: Next) -> Response {
        let _room = match self.room.try_acquire() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                self.shed.increment(1);
                return Problem::unavailable("too many requests are in flight").into_response();
            }
        };
        match tokio::time::timeout(self.limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::timed_out(self.limit).into_response(),
        }
    }
}

/// The guard of one service's routes. Without admission for probes, which must answer when nothing else does.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) admission: Option<Admission>,
    pub(super) meter: Arc<Meter>,
}

/// The middleware: admit, run, catch, count.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let answer = async {
        match &guard.admission {
            Some(admission) => admission.run(request, next).await,
            None => next.run(request).await,
        }
    };
    // A handler's panic must not cost other requests on the same connection their answer.
    let response = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(service = guard.meter.service(), "a handler panicked");
        Problem::internal().into_response()
    });
    guard.meter.record(&method, response.status(), begun.elapsed());
    response
}
