//! `checkin`: a guest at the desk. Started for a reservation, then completed (which checks the reservation in) or cancelled.
//!
//! Check-ins and reservations are in two databases, which commit apart. Completing checks the reservation in first, while the
//! check-in's row is locked, and can be repeated: after a failure between the two, the next try finds the reservation
//! checked in and goes on.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table::{self, After, Limit, Thing, Written};
use crate::db::{Database, Freshness, WriteToken};
use crate::domain::{OrgId, Stay, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, start))
        .routes(routes!(show))
        .routes(routes!(complete))
        .routes(routes!(cancel))
}

/// How far a check-in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum CheckinStatus {
    Started,
    Completed,
    Cancelled,
}

/// A guest at the desk.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Checkin {
    id: Uuid,
    reservation_id: Uuid,
    property_id: Uuid,
    guest_name: String,
    status: CheckinStatus,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "id, reservation_id, property_id, guest_name, status, version, created_at, updated_at"
    };
}

impl Thing for Checkin {
    const DATABASE: Database = Database::GuestCheckin;
    const NOUN: &'static str = "check-in";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM checkins WHERE org_id = $1 AND id = $2");

    fn version(&self) -> Version {
        self.version
    }

    fn state(&self) -> &'static str {
        match self.status {
            CheckinStatus::Started => "is started",
            CheckinStatus::Completed => "is completed",
            CheckinStatus::Cancelled => "was cancelled",
        }
    }

    fn broken(constraint: &str) -> Option<Problem> {
        let again = || Problem::conflict("the reservation has a check-in");
        (constraint == "checkins_live").then(again)
    }
}

impl table::Created for Checkin {
    const CREATION: &'static str = "SELECT creation FROM checkins WHERE org_id = $1 AND id = $2";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// A guest who comes to the desk.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCheckin {
    /// Booked, for today or before; by the clock of the property, which may be a day ahead of UTC.
    reservation: Uuid,
}

/// What a check-in takes from its reservation.
#[derive(Debug, FromRow)]
struct Booked {
    property_id: Uuid,
    guest_name: String,
    arrival: NaiveDate,
    status: Stay,
}

const BOOKED: &str = "\
    SELECT property_id, guest_name, arrival, status FROM reservations WHERE org_id = $1 AND id = $2";

/// The reservation, if its guest may check in.
async fn booked(app: &App, org: OrgId, reservation: Uuid) -> Result<Booked, Problem> {
    let mut reader = app.databases.read(Database::Hospitality, Freshness::Newest);
    let query = || sqlx::query_as(BOOKED).bind(org.get()).bind(reservation);
    let found: Option<Booked> = reader.fetch_optional(query).await?;
    let booked = found.ok_or_else(|| {
        Problem::not_found(format!("organisation {org} has no reservation {reservation}"))
    })?;
    if booked.status != Stay::Booked {
        return Err(Problem::conflict(format!("the reservation {}", booked.status.is())));
    }
    if booked.arrival > Utc::now().date_naive() + TimeDelta::days(1) {
        return Err(Problem::conflict(format!("the guest arrives on {}", booked.arrival)));
    }
    Ok(booked)
}

const INSERT: &str = "\
    INSERT INTO checkins (org_id, id, reservation_id, property_id, guest_name, status, created_at, updated_at, creation) \
    VALUES ($1, $2, $3, $4, $5, 'started', $6, $6, $7) ON CONFLICT (org_id, id) DO NOTHING";

