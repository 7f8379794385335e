//! `read-models`: what screens show, ready made: an organisation's finance summaries.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::load::{self, Statement, standing};
use super::rows::{Of, SummaryRow};
use crate::cache::{All, LiveCache, Loaded, Summaries, Summary, SummaryView};
use crate::db::{Database, Databases, Freshness, Reader};
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
    let load = |freshness| load::one::<Totals>(&app, org, freshness);
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
    let load = |freshness| load::one::<Totals>(&app, org, freshness);
    app.cached(&app.caches.summaries, org, consistency, view, load).await
}

/// From the read model's primary key, organisation by organisation.
const SUMMARIES: &str = "\
    SELECT a.org_id, coalesce(c.position, 0) AS position, coalesce(c.epoch, 0) AS epoch, \
           s.property_id, s.revenue_cents, s.expense_cents, s.entry_count, s.last_entry_date, s.version, s.doc \
    FROM unnest($1::bigint[], $2::smallint[]) AS a (org_id, shard) \
    LEFT JOIN projection_checkpoints AS c ON c.projection = 'finance-summary' AND c.shard = a.shard \
    LEFT JOIN LATERAL (SELECT * FROM finance_summaries WHERE org_id = a.org_id) AS s ON true";

/// All summaries.
pub(super) struct Totals;

impl Statement for Totals {
    type Row = Of<SummaryRow>;
    type Value = Loaded<Summaries>;
    type Cache = LiveCache<Summaries>;

    fn cache(app: &App) -> &Self::Cache {
        &app.caches.summaries
    }

    fn reader(databases: &Databases, freshness: Freshness) -> Reader {
        databases.read(Database::ReadModels, freshness)
    }

    fn now() -> Self {
        Self
    }

    fn query(
        &self,
        orgs: Vec<i64>,
        shards: Vec<i16>,
    ) -> QueryAs<'static, Postgres, Self::Row, PgArguments> {
        sqlx::query_as(SUMMARIES).bind(orgs).bind(shards)
    }

    fn values(
        &self,
        _: &[OrgId],
        rows: Vec<Self::Row>,
        reader: &Reader,
    ) -> HashMap<OrgId, Self::Value> {
        standing(rows, reader, SummaryRow::checked, Summaries::from_iter)
    }
}
