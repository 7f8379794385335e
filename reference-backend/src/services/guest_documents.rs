//! `guest-documents`: copies of guests' papers, kept with check-ins.

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
    App, Binary, Downloads, Fresh, Held, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params,
    Problem, Refusals, Reply, Tenant, TokenHeader, Upload, UploadRefusals,
};

const DOCUMENTS: Kind =
    kind!(GuestDocuments in GuestCheckin, "guest_documents", "guest document" of "check-in");

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        .routes(routes!(show, delete))
        .routes(routes!(content))
}

/// Whose papers they are.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// The id of a check-in.
    checkin: Uuid,
}

/// Keeps a copy of a guest's paper: JPEG, PNG, WebP or PDF.
#[utoipa::path(post, path = "/v1/orgs/{org}/guest-documents", tag = "guest-documents", params(OrgPath, KeyHeader, Of),
    request_body(content((Binary = "image/jpeg"), (Binary = "image/png"), (Binary = "image/webp"), (Binary = "application/pdf"))),
    responses((status = 201, body = Attachment, headers(("X-Consistency-Token" = String))), UploadRefusals))]
async fn upload(
    Tenant(org): Tenant,
    IdempotencyKey(id): IdempotencyKey,
    Params(Of { checkin }): Params<Of>,
    State(app): State<Arc<App>>,
    upload: Upload,
) -> Result<Written<Attachment>, Problem> {
    let new = New { org, id: id.uuid(), parent: checkin };
    attachments::upload(&app, &DOCUMENTS, new, upload, is_checkin(&app, org, checkin)).await
}

const CHECKIN: &str = "SELECT true FROM checkins WHERE org_id = $1 AND id = $2";

/// Asks the primary: the check-in may be new.
async fn is_checkin(app: &App, org: OrgId, id: Uuid) -> Result<bool, Problem> {
    let query = || sqlx::query_as(CHECKIN).bind(org.get()).bind(id);
    let mut reader = app.databases.read(Database::GuestCheckin, Freshness::Newest);
    let found: Option<(bool,)> = reader.fetch_optional(query).await?;
    Ok(found.is_some())
}

/// Which documents: all, unless a check-in is named.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    checkin: Option<Uuid>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of documents.
#[derive(Debug, Serialize, ToSchema)]
struct GuestDocuments {
    guest_documents: Vec<Attachment>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

/// Guests' documents, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/guest-documents", tag = "guest-documents", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = GuestDocuments), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(Listing { checkin, limit, after }): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let page = attachments::page(&app, &DOCUMENTS, (org, checkin), (limit, after), freshness);
    let (guest_documents, next, server) = page.await?;
    Ok(Reply::json(&GuestDocuments { guest_documents, next }, server))
}

/// What is known of a document.
#[utoipa::path(get, path = "/v1/orgs/{org}/guest-documents/{id}", tag = "guest-documents", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Attachment), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    attachments::show(&app, &DOCUMENTS, Name { org, id, parent: None }, freshness).await
}

/// The copy itself.
#[utoipa::path(
    get,
    path = "/v1/orgs/{org}/guest-documents/{id}/content",
    tag = "guest-documents",
    params(OrgPath, IdPath, TokenHeader),
    responses(Downloads)
)]
async fn content(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    held: Held,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    let name = Name { org, id, parent: None };
    attachments::download(&app, &DOCUMENTS, name, &held, freshness).await
}

/// Removes a document and its copy.
#[utoipa::path(delete, path = "/v1/orgs/{org}/guest-documents/{id}", tag = "guest-documents", params(OrgPath, IdPath),
    responses((status = 204, description = "It is gone", headers(("X-Consistency-Token" = String))), Refusals))]
async fn delete(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    attachments::delete(&app, &DOCUMENTS, Name { org, id, parent: None }).await
}
