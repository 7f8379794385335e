//! The databases of the backend.

/// A database of the backend. Each has its own migrations and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Database {
    /// Organisations and users.
    Shared,
    /// Properties.
    Hospitality,
    /// Entries and daily balances, partitioned.
    Finance,
    /// Events, answers to commands, snapshots.
    EventStore,
    /// What screens show, ready made.
    ReadModels,
}

impl Database {
    /// All of them, in the order of [`Database::index`].
    pub const ALL: [Self; 5] =
        [Self::Shared, Self::Hospitality, Self::Finance, Self::EventStore, Self::ReadModels];

    /// Its name in the cluster.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "plimsoll_shared",
            Self::Hospitality => "plimsoll_hospitality",
            Self::Finance => "plimsoll_finance",
            Self::EventStore => "plimsoll_event_store",
            Self::ReadModels => "plimsoll_read_models",
        }
    }

    /// Its value of the label `database`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Hospitality => "hospitality",
            Self::Finance => "finance",
            Self::EventStore => "event_store",
            Self::ReadModels => "read_models",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
