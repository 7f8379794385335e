//! `reservations`: who stays when, in which room. A stay is booked, then checked in, then checked out; or cancelled before it
//! begins. That a room is never booked twice for a night is a constraint of the table, so it holds whoever writes.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::types::Json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table::{self, After, Limit, Thing, Written};
use crate::db::Database;
use crate::domain::{Day, PropertyId, Stay, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};

const NAME_CHARS_MAX: usize = 200;
const CENTS_MAX: i64 = 1_000_000_000_000;
const NIGHTS_MAX: i64 = 366;
/// Of the details, as JSON.
const DETAILS_BYTES_MAX: usize = 8_192;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(arrivals))
        .routes(routes!(show, change))
}

/// Who brought a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum ReservationSource {
    /// A client of this API.
    Direct,
    /// The channel manager.
    Ota,
}

/// A guest's stay.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Reservation {
    id: Uuid,
    property_id: Uuid,
    room_id: Option<Uuid>,
    guest_name: String,
    /// The day of the first night.
    arrival: NaiveDate,
    /// The day after the last night.
    departure: NaiveDate,
    status: Stay,
    source: ReservationSource,
    /// The channel manager's name for it.
    external_ref: Option<String>,
    amount_cents: i64,
    #[schema(value_type = Object)]
    details: Json<Value>,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "id, property_id, room_id, guest_name, arrival, departure, status, source, external_ref, amount_cents, \
         details, version, created_at, updated_at"
    };
}

impl Thing for Reservation {
    const DATABASE: Database = Database::Hospitality;
    const NOUN: &'static str = "reservation";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM reservations WHERE org_id = $1 AND id = $2");

    fn version(&self) -> Version {
        self.version
    }

    fn state(&self) -> &'static str {
        self.status.is()
    }

    fn broken(constraint: &str) -> Option<Problem> {
        match constraint {
            "reservations_property" => Some(table::no_property()),
            "reservations_room" => Some(Problem::not_found("the property has no such room")),
            "reservations_room_nights" => {
                Some(Problem::conflict("the room is taken for one of these nights"))
            }
            "reservations_nights" => Some(no_nights()),
            _ => None,
        }
    }
}

impl table::Created for Reservation {
    const CREATION: &'static str =
        "SELECT creation FROM reservations WHERE org_id = $1 AND id = $2";

    fn id(&self) -> Uuid {
        self.id
    }
}

fn no_nights() -> Problem {
    Problem::invalid(format!("departure: expected a day 1 to {NIGHTS_MAX} days after arrival"))
}

/// A stay to be booked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewReservation {
    property: PropertyId,
    /// One of the property's; may be chosen later.
    room: Option<Uuid>,
    #[schema(min_length = 1, max_length = 200)]
    guest_name: String,
    arrival: Day,
    /// 1 to 366 days after arrival.
    departure: Day,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_cents: i64,
    /// Whatever the house wants to know; 8,192 bytes at most.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    details: Map<String, Value>,
}

const INSERT: &str = "\
    INSERT INTO reservations (org_id, id, property_id, room_id, guest_name, arrival, departure, amount_cents, details, \
        created_at, updated_at, creation) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11) ON CONFLICT (org_id, id) DO NOTHING";

