//! The databases of the backend.

/// A database of the backend. Each has its own migrations and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Database {
    /// Organisations and users.
    Shared,
    /// Properties, rooms, reservations, staff, tasks.
    Hospitality,
    /// Entries and daily balances, partitioned.
    Finance,
    /// Events, answers to commands, snapshots.
    EventStore,
    /// What screens show, ready made.
    ReadModels,
    /// Guests who arrive: check-ins and their documents.
    GuestCheckin,
    /// How the system itself is: runs of jobs, findings of checks.
    HealthCheck,
}

impl Database {
    /// All of them, in the order of [`Database::index`].
    pub const ALL: [Self; 7] = [
        Self::Shared,
        Self::Hospitality,
        Self::Finance,
        Self::EventStore,
        Self::ReadModels,
        Self::GuestCheckin,
        Self::HealthCheck,
    ];

    /// Its name in the cluster.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "plimsoll_shared",
            Self::Hospitality => "plimsoll_hospitality",
            Self::Finance => "plimsoll_finance",
            Self::EventStore => "plimsoll_event_store",
            Self::ReadModels => "plimsoll_read_models",
            Self::GuestCheckin => "plimsoll_guest_checkin",
            Self::HealthCheck => "plimsoll_health_check",
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
            Self::GuestCheckin => "guest_checkin",
            Self::HealthCheck => "health_check",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
