//! `notifications`: what an organisation should know, and whether somebody has read it. Made by subscriptions and jobs, never
//! by clients.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table::{self, After, Limit, Thing, Written};
use crate::db::Database;
use crate::gateway::{
    App, Fresh, Id, IdPath, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader,
};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(unread)).routes(routes!(read))
}

/// Something that an organisation should know.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Notification {
    id: Uuid,
    kind: String,
    title: String,
    body: String,
    created_at: DateTime<Utc>,
    read_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "id, kind, title, body, created_at, read_at"
    };
}

impl Thing for Notification {
    const DATABASE: Database = Database::Shared;
    const NOUN: &'static str = "notification";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM notifications WHERE org_id = $1 AND id = $2");
}

/// A place in the notifications, newest first.
type AfterNewer = After<DateTime<Utc>>;

/// Which notifications to list: read ones too, unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    /// Those that nobody has read, alone.
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<AfterNewer>,
}

/// A page of notifications.
#[derive(Debug, Serialize, ToSchema)]
struct Notifications {
    notifications: Vec<Notification>,
    #[schema(value_type = Option<String>)]
    next: Option<AfterNewer>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM notifications WHERE org_id = $1 AND (NOT $2 OR read_at IS NULL) \
     AND ($3 IS NULL OR (created_at, id) < ($3, $4)) ORDER BY created_at DESC, id DESC LIMIT $5"
);

/// Notifications, newest first.
#[utoipa::path(get, path = "/v1/orgs/{org}/notifications", tag = "notifications", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Notifications), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        sqlx::query_as(LIST)
            .bind(org.get())
            .bind(listing.unread)
            .bind(listing.after.map(|after| after.key))
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (found, server): (Vec<Notification>, _) =
        table::list(&app, Notification::DATABASE, freshness, query).await?;
    let place = |one: &Notification| After { key: one.created_at, id: one.id };
    let (notifications, next) = listing.limit.page(found, place);
    Ok(Reply::json(&Notifications { notifications, next }, server))
}

/// How many notifications nobody has read.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Unread {
    /// Counted up to 1,000.
    #[schema(minimum = 0, maximum = 1000)]
    unread: i64,
}

const UNREAD: &str = "\
    SELECT count(*) AS unread FROM \
    (SELECT FROM notifications WHERE org_id = $1 AND read_at IS NULL LIMIT 1000) AS unread";

/// How many notifications nobody has read.
#[utoipa::path(get, path = "/v1/orgs/{org}/notifications/unread", tag = "notifications", params(OrgPath, TokenHeader),
    responses((status = 200, body = Unread), Refusals))]
async fn unread(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let mut reader = app.databases.read(Notification::DATABASE, freshness);
    let found: Option<Unread> =
        reader.fetch_optional(|| sqlx::query_as(UNREAD).bind(org.get())).await?;
    let unread = found.ok_or_else(Problem::internal)?;
    Ok(Reply::json(&unread, reader.source().server()))
}

const READ: &str = concat!(
    "UPDATE notifications SET read_at = coalesce(read_at, now()) WHERE org_id = $1 AND id = $2 RETURNING ",
    columns!()
);

/// Takes note that somebody has read a notification. The first time counts.
#[utoipa::path(post, path = "/v1/orgs/{org}/notifications/{id}/read", tag = "notifications", params(OrgPath, IdPath),
    responses((status = 200, body = Notification, headers(("X-Consistency-Token" = String))), Refusals))]
async fn read(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Written<Notification>, Problem> {
    let update = sqlx::query_as(READ).bind(org.get()).bind(id);
    table::change(&app, org, id, None, update).await
}
