//! `properties`: the hotels and houses of an organisation. Their list is kept in the cache, because every booking of an entry
//! asks it whether a property is the organisation's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::load::{self, Statement};
use super::table::{self, Thing, Written};
use crate::cache::{Asker, Fixed, Lookup, PropertyCache, PropertyList};
use crate::db::{Database, Databases, Freshness, Reader};
use crate::domain::{OrgId, PropertyId, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Problem, Refusals, Reply,
    Tenant, TokenHeader, WriteRefusals,
};

const NAME_CHARS_MAX: usize = 200;
const ROOMS_MAX: i32 = 10_000;
/// They are listed, cached and warmed whole.
const PROPERTIES_MAX: i64 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change))
}

/// A hotel or house.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Property {
    property_id: Uuid,
    name: String,
    city: String,
    /// How many there are, whether or not each is known by name.
    rooms: i32,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "property_id, name, city, rooms, version, created_at, updated_at"
    };
}

impl Thing for Property {
    const DATABASE: Database = Database::Hospitality;
    const NOUN: &'static str = "property";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM properties WHERE org_id = $1 AND property_id = $2");

    fn version(&self) -> Version {
        self.version
    }
}

impl table::Created for Property {
    const CREATION: &'static str =
        "SELECT creation FROM properties WHERE org_id = $1 AND property_id = $2";
    const FULL: Option<&'static str> =
        Some("the organisation has 1,000 properties, and may have no more");

    fn id(&self) -> Uuid {
        self.property_id
    }
}

/// A property to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewProperty {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(min_length = 1, max_length = 200)]
    city: String,
    #[schema(minimum = 1, maximum = 10_000)]
    rooms: i32,
}

/// Creates at the same moment may pass the limit by their number: it is there against thousands.
const INSERT: &str = "\
    INSERT INTO properties (org_id, property_id, name, city, rooms, created_at, updated_at, creation) \
    SELECT $1, $2, $3, $4, $5, $6, $6, $8 WHERE (SELECT count(*) FROM properties WHERE org_id = $1) < $7 \
    ON CONFLICT (org_id, property_id) DO NOTHING";

