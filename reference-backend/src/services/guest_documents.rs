//! `guest-documents`: copies of guests' papers.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::gateway::App;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
}
