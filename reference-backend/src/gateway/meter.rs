//! Counts and times the requests of one service: those that this process answers, or those that it forwards. Handles are
//! made once per series, not looked up per request.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "other"];
const STATUS_MIN: usize = 100;
const STATUSES: usize = 500;

/// Where a request is answered. Each has series of its own, or a forwarded request would be counted by two processes as one
/// that each answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Here,
    Elsewhere,
}

/// The request metrics of one service.
#[derive(Debug)]
pub(super) struct Meter {
    service: &'static str,
    counted: &'static str,
    duration_s: Histogram,
    /// One cell per method and status, filled when first seen.
    requests: Vec<OnceLock<Counter>>,
}

impl Meter {
    pub(super) fn new(service: &'static str, answered: Answered) -> Self {
        let (counted, timed) = match answered {
            Answered::Here => {
                ("backend_http_requests_total", "backend_http_request_duration_seconds")
            }
            Answered::Elsewhere => {
                ("backend_forwarded_requests_total", "backend_forwarded_request_duration_seconds")
            }
        };
        Self {
            service,
            counted,
            duration_s: histogram!(timed, "service" => service),
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
                counter!(self.counted, "service" => self.service,
                    "method" => METHODS[method], "status" => status.as_str().to_owned())
            })
            .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_the_name_of_their_method() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let meter = Meter::new("rooms", Answered::Here);
            for name in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
                let method = Method::from_bytes(name.as_bytes()).unwrap();
                meter.record(&method, StatusCode::NO_CONTENT, Duration::ZERO);
            }
        });
        let page = recorder.handle().render();
        for name in ["GET", "POST", "PUT", "PATCH", "DELETE", "other"] {
            let series = format!(
                r#"backend_http_requests_total{{service="rooms",method="{name}",status="204"}} 1"#
            );
            assert!(page.contains(&series), "{series} is missing in:\n{page}");
        }
    }
}
