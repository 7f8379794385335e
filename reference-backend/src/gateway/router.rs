//! Which request goes where: the services' routes behind their guards, `/metrics`, and an answer for everything else.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::forward::{Forward, forward};
use super::guard::{Guard, Rooms, guard};
use super::meter::{Answered, Meter};
use super::problem::Problem;
use crate::domain::Day;
use crate::resilience::Bulkhead;
use crate::services::Service;

/// What the OpenAPI document says before its routes.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "Plimsoll's reference backend", license(name = "MIT OR Apache-2.0")),
    components(schemas(Problem, Day)),
    modifiers(&BearerToken),
    security(("organisation" = []))
)]
struct Document;

/// The scheme of the tokens.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("HS256, with the claims `org` and `exp`"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("organisation", SecurityScheme::Http(scheme.build()));
    }
}

/// The HTTP face of this process, with the routes of `hosted` services. The others' routes lead to the processes that
/// host them, or say that they are not here.
/// `stop` is when streams of events have to end.
pub(super) fn router(app: Arc<App>, hosted: &[Service], stop: &CancellationToken) -> Router {
    let body_limit = DefaultBodyLimit::max(app.settings.load().body_bytes_max);
    let mut routes = always().split_for_parts().0;
    for service in Service::ALL {
        let (own, document) = service.routes().split_for_parts();
        let guarded = |routes: Router<_>, answered| {
            // Probes must be answered when nothing else is.
            let rooms = (service != Service::Health).then(|| Rooms {
                process: Arc::clone(&app.admission),
                service: Bulkhead::new(service.name().to_owned(), app.bulkheads.of(service)),
            });
            let guarding = Guard { rooms, meter: Meter::new(service.name(), answered) };
            routes.route_layer(middleware::from_fn_with_state(Arc::new(guarding), guard))
        };
        routes = routes.merge(if hosted.contains(&service) {
            guarded(own, Answered::Here)
        } else if let Some(forwarding) = Forward::of(&app, service, &document, stop) {
            tracing::info!(%service, url = app.targets.url(service), "requests are forwarded");
            let forwarding = middleware::from_fn_with_state(Arc::new(forwarding), forward);
            guarded(own.route_layer(forwarding), Answered::Elsewhere)
        } else {
            let refuse =
                move |_: Request, _: Next| async move { Problem::not_hosted(service.name()) };
            own.route_layer(middleware::from_fn(refuse))
        });
    }
    routes
        .fallback(|| async { Problem::not_found("no route has this path") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(body_limit)
        .with_state(app)
}

/// Routes that every process answers.
fn always() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(metrics)).routes(routes!(openapi))
}

/// The routes of all services, wherever they are hosted.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut document = Document::openapi();
    document.merge(always().split_for_parts().1);
    for service in Service::ALL {
        document.merge(service.routes().split_for_parts().1);
    }
    document.to_json().expect("the document is plain data").into()
});

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "gateway", security(()),
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

/// The metrics of this process, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "gateway", security(()),
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}
