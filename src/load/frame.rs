//! The words between a session and its worker: one JSON object a line.
//!
//! ```text
//! session → worker (stdin)    plan                go                          stop
//! worker → session (stdout)          ready            started   second second …    stopped second … second done
//! ```
//! `stop` is said at most once, and seldom: when the load is to end before its schedule does.
//!
//! At any time the worker may say `failed` instead and end. When stdin closes, the session is gone and the worker ends
//! at once. The plan is the only place where a token's secret leaves the session, and this pipe the only way it goes.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::schedule::Shard;
use super::tally::Tally;
use super::token::Auth;
use crate::archive::GooseCount;
use crate::ids::RunId;
use crate::scenario::Scenario;

/// Version of these words. A worker of another version refuses the plan.
pub const PROTOCOL: u32 = 2;

/// Time between `go` and second 0, in ms: enough for every thread to be waiting.
pub(crate) const LEAD_MS: u64 = 500;

/// Everything that a worker has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerPlan {
    /// [`PROTOCOL`] of the session.
    pub protocol: u32,
    /// As run: seed, population, load and operations are final.
    pub scenario: Scenario,
    /// Command ids derive from it.
    pub run: RunId,
    /// Where requests go: `http://127.0.0.1:PORT`, without a slash at the end.
    pub base_url: String,
    /// What is sent as `Authorization`.
    pub auth: Auth,
    /// Which arrivals are this worker's.
    pub shard: Shard,
    /// The day of the run, UTC.
    pub today: NaiveDate,
}

/// What a session says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Get ready for this.
    Plan(Box<WorkerPlan>),
    /// Second 0 is [`LEAD_MS`] from now.
    Go,
    /// Send nothing that is intended later than the second that has begun.
    Stop,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Frame {
    /// All users are up and wait for arrivals.
    Ready,
    /// The order to go was heard.
    Started {
        /// When second 0 is, in µs since the Unix epoch.
        unix_us: u64,
    },
    /// The order to stop was heard: the schedule is cut, and what it holds until then is dealt with.
    Stopped {
        /// Nothing intended in this second or later is sent.
        second: usize,
    },
    /// What was recorded since the last frame; comes every second, even when there was nothing.
    Second(Tally),
    /// Every arrival of the worker's shard was dealt with.
    Done {
        /// What goose counted.
        goose: GooseCount,
        /// Arrivals accounted for in all `second` frames together.
        arrivals: u64,
    },
    /// The worker cannot go on, and ends.
    Failed {
        /// Why, with a remedy.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::testing;

    #[test]
    fn a_plan_survives_the_pipe_and_shows_no_secret_when_printed() {
        let mut plan = testing::plan(testing::scenario(&[5.0], 1), "http://127.0.0.1:9");
        plan.auth = Auth::Organisation { secret: "hidden".into() };
        let order = Order::Plan(Box::new(plan));
        let text = serde_json::to_string(&order).unwrap();
        let back: Order = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert!(text.contains("hidden") && !format!("{order:?}").contains("hidden"));
    }

    #[test]
    fn frames_keep_their_names() {
        let done = Frame::Done { goose: GooseCount { ok: 2, failed: 1 }, arrivals: 3 };
        let text = serde_json::to_string(&done).unwrap();
        assert_eq!(text, r#"{"frame":"done","goose":{"ok":2,"failed":1},"arrivals":3}"#);
        assert_eq!(serde_json::to_string(&Frame::Ready).unwrap(), r#"{"frame":"ready"}"#);
    }
}
