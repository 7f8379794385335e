//! Which services there are: their names and where their routes come from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;

use super::{cash, events, expenses, health, orgs, read_models, revenues};
use crate::gateway::App;

/// A service of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Probes.
    Health,
    /// Organisations and their properties.
    Orgs,
    /// Money that came in.
    Revenues,
    /// Money that went out.
    Expenses,
    /// Daily balances and the cash position.
    Cash,
    /// The events of an aggregate.
    Events,
    /// Ready-made summaries.
    ReadModels,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 7] = [
        Self::Health,
        Self::Orgs,
        Self::Revenues,
        Self::Expenses,
        Self::Cash,
        Self::Events,
        Self::ReadModels,
    ];

    /// The name in `--services`, in metrics and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Orgs => "orgs",
            Self::Revenues => "revenues",
            Self::Expenses => "expenses",
            Self::Cash => "cash",
            Self::Events => "events",
            Self::ReadModels => "read-models",
        }
    }

    pub(crate) fn routes(self) -> Router<Arc<App>> {
        match self {
            Self::Health => health::routes(),
            Self::Orgs => orgs::routes(),
            Self::Revenues => revenues::routes(),
            Self::Expenses => expenses::routes(),
            Self::Cash => cash::routes(),
            Self::Events => events::routes(),
            Self::ReadModels => read_models::routes(),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no service has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "service {0:?}: expected one of health, orgs, revenues, expenses, cash, events, read-models"
)]
pub struct UnknownService(String);

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(name: &str) -> Result<Self, UnknownService> {
        let found = Self::ALL.into_iter().find(|service| service.name() == name);
        found.ok_or_else(|| UnknownService(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_the_refusal_lists_them_all() {
        let refusal = "billing".parse::<Service>().unwrap_err().to_string();
        for service in Service::ALL {
            assert_eq!(service.name().parse(), Ok(service));
            assert!(refusal.contains(service.name()), "{refusal}");
        }
    }
}
