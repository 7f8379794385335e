//! `expenses`: record money that went out; list it, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;

use super::entries::{self, Listing, NewEntry};
use crate::cache::Side;
use crate::domain::Action;
use crate::gateway::{App, Body, Consistency, IdempotencyKey, Params, Problem, Reply, Tenant};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().route("/v1/orgs/{org}/expenses", get(list).post(record))
}

async fn record(
    tenant: Tenant,
    key: IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(entry): Body<NewEntry>,
) -> Result<Response, Problem> {
    entries::record(&app, tenant, key, entry, Action::RecordExpense).await
}

async fn list(
    tenant: Tenant,
    consistency: Consistency,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    entries::list(&app, tenant, consistency, Side::Expenses, listing).await
}
