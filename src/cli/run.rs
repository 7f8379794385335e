//! `plimsoll run`: resolves the plan, runs it, prints the summary, and turns the verdict into an exit code.

use std::env;
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::args::RunArgs;
use super::exit::Exit;
use super::find::{self, FindError};
use super::output::{complain, print, summarise};
use super::watched::{exit_of, watched};
use crate::run::{self, Check, Plan};
use crate::scenario::{Overrides, Problems, Scenario, Target};
use crate::stack::BackendProgram;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("{0}")]
    Scenario(#[from] Problems),
    #[error("failed to find this program's own path: {0}")]
    OwnPath(#[source] std::io::Error),
    #[error("no program at {}\nhelp: --backend takes the path of a plimsoll or reference-backend binary", .0.display())]
    NoBackend(PathBuf),
    #[error(
        "{0} is for a stack of the run's own, and this scenario drives a service that already runs\n\
         help: leave it out"
    )]
    NoStack(&'static str),
}

/// Runs the command.
pub(super) fn execute(args: &RunArgs) -> Exit {
    let plan = match plan(args) {
        Ok(plan) => plan,
        Err(refusal) => return complain(&refusal, Exit::Usage),
    };
    if args.dry_run {
        return rehearse(&plan);
    }
    match watched(|progress, cancel| run::run(&plan, progress, cancel)) {
        Ok(finished) => summarise(&finished),
        Err(exit) => exit,
    }
}

/// Prints the plan and what a run would find before it starts anything; ends as that run would.
fn rehearse(plan: &Plan) -> Exit {
    let mut page = run::describe(plan);
    page.push_str("\nchecks\n");
    let mut problems = Vec::new();
    for Check { what, found } in run::check(plan) {
        let found = found.unwrap_or_else(|problem| {
            problems.push(problem);
            "not as a run needs it".to_owned()
        });
        page.push_str(&format!("  {what:<18} {found}\n"));
    }
    print(&page);
    let exits = problems.iter().map(|problem| complain(problem, exit_of(problem)));
    // All are told; the first is the one at which a run would end.
    exits.collect::<Vec<_>>().first().copied().unwrap_or(Exit::Pass)
}

/// What the arguments mean on this machine.
pub(super) fn plan(args: &RunArgs) -> Result<Plan, Refusal> {
    let found = find::scenario(&args.scenario)?;
    let overrides = Overrides {
        organisations: args.organisations,
        duration: args.duration,
        seed: args.seed,
        target_url: args.target.clone(),
        split: args.split.iter().map(|process| process.0.clone()).collect(),
    };
    let scenario = Scenario::parse(&found.file, &found.text)?.with(&overrides)?;
    if matches!(scenario.target, Target::Http(_)) {
        refuse_stack_options(args)?;
    }
    let program = env::current_exe().map_err(Refusal::OwnPath)?;
    let started_at = Utc::now();
    let id = run::run_id(&scenario.name, started_at, salt());
    Ok(Plan {
        scenario_text: scenario.to_toml(),
        out: args.out.clone().unwrap_or_else(|| Path::new("reports").join(id.as_str())),
        backend: backend(args.backend.as_deref(), &program)?,
        audit: !args.no_audit,
        keep_populations: (!args.fresh).then_some(args.populations_max),
        keep_stack: args.keep_stack,
        command: command_line(),
        scenario,
        id,
        started_at,
        program,
    })
}

fn refuse_stack_options(args: &RunArgs) -> Result<(), Refusal> {
    let options = [("--backend", args.backend.is_some()), ("--keep-stack", args.keep_stack)];
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Refusal::NoStack(option)),
        None => Ok(()),
    }
}

fn backend(asked: Option<&Path>, own: &Path) -> Result<BackendProgram, Refusal> {
    let Some(path) = asked else { return Ok(BackendProgram::of_plimsoll(own.to_owned())) };
    let program = path.canonicalize().ok().filter(|program| program.is_file());
    program.map(BackendProgram::at).ok_or_else(|| Refusal::NoBackend(path.to_owned()))
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
