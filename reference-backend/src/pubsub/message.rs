//! What a subscription delivers, and to whom.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde_json::Value;

use super::Topic;
use crate::domain::{OrgId, RecordedEvent};

/// One message of a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The topic it was published to.
    pub topic: Topic,
    /// The event's shard; 0 for other topics.
    pub shard: i16,
    /// Its place: 1, 2, 3 … without gaps within its topic and shard.
    pub position: i64,
    /// The tenant. Messages of one are delivered in order, one at a time.
    pub org: OrgId,
    /// When it was published.
    pub published_at: DateTime<Utc>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Of `finance-events`.
    Event(Box<RecordedEvent>),
    /// Of the other topics.
    Data(Value),
}

impl Message {
    /// The event, if this is a message of `finance-events`.
    pub fn event(&self) -> Option<&RecordedEvent> {
        if let Body::Event(event) = &self.body { Some(event) } else { None }
    }

    /// The data, if this is a message of another topic.
    pub fn data(&self) -> Option<&Value> {
        if let Body::Data(data) = &self.body { Some(data) } else { None }
    }
}

/// Why a message could not be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It may work later: the message is delivered again, after a wait, until its last attempt.
    #[error("{0}")]
    Retry(String),
    /// It never will: the message is set aside at once.
    #[error("{0}")]
    Reject(String),
}

impl From<sqlx::Error> for HandleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Retry(error.to_string())
    }
}

/// Who takes the messages of a subscription. Each is delivered at least once: a handler that has run may be run again with the
/// same message, so what it does must be the same twice. It is dropped where it stands when the acknowledgement deadline passes.
pub trait Subscriber: Debug + Send + Sync + 'static {
    /// The subscription's name in tables, settings and metrics.
    fn name(&self) -> &'static str;

    /// The topic it follows.
    fn topic(&self) -> Topic;

    /// Whether an event is worth a delivery. The others count as settled without one, which costs next to nothing.
    fn wants(&self, event: &RecordedEvent) -> bool {
        let _ = event;
        true
    }

    /// Does what there is to do about a message. `Ok` acknowledges it.
    fn handle<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), HandleError>>;
}
