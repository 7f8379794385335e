//! Tests on a real PostgreSQL, each with a server of its own. One binary, so that helpers are shared and linked once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attachment_plans;
mod branding;
mod categories;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod consistency;
mod dropping;
mod event_store;
mod following;
mod forwarded_uploads;
mod forwarding;
mod http_access;
mod http_money;
mod http_realtime;
mod http_replicas;
mod http_server;
mod jobs;
mod legacy_tables;
mod money_plans;
mod night_audit;
mod objects;
mod objects_s3;
mod operations_plans;
mod org_changes;
mod ota;
mod partitions;
mod processes;
mod projections;
mod pubsub;
mod readme;
mod reads;
mod realtime_browser;
mod rebuild;
mod rebuild_books;
mod reload;
mod replicas;
mod reports;
mod retention;
mod security;
mod snapshots;
mod stays;
mod subscriptions;
mod table_plans;
mod tables;
mod tokens;
mod warming;
mod writers;
