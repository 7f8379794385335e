//! Counts and times the requests of one service. Handles are made once per series, not looked up per request.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};

const METHODS: [&str; 4] = ["GET", "POST", "PATCH", "other"];
const STATUS_MIN: usize = 100;
const STATUSES: usize = 500;

/// The request metrics of one service.
#[derive(Debug)]
pub(super) struct Meter {
    service: &'static str,
    duration_s: Histogram,
    /// One cell per method and status, filled when first seen.
    requests: Vec<OnceLock<Counter>>,
}

impl Meter {
    pub(super) fn new(service: &'static str) -> Self {
        Self {
            service,
            duration_s: histogram!("backend_http_request_duration_seconds", "service" => service),
            requests: (0..METHODS.len() * STATUSES).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(super) fn service(&self) -> &'static str {
        self.service
    }

    pub(super) fn record(&self, method: &Method, status: StatusCode, took: Duration) {
        self.duration_s.record(took.as_secs_f64());
        let method =
            METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        let code = usize::from(status.as_u16());
        // A status has three digits; those past 599 are nobody's and share the last cell.
        let cell = method * STATUSES + code.saturating_sub(STATUS_MIN).min(STATUSES - 1);
        self.requests[cell]
            .get_or_init(|| {
                counter!("backend_http_requests_total", "service" => self.service,
                    "method" => METHODS[method], "status" => status.as_str().to_owned())
            })
            .increment(1);
    }
}
