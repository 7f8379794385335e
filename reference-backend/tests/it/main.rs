//! Tests on a real PostgreSQL, each with a server of its own. One binary, so that helpers are shared and linked once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod event_store;
mod following;
mod forwarding;
mod http_access;
mod http_money;
mod http_replicas;
mod http_server;
mod legacy_tables;
mod money_plans;
mod ota;
mod partitions;
mod processes;
mod projections;
mod reads;
mod rebuild;
mod reload;
mod replicas;
mod security;
mod snapshots;
mod stays;
mod table_plans;
mod tables;
mod tokens;
mod warming;
mod writers;
