//! `plimsoll stack`: what runs keep on this machine between them.

use super::args::StackCommand;
use super::exit::Exit;
use super::output::{complain, print};
use crate::stack::{Population, Populations, StackError, state_directory};
use crate::units::ByteSize;

/// Runs the command.
pub(super) fn execute(command: &StackCommand) -> Exit {
    let populations = Populations::below(&state_directory());
    let done = populations.list().map_err(Failure::Stack).and_then(|kept| match command {
        StackCommand::List => {
            print(&listing(&kept));
            Ok(())
        }
        StackCommand::Drop { ids, all } => remove(&populations, &kept, ids, *all),
    });
    match done {
        Ok(()) => Exit::Pass,
        Err(error @ Failure::Unknown(_)) => complain(&error, Exit::Usage),
        Err(error) => complain(&error, Exit::StackFailed),
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Stack(StackError),
    #[error(
        "no kept population has a name that begins with {0:?}, or several have\nhelp: `plimsoll stack list` shows their names"
    )]
    Unknown(String),
    #[error("in use by a run, and not dropped: {}\nhelp: wait for the run to end", .0.join(", "))]
    InUse(Vec<String>),
}

fn listing(kept: &[Population]) -> String {
    if kept.is_empty() {
        return "no populations are kept\n".to_owned();
    }
    let mut page = String::new();
    for population in kept {
        let part = |name: &str| {
            let found = population.key.iter().find(|(part, _)| part == name);
            found.map_or("?", |(_, value)| value.as_str())
        };
        let used = chrono::DateTime::<chrono::Utc>::from(population.used).format("%Y-%m-%d %H:%M");
        page.push_str(&format!(
            "{}  {:>9} organisations, {} months before {}, seed {}, PostgreSQL {}  {:>9}  used {used}\n",
            &population.id[..12.min(population.id.len())],
            part("organisations"),
            part("history_months"),
            part("anchor"),
            part("seed"),
            part("postgres"),
            population.size.to_string(),
        ));
    }
    let total = kept.iter().map(|population| population.size.get()).sum();
    page.push_str(&format!("{} in {} populations\n", ByteSize::new(total), kept.len()));
    page
}

fn remove(
    populations: &Populations,
    kept: &[Population],
    ids: &[String],
    all: bool,
) -> Result<(), Failure> {
    let mut chosen = Vec::new();
    for id in ids {
        let mut found = kept.iter().filter(|population| population.id.starts_with(id.as_str()));
        match (found.next(), found.next()) {
            (Some(population), None) => chosen.push(population),
            _ => return Err(Failure::Unknown(id.clone())),
        }
    }
    if all {
        chosen = kept.iter().collect();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    // What a run was killed over while it made or removed one is nobody's, and is dropped with any.
    runtime.block_on(populations.remove_leftovers()).map_err(Failure::Stack)?;
    let mut in_use = Vec::new();
    for population in chosen {
        let removed = runtime.block_on(populations.remove(population)).map_err(Failure::Stack)?;
        if removed {
            print(&format!("dropped {} ({})\n", population.id, population.size));
        } else {
            in_use.push(population.id.clone());
        }
    }
    if in_use.is_empty() { Ok(()) } else { Err(Failure::InUse(in_use)) }
}
