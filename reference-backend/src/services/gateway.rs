//! `gateway`: which services there are. Not where the others are: addresses within are nobody's business outside.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Service;
use crate::gateway::{App, Bearer, Refusals};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Serialize, ToSchema)]
struct Services {
    services: Vec<Place>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Place {
    name: &'static str,
    /// Whether this process answers its routes itself.
    hosted: bool,
}

/// All services, and which of them this process hosts.
#[utoipa::path(get, path = "/v1/services", tag = "gateway", responses((status = 200, body = Services), Refusals))]
async fn list(_: Bearer, State(app): State<Arc<App>>) -> Json<Services> {
    let place =
        |service: Service| Place { name: service.name(), hosted: app.hosted.contains(&service) };
    Json(Services { services: Service::ALL.map(place).into() })
}
