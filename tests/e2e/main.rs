//! The program as its users meet it: the real binary, real Postgres, real load; what it prints, how it exits,
//! what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod bad_days;
mod bad_input;
mod channel_manager;
mod happy;
mod lifecycle;
mod populations;
mod service;
mod steps;
mod support;
