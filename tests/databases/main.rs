//! The population and the audit against a real Postgres, started for the test and removed after it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what failed by panicking"
)]

mod cluster;
mod population;
