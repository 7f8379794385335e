//! `gateway`: which services there are, and where they are answered.

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
    /// Whether this process answers its routes.
    hosted: bool,
    /// The process that its requests are forwarded to, where this one does not host it.
    url: Option<String>,
}

/// All services, and where they are answered.
#[utoipa::path(get, path = "/v1/services", tag = "gateway", responses((status = 200, body = Services), Refusals))]
async fn list(_: Bearer, State(app): State<Arc<App>>) -> Json<Services> {
    let place = |service: Service| {
        let hosted = app.hosted.contains(&service);
        let url = app.targets.url(service).filter(|_| !hosted).map(str::to_owned);
        Place { name: service.name(), hosted, url }
    };
    Json(Services { services: Service::ALL.map(place).into() })
}
