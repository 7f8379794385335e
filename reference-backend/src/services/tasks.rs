//! `tasks`: what is to be done, by whom, until when.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::gateway::App;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().merge(super::task_images::routes())
}
