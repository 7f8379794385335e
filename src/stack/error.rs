//! What can go wrong with a stack. Messages read after "failed to bring up the stack: ".

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::log::Evidence;
use crate::units::ByteSize;

/// Why there is no stack. Each names the act and the object, and ends with a `help:` line.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No Postgres server programs anywhere we know to look.
    #[error(
        "find PostgreSQL {minimum} or newer: looked in\n{}\n\
         help: install it (Debian, Ubuntu: apt install postgresql postgresql-contrib; Fedora: dnf install \
         postgresql-server postgresql-contrib; macOS: brew install postgresql@17), or set PLIMSOLL_PG_BIN to the \
         directory that holds `postgres` and `initdb`",
        indented(looked)
    )]
    PostgresNotFound {
        /// Oldest major version that will do.
        minimum: u32,
        /// Everything that was looked at, with what was found there.
        looked: Vec<String>,
    },
    /// There is a Postgres, but too old a one.
    #[error(
        "use PostgreSQL {found} in {}: version {minimum} or newer is needed\n\
         help: install a newer one beside it, or set PLIMSOLL_PG_BIN to the directory of a newer one",
        directory.display()
    )]
    PostgresTooOld {
        /// Version found.
        found: String,
        /// Oldest major version that will do.
        minimum: u32,
        /// Where.
        directory: PathBuf,
    },
    /// The machine cannot carry it; all problems at once.
    #[error("{}", joined(.0))]
    Preflight(Vec<PreflightProblem>),
    /// As root, there is nobody to run Postgres as.
    #[error(
        "choose a user for the servers: PostgreSQL refuses to run as root, and there is no user {tried}\n\
         help: set PLIMSOLL_PG_USER to an unprivileged user, or do not run as root"
    )]
    NoAccount {
        /// Which were tried.
        tried: String,
    },
    /// The state directory belongs to somebody else, or others may write into it.
    #[error(
        "use the state directory {}: {problem}\n\
         help: remove it, or set PLIMSOLL_STATE_DIR to a directory of your own",
        directory.display()
    )]
    StateDirectory {
        /// Which.
        directory: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process owns what we wait for.
    #[error(
        "lock {}: another process still held it after {limit:?}\n\
         help: wait for the other run to end, or end it",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we tried.
        limit: Duration,
    },
    /// The path of a socket would not fit into an address.
    #[error(
        "make sockets in {}: the path takes {bytes} bytes, and a socket's path may have 107\n\
         help: set PLIMSOLL_STATE_DIR to a shorter path",
        directory.display()
    )]
    SocketPathTooLong {
        /// Directory of the sockets.
        directory: PathBuf,
        /// Length of the longest socket's path.
        bytes: usize,
    },
    /// A program could not be started at all.
    #[error("start {what} ({}): {source}\nhelp: {}", program.display(), start_help(source))]
    Spawn {
        /// `primary`, `initdb` …
        what: String,
        /// Its program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error(
        "initialise the primary: {failure}\nhelp: the lines above say why; free space, or correct what they name"
    )]
    Initdb {
        /// How, with its last words.
        failure: ToolFailure,
    },
    /// `initdb --sync-only` failed.
    #[error(
        "write the population to disk: {failure}\nhelp: check the disk: its errors are in the kernel's log (dmesg)"
    )]
    Sync {
        /// How, with its last words.
        failure: ToolFailure,
    },
    /// A stopped server's data could not be copied.
    #[error("copy the data {what}: {failure}\nhelp: free disk space, or ask for fewer replicas")]
    Copy {
        /// From or to what.
        what: String,
        /// How, with its last words.
        failure: ToolFailure,
    },
    /// The backend's migrations failed.
    #[error(
        "migrate the databases: {failure}\nhelp: run the backend of the release that this harness belongs to, or correct what the lines above name"
    )]
    Migrate {
        /// How, with its last words.
        failure: ToolFailure,
    },
    /// A server ended unasked.
    #[error(
        "keep {server} running: it ended with {status}\n{evidence}\nhelp: {}",
        death_help(evidence)
    )]
    ServerDied {
        /// `primary`, `replica-1` …
        server: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        evidence: Evidence,
    },
    /// A server runs but does not accept connections.
    #[error(
        "connect to {server}: not within {limit:?}; last: {last}\n{evidence}\nhelp: is the disk slow or the machine overloaded? The log says how far the server came"
    )]
    ServerNotUp {
        /// `primary`, `replica-1` …
        server: String,
        /// How long we waited.
        limit: Duration,
        /// The last answer.
        last: String,
        /// Its last words.
        evidence: Evidence,
    },
    /// A server did not stop when asked, and was killed.
    #[error(
        "stop {server}: not within {limit:?}, so it was killed\n{evidence}\nhelp: is the disk slow? A clean stop writes everything that is not on disk yet"
    )]
    ServerNotStopped {
        /// `primary`, `replica-1` …
        server: String,
        /// How long we waited.
        limit: Duration,
        /// Its last words.
        evidence: Evidence,
    },
    /// Replicas did not catch up.
    #[error(
        "wait for the replicas to stream: not within {limit:?}; last: {last}\n{evidence}\nhelp: a replica that cannot keep up while nothing happens will not keep up under load: check the disk, or ask for fewer replicas"
    )]
    ReplicaBehind {
        /// How long we waited.
        limit: Duration,
        /// State and distance of each replica, as last seen.
        last: String,
        /// Last words of the first replica that is behind.
        evidence: Evidence,
    },
    /// The backend, or what is played beside it, did not come up.
    #[error(
        "start the {what}: {problem}\n{evidence}\nhelp: the lines above say why; it was called as `{command}`"
    )]
    NotStarted {
        /// `backend`, `backend-2`, `channel-manager` …
        what: String,
        /// What it did instead.
        problem: String,
        /// How it was called.
        command: String,
        /// Its last words.
        evidence: Evidence,
    },
    /// The backend's databases have another shape than this harness loads and audits.
    #[error("use the backend {}: it has schema {found}, and this harness knows schema {expected}\nhelp: use the backend and the harness of one release", program.display())]
    BackendSchema {
        /// Schema version that it announced.
        found: u64,
        /// The one that population and audit know.
        expected: u64,
        /// Its program.
        program: PathBuf,
    },
    /// A statement failed on a server.
    #[error("{act} on {server}: {source}\nhelp: {}", sql_help(source))]
    Sql {
        /// What it was for.
        act: &'static str,
        /// `primary`, `replica-1` …
        server: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// A server did not answer a statement.
    #[error(
        "{act} on {server}: no answer within {limit:?}\n{evidence}\nhelp: is the disk slow or the machine overloaded? The log says what the server is busy with"
    )]
    Unanswered {
        /// What the statement was for.
        act: &'static str,
        /// `primary`, `replica-1` …
        server: String,
        /// How long we waited.
        limit: Duration,
        /// Its last words.
        evidence: Evidence,
    },
    /// A file or directory could not be dealt with.
    #[error("{act} {}: {source}\nhelp: check that the path is writable by this user, and its disk not full", path.display())]
    Io {
        /// What it was for.
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody asked us to stop.
    #[error("{act}: interrupted\nhelp: everything was stopped and removed; start the run again")]
    Cancelled {
        /// What was interrupted.
        act: &'static str,
    },
}

