//! What a client may ask for, and what is then true for ever.

use chrono::{DateTime, Utc};

use super::{CommandId, Entry, OrgId, PropertyId, Version};

/// One request to change one cash account. Becomes exactly one event, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The client's name for it; a retry carries the same.
    pub id: CommandId,
    /// The tenant.
    pub org: OrgId,
    /// The property whose cash account changes.
    pub property: PropertyId,
    /// If given, the command is refused unless the account is at this version.
    pub expected_version: Option<Version>,
    /// What to do.
    pub action: Action,
    /// Whether the client named no day: the entry's is then the day on which the command came.
    pub undated: bool,
}

impl Command {
    /// Whether this, sent again, asks for what led to `event`. Who named no day asks for the same after midnight.
    pub fn asks_for(&self, event: &Event) -> bool {
        let (wanted, booked) = match (&self.action, event) {
            (Action::RecordRevenue(wanted), Event::RevenueRecorded(booked))
            | (Action::RecordExpense(wanted), Event::ExpenseRecorded(booked)) => (wanted, booked),
            _ => return false,
        };
        wanted.amount == booked.amount
            && wanted.category == booked.category
            && (self.undated || wanted.date == booked.date)
    }
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Money came in.
    RecordRevenue(Entry),
    /// Money went out.
    RecordExpense(Entry),
}

impl Action {
    /// The event this action leads to.
    pub fn into_event(self) -> Event {
        match self {
            Self::RecordRevenue(entry) => Event::RevenueRecorded(entry),
            Self::RecordExpense(entry) => Event::ExpenseRecorded(entry),
        }
    }
}

/// A fact about a cash account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Money came in.
    RevenueRecorded(Entry),
    /// Money went out.
    ExpenseRecorded(Entry),
}

/// A number in `events.event_type` that this release does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event type {0}: not known to this release")]
pub struct UnknownEventType(i16);

impl Event {
    /// The number under which the store keeps this kind of event.
    pub fn type_number(&self) -> i16 {
        match self {
            Self::RevenueRecorded(_) => 1,
            Self::ExpenseRecorded(_) => 2,
        }
    }

    /// The event's name as clients see it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::RevenueRecorded(_) => "revenue_recorded",
            Self::ExpenseRecorded(_) => "expense_recorded",
        }
    }

    /// The entry booked; serialised, it is the event's `data`.
    pub fn entry(&self) -> &Entry {
        match self {
            Self::RevenueRecorded(entry) | Self::ExpenseRecorded(entry) => entry,
        }
    }

    /// Puts a stored event together again.
    pub fn from_stored(type_number: i16, entry: Entry) -> Result<Self, UnknownEventType> {
        match type_number {
            1 => Ok(Self::RevenueRecorded(entry)),
            2 => Ok(Self::ExpenseRecorded(entry)),
            other => Err(UnknownEventType(other)),
        }
    }
}

/// An event with its place in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The tenant.
    pub org: OrgId,
    /// The property whose cash account changed.
    pub property: PropertyId,
    /// Version of the account after this event.
    pub version: Version,
    /// Place in the shard: 1, 2, 3 … without gaps.
    pub position: i64,
    /// The command it came from.
    pub command: CommandId,
    /// When the store accepted it, in whole microseconds as the database keeps it.
    pub recorded_at: DateTime<Utc>,
    /// What happened.
    pub event: Event,
}
