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
use tokio::sync::Semaphore;

use super::meter::Meter;
use super::problem::Problem;
use crate::resilience::Bulkhead;

/// How many requests may be inside the process at once, and for how long each.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    room: Arc<Semaphore>,
    limit: Duration,
    shed: Counter,
}

/// The guard of one service's routes. Without room to run out of for probes, which must answer when nothing else does.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) rooms: Option<Rooms>,
    pub(super) meter: Meter,
}

/// The room that a request needs: a place in the process, and one in its service.
#[derive(Debug)]
pub(super) struct Rooms {
    pub(super) process: Admission,
    pub(super) service: Bulkhead,
}

impl Admission {
    pub(super) fn new(in_flight_max: usize, limit: Duration) -> Self {
        let shed = counter!("backend_shed_total", "where" => "gateway");
        Self { room: Arc::new(Semaphore::new(in_flight_max)), limit, shed }
    }
}

impl Rooms {
    /// Runs a request if there is room, and within the limit. Nobody queues here: under overload a queue only turns
    /// answers that are late into answers that are too late.
    async fn run(&self, service: &str, request: Request, next: Next) -> Result<Response, Problem> {
        let _in_process = self.process.room.try_acquire().map_err(|_| {
            self.process.shed.increment(1);
            Problem::unavailable("too many requests are in flight")
        })?;
        let _in_service = self.service.enter().map_err(|_| {
            Problem::unavailable(format!("too many requests for `{service}` are in flight"))
        })?;
        let limit = self.process.limit;
        let answer = tokio::time::timeout(limit, next.run(request)).await;
        answer.map_err(|_| Problem::timed_out(limit))
    }
}

/// The middleware: admit, run, catch, count.
pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let service = guard.meter.service();
    let answer = async {
        match &guard.rooms {
            Some(rooms) => rooms.run(service, request, next).await.into_response(),
            None => next.run(request).await,
        }
    };
    // A handler's panic must not cost other requests on the same connection their answer.
    let response = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(service, "a handler panicked");
        Problem::internal().into_response()
    });
    guard.meter.record(&method, response.status(), begun.elapsed());
    response
}
