//! A small, complete, provable backend: commands become events, events become partitioned tables and read models,
//! reads come from replicas that are fresh enough.
//!
//! `domain` is pure; `events` is the one writer; `projections` follow it; `db` decides which server answers a read;
//! `cache` follows the projections in memory; `objects` keeps what is no row; `jobs` run by the clock; `resilience` bounds what
//! one fault can cost; `gateway` lets requests in and `services` answer them.

mod cache;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod events;
pub mod gateway;
pub mod jobs;
pub mod objects;
pub mod ota;
pub mod partitioning;
pub mod projections;
pub mod pubsub;
mod resilience;
pub mod services;
pub mod telemetry;
