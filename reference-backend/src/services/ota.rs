//! `ota`: exchange with the outside channel manager: which of its hotels is which property, pushes and pulls, and what
//! became of them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table::{self, After, Limit, Thing, Written};
use crate::db::Database;
use crate::domain::{PropertyId, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};
use crate::ota::{Exchange, ExchangeError, Kind, Wanted};

const RATE_CENTS_MAX: i64 = 100_000_000;
const PUSH_DAYS_MAX: i32 = 366;
const HOTEL_CODE_CHARS_MAX: usize = 64;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_connections))
        .routes(routes!(show_connection, connect))
        .routes(routes!(list_exchanges, exchange))
}

/// A property's connection to the channel manager.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Connection {
    property_id: Uuid,
    /// The hotel's name at the channel manager.
    hotel_code: String,
    /// The price of a night, in cents.
    rate_cents: i64,
    /// How many days, from today on, are for sale there.
    push_days: i32,
    /// Whether anything is exchanged.
    enabled: bool,
    /// Place in the hotel's list of bookings up to which they were pulled.
    pulled_to: i64,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "property_id, hotel_code, rate_cents, push_days, enabled, pulled_to, version, created_at, updated_at"
    };
}

impl Thing for Connection {
    const DATABASE: Database = Database::Hospitality;
    const NOUN: &'static str = "connection of a property";
    const ONE: &'static str = concat!(
        "SELECT ",
        columns!(),
        " FROM ota_connections WHERE org_id = $1 AND property_id = $2"
    );

    fn version(&self) -> Version {
        self.version
    }

    fn broken(constraint: &str) -> Option<Problem> {
        match constraint {
            "ota_connections_property" => Some(table::no_property()),
            "ota_connections_hotel" => {
                Some(Problem::conflict("the hotel code is another property's"))
            }
            _ => None,
        }
    }
}

/// A connection as it shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConnectionWanted {
    /// Letters, digits, `-` and `_`; no other property's.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    hotel_code: String,
    #[schema(minimum = 1, maximum = 100_000_000)]
    rate_cents: i64,
    #[serde(default = "a_month")]
    #[schema(minimum = 1, maximum = 366, default = 30)]
    push_days: i32,
    #[serde(default = "yes")]
    #[schema(default = true)]
    enabled: bool,
}

fn a_month() -> i32 {
    30
}

fn yes() -> bool {
    true
}

impl ConnectionWanted {
    fn check(&self) -> Result<(), Problem> {
        let code = self.hotel_code.as_bytes();
        let plain = code.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        if !plain || !(1..=HOTEL_CODE_CHARS_MAX).contains(&code.len()) {
            return Err(Problem::invalid(format!(
                "hotel_code: expected 1 to {HOTEL_CODE_CHARS_MAX} letters, digits, - and _"
            )));
        }
        table::range("rate_cents", &self.rate_cents, &(1..=RATE_CENTS_MAX))?;
        table::range("push_days", &self.push_days, &(1..=PUSH_DAYS_MAX))
    }
}

/// Another hotel's list of bookings begins at its beginning.
const CONNECT: &str = concat!(
    "INSERT INTO ota_connections AS old (org_id, property_id, hotel_code, rate_cents, push_days, enabled) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (org_id, property_id) DO UPDATE SET \
     pulled_to = CASE WHEN old.hotel_code = EXCLUDED.hotel_code THEN old.pulled_to ELSE 0 END, \
     hotel_code = EXCLUDED.hotel_code, rate_cents = EXCLUDED.rate_cents, push_days = EXCLUDED.push_days, \
     enabled = EXCLUDED.enabled, version = old.version + 1, updated_at = now() RETURNING ",
    columns!()
);

