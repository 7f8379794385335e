//! Messages from those who know to those who care, through logs in the database.
//!
//! A topic is an append-only log; a subscription is a cursor into it. Deliveries, deadlines and waits live in memory; only the
//! cursor, and what failed, become rows. So a subscription costs a few small writes a second whatever its rate, and what a
//! crash loses is delivered again.

mod admin;
mod begin;
mod catalogue;
mod cli;
mod hub;
mod lanes;
mod lease;
mod log;
mod mark;
mod message;
mod meters;
mod notices;
mod owner;
mod retention;
mod runner;
mod settled;
mod subscriptions;
mod topic;

pub use admin::{AdminError, DeadLetter, Standing, Which, dead_letters, replay, skip, standings};
pub(crate) use begin::begin;
pub(crate) use catalogue::is_delivered;
pub use cli::SubscriptionsCommand;
pub(crate) use hub::{Hub, Next, Place, Refused, Seat, Update};
pub(crate) use mark::Mark;
pub use message::{Body, HandleError, Message, Subscriber};
pub(crate) use meters::{Counted, Flow, Lag};
pub(crate) use notices::{Notice, notify};
pub use retention::forget_settled;
pub use subscriptions::Subscriptions;
pub use topic::{Topic, publish};
