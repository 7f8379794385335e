//! The population and the audit against a real Postgres, started for the test and removed after it.

mod cluster;
mod population;
