//! `health`: is the process alive, and may it get requests? No token; never shed.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::gateway::{App, Problem};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health/live", get(async || r#"{"status":"live"}"#))
        .route("/health/ready", get(ready))
}

async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if !app.databases.primary_answers().await {
        return Err(Problem::unavailable("the primary database does not answer"));
    }
    if app.writing.as_ref().is_some_and(|writing| !writing.store.leases_held()) {
        return Err(Problem::unavailable("an appender does not hold its lease"));
    }
    Ok(r#"{"status":"ready"}"#)
}