/// Starts a check-in.
#[utoipa::path(post, path = "/v1/orgs/{org}/checkins", tag = "checkin", params(OrgPath, KeyHeader), request_body = NewCheckin,
    responses((status = 201, body = Checkin, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn start(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewCheckin>,
) -> Result<Written<Value>, Problem> {
    // Before the reservation is looked at: since the first time, it may have been checked in.
    if let Some(first) = table::created_before::<Checkin>(&app, org, key.uuid(), &new).await? {
        return Ok(first);
    }
    let booked = booked(&app, org, new.reservation).await?;
    let now = table::now();
    let checkin = Checkin {
        id: key.uuid(),
        reservation_id: new.reservation,
        property_id: booked.property_id,
        guest_name: booked.guest_name,
        status: CheckinStatus::Started,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let insert = sqlx::query(INSERT)
        .bind(org.get())
        .bind(checkin.id)
        .bind(checkin.reservation_id)
        .bind(checkin.property_id)
        .bind(&checkin.guest_name)
        .bind(now);
    table::create(&app, org, &new, &checkin, insert).await
}

const LOCK: &str =
    concat!("SELECT ", columns!(), " FROM checkins WHERE org_id = $1 AND id = $2 FOR UPDATE");

const CHECK_IN: &str = "\
    UPDATE reservations SET status = 'checked_in', version = version + 1, updated_at = now() \
    WHERE org_id = $1 AND id = $2 AND status = 'booked'";

const COMPLETE: &str = concat!(
    "UPDATE checkins SET status = 'completed', version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND id = $2 RETURNING ",
    columns!()
);

/// Completes a check-in, and checks its reservation in. Can be repeated.
#[utoipa::path(post, path = "/v1/orgs/{org}/checkins/{id}/complete", tag = "checkin", params(OrgPath, IdPath),
    responses((status = 200, body = Checkin, headers(("X-Consistency-Token" = String))), Refusals,
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn complete(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Written<Checkin>, Problem> {
    let mut connection = app.databases.write(Database::GuestCheckin).acquire().await?;
    let mut transaction = sqlx::Connection::begin(&mut *connection).await?;
    let lock = sqlx::query_as(LOCK).bind(org.get()).bind(id);
    let locked: Option<Checkin> = lock.fetch_optional(&mut *transaction).await?;
    let locked = locked.ok_or_else(|| Checkin::missing(org, id))?;
    let body = match locked.status {
        CheckinStatus::Completed => locked,
        CheckinStatus::Cancelled => return Err(Problem::conflict("the check-in was cancelled")),
        CheckinStatus::Started => {
            check_in(&app, org, locked.reservation_id).await?;
            let update = sqlx::query_as(COMPLETE).bind(org.get()).bind(id);
            update.fetch_one(&mut *transaction).await?
        }
    };
    transaction.commit().await?;
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    Ok(Written { status: StatusCode::OK, body, token })
}

/// Takes the reservation from booked to checked in, or finds it there.
async fn check_in(app: &App, org: OrgId, reservation: Uuid) -> Result<(), Problem> {
    let mut connection = app.databases.write(Database::Hospitality).acquire().await?;
    let update = sqlx::query(CHECK_IN).bind(org.get()).bind(reservation);
    if update.execute(&mut *connection).await?.rows_affected() == 1 {
        return Ok(());
    }
    let query = sqlx::query_as(BOOKED).bind(org.get()).bind(reservation);
    let found: Option<Booked> = query.fetch_optional(&mut *connection).await?;
    match found.map(|booked| booked.status) {
        Some(Stay::CheckedIn) => Ok(()),
        Some(status) => Err(Problem::conflict(format!("the reservation {}", status.is()))),
        None => Err(Problem::conflict("the reservation is gone")),
    }
}

const CANCEL: &str = concat!(
    "UPDATE checkins SET status = 'cancelled', version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND id = $2 AND status = 'started' RETURNING ",
    columns!()
);

/// Cancels a check-in that is not completed. The reservation stays, and can be checked in anew.
#[utoipa::path(post, path = "/v1/orgs/{org}/checkins/{id}/cancel", tag = "checkin", params(OrgPath, IdPath),
    responses((status = 200, body = Checkin, headers(("X-Consistency-Token" = String))), Refusals,
        (status = 409, body = Problem, content_type = "application/problem+json")))]
async fn cancel(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
) -> Result<Written<Checkin>, Problem> {
    let update = sqlx::query_as(CANCEL).bind(org.get()).bind(id);
    table::change(&app, org, id, None, update).await
}

/// A check-in.
#[utoipa::path(get, path = "/v1/orgs/{org}/checkins/{id}", tag = "checkin", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Checkin), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Checkin>(&app, org, id, freshness).await
}

/// Which check-ins to list: all, unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    property: Option<Uuid>,
    reservation: Option<Uuid>,
    #[param(inline)]
    status: Option<CheckinStatus>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of check-ins.
#[derive(Debug, Serialize, ToSchema)]
struct Checkins {
    checkins: Vec<Checkin>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM checkins WHERE org_id = $1 AND ($2 IS NULL OR property_id = $2) \
     AND ($3 IS NULL OR reservation_id = $3) AND ($4 IS NULL OR status = $4) \
     AND ($5 IS NULL OR id > $5) ORDER BY id LIMIT $6"
);

/// Check-ins, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/checkins", tag = "checkin", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Checkins), Refusals))]
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
            .bind(listing.reservation)
            .bind(listing.status)
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (checkins, server) = table::list(&app, Checkin::DATABASE, freshness, query).await?;
    let (checkins, next) = listing.limit.page(checkins, |one: &Checkin| After::id(one.id));
    Ok(Reply::json(&Checkins { checkins, next }, server))
}
