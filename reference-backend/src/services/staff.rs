//! `staff`: who works in a property, and whether still.

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
use crate::domain::{PropertyId, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};

const NAME_CHARS_MAX: usize = 200;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change))
}

/// What somebody works as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum StaffRole {
    Reception,
    Housekeeping,
    Maintenance,
    Kitchen,
    Management,
}

/// One of the staff.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Employee {
    id: Uuid,
    property_id: Uuid,
    name: String,
    role: StaffRole,
    /// Not after leaving. Nobody is removed: tasks name who did them.
    active: bool,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "id, property_id, name, role, active, version, created_at, updated_at"
    };
}

impl Thing for Employee {
    const DATABASE: Database = Database::Hospitality;
    const NOUN: &'static str = "employee";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM staff WHERE org_id = $1 AND id = $2");

    fn version(&self) -> Version {
        self.version
    }

    fn broken(constraint: &str) -> Option<Problem> {
        (constraint == "staff_property").then(table::no_property)
    }
}

impl table::Created for Employee {
    const CREATION: &'static str = "SELECT creation FROM staff WHERE org_id = $1 AND id = $2";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// Somebody who begins to work in a property.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEmployee {
    property: PropertyId,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    role: StaffRole,
}

const INSERT: &str = "\
    INSERT INTO staff (org_id, id, property_id, name, role, created_at, updated_at, creation) \
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT (org_id, id) DO NOTHING";

/// Adds somebody to the staff.
#[utoipa::path(post, path = "/v1/orgs/{org}/staff", tag = "staff", params(OrgPath, KeyHeader), request_body = NewEmployee,
    responses((status = 201, body = Employee, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn create(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewEmployee>,
) -> Result<Written<Value>, Problem> {
    table::text("name", &new.name, NAME_CHARS_MAX)?;
    let now = table::now();
    let employee = Employee {
        id: key.uuid(),
        property_id: new.property.uuid(),
        name: new.name.clone(),
        role: new.role,
        active: true,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let insert = sqlx::query(INSERT)
        .bind(org.get())
        .bind(employee.id)
        .bind(employee.property_id)
        .bind(&employee.name)
        .bind(employee.role)
        .bind(now);
    table::create(&app, org, &new, &employee, insert).await
}

/// What is to change of somebody; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EmployeeChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    role: Option<StaffRole>,
    active: Option<bool>,
    /// Refused with 409 if there is another version by now.
    expected_version: Option<Version>,
}

const UPDATE: &str = concat!(
    "UPDATE staff SET name = coalesce($4, name), role = coalesce($5, role), active = coalesce($6, active), \
     version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND id = $2 AND version = coalesce($3, version) RETURNING ",
    columns!()
);

/// Changes one of the staff.
#[utoipa::path(patch, path = "/v1/orgs/{org}/staff/{id}", tag = "staff", params(OrgPath, IdPath), request_body = EmployeeChange,
    responses((status = 200, body = Employee, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn change(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<EmployeeChange>,
) -> Result<Written<Employee>, Problem> {
    if let Some(name) = &change.name {
        table::text("name", name, NAME_CHARS_MAX)?;
    }
    let update = sqlx::query_as(UPDATE)
        .bind(org.get())
        .bind(id)
        .bind(change.expected_version.map(Version::get))
        .bind(change.name)
        .bind(change.role)
        .bind(change.active);
    table::change(&app, org, id, change.expected_version, update).await
}

/// One of the staff.
#[utoipa::path(get, path = "/v1/orgs/{org}/staff/{id}", tag = "staff", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Employee), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Employee>(&app, org, id, freshness).await
}

/// Whom to list: of all properties, and also who left, unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    property: Option<Uuid>,
    active: Option<bool>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of the staff.
#[derive(Debug, Serialize, ToSchema)]
struct Staff {
    staff: Vec<Employee>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM staff WHERE org_id = $1 AND ($2 IS NULL OR property_id = $2) AND ($3 IS NULL OR active = $3) \
     AND ($4 IS NULL OR id > $4) ORDER BY id LIMIT $5"
);

/// Staff, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/staff", tag = "staff", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Staff), Refusals))]
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
            .bind(listing.active)
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (staff, server) = table::list(&app, Employee::DATABASE, freshness, query).await?;
    let (staff, next) = listing.limit.page(staff, |one: &Employee| After::id(one.id));
    Ok(Reply::json(&Staff { staff, next }, server))
}
