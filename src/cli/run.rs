//! `plimsoll run`: resolves the plan, runs it, prints the summary, and turns the verdict into an exit code.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::RunArgs;
use super::exit::Exit;
use super::find::{self, FindError};
use super::output::{complain, print, summarise};
use super::progress::ConsoleProgress;
use crate::run::{self, Finished, Plan, RunError};
use crate::scenario::{Overrides, Problems, Scenario};

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("{0}")]
    Scenario(#[from] Problems),
    #[error("failed to find this program's own path: {0}")]
    OwnPath(#[source] std::io::Error),
    #[error("no program at {}\nhelp: --backend takes the path of a plimsoll binary", .0.display())]
    NoBackend(PathBuf),
}

/// Runs the command.
pub(super) fn execute(args: &RunArgs) -> Exit {
    let plan = match plan(args) {
        Ok(plan) => plan,
        Err(refusal) => return complain(&refusal, Exit::Usage),
    };
    if args.dry_run {
        print(&run::describe(&plan));
        return Exit::Pass;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, Exit::Internal),
    };
    match runtime.block_on(watched(&plan)) {
        Ok(finished) => summarise(&finished),
        Err(error) => complain(&error, exit_of(&error)),
    }
}

/// Runs the plan; Ctrl-C and SIGTERM end it in good order.
async fn watched(plan: &Plan) -> Result<Finished, RunError> {
    let progress = Arc::new(ConsoleProgress::new());
    let cancel = CancellationToken::new();
    let signals = tokio::spawn(cancel_on_signal(cancel.clone()));
    let result = run::run(plan, progress.clone(), cancel).await;
    signals.abort();
    progress.finish();
    result
}

/// The first signal asks for an orderly end. Later ones change nothing: the end is bounded in time, and cutting it
/// short would leave servers behind.
async fn cancel_on_signal(cancel: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
    }
}

fn plan(args: &RunArgs) -> Result<Plan, Refusal> {
    let found = find::scenario(&args.scenario)?;
    let overrides = Overrides {
        organisations: args.organisations,
        duration: args.duration,
        seed: args.seed,
        target_url: args.target.clone(),
    };
    let scenario = Scenario::parse(&found.file, &found.text)?.with(&overrides)?;
    let program = env::current_exe().map_err(Refusal::OwnPath)?;
    let started_at = Utc::now();
    let id = run::run_id(&scenario.name, started_at, salt());
    Ok(Plan {
        scenario_text: scenario.to_toml(),
        out: args.out.clone().unwrap_or_else(|| Path::new("reports").join(id.as_str())),
        backend: backend(args.backend.as_deref(), &program)?,
        audit: !args.no_audit,
        keep_stack: args.keep_stack,
        command: command_line(),
        scenario,
        id,
        started_at,
        program,
    })
}

fn backend(asked: Option<&Path>, own: &Path) -> Result<PathBuf, Refusal> {
    match asked {
        Some(path) => {
            path.canonicalize().ok().filter(|p| p.is_file()).ok_or(Refusal::NoBackend(path.into()))
        }
        None => Ok(own.to_owned()),
    }
}

/// Tells two runs of one second apart. Not part of what a seed repeats.
fn salt() -> u16 {
    let id = std::process::id();
    (id ^ (id >> 16)) as u16
}

/// The command as it was typed, quoted where a shell would need it.
fn command_line() -> String {
    let quote = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=%@+,".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let arguments = env::args().skip(1).map(quote);
    std::iter::once("plimsoll".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::Results(_) | RunError::Token(_) => Exit::Usage,
        RunError::Interrupted => Exit::Interrupted,
        RunError::Load(_) | RunError::Save(_) => Exit::Internal,
        _ => Exit::StackFailed,
    }
}
