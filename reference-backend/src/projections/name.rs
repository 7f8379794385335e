//! The projections there are.

use std::str::FromStr;

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

/// A name that no projection has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("projection {name:?}: expected one of {}", Projection::ALL.map(Projection::name).join(", "))]
pub struct UnknownProjection {
    name: String,
}

impl FromStr for Projection {
    type Err = UnknownProjection;

    fn from_str(name: &str) -> Result<Self, UnknownProjection> {
        let found = Self::ALL.into_iter().find(|projection| projection.name() == name);
        found.ok_or_else(|| UnknownProjection { name: name.to_owned() })
    }
}
