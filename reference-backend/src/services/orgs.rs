//! `orgs`: an organisation's own record, and its name to be changed.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::load::{self, Statement};
use crate::cache::{Asker, Fixed, Lookup, OrgCache, OrgRecord};
use crate::db::{Database, Databases, Freshness, Reader};
use crate::domain::{OrgId, Version};
use crate::gateway::{App, Body, OrgPath, Problem, Refusals, Reply, Tenant, WriteRefusals};

/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 200;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show, rename))
}

#[derive(Debug, FromRow, Serialize, ToSchema)]
#[schema(as = Organisation)]
pub(super) struct OrgRow {
    org_id: i64,
    name: String,
    size_class: String,
    country: String,
    currency: String,
    version: i32,
    created_at: DateTime<Utc>,
}

impl OrgRow {
    fn record(&self) -> OrgRecord {
        OrgRecord { version: Version::new(self.version), body: Reply::json(self, "").body }
    }
}

/// The organisation's own record.
#[utoipa::path(get, path = "/v1/orgs/{org}", tag = "orgs", params(OrgPath), responses((status = 200, body = OrgRow), Refusals))]
async fn show(Tenant(org): Tenant, State(app): State<Arc<App>>) -> Result<Reply, Problem> {
    let (found, lookup) = record(&app, org).await.map_err(|error| Problem::from(&*error))?;
    let record = found.value.as_ref().ok_or_else(|| no_such(org))?;
    Ok(Reply { body: record.body.clone(), from: app.answered(lookup, found.from) })
}

/// An organisation's own record, from the cache where possible.
async fn record(
    app: &App,
    org: OrgId,
) -> Result<(Arc<Fixed<OrgRecord>>, Lookup), Arc<sqlx::Error>> {
    app.caches
        .orgs
        .read(org, Asker::Request, |freshness| load::one::<Records>(app, org, freshness))
        .await
}

fn no_such(org: OrgId) -> Problem {
    Problem::not_found(format!("there is no organisation {org}"))
}

const ORGS: &str = "\
    SELECT org_id, name, size_class, country::text, currency::text, version, created_at \
    FROM organisations WHERE org_id = ANY($1)";

/// All records.
pub(super) struct Records;

impl Statement for Records {
    type Row = OrgRow;
    type Value = Fixed<OrgRecord>;
    type Cache = OrgCache;

    fn cache(app: &App) -> &Self::Cache {
        &app.caches.orgs
    }

    fn reader(databases: &Databases, freshness: Freshness) -> Reader {
        databases.read(Database::Shared, freshness)
    }

    fn now() -> Self {
        Self
    }

    fn query(
        &self,
        orgs: Vec<i64>,
        _: Vec<i16>,
    ) -> QueryAs<'static, Postgres, Self::Row, PgArguments> {
        sqlx::query_as(ORGS).bind(orgs)
    }

    fn values(
        &self,
        orgs: &[OrgId],
        rows: Vec<Self::Row>,
        reader: &Reader,
    ) -> HashMap<OrgId, Self::Value> {
        let from = reader.source().server();
        let mut records: HashMap<i64, OrgRecord> =
            rows.into_iter().map(|row| (row.org_id, row.record())).collect();
        let mut fixed = |org: OrgId| Fixed { value: records.remove(&org.get()), from };
        orgs.iter().map(|org| (*org, fixed(*org))).collect()
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rename {
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    name: String,
}

/// And leaves word of it for the other processes: see [`super::org_changes`].
const RENAME: &str = "\
    WITH renamed AS ( \
        UPDATE organisations SET name = $2, version = version + 1 WHERE org_id = $1 \
        RETURNING org_id, name, size_class, country::text, currency::text, version, created_at), \
    noted AS ( \
        INSERT INTO organisation_changes (org_id, version, changed_in) \
        SELECT org_id, version, pg_current_xact_id() FROM renamed \
        ON CONFLICT (org_id) DO UPDATE SET version = EXCLUDED.version, changed_in = EXCLUDED.changed_in) \
    SELECT * FROM renamed";

/// Gives the organisation another name.
#[utoipa::path(patch, path = "/v1/orgs/{org}", tag = "orgs", params(OrgPath), request_body = Rename,
    responses((status = 200, body = OrgRow), WriteRefusals))]
async fn rename(
    Tenant(org): Tenant,
    State(app): State<Arc<App>>,
    Body(Rename { name }): Body<Rename>,
) -> Result<impl IntoResponse, Problem> {
    let chars = name.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&chars) || name.chars().any(char::is_control) {
        return Err(Problem::invalid(format!(
            "name: expected 1 to {NAME_CHARS_MAX} characters without control characters"
        )));
    }
    // A task of its own: a client that goes away between commit and cache must not leave the old name behind.
    let renamed = tokio::spawn(async move { update_name(&app, org, &name).await }).await;
    let renamed = renamed.unwrap_or_else(|_| Err(Problem::internal()))?;
    let record = renamed.ok_or_else(|| no_such(org))?;
    Ok(([(CONTENT_TYPE, "application/json")], record.body))
}

async fn update_name(app: &App, org: OrgId, name: &str) -> Result<Option<OrgRecord>, Problem> {
    let query = sqlx::query_as(RENAME).bind(org.get()).bind(name);
    let renamed: sqlx::Result<Option<OrgRow>> =
        query.fetch_optional(app.databases.write(Database::Shared)).await;
    match renamed {
        Ok(row) => {
            let record = row.map(|row| row.record());
            if let Some(record) = &record {
                app.caches.orgs.updated(org, record.version).await;
            }
            Ok(record)
        }
        Err(error) => {
            app.caches.orgs.forget(org).await;
            Err(error.into())
        }
    }
}
