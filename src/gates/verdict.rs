//! What judging a record gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::steps::Climb;

/// Three values: absence of evidence is neither a pass nor a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The line holds.
    Pass,
    /// The line does not hold.
    Fail,
    /// This run cannot tell.
    Inconclusive,
}

/// Unit of a figure, for people and for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// A fraction, 0 to 1.
    Ratio,
    /// Per second.
    PerSecond,
    /// A count.
    Count,
    /// Bytes.
    Bytes,
}

/// An observed figure with the number of samples behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// In `unit`.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// Requests, reads or seconds behind it.
    pub samples: u64,
}

/// One gate, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateOutcome {
    /// The rule as written: `p95 < 500ms`.
    pub gate: String,
    /// The operation that it was judged on, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The service that it was judged on, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What was observed, in `unit`; nothing when there is no data.
    pub observed: Option<f64>,
    /// The limit, in `unit`.
    pub limit: f64,
    /// Unit of both.
    pub unit: Unit,
    /// Samples behind the observation.
    pub samples: u64,
    /// Distance to the limit as a share of the limit: positive inside, negative outside.
    pub margin: Option<f64>,
    /// Pass, fail or inconclusive.
    pub verdict: Verdict,
    /// Why, when it is not a plain pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which way a fault of the measurement pushes the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// The system looks worse than it is: a pass stands, a fail becomes inconclusive.
    LooksWorse,
    /// The system looks better than it is: a fail stands, a pass becomes inconclusive.
    LooksBetter,
    /// Cannot be told: neither stands.
    Unknown,
}

/// Result of a validity check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Measured and good.
    Green,
    /// Measured and worth knowing.
    Amber,
    /// Measured and bad.
    Red,
    /// Not measured: never counted as good.
    Grey,
}

/// Which figures lose their ground when a check is red.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undermines {
    /// All of them.
    #[default]
    All,
    /// Those that rest on observation: the signals. What the client measured stands.
    Signals,
    /// The event rate alone.
    EventRate,
}

impl Undermines {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// One check of the run itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidityCheck {
    /// What was checked: `offered against achieved`.
    pub check: String,
    /// How it came out.
    pub state: CheckState,
    /// When red: which way it pushes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Bias>,
    /// Which figures a red one undermines.
    #[serde(default, skip_serializing_if = "Undermines::is_all")]
    pub undermines: Undermines,
    /// The figures, for people.
    pub detail: String,
}

/// A record, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict of the run: gates, then validity's direction, then audit.
    pub verdict: Verdict,
    /// The verdict in one sentence, naming what failed or what makes it inconclusive.
    pub headline: String,
    /// Every gate, in the scenario's order.
    pub gates: Vec<GateOutcome>,
    /// Every validity check.
    pub validity: Vec<ValidityCheck>,
    /// The signals by name (`cache_hit_ratio`, `projection_lag_ms_p99` …); one that could not be computed is absent.
    pub signals: BTreeMap<String, Figure>,
    /// The steps of a load that has them; what else is told here is of the step that the answer rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub climb: Option<Climb>,
}
