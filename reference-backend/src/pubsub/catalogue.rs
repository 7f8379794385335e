//! Which subscriptions there are, and who keeps their place.

use super::Topic;
use crate::projections::Projection;

/// Who keeps a subscription's place in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// A projection: its checkpoint moves with its rows.
    Checkpoint(Projection),
    /// A cursor: its messages are delivered, retried and set aside here.
    Cursor,
    /// In memory: each process begins with the newest, and what it missed is read back by other means.
    Memory,
}

impl Kept {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Checkpoint(_) => "checkpoint",
            Self::Cursor => "cursor",
            Self::Memory => "memory",
        }
    }
}

/// One subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) topic: Topic,
    pub(super) kept: Kept,
}

pub(super) const NOTIFICATIONS: &str = "notifications";
pub(super) const BALANCE_REPAIR: &str = "balance-repair";
pub(super) const REALTIME: &str = "realtime";

/// All of them.
pub(super) const SUBSCRIPTIONS: [Entry; 7] = [
    events(Projection::Finance.name(), Kept::Checkpoint(Projection::Finance)),
    events(Projection::FinanceSummary.name(), Kept::Checkpoint(Projection::FinanceSummary)),
    events("cache", Kept::Memory),
    events(REALTIME, Kept::Memory),
    events(NOTIFICATIONS, Kept::Cursor),
    events("snapshots", Kept::Memory),
    Entry { name: BALANCE_REPAIR, topic: Topic::BalanceCorrections, kept: Kept::Cursor },
];

const fn events(name: &'static str, kept: Kept) -> Entry {
    Entry { name, topic: Topic::FinanceEvents, kept }
}

/// Whether a subscription's messages are delivered one by one, so that settings of deliveries mean something for it.
pub(crate) fn is_delivered(name: &str) -> bool {
    SUBSCRIPTIONS.iter().any(|entry| entry.name == name && entry.kept == Kept::Cursor)
}
