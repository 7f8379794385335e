//! A target that runs: what the stages of a run need to know of it. Never archived: it holds a secret.

use std::path::PathBuf;

use secrecy::SecretString;

/// Where everything is, once the stack stands (or the foreign service has been reached).
#[derive(Debug, Clone)]
pub struct LiveTarget {
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub base_url: String,
    /// Where the Prometheus figures are: one for each process of the target that gives some.
    pub metrics: Vec<MetricsEndpoint>,
    /// Key with which organisation-scoped tokens are signed (reference target only).
    pub token_secret: Option<SecretString>,
    /// The Postgres servers, primary first; empty against a foreign service.
    pub postgres: Vec<PostgresEndpoint>,
    /// Processes whose use of the machine is recorded.
    pub processes: Vec<ProcessGroup>,
}

/// Where a process gives its Prometheus figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// `backend`, `backend-2` … Where there are several, their series are told apart by it, as the label `process`.
    pub process: String,
    /// Address of the figures.
    pub url: String,
}

/// A Postgres server on a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresEndpoint {
    /// `primary`, `replica-1`, `replica-2` …
    pub name: String,
    /// Directory of the socket.
    pub socket_dir: PathBuf,
    /// Port: part of the socket's name.
    pub port: u16,
    /// Superuser of the cluster; the socket's directory is closed to other users.
    pub superuser: String,
    /// Role that observation uses, so that its own statements can be told from the backend's.
    pub monitor_role: String,
}

/// A process and all its descendants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessGroup {
    /// `backend`, `primary`, `replica-1`, `generator` …
    pub name: String,
    /// Root of the tree.
    pub pid: u32,
}
