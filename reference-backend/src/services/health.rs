//! `health`: is the process alive, and may it get requests? No token; never shed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::gateway::{App, Problem};

#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// `live` or `ready`.
    status: &'static str,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/health/live", tag = "health", security(()), responses((status = 200, body = Status)))]
async fn live() -> Json<Status> {
    Json(Status { status: "live" })
}

/// Whether the process may get requests: the primary answers, and every shard that it writes has its lease.
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()), responses((status = 200, body = Status),
    (status = 503, description = "Not now", body = Problem, content_type = "application/problem+json")))]
async fn ready(State(app): State<Arc<App>>) -> Result<Json<Status>, Problem> {
    if !app.databases.primary_answers().await {
        return Err(Problem::unavailable("the primary database does not answer"));
    }
    if app.writing.as_ref().is_some_and(|writing| !writing.store.leases_held()) {
        return Err(Problem::unavailable("an appender does not hold its lease"));
    }
    Ok(Json(Status { status: "ready" }))
}
