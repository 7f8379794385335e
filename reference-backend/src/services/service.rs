//! Which services there are: their names and where their routes come from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;

use super::{
    branding, cash, checkin, events, expenses, gateway, guest_documents, health, night_audit,
    notifications, orgs, ota, properties, read_models, realtime, receipts, reports, reservations,
    revenues, rooms, staff, tasks, users,
};
use crate::gateway::App;

/// A service of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// What the program offers, and where its services are.
    Gateway,
    /// Probes.
    Health,
    /// What happens, pushed to browsers.
    Realtime,
    /// Organisations.
    Orgs,
    /// Who may sign in for an organisation.
    Users,
    /// An organisation's colours and logo.
    Branding,
    /// What an organisation should know.
    Notifications,
    /// Hotels and houses.
    Properties,
    /// Rooms of a property.
    Rooms,
    /// Who stays when.
    Reservations,
    /// Who works in a property.
    Staff,
    /// What is to be done, by whom, until when.
    Tasks,
    /// Exchange with the outside channel manager.
    Ota,
    /// Money that came in.
    Revenues,
    /// Money that went out.
    Expenses,
    /// Daily balances and the cash position.
    Cash,
    /// Pictures of receipts, kept with expenses.
    Receipts,
    /// Profit and loss by month and category.
    Reports,
    /// The closing of a property's day.
    NightAudit,
    /// Guests who arrive.
    Checkin,
    /// Copies of guests' papers.
    GuestDocuments,
    /// The events of an aggregate.
    Events,
    /// Ready-made summaries.
    ReadModels,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 23] = [
        Self::Gateway,
        Self::Health,
        Self::Realtime,
        Self::Orgs,
        Self::Users,
        Self::Branding,
        Self::Notifications,
        Self::Properties,
        Self::Rooms,
        Self::Reservations,
        Self::Staff,
        Self::Tasks,
        Self::Ota,
        Self::Revenues,
        Self::Expenses,
        Self::Cash,
        Self::Receipts,
        Self::Reports,
        Self::NightAudit,
        Self::Checkin,
        Self::GuestDocuments,
        Self::Events,
        Self::ReadModels,
    ];

    /// The name in `--services`, in metrics and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Health => "health",
            Self::Realtime => "realtime",
            Self::Orgs => "orgs",
            Self::Users => "users",
            Self::Branding => "branding",
            Self::Notifications => "notifications",
            Self::Properties => "properties",
            Self::Rooms => "rooms",
            Self::Reservations => "reservations",
            Self::Staff => "staff",
            Self::Tasks => "tasks",
            Self::Ota => "ota",
            Self::Revenues => "revenues",
            Self::Expenses => "expenses",
            Self::Cash => "cash",
            Self::Receipts => "receipts",
            Self::Reports => "reports",
            Self::NightAudit => "night-audit",
            Self::Checkin => "checkin",
            Self::GuestDocuments => "guest-documents",
            Self::Events => "events",
            Self::ReadModels => "read-models",
        }
    }

    /// Whether it adds events: the process that hosts it holds the leases of the event store.
    pub(crate) const fn appends_events(self) -> bool {
        matches!(self, Self::Revenues | Self::Expenses)
    }

    /// Whether it shows what events lead to: the process that hosts it follows the event store.
    pub(crate) const fn shows_events(self) -> bool {
        matches!(
            self,
            Self::Revenues
                | Self::Expenses
                | Self::Cash
                | Self::Events
                | Self::ReadModels
                | Self::Realtime
                | Self::Reports
                | Self::NightAudit
        )
    }

    /// Its routes, and what the OpenAPI document says of them.
    pub(crate) fn routes(self) -> OpenApiRouter<Arc<App>> {
        match self {
            Self::Gateway => gateway::routes(),
            Self::Health => health::routes(),
            Self::Realtime => realtime::routes(),
            Self::Orgs => orgs::routes(),
            Self::Users => users::routes(),
            Self::Branding => branding::routes(),
            Self::Notifications => notifications::routes(),
            Self::Properties => properties::routes(),
            Self::Rooms => rooms::routes(),
            Self::Reservations => reservations::routes(),
            Self::Staff => staff::routes(),
            Self::Tasks => tasks::routes(),
            Self::Ota => ota::routes(),
            Self::Revenues => revenues::routes(),
            Self::Expenses => expenses::routes(),
            Self::Cash => cash::routes(),
            Self::Receipts => receipts::routes(),
            Self::Reports => reports::routes(),
            Self::NightAudit => night_audit::routes(),
            Self::Checkin => checkin::routes(),
            Self::GuestDocuments => guest_documents::routes(),
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
#[error("service {name:?}: expected one of {}", Service::ALL.map(Service::name).join(", "))]
pub struct UnknownService {
    name: String,
}

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(name: &str) -> Result<Self, UnknownService> {
        let found = Self::ALL.into_iter().find(|service| service.name() == name);
        found.ok_or_else(|| UnknownService { name: name.to_owned() })
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
            assert_eq!(serde_json::to_value(service).unwrap(), service.name(), "in settings");
            assert!(refusal.contains(service.name()), "{refusal}");
        }
    }
}
