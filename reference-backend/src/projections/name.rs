//! The projections there are.

use crate::db::Database;

/// A follower of the event store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projection {
    /// Revenues, expenses and daily cash balances.
    Finance,
    /// The read models of finance screens.
    FinanceSummary,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Finance, Self::FinanceSummary];

    /// Its name in checkpoints and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finance => "finance",
            Self::FinanceSummary => "finance-summary",
        }
    }

    /// The database it writes.
    pub const fn database(self) -> Database {
        match self {
            Self::Finance => Database::Finance,
            Self::FinanceSummary => Database::ReadModels,
        }
    }
}
