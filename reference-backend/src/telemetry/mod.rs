//! Logs to standard error, metrics for Prometheus.

mod logs;
mod recorder;

pub(crate) use logs::set_log_filter;
pub use logs::{LogError, init_logs};
pub use recorder::{Metrics, RecorderError};
