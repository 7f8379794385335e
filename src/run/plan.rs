//! The plan: a scenario with everything that the command line and this machine decide, before anything starts.

use std::path::PathBuf;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use crate::ids::RunId;
use crate::scenario::{Scenario, Target};
use crate::stack::BackendProgram;
use crate::units::ByteSize;

/// Everything that a session needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to run.
    pub scenario: Scenario,
    /// The scenario's text as run, overrides included.
    pub scenario_text: String,
    /// Name of the run.
    pub id: RunId,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Directory of the results; must not exist yet.
    pub out: PathBuf,
    /// The program that plays the worker: this one.
    pub program: PathBuf,
    /// The program that plays the backend: this one unless another release is driven.
    pub backend: BackendProgram,
    /// Whether to hold the ledger against the databases.
    pub audit: bool,
    /// How much disk populations that are kept for later runs may take; none: make one anew, and keep none.
    pub keep_populations: Option<ByteSize>,
    /// Whether to leave the stack's directory behind.
    pub keep_stack: bool,
    /// The command that repeats the run.
    pub command: String,
}

impl Plan {
    /// First day of the month in which the run starts: history ends before it.
    pub fn anchor(&self) -> NaiveDate {
        let day = self.today();
        day.with_day(1).expect("every month has a first day")
    }

    /// The run's date, UTC: what requests call today.
    pub fn today(&self) -> NaiveDate {
        self.started_at.date_naive()
    }

    /// Whether the run starts a stack of its own.
    pub fn has_stack(&self) -> bool {
        matches!(self.scenario.target, Target::Reference(_))
    }
}

/// A name for a run: scenario, time, and four digits that tell two runs of one second apart.
pub fn run_id(scenario: &str, now: DateTime<Utc>, salt: u16) -> RunId {
    let scenario: String = scenario
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(48)
        .collect();
    format!("{scenario}-{}-{salt:04x}", now.format("%Y%m%d-%H%M%S"))
        .parse()
        .expect("built from allowed characters, at most 70 of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_safe_whatever_the_scenario_is_called() {
        let now = "2026-03-31T23:59:59Z".parse().unwrap();
        let id = run_id("größer / ../better", now, 0xbeef);
        assert_eq!(id.as_str(), "gr--er------better-20260331-235959-beef");
        assert!(run_id(&"x".repeat(500), now, 1).as_str().len() <= 80);
    }
}
