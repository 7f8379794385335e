//! `users`: who may sign in for an organisation, and as what.

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
use crate::domain::Version;
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};

const NAME_CHARS_MAX: usize = 200;
const EMAIL_CHARS_MAX: usize = 254;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change))
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum UserRole {
    Owner,
    Manager,
    Clerk,
}

/// A user of an organisation.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct User {
    user_id: Uuid,
    name: String,
    email: String,
    role: UserRole,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "user_id, name, email, role, version, created_at, updated_at"
    };
}

impl Thing for User {
    const DATABASE: Database = Database::Shared;
    const NOUN: &'static str = "user";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM users WHERE org_id = $1 AND user_id = $2");

    fn version(&self) -> Version {
        self.version
    }

    fn broken(constraint: &str) -> Option<Problem> {
        let taken = || Problem::conflict("the organisation has a user with this email");
        (constraint == "users_email").then(taken)
    }
}

impl table::Created for User {
    const CREATION: &'static str = "SELECT creation FROM users WHERE org_id = $1 AND user_id = $2";

    fn id(&self) -> Uuid {
        self.user_id
    }
}

/// A user to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Unique in the organisation, whatever the case of its letters.
    #[schema(min_length = 3, max_length = 254, pattern = "^[^@]+@[^@]+$")]
    email: String,
    role: UserRole,
}

const INSERT: &str = "\
    INSERT INTO users (org_id, user_id, name, email, role, created_at, updated_at, creation) \
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT (org_id, user_id) DO NOTHING";

/// Makes a user.
#[utoipa::path(post, path = "/v1/orgs/{org}/users", tag = "users", params(OrgPath, KeyHeader), request_body = NewUser,
    responses((status = 201, body = User, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn create(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewUser>,
) -> Result<Written<Value>, Problem> {
    check(Some(&new.name), Some(&new.email))?;
    let now = table::now();
    let user = User {
        user_id: key.uuid(),
        name: new.name.clone(),
        email: new.email.clone(),
        role: new.role,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let insert = sqlx::query(INSERT)
        .bind(org.get())
        .bind(user.user_id)
        .bind(&user.name)
        .bind(&user.email)
        .bind(user.role)
        .bind(now);
    table::create(&app, org, &new, &user, insert).await
}

fn check(name: Option<&str>, email: Option<&str>) -> Result<(), Problem> {
    name.map_or(Ok(()), |name| table::text("name", name, NAME_CHARS_MAX))?;
    let Some(email) = email else { return Ok(()) };
    table::text("email", email, EMAIL_CHARS_MAX)?;
    let at = email.split_once('@');
    if at.is_some_and(|(who, host)| !who.is_empty() && !host.is_empty() && !host.contains('@')) {
        return Ok(());
    }
    Err(Problem::invalid("email: expected one @ with something before and after it"))
}

/// What is to change of a user; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(min_length = 3, max_length = 254, pattern = "^[^@]+@[^@]+$")]
    email: Option<String>,
    role: Option<UserRole>,
    /// Refused with 409 if the user has another version by now.
    expected_version: Option<Version>,
}

const UPDATE: &str = concat!(
    "UPDATE users SET name = coalesce($4, name), email = coalesce($5, email), role = coalesce($6, role), \
     version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND user_id = $2 AND version = coalesce($3, version) RETURNING ",
    columns!()
);

/// Changes a user.
#[utoipa::path(patch, path = "/v1/orgs/{org}/users/{id}", tag = "users", params(OrgPath, IdPath), request_body = UserChange,
    responses((status = 200, body = User, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn change(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<UserChange>,
) -> Result<Written<User>, Problem> {
    check(change.name.as_deref(), change.email.as_deref())?;
    let update = sqlx::query_as(UPDATE)
        .bind(org.get())
        .bind(id)
        .bind(change.expected_version.map(Version::get))
        .bind(change.name)
        .bind(change.email)
        .bind(change.role);
    table::change(&app, org, id, change.expected_version, update).await
}

/// A user.
#[utoipa::path(get, path = "/v1/orgs/{org}/users/{id}", tag = "users", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = User), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<User>(&app, org, id, freshness).await
}

/// Which users to list: all, unless an address is given.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    /// The user with this address alone.
    #[param(min_length = 3, max_length = 254)]
    email: Option<String>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
struct Users {
    users: Vec<User>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM users WHERE org_id = $1 AND ($2 IS NULL OR lower(email) = lower($2)) \
     AND ($3 IS NULL OR user_id > $3) ORDER BY user_id LIMIT $4"
);

/// Users, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/users", tag = "users", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Users), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    if let Some(email) = &listing.email {
        table::asked_text("email", email, EMAIL_CHARS_MAX)?;
    }
    let query = || {
        sqlx::query_as(LIST)
            .bind(org.get())
            .bind(listing.email.clone())
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (users, server) = table::list(&app, User::DATABASE, freshness, query).await?;
    let (users, next) = listing.limit.page(users, |user: &User| After::id(user.user_id));
    Ok(Reply::json(&Users { users, next }, server))
}
