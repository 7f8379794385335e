//! `read-models`: what screens show, ready made: an organisation's finance summaries.

use std::sync::Arc;

use axum::extract::{Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::rows::{At, Stand, SummaryRow, split};
use crate::cache::{All, Loaded, Summaries, Summary, SummaryView};
use crate::db::{Database, Freshness};
use crate::domain::{OrgId, PropertyId};
use crate::events::Shard;
use crate::gateway::{App, Consistency, OrgPath, Problem, Refusals, Reply, Tenant, TokenHeader};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(all)).routes(routes!(one))
}

/// What came in and went out so far, by property and in sum.
#[utoipa::path(get, path = "/v1/orgs/{org}/finance-summary", tag = "read-models", params(OrgPath, TokenHeader),
    responses((status = 200, body = All), Refusals))]
async fn all(
    Tenant(org): Tenant,
    consistency: Consistency,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let load = |freshness| load(&app, org, freshness);
    app.cached(&app.caches.summaries, org, consistency, SummaryView::All, load).await
}

/// What came in and went out so far in one property.
#[utoipa::path(get, path = "/v1/orgs/{org}/finance-summary/{property}", tag = "read-models",
    params(OrgPath, TokenHeader, ("property" = Uuid, Path)), responses((status = 200, body = Summary), Refusals))]
async fn one(
    Tenant(org): Tenant,
    consistency: Consistency,
    Path(ids): Path<(String, String)>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let property = Uuid::try_parse(&ids.1)
        .map_err(|_| Problem::malformed("the property in the path is not a UUID"))?;
    let view = SummaryView::One(PropertyId::from(property));
    let load = |freshness| load(&app, org, freshness);
    app.cached(&app.caches.summaries, org, consistency, view, load).await
}

const SUMMARIES: &str = "\
    SELECT c.position, c.epoch, s.property_id, s.revenue_cents, s.expense_cents, s.entry_count, \
           s.last_entry_date, s.version, s.doc \
    FROM (SELECT coalesce(max(position), 0) AS position, coalesce(max(epoch), 0) AS epoch \
          FROM projection_checkpoints \
          WHERE projection = 'finance-summary' AND shard = $2) AS c \
    LEFT JOIN finance_summaries AS s ON s.org_id = $1";

pub(super) async fn load(
    app: &App,
    org: OrgId,
    freshness: Freshness,
) -> sqlx::Result<Loaded<Summaries>> {
    let mut reader = app.databases.read(Database::ReadModels, freshness);
    let query = || sqlx::query_as(SUMMARIES).bind(org.get()).bind(Shard::of(org).number());
    let found: Vec<At<SummaryRow>> = reader.fetch_all(query).await?;
    let (Stand { position, epoch }, rows) = split(found, SummaryRow::checked);
    let value = rows.into_iter().collect();
    Ok(Loaded { value, position, epoch, from: reader.source().server() })
}
