//! `health`: is the process alive, and may it get requests? No token; never shed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use crate::gateway::{App, Problem};

#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .route("/health/live", get(async || Json(Status { status: "live" })))
        .route("/health/ready", get(ready))
}

async fn ready(State(app): State<Arc<App>>) -> Result<Json<Status>, Problem> {
    if !app.databases.primary_answers().await {
        return Err(Problem::unavailable("the primary database does not answer"));
    }
    if app.writing.as_ref().is_some_and(|writing| !writing.store.leases_held()) {
        return Err(Problem::unavailable("an appender does not hold its lease"));
    }
    Ok(Json(Status { status: "ready" }))
}
