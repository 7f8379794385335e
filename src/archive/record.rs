//! The record of a run: facts only, every one with its unit.

use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use super::timeline::Timeline;
use crate::ids::RunId;

/// Everything that was measured. Judged by `gates`, rendered by `report`, both offline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Who, what, when.
    pub run: RunInfo,
    /// Which seconds of the axis are warm-up and which are measured.
    pub window: Window,
    /// The stages of the run in order, with their wall time.
    pub stages: Vec<Stage>,
    /// What was offered, sent and answered.
    pub load: LoadRecord,
    /// What was seen of the servers.
    pub timeline: Timeline,
    /// The ledger held against the databases; empty when no audit was made.
    pub audit: Vec<AuditCheck>,
    /// What happened that should not have: a process that died, an observer that failed.
    pub incidents: Vec<Incident>,
    /// The machine and the software on it.
    pub environment: Environment,
    /// What the same servers took from another program; `None` when that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yardstick: Option<Yardstick>,
}

/// What the servers take without the backend: each event in one plain statement and transaction, by PostgreSQL's own pgbench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Yardstick {
    /// `pgbench`.
    pub by: String,
    /// Connections, each with one transaction at a time.
    pub clients: u32,
    /// How long it ran.
    pub seconds: u32,
    /// Durable transactions per second, an event each; `None` when it could not be measured.
    pub transactions_per_s: Option<f64>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Who, what, when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Name of the run and of its directory.
    pub id: RunId,
    /// `name` of the scenario.
    pub scenario: String,
    /// `title` of the scenario.
    pub title: String,
    /// Seed as run.
    pub seed: u64,
    /// Organisations in the population as run; `None` against a target that has no population of ours.
    pub organisations: Option<u64>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Version of plimsoll that made the run.
    pub release: String,
    /// The command that repeats it.
    pub command: String,
}

/// The run's time axis, in whole seconds from the first intended arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Seconds `0..warm_up_s` are not judged.
    pub warm_up_s: usize,
    /// Seconds `warm_up_s..warm_up_s + measure_s` are.
    pub measure_s: usize,
}

impl Window {
    /// The judged seconds.
    pub fn measured(self) -> std::ops::Range<usize> {
        self.warm_up_s..self.end()
    }

    /// Length of the axis in seconds.
    pub fn end(self) -> usize {
        self.warm_up_s + self.measure_s
    }
}

/// One stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `provision`, `migrate`, `seed`, `replicate`, `warm-up`, `measure`, `audit` …
    pub name: String,
    /// Wall time, in seconds.
    pub seconds: f64,
}

/// What the workers offered, sent and were answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadRecord {
    /// In the scenario's order.
    pub operations: Vec<OperationRecord>,
    /// One entry per second of the axis, all operations together, plus any seconds of draining after it.
    pub seconds: Vec<LoadSecond>,
    /// goose's own count, to be held against ours; `None` when the worker did not live to give it.
    pub goose: Option<GooseCount>,
    /// How the worker ended.
    pub worker: WorkerEnd,
    /// Why requests failed, warm-up included: a row for each operation and reason, the most frequent first, at most
    /// [`FAILURES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// What the rarer reasons come to, when there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rarer_failures: Option<RarerFailures>,
}

/// As many reasons as anyone reads.
pub const FAILURES_MAX: usize = 50;

/// A reason for which requests of an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `name` in the scenario.
    pub operation: String,
    /// `unexpected status (status 503)`, `connection lost`, `no answer in time` …
    pub reason: String,
    /// How many requests.
    pub count: u64,
    /// Second of the axis in which the first of them was intended.
    pub first_s: usize,
    /// Second of the axis in which the last of them was intended.
    pub last_s: usize,
}

/// Failures for reasons that have no row of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RarerFailures {
    /// How many rows are left out.
    pub rows: u64,
    /// How many requests they counted.
    pub requests: u64,
}

