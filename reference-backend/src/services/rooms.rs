//! `rooms`: the rooms of the properties, and which of them are clean.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table::{self, After, Limit, Thing, Written};
use crate::db::Database;
use crate::domain::{Day, PropertyId, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};

/// The longest name, and the longest kind, in characters.
const NAME_CHARS_MAX: usize = 100;
const BEDS_MAX: i32 = 100;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(free))
        .routes(routes!(show, change))
}

/// Whether a guest can be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum RoomStatus {
    Clean,
    Dirty,
    OutOfOrder,
}

/// A room of a property.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Room {
    id: Uuid,
    property_id: Uuid,
    name: String,
    /// In the house's own words: single, suite …
    kind: String,
    beds: i32,
    status: RoomStatus,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "id, property_id, name, kind, beds, status, version, created_at, updated_at"
    };
}

impl Thing for Room {
    const DATABASE: Database = Database::Hospitality;
    const NOUN: &'static str = "room";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM rooms WHERE org_id = $1 AND id = $2");

    fn version(&self) -> Version {
        self.version
    }

    fn broken(constraint: &str) -> Option<Problem> {
        match constraint {
            "rooms_property" => Some(table::no_property()),
            "rooms_name" => Some(Problem::conflict("the property has a room of this name")),
            _ => None,
        }
    }
}

impl table::Created for Room {
    const CREATION: &'static str = "SELECT creation FROM rooms WHERE org_id = $1 AND id = $2";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// A room to be made; it is clean.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRoom {
    property: PropertyId,
    /// Unique in the property.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    #[schema(min_length = 1, max_length = 100)]
    kind: String,
    #[schema(minimum = 1, maximum = 100)]
    beds: i32,
}

const INSERT: &str = "\
    INSERT INTO rooms (org_id, id, property_id, name, kind, beds, created_at, updated_at, creation) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT (org_id, id) DO NOTHING";

/// Makes a room.
#[utoipa::path(post, path = "/v1/orgs/{org}/rooms", tag = "rooms", params(OrgPath, KeyHeader), request_body = NewRoom,
    responses((status = 201, body = Room, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn create(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewRoom>,
) -> Result<Written<Value>, Problem> {
    check(Some(&new.name), Some(&new.kind), Some(new.beds))?;
    let now = table::now();
    let room = Room {
        id: key.uuid(),
        property_id: new.property.uuid(),
        name: new.name.clone(),
        kind: new.kind.clone(),
        beds: new.beds,
        status: RoomStatus::Clean,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let insert = sqlx::query(INSERT)
        .bind(org.get())
        .bind(room.id)
        .bind(room.property_id)
        .bind(&room.name)
        .bind(&room.kind)
        .bind(room.beds)
        .bind(now);
    table::create(&app, org, &new, &room, insert).await
}

fn check(name: Option<&str>, kind: Option<&str>, beds: Option<i32>) -> Result<(), Problem> {
    name.map_or(Ok(()), |name| table::text("name", name, NAME_CHARS_MAX))?;
    kind.map_or(Ok(()), |kind| table::text("kind", kind, NAME_CHARS_MAX))?;
    beds.map_or(Ok(()), |beds| table::range("beds", &beds, &(1..=BEDS_MAX)))
}

/// What is to change of a room; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoomChange {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    kind: Option<String>,
    #[schema(minimum = 1, maximum = 100)]
    beds: Option<i32>,
    status: Option<RoomStatus>,
    /// Refused with 409 if the room has another version by now.
    expected_version: Option<Version>,
}

const UPDATE: &str = concat!(
    "UPDATE rooms SET name = coalesce($4, name), kind = coalesce($5, kind), beds = coalesce($6, beds), \
     status = coalesce($7, status), version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND id = $2 AND version = coalesce($3, version) RETURNING ",
    columns!()
);

/// Changes a room.
#[utoipa::path(patch, path = "/v1/orgs/{org}/rooms/{id}", tag = "rooms", params(OrgPath, IdPath), request_body = RoomChange,
    responses((status = 200, body = Room, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn change(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<RoomChange>,
) -> Result<Written<Room>, Problem> {
    check(change.name.as_deref(), change.kind.as_deref(), change.beds)?;
    let update = sqlx::query_as(UPDATE)
        .bind(org.get())
        .bind(id)
        .bind(change.expected_version.map(Version::get))
        .bind(change.name)
        .bind(change.kind)
        .bind(change.beds)
        .bind(change.status);
    table::change(&app, org, id, change.expected_version, update).await
}

/// A room.
#[utoipa::path(get, path = "/v1/orgs/{org}/rooms/{id}", tag = "rooms", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Room), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Room>(&app, org, id, freshness).await
}

/// Which rooms to list: of all properties and in any status unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    property: Option<Uuid>,
    #[param(inline)]
    status: Option<RoomStatus>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of rooms.
#[derive(Debug, Serialize, ToSchema)]
struct Rooms {
    rooms: Vec<Room>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM rooms WHERE org_id = $1 AND ($2 IS NULL OR property_id = $2) AND ($3 IS NULL OR status = $3) \
     AND ($4 IS NULL OR id > $4) ORDER BY id LIMIT $5"
);

/// Rooms, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/rooms", tag = "rooms", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Rooms), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        sqlx::query_as(LIST)
            .bind(org.get())
            .bind(listing.property)
            .bind(listing.status)
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (rooms, server) = table::list(&app, Room::DATABASE, freshness, query).await?;
    let (rooms, next) = listing.limit.page(rooms, |room: &Room| After::id(room.id));
    Ok(Reply::json(&Rooms { rooms, next }, server))
}

/// Which nights a room is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Nights {
    property: Uuid,
    arrival: Day,
    /// After arrival.
    departure: Day,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

const FREE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM rooms WHERE org_id = $1 AND property_id = $2 AND status <> 'out_of_order' \
     AND NOT EXISTS (SELECT FROM reservations AS r \
         WHERE r.org_id = $1 AND r.room_id = rooms.id AND r.status IN ('booked', 'checked_in') \
           AND daterange(r.arrival, r.departure) && daterange($3, $4)) \
     AND ($5 IS NULL OR id > $5) ORDER BY id LIMIT $6"
);

/// Rooms of a property that nobody has booked for any of some nights, and that are in order.
#[utoipa::path(get, path = "/v1/orgs/{org}/rooms/free", tag = "rooms", params(OrgPath, TokenHeader, Nights),
    responses((status = 200, body = Rooms), Refusals))]
async fn free(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(nights): Params<Nights>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let (arrival, departure) = (nights.arrival.date(), nights.departure.date());
    if departure <= arrival {
        return Err(Problem::malformed("departure: expected a day after arrival"));
    }
    let query = || {
        sqlx::query_as(FREE)
            .bind(org.get())
            .bind(nights.property)
            .bind(arrival)
            .bind(departure)
            .bind(nights.after.map(|after| after.id))
            .bind(nights.limit.rows())
    };
    let (rooms, server) = table::list(&app, Room::DATABASE, freshness, query).await?;
    let (rooms, next) = nights.limit.page(rooms, |room: &Room| After::id(room.id));
    Ok(Reply::json(&Rooms { rooms, next }, server))
}
