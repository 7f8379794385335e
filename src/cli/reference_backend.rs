//! `plimsoll reference-backend`: the bundled backend as a command of this binary, so that one build runs everything.
//! The only file of the harness that imports the crate; everything else knows the backend from outside.

use std::process::ExitCode;

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct ReferenceBackendArgs {
    #[command(flatten)]
    command: reference_backend::cli::Command,
}

/// Hands over to the backend, which keeps its own log and exit code.
pub(super) fn execute(args: ReferenceBackendArgs) -> ExitCode {
    reference_backend::cli::run(args.command)
}