/// A tool that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolFailure {
    /// It ended with an error.
    Failed {
        /// `initdb`, `cp` …
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        evidence: Evidence,
    },
    /// It did not end, and was killed.
    TimedOut {
        /// `initdb`, `cp` …
        tool: String,
        /// How long it was given.
        limit: Duration,
        /// Its last words.
        evidence: Evidence,
    },
}

impl StackError {
    /// Whether more room on the disk is all that is asked for.
    pub fn lacks_disk_alone(&self) -> bool {
        let Self::Preflight(problems) = self else { return false };
        matches!(problems[..], [PreflightProblem::Disk { .. }])
    }
}

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { tool, status, evidence } => {
                write!(f, "{tool} ended with {status}\n{evidence}")
            }
            Self::TimedOut { tool, limit, evidence } => {
                write!(f, "{tool} did not end within {limit:?}\n{evidence}")
            }
        }
    }
}

/// Something that the machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreflightProblem {
    /// Too little room for the data.
    #[error("keep the data in {}: {needed} are needed, {free} are free\nhelp: free space there (`plimsoll stack list` shows the populations that are kept, `plimsoll stack drop` removes them), set PLIMSOLL_STATE_DIR to a larger disk, or ask for fewer organisations or replicas", directory.display())]
    Disk {
        /// Where the data would be.
        directory: PathBuf,
        /// What is needed.
        needed: ByteSize,
        /// What is free to this user.
        free: ByteSize,
    },
    /// Too little memory.
    #[error(
        "hold the servers in memory: {needed} are needed, {available} are available\nhelp: end other programs, or ask for fewer replicas"
    )]
    Memory {
        /// What is needed.
        needed: ByteSize,
        /// What is available without swapping, within the limit of our control group.
        available: ByteSize,
    },
    /// The limit on open files is too low, and may not be raised.
    #[error(
        "open {needed} files at once: the hard limit is {hard}\nhelp: raise it (ulimit -Hn {needed}, LimitNOFILE= of the service, or --ulimit nofile={needed} of the container)"
    )]
    OpenFiles {
        /// What is needed.
        needed: u64,
        /// The hard limit.
        hard: u64,
    },
    /// The backend's port is not free.
    #[error(
        "listen on 127.0.0.1:{port}: {problem}\nhelp: find who has it with `ss -ltnp 'sport = :{port}'` and end that, or give the target another port, or none to have a free one chosen"
    )]
    Port {
        /// Which.
        port: u16,
        /// What the system said.
        problem: String,
    },
}

fn joined(problems: &[PreflightProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn start_help(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "there is no such program: check the path",
        io::ErrorKind::PermissionDenied => {
            "the user that runs it may not: check the permissions of the program and of every directory above it"
        }
        _ => "check that the program can be run by hand",
    }
}

fn death_help(evidence: &Evidence) -> &'static str {
    if evidence.mentions("pg_stat_statements") {
        "the extension pg_stat_statements is missing: install PostgreSQL's contrib package (Fedora: dnf install postgresql-contrib)"
    } else if evidence.mentions("No space left") {
        "the disk is full: free space, or set PLIMSOLL_STATE_DIR to a larger disk"
    } else if evidence.mentions("shared memory") {
        "the system refused shared memory: give the container more (--shm-size), or end other servers"
    } else {
        "the lines above say why; a server killed by signal 9 that left no word was most likely short of memory (dmesg)"
    }
}

fn sql_help(source: &sqlx::Error) -> &'static str {
    match source {
        sqlx::Error::Io(_) => "the connection broke: the server's log says whether it died",
        _ => "the server's message above names the cause",
    }
}