/// How a worker ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum WorkerEnd {
    /// All arrivals were dealt with and the totals delivered.
    #[default]
    Finished,
    /// It died, fell silent or reported an error; what it had sent until then is recorded.
    Lost {
        /// What happened, with the worker's last words.
        detail: String,
    },
}

/// Requests by goose's own count over the whole run (warm-up included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GooseCount {
    /// Requests that goose counted as successful.
    pub ok: u64,
    /// Requests that goose counted as failed.
    pub failed: u64,
}

/// One operation over the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// `name` in the scenario.
    pub name: String,
    /// `service` in the scenario, for gates on each service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether an acknowledged request is a domain event.
    pub event: bool,
    /// One entry per second of the axis; a request belongs to the second of its *intended* time.
    pub seconds: Vec<OperationSecond>,
}

/// The arrivals of one operation that were intended within one second.
///
/// `intended = ok + errors + timeouts + dropped` once the run has drained; the validity check of the
/// accounting identity holds it against that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationSecond {
    /// Arrivals that the schedule asked for.
    pub intended: u64,
    /// Of those, requests sent (at whatever time).
    pub sent: u64,
    /// Answered as expected.
    pub ok: u64,
    /// Answered otherwise, or the connection failed.
    pub errors: u64,
    /// Not answered in time.
    pub timeouts: u64,
    /// Never sent: the cap on requests in flight, or the end of the run, came first.
    pub dropped: u64,
    /// Response time = done − intended, in µs, of every request that was sent, failed ones included.
    pub response: Distribution,
    /// Service time = done − sent, in µs, of the same requests.
    pub service: Distribution,
}

/// What the generator did within one second of the clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSecond {
    /// Requests sent within this second.
    pub sent: u64,
    /// Requests done within this second.
    pub done: u64,
    /// Commands acknowledged within this second.
    pub acknowledged: u64,
    /// Most requests in flight at once.
    pub in_flight_max: u64,
    /// Send lag = sent − intended, in µs, of the requests sent within this second.
    pub lag: Distribution,
    /// The generator's own part of it, in µs: sent − the later of intended and the moment since which the user that sent it
    /// was free. Waiting for a free user is the system's doing. Empty in an archive that does not have it.
    #[serde(default)]
    pub own_lag: Distribution,
}

/// A check of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditCheck {
    /// What must be true: `acknowledged commands are in the store exactly once`.
    pub check: String,
    /// Whether it is.
    pub state: AuditState,
    /// How many things were checked.
    pub count: u64,
    /// What was found, with the first few offenders when red.
    pub detail: String,
}

/// Whether a check of the audit held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditState {
    /// Checked and true.
    Green,
    /// Checked and false: the run fails.
    Red,
    /// Could not be checked, and why is in the detail.
    Grey,
}

/// Something that happened during a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Second of the axis, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<usize>,
    /// `backend`, `replica-1`, `worker`, `observer` …
    pub what: String,
    /// What happened, and where its log is.
    pub detail: String,
}

impl Incident {
    /// Whether `what` cannot be missed: without a process of the backend, or the primary, there is no system.
    pub fn is_of_the_system(what: &str) -> bool {
        what == "primary" || what == "backend" || what.starts_with("backend-")
    }
}

/// The machine and the software on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Model name of the processor.
    pub cpu: String,
    /// Processors usable.
    pub cores: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Version of the Postgres servers; `None` without a stack of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
    /// What the running primary and replicas say of their own settings (`SHOW`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postgres_settings: Vec<PostgresSetting>,
    /// What they say once the load is over: settings can be changed while servers run. A server that did not answer has none here,
    /// nor has an archive of an earlier release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postgres_settings_after: Vec<PostgresSetting>,
    /// Version of the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Commit of plimsoll, when it was built from a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether plimsoll was built with optimisation.
    pub optimised: bool,
}

/// A setting as a running server reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresSetting {
    /// `primary`, `replica-1` …; `primary, role app_rw` for a value that holds for that role alone.
    pub server: String,
    /// `fsync`, `synchronous_commit` …
    pub name: String,
    /// As `SHOW` prints it.
    pub value: String,
}
