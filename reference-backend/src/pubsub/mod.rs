//! Messages from those who know to those who care, through logs in the database.
//!
//! A topic is an append-only log; a subscription is a cursor into it. Deliveries, deadlines and waits live in memory; only the
//! cursor, and what failed, become rows. So a subscription costs a few small writes a second whatever its rate, and what a
//! crash loses is delivered again.

mod message;
mod topic;

pub use message::{Body, HandleError, Message, Subscriber};
pub use topic::{Topic, publish};
