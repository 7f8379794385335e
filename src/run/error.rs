//! Why a run ended without a verdict.

use crate::archive::{ArchiveError, Incident};
use crate::load::LoadError;
use crate::population::PopulationError;
use crate::stack::StackError;

/// Why a run ended without a verdict. Nothing is running any more when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The results cannot be written where they were asked for; nothing was started.
    #[error("{0}")]
    Results(#[source] ArchiveError),
    /// The scenario names an environment variable that does not hold a token; nothing was started.
    #[error(
        "no bearer token in the environment variable {0}\n\
         help: set it, or remove bearer_token_env from the scenario's target"
    )]
    Token(String),
    /// The stack could not be brought up or down.
    #[error("{0}")]
    Stack(#[from] StackError),
    /// The population could not be built, or is not what was computed.
    #[error("{0}")]
    Population(#[from] PopulationError),
    /// A population that was to be kept could not be: it was built for nothing.
    #[error("the population was not kept: {0}")]
    NotKept(String),
    /// A process without which there is nothing to measure died under load.
    #[error(
        "{} died during the run: {}\nhelp: its log was kept; a run without it has no result, so none was written",
        .0.what, .0.detail
    )]
    Died(Incident),
    /// No load could be made at all.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// The results could not be written at the end.
    #[error("{0}")]
    Save(#[source] ArchiveError),
    /// Ctrl-C, SIGTERM, or the end of the terminal.
    #[error("interrupted: everything that was started has been stopped, and no report was written")]
    Interrupted,
}
