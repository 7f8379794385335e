//! Which request goes where: the services' routes behind their guards, `/metrics`, and an answer for everything else.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;

use super::app::App;
use super::guard::{Admission, Guard, guard};
use super::meter::Meter;
use super::problem::Problem;
use crate::services::Service;

/// The HTTP face of this process, with the routes of `hosted` services. The others' routes say where they are not.
pub(super) fn router(app: Arc<App>, hosted: &[Service]) -> Router {
    let settings = &app.settings;
    let admission = Admission::new(settings.in_flight_max, settings.request_timeout_ms.duration());
    let body_limit = DefaultBodyLimit::max(settings.body_bytes_max);
    let services = Service::ALL.into_iter().map(|service| {
        if !hosted.contains(&service) {
            let refuse =
                move |_: Request, _: Next| async move { Problem::not_hosted(service.name()) };
            return service.routes().route_layer(middleware::from_fn(refuse));
        }
        // Probes must be answered when nothing else is.
        let admission = (service != Service::Health).then(|| admission.clone());
        let guarding = Guard { admission, meter: Arc::new(Meter::new(service.name())) };
        service.routes().route_layer(middleware::from_fn_with_state(guarding, guard))
    });
    services
        .fold(Router::new(), Router::merge)
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::not_found("no route has this path") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(body_limit)
        .with_state(app)
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}