/// Makes a property.
#[utoipa::path(post, path = "/v1/orgs/{org}/properties", tag = "properties", params(OrgPath, KeyHeader), request_body = NewProperty,
    responses((status = 201, body = Property, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn create(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewProperty>,
) -> Result<Written<Value>, Problem> {
    check(Some(&new.name), Some(&new.city), Some(new.rooms))?;
    let now = table::now();
    let property = Property {
        property_id: key.uuid(),
        name: new.name.clone(),
        city: new.city.clone(),
        rooms: new.rooms,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let of = Arc::clone(&app);
    let write = async move {
        let insert = sqlx::query(INSERT)
            .bind(org.get())
            .bind(property.property_id)
            .bind(&property.name)
            .bind(&property.city)
            .bind(property.rooms)
            .bind(now)
            .bind(PROPERTIES_MAX);
        table::create(&app, org, &new, &property, insert).await
    };
    noted(of, org, write).await
}

fn check(name: Option<&str>, city: Option<&str>, rooms: Option<i32>) -> Result<(), Problem> {
    name.map_or(Ok(()), |name| table::text("name", name, NAME_CHARS_MAX))?;
    city.map_or(Ok(()), |city| table::text("city", city, NAME_CHARS_MAX))?;
    rooms.map_or(Ok(()), |rooms| table::range("rooms", &rooms, &(1..=ROOMS_MAX)))
}

/// What is to change of a property; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PropertyChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(min_length = 1, max_length = 200)]
    city: Option<String>,
    #[schema(minimum = 1, maximum = 10_000)]
    rooms: Option<i32>,
    /// Refused with 409 if the property has another version by now.
    expected_version: Option<Version>,
}

const UPDATE: &str = concat!(
    "UPDATE properties SET name = coalesce($4, name), city = coalesce($5, city), rooms = coalesce($6, rooms), \
     version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND property_id = $2 AND version = coalesce($3, version) RETURNING ",
    columns!()
);

/// Changes a property.
#[utoipa::path(patch, path = "/v1/orgs/{org}/properties/{id}", tag = "properties", params(OrgPath, IdPath), request_body = PropertyChange,
    responses((status = 200, body = Property, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn change(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<PropertyChange>,
) -> Result<Written<Property>, Problem> {
    check(change.name.as_deref(), change.city.as_deref(), change.rooms)?;
    let of = Arc::clone(&app);
    let write = async move {
        let update = sqlx::query_as(UPDATE)
            .bind(org.get())
            .bind(id)
            .bind(change.expected_version.map(Version::get))
            .bind(change.name)
            .bind(change.city)
            .bind(change.rooms);
        table::change(&app, org, id, change.expected_version, update).await
    };
    noted(of, org, write).await
}

/// A property.
#[utoipa::path(get, path = "/v1/orgs/{org}/properties/{id}", tag = "properties", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Property), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Property>(&app, org, id, freshness).await
}

/// The properties of an organisation, all at once.
#[derive(Debug, Serialize, ToSchema)]
struct Properties {
    properties: Vec<Property>,
}

/// All properties, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/properties", tag = "properties", params(OrgPath, TokenHeader),
    responses((status = 200, body = Properties), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let found = known(&app, org, freshness).await;
    let (found, lookup) = found.map_err(|error| Problem::from(&*error))?;
    let list = found.value.as_ref().ok_or_else(Problem::internal)?;
    Ok(Reply { body: list.body.clone(), from: app.answered(lookup, found.from) })
}

/// An organisation's properties, from the cache where possible.
async fn known(
    app: &App,
    org: OrgId,
    freshness: Freshness,
) -> Result<(Arc<Fixed<PropertyList>>, Lookup), Arc<sqlx::Error>> {
    let asker = Asker::Request;
    app.caches
        .properties
        .read(org, asker, freshness, |needed| load::one::<Lists>(app, org, needed))
        .await
}

/// How a write learns whether a property is the organisation's own; 404 if not.
pub(super) async fn must_own(app: &App, org: OrgId, property: PropertyId) -> Result<(), Problem> {
    let refused = |error: Arc<sqlx::Error>| Problem::from(&*error);
    let has = |found: &Fixed<PropertyList>| {
        found.value.as_ref().is_some_and(|list| list.ids.binary_search(&property).is_ok())
    };
    let (found, _) = known(app, org, Freshness::Any).await.map_err(refused)?;
    if has(&found) {
        return Ok(());
    }
    let again =
        app.caches.properties.read_again(org, |needed| load::one::<Lists>(app, org, needed)).await;
    if has(&again.map_err(refused)?.0) { Ok(()) } else { Err(Property::missing(org, property)) }
}

const ALL: &str = concat!(
    "SELECT org_id, ",
    columns!(),
    " FROM properties WHERE org_id = ANY($1) ORDER BY org_id, property_id"
);

#[derive(Debug, FromRow)]
pub(super) struct Owned {
    org_id: i64,
    #[sqlx(flatten)]
    property: Property,
}

/// All lists, asked for at a moment.
pub(super) struct Lists {
    asked_at: Instant,
}

impl Statement for Lists {
    type Row = Owned;
    type Value = Fixed<PropertyList>;
    type Cache = PropertyCache;

    fn cache(app: &App) -> &Self::Cache {
        &app.caches.properties
    }

    fn reader(databases: &Databases, freshness: Freshness) -> Reader {
        databases.read(Database::Hospitality, freshness)
    }

    fn now() -> Self {
        Self { asked_at: Instant::now() }
    }

    fn query(
        &self,
        orgs: Vec<i64>,
        _: Vec<i16>,
    ) -> QueryAs<'static, Postgres, Self::Row, PgArguments> {
        sqlx::query_as(ALL).bind(orgs)
    }

    fn values(
        &self,
        orgs: &[OrgId],
        rows: Vec<Self::Row>,
        reader: &Reader,
    ) -> HashMap<OrgId, Self::Value> {
        let mut owned: HashMap<i64, Vec<Property>> = HashMap::new();
        for Owned { org_id, property } in rows {
            owned.entry(org_id).or_default().push(property);
        }
        let (as_of, from, asked_at) = (reader.as_of(), reader.source().server(), self.asked_at);
        let list = |properties: Vec<Property>| {
            let ids = properties.iter().map(|row| row.property_id.into()).collect();
            let body = Reply::json(&Properties { properties }, "").body;
            Fixed { value: Some(PropertyList { ids, body, as_of, asked_at }), from }
        };
        let mut of = |org: &OrgId| list(owned.remove(&org.get()).unwrap_or_default());
        orgs.iter().map(|org| (*org, of(org))).collect()
    }
}

/// Runs a write and tells the cache of it, in a task of its own: a client that goes away between commit and cache must not
/// leave the old list behind.
async fn noted<T: Send + 'static>(
    app: Arc<App>,
    org: OrgId,
    write: impl Future<Output = Result<Written<T>, Problem>> + Send + 'static,
) -> Result<Written<T>, Problem> {
    let task = tokio::spawn(async move {
        let written = write.await;
        match &written {
            Ok(written) => app.caches.properties.written(org, written.token.0).await,
            Err(problem) if problem.wrote_nothing() => {}
            Err(_) => app.caches.properties.unknown(org).await,
        }
        written
    });
    task.await.unwrap_or_else(|_| Err(Problem::internal()))
}
