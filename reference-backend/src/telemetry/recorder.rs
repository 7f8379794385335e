//! The Prometheus recorder: explicit buckets, so that percentiles can be computed from any window and any process.

use std::time::Duration;

use metrics::gauge;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Seconds. Dense between 1 and 50 ms, where the limits on services lie.
const DURATION_SECONDS: [f64; 22] = [
    0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075,
    0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
];
/// Events per batch.
const BATCH_EVENTS: [f64; 12] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 64.0, 96.0, 128.0, 192.0, 256.0];

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// Bad buckets, or another recorder is in place.
    #[error("start metrics: {0}")]
    Build(#[from] BuildError),
}

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder for the whole process. An error if done twice.
    pub fn install() -> Result<Self, RecorderError> {
        let suffix = |text: &str| Matcher::Suffix(text.to_owned());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix("_duration_seconds"), &DURATION_SECONDS)?
            .set_buckets_for_metric(suffix("_batch_events"), &BATCH_EVENTS)?
            .install_recorder()?;
        gauge!("backend_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self(handle))
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps histograms small: their samples wait in memory until upkeep folds them into buckets. Run it as a task for the life
    /// of the process.
    pub async fn upkeep(self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.0.run_upkeep();
        }
    }
}
