//! Tests on a real PostgreSQL, each with a server of its own. One binary, so that helpers are shared and linked once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attachment_plans;
mod branding;
#[path = "../common/mod.rs"]
mod common;
mod event_store;
mod forwarding;
mod http_access;
mod http_money;
mod http_server;
mod night_audit;
mod objects;
mod objects_s3;
mod ota;
mod partitions;
mod processes;
mod projections;
mod readme;
mod reads;
mod reload;
mod reports;
mod security;
mod stays;
mod table_plans;
mod tables;
mod tokens;
mod warming;
