//! The population and the audit against a real Postgres, started for the test and removed after it.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod audit;
mod backend;
mod cluster;
mod population;
mod real;
