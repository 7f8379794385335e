//! What keeps one fault, one slow neighbour or one eager client from becoming everybody's. What comes in is bounded by a
//! [`RateLimit`] per organisation and a [`Bulkhead`] per service; what goes out passes a [`Dependency`]: bulkhead → retries
//! within a budget → breaker → time-out. Knows no routes and no statuses.

mod breaker;
mod bulkhead;
mod dependency;
mod rate_limit;
mod retry;

pub(crate) use bulkhead::Bulkhead;
pub(crate) use dependency::{CallError, Dependency, Entered};
pub(crate) use rate_limit::{RateLimit, TooFast};
