//! From the command line to a command, and from its end to an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use super::args::{Cli, Command};
use super::exit::Exit;
use super::{reference_backend as bundled, report, run, seed, stack, worker};

/// The whole program. Returns instead of exiting, so that every owner of a process can end it.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error).into(),
    };
    match cli.command {
        // The backend keeps its own log.
        Command::ReferenceBackend(args) => bundled::execute(args),
        Command::Run(args) => with_log(|| run::execute(&args)),
        Command::Seed(args) => with_log(|| seed::execute(args)),
        Command::Stack { command } => with_log(|| stack::execute(&command)),
        Command::Report(args) => with_log(|| report::execute(&args)),
        Command::Worker => with_log(worker::execute),
    }
}

/// Help and version are results; anything else is a misuse.
fn refuse(error: &clap::Error) -> Exit {
    // Nobody may be reading, `plimsoll --help | true`: that is not our error.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Pass,
        _ => Exit::Usage,
    }
}

fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Warnings go to stderr; `PLIMSOLL_LOG` asks for more.
fn with_log(command: impl FnOnce() -> Exit) -> ExitCode {
    let filter = EnvFilter::try_from_env("PLIMSOLL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_ansi(colours()).without_time().with_target(false).log_internal_errors(false);
    // A test may have set a log of its own.
    let _ = log.try_init();
    command().into()
}
