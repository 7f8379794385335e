//! Logs: text or JSON lines on standard error. Standard output belongs to the program's one line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Logs;

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
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|source| LogError::Filter { filter: config.filter.clone(), source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if config.json {
        builder.json().finish().try_init()?
    } else {
        builder.finish().try_init()?
    }
    Ok(())
}
