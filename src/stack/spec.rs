//! What stack is wanted.

use std::path::PathBuf;
use std::time::Duration;

use super::binaries::PostgresBinaries;
use crate::ids::RunId;
use crate::scenario::ChannelManager;

/// Name of the backend as a program, and as a command of plimsoll.
const COMMAND: &str = "reference-backend";

/// What stack is wanted.
#[derive(Debug, Clone)]
pub struct StackSpec {
    /// Names the stack's directory.
    pub run: RunId,
    /// The Postgres to run.
    pub binaries: PostgresBinaries,
    /// Streaming replicas, 0 to 8.
    pub replicas: u8,
    /// The program that is the backend.
    pub backend: BackendProgram,
    /// Loopback port of the backend; `None` lets the system choose a free one.
    pub backend_port: Option<u16>,
    /// Services that further processes host, one list a process; the first hosts all others and passes on to them.
    pub backend_split: Vec<Vec<String>>,
    /// The outside channel manager that is played beside the backend, if any.
    pub channel_manager: Option<ChannelManager>,
    /// Whole months of history for which the backend makes partitions.
    pub history_months: u8,
    /// Below which the stack's own directory is made: usually [`super::state_directory`]. On a real disk, and
    /// short: the path of a socket in it is limited to 107 bytes.
    pub directory: PathBuf,
    /// Where the logs are written. A clean stop removes them; any other end leaves them.
    pub log_dir: PathBuf,
    /// Whether data and logs stay after a clean stop.
    pub keep: bool,
    /// How long each step may take.
    pub limits: Limits,
}

/// The program that is the backend. It is called with `args`, then `migrate` or `serve`, then `--config FILE`; with `args`, then
/// `ota-stub`, to stand in for the channel manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendProgram {
    /// Path of the program.
    pub program: PathBuf,
    /// Arguments before the command.
    pub args: Vec<String>,
}

impl BackendProgram {
    /// The backend that a plimsoll binary has as a command of its own.
    pub fn of_plimsoll(program: PathBuf) -> Self {
        Self { program, args: vec![COMMAND.to_owned()] }
    }

    /// Another release: a `reference-backend` is the backend itself; any other program is taken for a plimsoll,
    /// whatever its file is called.
    pub fn at(program: PathBuf) -> Self {
        match program.file_name().is_some_and(|name| name == COMMAND) {
            true => Self { program, args: Vec::new() },
            false => Self::of_plimsoll(program),
        }
    }
}

/// How long each step may take before it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `initdb`, and the backend's `migrate`.
    pub tool: Duration,
    /// From starting a server until it accepts connections.
    pub server_start: Duration,
    /// From asking a server to stop until it is gone; a stop writes everything that is not on disk yet.
    pub server_stop: Duration,
    /// One statement of ours; a checkpoint after a large population is the longest.
    pub statement: Duration,
    /// Copying a stopped server's data, to a replica or from a population that was kept.
    pub copy: Duration,
    /// From starting a replica until it streams and has replayed what the primary had.
    pub catch_up: Duration,
    /// From starting the backend, or what is played beside it, until it listens, and again until it is ready.
    pub backend_start: Duration,
    /// From asking the backend, or what is played beside it, to stop until it has drained.
    pub backend_stop: Duration,
}

impl Default for Limits {
    /// Generous: a slow disk is not a failure. Only a step that hangs reaches them.
    fn default() -> Self {
        Self {
            tool: Duration::from_secs(120),
            server_start: Duration::from_secs(60),
            server_stop: Duration::from_secs(300),
            statement: Duration::from_secs(300),
            copy: Duration::from_secs(1800),
            catch_up: Duration::from_secs(300),
            backend_start: Duration::from_secs(60),
            backend_stop: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plimsoll_is_one_whatever_its_file_is_called() {
        for name in ["/opt/plimsoll", "/tmp/pl-0.2", "/ci/candidate", "/a/reference-backend-old/x"]
        {
            assert_eq!(BackendProgram::at(name.into()).args, ["reference-backend"], "{name}");
        }
        assert!(BackendProgram::at("/opt/reference-backend".into()).args.is_empty());
    }
}
