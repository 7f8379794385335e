//! The program as its users meet it: the real binary, real Postgres, real load; what it prints, how it exits,
//! what it leaves behind.

mod bad_days;
mod bad_input;
mod happy;
mod lifecycle;
mod support;