/// Books a stay.
#[utoipa::path(post, path = "/v1/orgs/{org}/reservations", tag = "reservations", params(OrgPath, KeyHeader), request_body = NewReservation,
    responses((status = 201, body = Reservation, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn create(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewReservation>,
) -> Result<Written<Value>, Problem> {
    check(Some(&new.guest_name), Some(new.amount_cents), Some(&new.details))?;
    let (arrival, departure) = (new.arrival.date(), new.departure.date());
    if !(1..=NIGHTS_MAX).contains(&(departure - arrival).num_days()) {
        return Err(no_nights());
    }
    let now = table::now();
    let reservation = Reservation {
        id: key.uuid(),
        property_id: new.property.uuid(),
        room_id: new.room,
        guest_name: new.guest_name.clone(),
        arrival,
        departure,
        status: Stay::Booked,
        source: ReservationSource::Direct,
        external_ref: None,
        amount_cents: new.amount_cents,
        details: Json(new.details.clone().into()),
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let insert = sqlx::query(INSERT)
        .bind(org.get())
        .bind(reservation.id)
        .bind(reservation.property_id)
        .bind(reservation.room_id)
        .bind(&reservation.guest_name)
        .bind(arrival)
        .bind(departure)
        .bind(reservation.amount_cents)
        .bind(&reservation.details)
        .bind(now);
    table::create(&app, org, &new, &reservation, insert).await
}

fn check(
    guest_name: Option<&str>,
    amount_cents: Option<i64>,
    details: Option<&Map<String, Value>>,
) -> Result<(), Problem> {
    guest_name.map_or(Ok(()), |name| table::text("guest_name", name, NAME_CHARS_MAX))?;
    amount_cents.map_or(Ok(()), |cents| table::range("amount_cents", &cents, &(0..=CENTS_MAX)))?;
    details.map_or(Ok(()), |details| table::document("details", details, DETAILS_BYTES_MAX))
}

/// What is to change of a stay; what is left out stays. Nothing changes after it ended or was cancelled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "left out, null and a value are three different wishes")]
struct ReservationChange {
    /// One of the property's; null for none yet.
    #[serde(default, deserialize_with = "table::nullable")]
    #[schema(value_type = Option<Uuid>)]
    room: Option<Option<Uuid>>,
    #[schema(min_length = 1, max_length = 200)]
    guest_name: Option<String>,
    arrival: Option<Day>,
    /// 1 to 366 days after arrival.
    departure: Option<Day>,
    /// Checked in after booked, checked out after checked in, cancelled after booked.
    status: Option<Stay>,
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_cents: Option<i64>,
    /// All of them anew; 8,192 bytes at most.
    #[schema(value_type = Option<Object>)]
    details: Option<Map<String, Value>>,
    /// Refused with 409 if the reservation has another version by now.
    expected_version: Option<Version>,
}

const UPDATE: &str = concat!(
    "UPDATE reservations SET room_id = CASE WHEN $5 THEN $6 ELSE room_id END, \
     guest_name = coalesce($7, guest_name), arrival = coalesce($8, arrival), departure = coalesce($9, departure), \
     status = coalesce($10, status), amount_cents = coalesce($11, amount_cents), \
     details = coalesce($12, details), version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND id = $2 AND version = coalesce($3, version) AND status = ANY($4) RETURNING ",
    columns!()
);

/// Moves a stay, gives it a room, checks in or out, or cancels.
#[utoipa::path(patch, path = "/v1/orgs/{org}/reservations/{id}", tag = "reservations", params(OrgPath, IdPath),
    request_body = ReservationChange,
    responses((status = 200, body = Reservation, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn change(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<ReservationChange>,
) -> Result<Written<Reservation>, Problem> {
    check(change.guest_name.as_deref(), change.amount_cents, change.details.as_ref())?;
    let from = change.status.map_or(Stay::CHANGEABLE, Stay::reached_from);
    let update = sqlx::query_as(UPDATE)
        .bind(org.get())
        .bind(id)
        .bind(change.expected_version.map(Version::get))
        .bind(from.iter().map(|stay| stay.name()).collect::<Vec<_>>())
        .bind(change.room.is_some())
        .bind(change.room.flatten())
        .bind(change.guest_name)
        .bind(change.arrival.map(Day::date))
        .bind(change.departure.map(Day::date))
        .bind(change.status)
        .bind(change.amount_cents)
        .bind(change.details.map(Json));
    table::change(&app, org, id, change.expected_version, update).await
}

/// A reservation.
#[utoipa::path(get, path = "/v1/orgs/{org}/reservations/{id}", tag = "reservations", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Reservation), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Reservation>(&app, org, id, freshness).await
}

/// A place in the reservations by arrival.
type AfterArrival = After<NaiveDate>;

/// Which reservations to list: all, unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    property: Option<Uuid>,
    /// The first day of arrival.
    from: Option<Day>,
    /// The last day of arrival.
    to: Option<Day>,
    #[param(inline)]
    status: Option<Stay>,
    /// A JSON object that the details contain.
    #[param(max_length = 1000)]
    details: Option<String>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<AfterArrival>,
}

/// A page of reservations.
#[derive(Debug, Serialize, ToSchema)]
struct Reservations {
    reservations: Vec<Reservation>,
    #[schema(value_type = Option<String>)]
    next: Option<AfterArrival>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM reservations WHERE org_id = $1 AND ($2 IS NULL OR property_id = $2) \
     AND ($3 IS NULL OR arrival >= $3) AND ($4 IS NULL OR arrival <= $4) AND ($5 IS NULL OR status = $5) \
     AND ($6 IS NULL OR details @> $6) AND ($7 IS NULL OR (arrival, id) > ($7, $8)) \
     ORDER BY arrival, id LIMIT $9"
);

/// Reservations by arrival.
#[utoipa::path(get, path = "/v1/orgs/{org}/reservations", tag = "reservations", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Reservations), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let details = listing.details.as_deref().map(asked_details).transpose()?;
    let query = || {
        sqlx::query_as(LIST)
            .bind(org.get())
            .bind(listing.property)
            .bind(listing.from.map(Day::date))
            .bind(listing.to.map(Day::date))
            .bind(listing.status)
            .bind(details.clone())
            .bind(listing.after.map(|after| after.key))
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (found, server): (Vec<Reservation>, _) =
        table::list(&app, Reservation::DATABASE, freshness, query).await?;
    let place = |stay: &Reservation| After { key: stay.arrival, id: stay.id };
    let (reservations, next) = listing.limit.page(found, place);
    Ok(Reply::json(&Reservations { reservations, next }, server))
}

fn asked_details(text: &str) -> Result<Json<Map<String, Value>>, Problem> {
    let details = serde_json::from_str(text).map_err(|error| {
        Problem::malformed(format!(
            "details: expected a JSON object, like {{\"late\":true}}: {error}"
        ))
    })?;
    table::document("details", &details, DETAILS_BYTES_MAX)
        .map_err(|problem| Problem::malformed(problem.detail))?;
    Ok(Json(details))
}

/// Whose arrivals to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ArrivalsOf {
    property: Uuid,
    /// Today, UTC, when left out.
    date: Option<Day>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// What the desk needs to know of somebody who arrives.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Arrival {
    id: Uuid,
    guest_name: String,
    room_id: Option<Uuid>,
    departure: NaiveDate,
    status: Stay,
}

/// A page of arrivals.
#[derive(Debug, Serialize, ToSchema)]
struct Arrivals {
    arrivals: Vec<Arrival>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const ARRIVALS: &str = "\
    SELECT id, guest_name, room_id, departure, status FROM reservations \
    WHERE org_id = $1 AND property_id = $2 AND arrival = $3 AND status <> 'cancelled' \
      AND ($4 IS NULL OR id > $4) ORDER BY id LIMIT $5";

/// Who arrives at a property on a day, cancelled stays apart.
#[utoipa::path(get, path = "/v1/orgs/{org}/reservations/arrivals", tag = "reservations",
    params(OrgPath, TokenHeader, ArrivalsOf), responses((status = 200, body = Arrivals), Refusals))]
async fn arrivals(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(of): Params<ArrivalsOf>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let date = of.date.map_or_else(|| Utc::now().date_naive(), Day::date);
    let query = || {
        sqlx::query_as(ARRIVALS)
            .bind(org.get())
            .bind(of.property)
            .bind(date)
            .bind(of.after.map(|after| after.id))
            .bind(of.limit.rows())
    };
    let (found, server) = table::list(&app, Reservation::DATABASE, freshness, query).await?;
    let (arrivals, next) = of.limit.page(found, |arrival: &Arrival| After::id(arrival.id));
    Ok(Reply::json(&Arrivals { arrivals, next }, server))
}
