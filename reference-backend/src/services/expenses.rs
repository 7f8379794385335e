//! `expenses`: record money that went out; list it, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entries::{self, Listing, NewEntry, Recorded};
use crate::cache::{Page, Side};
use crate::domain::Action;
use crate::gateway::{
    App, Body, Consistency, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals, Reply,
    Tenant, TokenHeader, WriteRefusals,
};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, record))
}

/// Records money that went out.
#[utoipa::path(post, path = "/v1/orgs/{org}/expenses", tag = "expenses", params(OrgPath, KeyHeader),
    request_body = NewEntry, responses((status = 201, body = Recorded, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn record(
    tenant: Tenant,
    key: IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(entry): Body<NewEntry>,
) -> Result<Response, Problem> {
    entries::record(&app, tenant, key, entry, Action::RecordExpense).await
}

/// Expenses, newest first.
#[utoipa::path(get, path = "/v1/orgs/{org}/expenses", tag = "expenses", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Page), Refusals))]
async fn list(
    tenant: Tenant,
    consistency: Consistency,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    entries::list(&app, tenant, consistency, Side::Expenses, listing).await
}
