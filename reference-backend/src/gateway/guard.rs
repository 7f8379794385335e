//! What stands in front of every handler: room for it (or a quick 503), a time limit, a net for panics, and the count of
//! what came out. One middleware, because each layer costs every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use metrics::{Counter, counter};

use super::meter::Meter;
use super::problem::Problem;
use crate::config::Config;
use crate::resilience::Bulkhead;

/// How many requests may be inside the process at once, and for how long each. All of it may change at any time.
#[derive(Debug)]
pub(crate) struct Admission {
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
    limit_ms: AtomicU64,
    /// 0 for no time at all.
    slow_ms: AtomicU64,
    shed: Counter,
}

/// A place in the process, given back when dropped.
#[derive(Debug)]
struct Place<'a>(&'a Admission);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
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
    pub(super) process: Arc<Admission>,
    pub(super) service: Bulkhead,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        let admission = Self {
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
            limit_ms: AtomicU64::new(0),
            slow_ms: AtomicU64::new(0),
            shed: counter!("backend_shed_total", "where" => "gateway"),
        };
        admission.retune(config);
        admission
    }

    /// Who is inside stays; whoever comes next meets the new limits.
    pub(super) fn retune(&self, config: &Config) {
        self.in_flight_max.store(config.server.in_flight_max, Ordering::Relaxed);
        self.limit_ms.store(config.server.request_timeout_ms.0, Ordering::Relaxed);
        self.slow_ms.store(config.monitoring.slow_request_ms.0, Ordering::Relaxed);
    }

    /// A place, or a counted refusal at once.
    fn enter(&self) -> Result<Place<'_>, Problem> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        if before < self.in_flight_max.load(Ordering::Relaxed) {
            return Ok(place);
        }
        self.shed.increment(1);
        Err(Problem::unavailable("too many requests are in flight"))
    }

    /// Something to remember the request by, if slow ones are to be logged.
    fn watch(&self, request: &Request) -> Option<Watched> {
        let slow = self.slow_ms.load(Ordering::Relaxed);
        (slow > 0).then(|| Watched {
            begun: Instant::now(),
            limit: Duration::from_millis(slow),
            method: request.method().clone(),
            uri: request.uri().clone(),
        })
    }
}

/// A request that is logged if it takes longer than a limit.
struct Watched {
    begun: Instant,
    limit: Duration,
    method: Method,
    uri: Uri,
}

impl Watched {
    /// Without the query: it may hold what is nobody's business in a log.
    fn report(self, service: &str) {
        let took = self.begun.elapsed();
        if took > self.limit {
            let (method, path) = (self.method, self.uri.path());
            tracing::warn!(service, %method, path, took_ms = took.as_millis(), "a slow request");
        }
    }
}

impl Rooms {
    /// Runs a request if there is room, and within the limit. Nobody queues here: under overload a queue only turns
    /// answers that are late into answers that are too late.
    async fn run(&self, service: &str, request: Request, next: Next) -> Result<Response, Problem> {
        let _in_process = self.process.enter()?;
        let _in_service = self.service.enter().map_err(|_| {
            Problem::unavailable(format!("too many requests for `{service}` are in flight"))
        })?;
        let limit = Duration::from_millis(self.process.limit_ms.load(Ordering::Relaxed));
        let watched = self.process.watch(&request);
        let answer = tokio::time::timeout(limit, next.run(request)).await;
        if let Some(watched) = watched {
            watched.report(service);
        }
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
