//! Pictures of what is to be done, kept with tasks: the part of `tasks` below `/tasks/{id}/images`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::attachments::{self, Attachment, Kind, Name, New, kind};
use super::table::{After, Limit, Written};
use crate::db::{Database, Freshness};
use crate::domain::OrgId;
use crate::gateway::{
    App, Binary, Downloads, Fresh, Held, Id, IdPath, IdempotencyKey, ImageId, KeyHeader, OrgPath,
    Params, Problem, Refusals, Reply, Tenant, TokenHeader, Upload, UploadRefusals,
};

const IMAGES: Kind = kind!(TaskImages in Hospitality, "task_images", "image" of "task");

/// To be merged into the routes of `tasks`.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        .routes(routes!(show, delete))
        .routes(routes!(content))
}

/// The image of the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its shape matters")]
struct ImagePath {
    /// The image's id: the Idempotency-Key of its upload.
    image: Uuid,
}

/// Keeps a picture of a task: JPEG, PNG or WebP.
#[utoipa::path(post, path = "/v1/orgs/{org}/tasks/{id}/images", tag = "tasks", params(OrgPath, IdPath, KeyHeader),
    request_body(content((Binary = "image/jpeg"), (Binary = "image/png"), (Binary = "image/webp"))),
    responses((status = 201, body = Attachment, headers(("X-Consistency-Token" = String))), UploadRefusals))]
async fn upload(
    Tenant(org): Tenant,
    Id(task): Id,
    IdempotencyKey(id): IdempotencyKey,
    State(app): State<Arc<App>>,
    upload: Upload,
) -> Result<Written<Attachment>, Problem> {
    let new = New { org, id: id.uuid(), parent: task };
    attachments::upload(&app, &IMAGES, new, upload, is_task(&app, org, task)).await
}

const TASK: &str = "SELECT true FROM tasks WHERE org_id = $1 AND id = $2";

/// Asks the primary: the task may be new.
async fn is_task(app: &App, org: OrgId, id: Uuid) -> Result<bool, Problem> {
    let query = || sqlx::query_as(TASK).bind(org.get()).bind(id);
    let mut reader = app.databases.read(Database::Hospitality, Freshness::Newest);
    let found: Option<(bool,)> = reader.fetch_optional(query).await?;
    Ok(found.is_some())
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of a task's images.
#[derive(Debug, Serialize, ToSchema)]
struct TaskImages {
    images: Vec<Attachment>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

/// Images of a task, in the order of their ids. None of a task that the organisation does not have.
#[utoipa::path(get, path = "/v1/orgs/{org}/tasks/{id}/images", tag = "tasks", params(OrgPath, IdPath, TokenHeader, Listing),
    responses((status = 200, body = TaskImages), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Id(task): Id,
    Fresh(freshness): Fresh,
    Params(Listing { limit, after }): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let page = attachments::page(&app, &IMAGES, (org, Some(task)), (limit, after), freshness);
    let (images, next, server) = page.await?;
    Ok(Reply::json(&TaskImages { images, next }, server))
}

/// What is known of an image.
#[utoipa::path(get, path = "/v1/orgs/{org}/tasks/{id}/images/{image}", tag = "tasks", params(OrgPath, IdPath, ImagePath, TokenHeader),
    responses((status = 200, body = Attachment), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(task): Id,
    ImageId(id): ImageId,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    attachments::show(&app, &IMAGES, Name { org, id, parent: Some(task) }, freshness).await
}

/// The picture itself.
#[utoipa::path(
    get,
    path = "/v1/orgs/{org}/tasks/{id}/images/{image}/content",
    tag = "tasks",
    params(OrgPath, IdPath, ImagePath, TokenHeader),
    responses(Downloads)
)]
async fn content(
    Tenant(org): Tenant,
    Id(task): Id,
    ImageId(id): ImageId,
    Fresh(freshness): Fresh,
    held: Held,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    let name = Name { org, id, parent: Some(task) };
    attachments::download(&app, &IMAGES, name, &held, freshness).await
}

/// Removes an image.
#[utoipa::path(delete, path = "/v1/orgs/{org}/tasks/{id}/images/{image}", tag = "tasks", params(OrgPath, IdPath, ImagePath),
    responses((status = 204, description = "It is gone", headers(("X-Consistency-Token" = String))), Refusals))]
async fn delete(
    Tenant(org): Tenant,
    Id(task): Id,
    ImageId(id): ImageId,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    attachments::delete(&app, &IMAGES, Name { org, id, parent: Some(task) }).await
}
