//! `receipts`: pictures of receipts, kept with expenses.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::attachments::{self, Attachment, Kind, Name, New, kind};
use super::table::{After, Limit, Written};
use crate::db::{Database, Freshness};
use crate::domain::{CommandId, OrgId};
use crate::events::Shard;
use crate::gateway::{
    App, Binary, Downloads, Fresh, HISTORY_VERSION, Held, Id, IdPath, IdempotencyKey, KeyHeader,
    OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader, Upload, UploadRefusals,
};

const RECEIPTS: Kind = kind!(Receipts in Finance, "receipts", "receipt" of "expense");

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, upload))
        .routes(routes!(show, delete))
        .routes(routes!(content))
}

/// What a receipt is for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// The id of an expense.
    expense: CommandId,
}

/// Keeps the picture of an expense's receipt: JPEG, PNG, WebP or PDF.
#[utoipa::path(post, path = "/v1/orgs/{org}/receipts", tag = "receipts", params(OrgPath, KeyHeader, Of),
    request_body(content((Binary = "image/jpeg"), (Binary = "image/png"), (Binary = "image/webp"), (Binary = "application/pdf"))),
    responses((status = 201, body = Attachment, headers(("X-Consistency-Token" = String))), UploadRefusals))]
async fn upload(
    Tenant(org): Tenant,
    IdempotencyKey(id): IdempotencyKey,
    Params(Of { expense }): Params<Of>,
    State(app): State<Arc<App>>,
    upload: Upload,
) -> Result<Written<Attachment>, Problem> {
    let new = New { org, id: id.uuid(), parent: expense.uuid() };
    attachments::upload(&app, &RECEIPTS, new, upload, is_expense(&app, org, expense)).await
}

/// An expense is known as soon as it is acknowledged, which is before it is projected. The answers to commands are kept by
/// organisation and command, so this is one look at a primary key, and one at the event.
const RECORDED: &str = "\
    SELECT true FROM append_dedup AS d \
    JOIN events AS e ON e.shard = d.shard AND e.position = d.last_position AND e.org_id = d.org_id \
    WHERE d.org_id = $1 AND d.command_id = $2 AND e.shard = $3 AND e.event_type = 2";

/// An expense from before the event store: found among those of its organisation, for its day is not known.
const OLDER: &str = "SELECT true FROM expenses_partitioned WHERE org_id = $1 AND id = $2 LIMIT 1";

async fn is_expense(app: &App, org: OrgId, expense: CommandId) -> Result<bool, Problem> {
    let id = expense.uuid();
    let found: Option<(bool,)> = if id.get_version_num() == HISTORY_VERSION {
        let query = || sqlx::query_as(OLDER).bind(org.get()).bind(id);
        app.databases.read(Database::Finance, Freshness::Any).fetch_optional(query).await?
    } else {
        let shard = Shard::of(org).number();
        let query = || sqlx::query_as(RECORDED).bind(org.get()).bind(id).bind(shard);
        app.databases.read(Database::EventStore, Freshness::Newest).fetch_optional(query).await?
    };
    Ok(found.is_some())
}

/// Which receipts: all, unless an expense is named.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    expense: Option<CommandId>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of receipts.
#[derive(Debug, Serialize, ToSchema)]
struct Receipts {
    receipts: Vec<Attachment>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

/// Receipts, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/receipts", tag = "receipts", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Receipts), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(Listing { expense, limit, after }): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let parent = expense.map(CommandId::uuid);
    let page = attachments::page(&app, &RECEIPTS, (org, parent), (limit, after), freshness);
    let (receipts, next, server) = page.await?;
    Ok(Reply::json(&Receipts { receipts, next }, server))
}

/// What is known of a receipt.
#[utoipa::path(get, path = "/v1/orgs/{org}/receipts/{id}", tag = "receipts", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Attachment), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    attachments::show(&app, &RECEIPTS, Name { org, id, parent: None }, freshness).await
}

/// The picture of a receipt.
#[utoipa::path(
    get,
    path = "/v1/orgs/{org}/receipts/{id}/content",
    tag = "receipts",
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
    attachments::download(&app, &RECEIPTS, name, &held, freshness).await
}

/// Removes a receipt and its picture.
#[utoipa::path(delete, path = "/v1/orgs/{org}/receipts/{id}", tag = "receipts", params(OrgPath, IdPath),
    responses((status = 204, description = "It is gone", headers(("X-Consistency-Token" = String))), Refusals))]
async fn delete(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    attachments::delete(&app, &RECEIPTS, Name { org, id, parent: None }).await
}