/// Connects a property, or changes how it is connected. The id is the property's.
#[utoipa::path(put, path = "/v1/orgs/{org}/ota/connections/{id}", tag = "ota", params(OrgPath, IdPath), request_body = ConnectionWanted,
    responses((status = 200, body = Connection, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn connect(
    Tenant(org): Tenant,
    Id(property): Id,
    State(app): State<Arc<App>>,
    Body(wanted): Body<ConnectionWanted>,
) -> Result<Written<Connection>, Problem> {
    wanted.check()?;
    let upsert = sqlx::query_as(CONNECT)
        .bind(org.get())
        .bind(property)
        .bind(wanted.hotel_code)
        .bind(wanted.rate_cents)
        .bind(wanted.push_days)
        .bind(wanted.enabled);
    table::change(&app, org, property, None, upsert).await
}

/// How a property is connected. The id is the property's.
#[utoipa::path(get, path = "/v1/orgs/{org}/ota/connections/{id}", tag = "ota", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Connection), Refusals))]
async fn show_connection(
    Tenant(org): Tenant,
    Id(property): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Connection>(&app, org, property, freshness).await
}

/// Which page of connections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ConnectionListing {
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
struct Connections {
    connections: Vec<Connection>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const LIST_CONNECTIONS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM ota_connections WHERE org_id = $1 AND ($2 IS NULL OR property_id > $2) ORDER BY property_id LIMIT $3"
);

/// The connected properties, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/ota/connections", tag = "ota", params(OrgPath, TokenHeader, ConnectionListing),
    responses((status = 200, body = Connections), Refusals))]
async fn list_connections(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<ConnectionListing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        sqlx::query_as(LIST_CONNECTIONS)
            .bind(org.get())
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (rows, server) = table::list(&app, Database::Hospitality, freshness, query).await?;
    let cursor = |row: &Connection| After { key: (), id: row.property_id };
    let (connections, next) = listing.limit.page(rows, cursor);
    Ok(Reply::json(&Connections { connections, next }, server))
}

/// An exchange to be made now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExchangeWanted {
    property: PropertyId,
    kind: Kind,
}

/// Exchanges with the channel manager now: pushes what is for sale, or pulls bookings into the reservations. A retry of one
/// that was done is answered from the record; of one that failed, it is made again.
#[utoipa::path(post, path = "/v1/orgs/{org}/ota/exchanges", tag = "ota", params(OrgPath, KeyHeader), request_body = ExchangeWanted,
    responses((status = 201, body = Exchange, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn exchange(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(ExchangeWanted { property, kind }): Body<ExchangeWanted>,
) -> Result<Written<Exchange>, Problem> {
    let manager = app.channel_manager.as_ref();
    let manager =
        manager.ok_or_else(|| Problem::unavailable("no channel manager is configured"))?;
    let wanted = Wanted { org, id: key.uuid(), property: property.uuid(), kind };
    let made = crate::ota::exchange(&app.databases, manager, wanted).await;
    let (body, token) = made.map_err(|error| refusal(&error))?;
    Ok(Written { status: StatusCode::CREATED, body, token })
}

fn refusal(error: &ExchangeError) -> Problem {
    match error {
        ExchangeError::NoConnection => {
            Problem::not_found("the organisation has no connection of such a property")
        }
        ExchangeError::NotEnabled => Problem::conflict("the connection is not enabled"),
        ExchangeError::OtherWithId => {
            Problem::invalid("the Idempotency-Key was used for another request")
        }
        ExchangeError::Call(error) => {
            tracing::debug!(%error, "the channel manager gave no answer");
            Problem::of_call("the channel manager", error)
        }
        ExchangeError::Sql(error) => error.into(),
    }
}

/// Which exchanges to list: of all properties unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExchangeListing {
    property: Option<Uuid>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After<DateTime<Utc>>>,
}

/// A page of exchanges.
#[derive(Debug, Serialize, ToSchema)]
struct Exchanges {
    exchanges: Vec<Exchange>,
    #[schema(value_type = Option<String>)]
    next: Option<After<DateTime<Utc>>>,
}

const LIST_EXCHANGES: &str = "\
    SELECT id, property_id, kind, outcome, items, detail, began_at, ended_at FROM ota_exchanges \
    WHERE org_id = $1 AND ($2 IS NULL OR property_id = $2) AND ($3 IS NULL OR (began_at, id) < ($3, $4)) \
    ORDER BY began_at DESC, id DESC LIMIT $5";

/// Exchanges, the latest first.
#[utoipa::path(get, path = "/v1/orgs/{org}/ota/exchanges", tag = "ota", params(OrgPath, TokenHeader, ExchangeListing),
    responses((status = 200, body = Exchanges), Refusals))]
async fn list_exchanges(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<ExchangeListing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        sqlx::query_as(LIST_EXCHANGES)
            .bind(org.get())
            .bind(listing.property)
            .bind(listing.after.map(|after| after.key))
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (rows, server) = table::list(&app, Database::Hospitality, freshness, query).await?;
    let cursor = |row: &Exchange| After { key: row.began_at, id: row.id };
    let (exchanges, next) = listing.limit.page(rows, cursor);
    Ok(Reply::json(&Exchanges { exchanges, next }, server))
}
