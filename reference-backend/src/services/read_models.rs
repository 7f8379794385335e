//! `read-models`: what screens show, ready made: an organisation's finance summaries.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::rows::{Of, Stand, SummaryRow, split_by_org, with_shards};
use crate::cache::{All, Loaded, Summaries, Summary, SummaryView};
use crate::db::{Database, Freshness};
use crate::domain::{OrgId, PropertyId};
use crate::gateway::{App, Consistency, OrgPath, Problem, Refusals, Reply, Tenant, TokenHeader};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(all)).routes(routes!(one))
}

/// What came in and went out so far, by property and in sum.
///
/// Of each property's categories the first 200 of revenues and of expenses are listed, by their bytes; all count in the totals.
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
///
/// Of its categories the first 200 of revenues and of expenses are listed, by their bytes; all count in the totals.
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

/// From the read model's primary key, organisation by organisation.
const SUMMARIES: &str = "\
    SELECT a.org_id, coalesce(c.position, 0) AS position, coalesce(c.epoch, 0) AS epoch, \
           s.property_id, s.revenue_cents, s.expense_cents, s.entry_count, s.last_entry_date, s.version, s.doc \
    FROM unnest($1::bigint[], $2::smallint[]) AS a (org_id, shard) \
    LEFT JOIN projection_checkpoints AS c ON c.projection = 'finance-summary' AND c.shard = a.shard \
    LEFT JOIN LATERAL (SELECT * FROM finance_summaries WHERE org_id = a.org_id) AS s ON true";

pub(super) async fn load(
    app: &App,
    org: OrgId,
    freshness: Freshness,
) -> sqlx::Result<Loaded<Summaries>> {
    let mut found = load_many(app, &[org], freshness).await?;
    found.remove(&org).ok_or(sqlx::Error::RowNotFound)
}

/// With one statement.
pub(super) async fn load_many(
    app: &App,
    orgs: &[OrgId],
    freshness: Freshness,
) -> sqlx::Result<HashMap<OrgId, Loaded<Summaries>>> {
    if orgs.is_empty() {
        return Ok(HashMap::new());
    }
    let (orgs, shards) = with_shards(orgs);
    let mut reader = app.databases.read(Database::ReadModels, freshness);
    let query = || sqlx::query_as(SUMMARIES).bind(orgs.clone()).bind(shards.clone());
    let found: Vec<Of<SummaryRow>> = reader.fetch_all(query).await?;
    let from = reader.source().server();
    let loaded = |(Stand { position, epoch }, rows): (Stand, Vec<Summary>)| Loaded {
        value: rows.into_iter().collect(),
        position,
        epoch,
        from,
    };
    let by_org = split_by_org(found, SummaryRow::checked).into_iter();
    Ok(by_org.map(|(org, rows)| (org, loaded(rows))).collect())
}
