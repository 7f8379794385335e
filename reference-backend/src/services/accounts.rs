//! The state of a property's cash account, now or as it was at a version: from its snapshot and the events after it.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::db::Database;
use crate::domain::{PropertyId, Version};
use crate::events::{load_account, load_account_at};
use crate::gateway::{
    App, Consistency, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader,
};
use crate::projections::Projection;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show))
}

/// The property of the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its shape matters")]
struct PropertyPath {
    /// The property whose account it is.
    property: Uuid,
}

/// Which state.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AsOf {
    /// After so many events; the newest state when left out. History from before the event store is one state: versions
    /// within it are not kept.
    #[param(value_type = Option<i32>, minimum = 1)]
    version: Option<Version>,
}

/// The state of a cash account; amounts in whole cents.
#[derive(Debug, Serialize, ToSchema)]
struct AccountAnswer {
    property: PropertyId,
    version: Version,
    revenue_cents: i64,
    expense_cents: i64,
    balance_cents: i64,
    entries: i64,
}

/// A property's cash account, now or as it was at a version.
#[utoipa::path(get, path = "/v1/orgs/{org}/accounts/{property}", tag = "events",
    params(OrgPath, PropertyPath, TokenHeader, AsOf), responses((status = 200, body = AccountAnswer), Refusals))]
async fn show(
    Tenant(org): Tenant,
    consistency: Consistency,
    path: Path<(String, String)>,
    Params(AsOf { version }): Params<AsOf>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let Path((_, property)) = path;
    let property = Uuid::try_parse(&property)
        .map(PropertyId::from)
        .map_err(|_| Problem::malformed("the property in the path is not a UUID"))?;
    if version.is_some_and(|version| version <= Version::ZERO) {
        return Err(Problem::malformed("version: expected a number from 1 up"));
    }
    let freshness = app.as_of(org, Projection::Finance, consistency).await?;
    let mut reader = app.databases.read(Database::EventStore, freshness);
    let loaded = match version {
        None => load_account(&mut reader, org, property).await?,
        Some(version) => load_account_at(&mut reader, org, property, version)
            .await?
            .filter(|loaded| loaded.version == version)
            .ok_or_else(|| {
                Problem::not_found(format!(
                    "the account's version {version} is not kept, or not yet there"
                ))
            })?,
    };
    if loaded.version == Version::ZERO {
        return Err(Problem::not_found(format!("nothing was ever booked for property {property}")));
    }
    let account = loaded.account;
    let answer = AccountAnswer {
        property,
        version: loaded.version,
        revenue_cents: account.revenue_cents,
        expense_cents: account.expense_cents,
        balance_cents: account.balance_cents(),
        entries: account.entries,
    };
    Ok(Reply::json(&answer, reader.source().server()))
}
