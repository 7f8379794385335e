//! A program of ours that serves: how it is called, started, and waited for until it says on one line where it listens.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;

use super::error::StackError;
use super::log::Evidence;
use super::postgres::Site;
use super::process::{Launch, Process};
use super::spec::BackendProgram;
use super::wait::{Seen, TimedOut, wait_for};
use crate::archive::Incident;
use crate::scenario::ProcessGroup;

/// How much of an answer an error quotes.
const QUOTED_CHARS_MAX: usize = 300;
/// How often a starting program is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// A running program that has said where it listens.
#[derive(Debug)]
pub(super) struct Program {
    /// In incidents and process groups, and the name of its log.
    pub(super) name: String,
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub(super) url: String,
    /// Version of the backend's schema that it knows.
    pub(super) schema: u64,
    /// As it announced it.
    pub(super) version: String,
    command: String,
    process: Process,
    start_limit: Duration,
    stop_limit: Duration,
}

/// Its one line on stdout.
#[derive(Debug, Deserialize)]
struct Announcement {
    event: String,
    url: String,
    schema: u64,
    version: String,
}

impl Program {
    /// Starts it and waits for its line. One that dies instead is noticed by whoever supervises the start.
    pub(super) async fn start(
        site: &Site,
        name: &str,
        command: Command,
    ) -> Result<Self, StackError> {
        let stdout = site.directory.join(format!("{name}.stdout"));
        let (start_limit, stop_limit) = (site.limits.backend_start, site.limits.backend_stop);
        let shown = shown(&command);
        let process = Process::start(Launch {
            name: name.to_owned(),
            command,
            log: site.log(name),
            stdout: Some(create(&stdout)?),
            abrupt: Signal::SIGKILL,
            incidents: Some(site.incidents.clone()),
        })?;
        let error = |problem| not_started(name, problem, shown.clone(), process.evidence());
        let announced = announcement(&stdout, start_limit).await?.map_err(error)?;
        let Announcement { url, schema, version, .. } = announced;
        let (name, url) = (name.to_owned(), url.trim_end_matches('/').to_owned());
        Ok(Self { name, url, schema, version, command: shown, process, start_limit, stop_limit })
    }

    /// Waits until its health route says that it is ready.
    pub(super) async fn ready(&self) -> Result<(), StackError> {
        let address = format!("{}/health/ready", self.url);
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| self.not_started(error.to_string()))?;
        let ready = wait_for(self.start_limit, LOOK_INTERVAL, || async {
            let last = match client.get(&address).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(Seen::Done(())),
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.text().await.unwrap_or_default();
                    let quoted: String = body.chars().take(QUOTED_CHARS_MAX).collect();
                    format!("{address} answered {status}: {quoted}")
                }
                Err(error) => format!("{address}: {error}"),
            };
            Ok(Seen::NotYet(last))
        });
        ready.await?.map_err(|timed_out| self.not_started(said(timed_out)))
    }

    fn not_started(&self, problem: String) -> StackError {
        not_started(&self.name, problem, self.command.clone(), self.process.evidence())
    }

    pub(super) fn process_group(&self) -> ProcessGroup {
        ProcessGroup { name: self.name.clone(), pid: self.process.pid() }
    }

    /// Asks it to drain and end. It may fail to: that is an incident, and the others are stopped all the same.
    pub(super) async fn stop(self) -> Result<(), Incident> {
        let limit = self.stop_limit;
        let problem = match self.process.stop(Signal::SIGTERM, limit).await {
            Some(status) if status.success() => return Ok(()),
            Some(status) => format!("asked to stop, it ended with {status}"),
            None => format!("it did not drain within {limit:?}, so it was killed"),
        };
        let detail = format!("{problem}\n{}", self.process.evidence());
        Err(Incident { second: None, what: self.name, detail })
    }
}

/// Waits for the line; else what was there instead.
async fn announcement(
    stdout: &Path,
    limit: Duration,
) -> Result<Result<Announcement, String>, StackError> {
    let announced = wait_for(limit, LOOK_INTERVAL, || async {
        let text = fs::read_to_string(stdout).unwrap_or_default();
        let Some((line, _)) = text.split_once('\n') else {
            return Ok(Seen::NotYet("it has announced nothing on stdout".to_owned()));
        };
        Ok(Seen::Done(match serde_json::from_str::<Announcement>(line) {
            Ok(announced) if announced.event == "listening" => Ok(announced),
            _ => Err(format!("its first line on stdout is not an announcement: {line}")),
        }))
    });
    Ok(announced.await?.unwrap_or_else(|timed_out| Err(said(timed_out))))
}

fn said(TimedOut { limit, last }: TimedOut) -> String {
    format!("not ready within {limit:?}; last: {last}")
}

/// The error of a program that died before it was ready.
pub(super) fn died_early(
    name: &str,
    command: &Command,
    status: ExitStatus,
    evidence: Evidence,
) -> StackError {
    let problem = format!("it ended with {status} before it was ready");
    not_started(name, problem, shown(command), evidence)
}

fn not_started(name: &str, problem: String, command: String, evidence: Evidence) -> StackError {
    StackError::NotStarted { what: name.to_owned(), problem, command, evidence }
}

/// A command of the backend's program.
pub(super) fn command(backend: &BackendProgram, act: &str) -> Command {
    let mut command = Command::new(&backend.program);
    command.args(&backend.args).arg(act);
    // Its log is read by people in files.
    command.env("NO_COLOR", "1");
    // libpq's variables would reach around the configuration.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

/// The command as one would type it; without the environment, which may hold a key.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn create(path: &Path) -> Result<File, StackError> {
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
    file.map_err(|source| StackError::Io { act: "make", path: PathBuf::from(path), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_without_its_environment() {
        let program =
            BackendProgram { program: "/p".into(), args: vec!["reference-backend".into()] };
        let mut command = command(&program, "serve");
        command.arg("--config").arg("/c.toml").env("TOKEN_SECRET", "secret");
        assert_eq!(shown(&command), "/p reference-backend serve --config /c.toml");
    }
}
