//! The checked scenario.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::steps::Steps;
use crate::units::{Micros, Rate, Ratio};

/// A scenario that may be run: every value checked, every name resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Short name; part of the run id.
    pub name: String,
    /// For people.
    pub title: String,
    /// Everything random derives from it.
    pub seed: u64,
    /// The synthetic organisations.
    pub population: PopulationSpec,
    /// What is driven.
    pub target: Target,
    /// When requests are sent.
    pub load: LoadSpec,
    /// What requests are sent, in the file's order; names are unique.
    pub operations: Vec<Operation>,
    /// What must hold, as written; every rule has been parsed once by the grammar of `gates`.
    pub gates: GateRules,
}

/// The synthetic organisations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PopulationSpec {
    /// How many.
    pub organisations: NonZeroU64,
    /// Whole months of history before the current one, 1 to 24.
    pub history_months: u8,
    /// Which organisations requests go to.
    pub busy: Skew,
}

/// How activity spreads over organisations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "law", rename_all = "snake_case")]
pub enum Skew {
    /// All alike.
    Uniform,
    /// The organisation of rank *k* gets a share ∝ 1/k^exponent; exponent above 0, at most 4.
    Zipf {
        /// The exponent.
        exponent: f64,
    },
}

/// What is driven.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// The bundled backend on a stack that the run starts.
    Reference(ReferenceTarget),
    /// Any HTTP service that already runs.
    Http(HttpTarget),
}

/// The bundled backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceTarget {
    /// Streaming replicas, 0 to 8.
    pub replicas: u8,
    /// Loopback port of the backend; `None` lets the system choose a free one.
    pub port: Option<u16>,
    /// Services that processes of their own host, one list a process; the first process hosts all others, takes every
    /// request and passes on what it does not host. Empty: one process hosts all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Vec<String>>,
    /// The outside channel manager that a run plays beside it; `None`: there is none, and the service `ota` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_manager: Option<ChannelManager>,
}

/// A stand-in for the channel manager, and how well it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChannelManager {
    /// Time that each answer takes; whole milliseconds, at most a minute.
    pub delay: Micros,
    /// Share of calls answered 500, spread evenly.
    pub error_rate: Ratio,
}

impl fmt::Display for ChannelManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay, error_rate } = self;
        write!(f, "a channel manager (delay {delay}, error rate {error_rate})")
    }
}

/// What the processes of a backend are called that is split into one and so many further ones: by whoever starts, watches or
/// judges them.
pub fn backend_processes(further: usize) -> Vec<String> {
    let first = std::iter::once("backend".to_owned());
    first.chain((2..).map(|number| format!("backend-{number}")).take(further)).collect()
}

impl ReferenceTarget {
    /// How many processes it runs in, in words.
    pub fn processes(&self) -> String {
        match self.split.len() {
            0 => "one process".to_owned(),
            further => format!("{} processes", further + 1),
        }
    }

    /// What of the outside world is played beside it, in words that go on from others; nothing if nothing is.
    pub fn beside(&self) -> String {
        self.channel_manager.map_or_else(String::new, |manager| format!(", beside {manager}"))
    }
}

/// Any HTTP service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpTarget {
    /// Base address; a request's path is appended.
    pub url: String,
    /// Where its Prometheus figures are, if anywhere.
    pub metrics: Option<String>,
    /// Name of the environment variable that holds a bearer token to send, if any; the token itself is never
    /// part of a scenario.
    pub bearer_token_env: Option<String>,
    /// Which series are which signal.
    pub signals: Signals,
}

/// Which series of the target are which signal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// By the signal's name: `cache_hit_ratio`, `replica_share`, `projection_lag_ms` …
    pub sources: BTreeMap<String, SignalSource>,
}

/// How a signal is computed from series over the measured window. A selector is written as in Prometheus:
/// `name{label="value",other=~"a|b"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum SignalSource {
    /// Increase of `part` over increase of `of` (each summed over all matching series).
    Ratio {
        /// Selector of the numerator.
        part: String,
        /// Selector of the denominator.
        of: String,
    },
    /// Increase per second of all matching series together.
    Rate {
        /// Selector.
        of: String,
    },
    /// A gauge: at each second the largest of the matching series; percentiles are over the seconds.
    Gauge {
        /// Selector.
        of: String,
        /// Factor to the signal's unit (1000 from seconds to ms).
        scale: f64,
    },
    /// A quantile of a Prometheus histogram's increase, interpolated within its bucket.
    Histogram {
        /// Selector of the histogram, without `_bucket`.
        of: String,
        /// 0 to 1.
        quantile: f64,
        /// Factor to the signal's unit (1000 from seconds to ms).
        scale: f64,
    },
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSpec {
    /// Spacing of arrivals.
    pub arrivals: Arrivals,
    /// Not judged; whole seconds.
    pub warm_up: Micros,
    /// Judged; whole seconds, at least one. With steps, all of them together.
    pub measure: Micros,
    /// One rate after another, upwards, until a gate breaks; each judged by itself. During the warm-up the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    /// What the servers are measured with besides, once the load is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yardstick: Option<YardstickProgram>,
    /// Most requests in flight at once; what cannot be sent for it in time is counted as dropped.
    pub in_flight_max: u32,
    /// A request without an answer for this long is a time-out.
    pub timeout: Micros,
}

/// A program that a load is held beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum YardstickProgram {
    /// PostgreSQL's own: each event in one plain statement.
    Pgbench,
}

/// Spacing of arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Even spacing.
    Constant,
    /// Exponential gaps: independent users.
    Poisson,
}

/// One named kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Letters, digits, spaces and hyphens (it becomes a tag of the histogram log).
    pub name: String,
    /// The service that answers it, for gates on each service.
    pub service: Option<String>,
    /// Offered rate.
    pub rate: Rate,
    /// What is sent.
    pub request: RequestSpec,
    /// What is a good answer.
    pub expect: Expect,
    /// Whether a good answer acknowledges a domain event: it gets a command id and a line in the ledger.
    pub event: bool,
}

/// What is sent. Texts may hold placeholders in braces: see [`Placeholder`](super::Placeholder).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestSpec {
    /// Method.
    pub method: Method,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Body, sent as JSON. A string that is one placeholder alone takes the placeholder's own type, so
    /// `"{amount}"` becomes a number.
    pub json: Option<serde_json::Value>,
}

/// HTTP methods that a scenario may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
    /// HEAD
    Head,
}

/// What is a good answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// Accepted status codes; never empty.
    pub status: Vec<u16>,
    /// A text that the body must contain, if any (no placeholders).
    pub body_contains: Option<String>,
}

/// What must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GateRules {
    /// On the whole run.
    pub all: Vec<String>,
    /// On each operation by itself.
    pub each_operation: Vec<String>,
    /// On each service by itself.
    pub each_service: Vec<String>,
    /// On one operation, by its name.
    pub operation: BTreeMap<String, Vec<String>>,
}
