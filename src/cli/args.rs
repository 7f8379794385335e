//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::reference_backend::ReferenceBackendArgs;
use crate::units::{ByteSize, Micros};

/// Says whether a system holds its line, and whether the run that says so can be trusted.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a scenario: build the stack and its population, drive it, judge it, write the report
    Run(RunArgs),
    /// Build a scenario's population with its replicas, and keep it for later runs
    Seed(SeedArgs),
    /// What runs keep on this machine between them: populations
    Stack {
        #[command(subcommand)]
        command: StackCommand,
    },
    /// Judge and render an old run again, offline
    Report(ReportArgs),
    /// Send load as the plan on standard input says; started by `run`
    #[command(hide = true)]
    Worker,
    /// The bundled backend: serve, migrate, config
    ReferenceBackend(ReferenceBackendArgs),
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A scenario file, or the name of one in scenarios/ (smoke, phase1, saturation)
    pub(super) scenario: String,
    /// Drive the scenario's service at another address (not the reference backend)
    #[arg(long, value_name = "URL", conflicts_with = "backend")]
    pub(super) target: Option<String>,
    /// Drive the backend of another plimsoll binary, or a reference-backend binary, instead of our own
    #[arg(long, value_name = "PATH")]
    pub(super) backend: Option<PathBuf>,
    /// Number of organisations instead of the scenario's
    #[arg(long, value_name = "N")]
    pub(super) organisations: Option<std::num::NonZeroU64>,
    /// Measured time instead of the scenario's, like 90s
    #[arg(long, value_name = "D")]
    pub(super) duration: Option<Micros>,
    /// Services that a further process of the reference backend hosts; once for each process
    #[arg(long, value_name = "A,B", value_parser = services)]
    pub(super) split: Vec<Services>,
    /// Seed instead of the scenario's
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Directory for the results; must not exist [default: reports/<run-id>]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Print the plan, and what a run would find before it starts anything; start nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Make the population anew, and keep none for later runs
    #[arg(long)]
    pub(super) fresh: bool,
    /// Disk that kept populations may take
    #[arg(long, value_name = "SIZE", env = "PLIMSOLL_POPULATIONS_MAX", default_value = "40 GiB")]
    pub(super) populations_max: ByteSize,
    /// Leave the databases' directory behind and say where it is
    #[arg(long)]
    pub(super) keep_stack: bool,
    /// Do not hold the ledger against the databases afterwards
    #[arg(long)]
    pub(super) no_audit: bool,
}

#[derive(Debug, Args)]
pub(super) struct SeedArgs {
    /// A scenario file, or the name of one in scenarios/
    scenario: String,
    /// Number of organisations instead of the scenario's
    #[arg(long, value_name = "N")]
    organisations: Option<std::num::NonZeroU64>,
    /// Seed instead of the scenario's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Use the backend of another plimsoll binary, or a reference-backend binary, instead of our own
    #[arg(long, value_name = "PATH")]
    backend: Option<PathBuf>,
    /// Build it even if it is kept already, and keep none
    #[arg(long)]
    fresh: bool,
    /// Disk that kept populations may take
    #[arg(long, value_name = "SIZE", env = "PLIMSOLL_POPULATIONS_MAX", default_value = "40 GiB")]
    populations_max: ByteSize,
}

impl From<SeedArgs> for RunArgs {
    fn from(args: SeedArgs) -> Self {
        Self {
            scenario: args.scenario,
            target: None,
            backend: args.backend,
            organisations: args.organisations,
            duration: None,
            split: Vec::new(),
            seed: args.seed,
            out: None,
            dry_run: false,
            fresh: args.fresh,
            populations_max: args.populations_max,
            keep_stack: false,
            no_audit: true,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum StackCommand {
    /// Show the populations that are kept for later runs
    List,
    /// Remove kept populations by their names, or the beginning of them
    Drop {
        /// Names, as `list` shows them
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Directory of a run, or its name in reports/
    pub(super) run: PathBuf,
}

/// Services of one process, as `--split` names them.
#[derive(Debug, Clone)]
pub(super) struct Services(pub(super) Vec<String>);

#[expect(clippy::unnecessary_wraps, reason = "the signature is clap's")]
fn services(text: &str) -> Result<Services, std::convert::Infallible> {
    Ok(Services(text.split(',').map(str::to_owned).collect()))
}
