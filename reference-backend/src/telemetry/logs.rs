//! Logs: text or JSON lines on standard error. Standard output belongs to the program's one line.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Logs;

/// Replaces the filter. One for the process, as its subscriber is.
static SWAP: OnceLock<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>> = OnceLock::new();

/// Why logs cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("logs.filter = {filter:?}: {source}\nhelp: write it like \"info,sqlx=warn\"")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is in place.
    #[error("start logs: {0}")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the whole process. An error if done twice.
pub fn init_logs(config: &Logs) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if config.json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        builder.finish().try_init()?;
        let _ = SWAP.set(Box::new(move |new| handle.reload(new).is_ok()));
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.finish().try_init()?;
        let _ = SWAP.set(Box::new(move |new| handle.reload(new).is_ok()));
    }
    Ok(())
}

/// Puts another filter into force, if logging was started.
pub(crate) fn set_log_filter(text: &str) {
    let swapped = filter(text).map(|new| SWAP.get().is_none_or(|swap| swap(new)));
    if !matches!(swapped, Ok(true)) {
        tracing::error!(filter = text, "the log filter could not be changed");
    }
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let parsed = EnvFilter::try_new(text);
    parsed.map_err(|source| LogError::Filter { filter: text.to_owned(), source })
}
