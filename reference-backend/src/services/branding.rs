//! `branding`: an organisation's name for its guests, its colours and its logo. Set as a whole; the logo apart, because it
//! is content.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::QueryAs;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::attachments::{self, File};
use super::table::{self, Written};
use crate::db::{Database, Freshness, WriteToken};
use crate::domain::{OrgId, Version};
use crate::gateway::{
    App, Binary, Body, Downloads, Fresh, Held, OrgPath, Problem, Refusals, Reply, Tenant,
    TokenHeader, Upload, UploadRefusals, WriteRefusals, hex,
};
use crate::objects::{Bucket, Key};

const NAME_CHARS_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show, set)).routes(routes!(logo, set_logo, remove_logo))
}

#[derive(Debug, Default, FromRow)]
struct Row {
    display_name: Option<String>,
    primary_colour: Option<String>,
    accent_colour: Option<String>,
    logo_object: Option<Uuid>,
    logo_media: Option<String>,
    logo_bytes: Option<i64>,
    logo_sha256: Option<Vec<u8>>,
    version: i32,
    updated_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "display_name, primary_colour, accent_colour, logo_object, logo_media, logo_bytes, logo_sha256, version, updated_at"
    };
}

/// How an organisation looks.
#[derive(Debug, Serialize, ToSchema)]
struct Branding {
    display_name: Option<String>,
    /// As in `#1f6feb`.
    primary_colour: Option<String>,
    accent_colour: Option<String>,
    logo: Option<Logo>,
    /// Counts the changes; 0 when nothing was set yet.
    version: i32,
    updated_at: Option<DateTime<Utc>>,
}

/// What is known of a logo.
#[derive(Debug, Serialize, ToSchema)]
struct Logo {
    content_type: String,
    #[schema(minimum = 1)]
    bytes: i64,
    /// SHA-256 of the content, in hexadecimal digits; also the content's `ETag`.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
}

impl From<Row> for Branding {
    fn from(row: Row) -> Self {
        let logo = row.logo_media.zip(row.logo_bytes).zip(row.logo_sha256);
        Self {
            display_name: row.display_name,
            primary_colour: row.primary_colour,
            accent_colour: row.accent_colour,
            logo: logo.map(|((content_type, bytes), sha256)| Logo {
                content_type,
                bytes,
                sha256: hex(&sha256),
            }),
            version: row.version,
            updated_at: row.updated_at,
        }
    }
}

const ONE: &str = concat!("SELECT ", columns!(), " FROM branding WHERE org_id = $1");

async fn find(app: &App, org: OrgId, freshness: Freshness) -> Result<(Row, &'static str), Problem> {
    let mut reader = app.databases.read(Database::Shared, freshness);
    let query = || sqlx::query_as(ONE).bind(org.get());
    let found: Option<Row> = reader.fetch_optional(query).await?;
    Ok((found.unwrap_or_default(), reader.source().server()))
}

/// How the organisation looks. All null at version 0 when nothing was set yet.
#[utoipa::path(get, path = "/v1/orgs/{org}/branding", tag = "branding", params(OrgPath, TokenHeader),
    responses((status = 200, body = Branding), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let (row, server) = find(&app, org, freshness).await?;
    Ok(Reply::json(&Branding::from(row), server))
}

/// How the organisation is to look; what is left out or null is unset. The logo stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Looks {
    #[schema(min_length = 1, max_length = 100)]
    display_name: Option<String>,
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    primary_colour: Option<String>,
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    accent_colour: Option<String>,
    /// Refused with 409 if it has another version by now; 0 when nothing was set yet.
    expected_version: Option<Version>,
}

/// Nothing is written, and so nothing returned, when the version is not the expected one.
const SET: &str = concat!(
    "INSERT INTO branding (org_id, display_name, primary_colour, accent_colour) \
     SELECT $1, $2, $3, $4 \
     WHERE coalesce($5, 0) = 0 OR EXISTS (SELECT FROM branding WHERE org_id = $1) \
     ON CONFLICT (org_id) DO UPDATE SET display_name = excluded.display_name, \
         primary_colour = excluded.primary_colour, accent_colour = excluded.accent_colour, \
         version = branding.version + 1, updated_at = now() \
         WHERE branding.version = coalesce($5, branding.version) \
     RETURNING ",
    columns!()
);

/// Sets how the organisation looks, but for its logo.
#[utoipa::path(put, path = "/v1/orgs/{org}/branding", tag = "branding", params(OrgPath), request_body = Looks,
    responses((status = 200, body = Branding, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn set(
    Tenant(org): Tenant,
    State(app): State<Arc<App>>,
    Body(looks): Body<Looks>,
) -> Result<Written<Branding>, Problem> {
    let Looks { display_name, primary_colour, accent_colour, expected_version } = looks;
    display_name
        .as_deref()
        .map_or(Ok(()), |name| table::text("display_name", name, NAME_CHARS_MAX))?;
    let set = sqlx::query_as(SET)
        .bind(org.get())
        .bind(display_name)
        .bind(colour("primary_colour", primary_colour)?)
        .bind(colour("accent_colour", accent_colour)?)
        .bind(expected_version.map(Version::get));
    let mut connection = app.databases.write(Database::Shared).acquire().await?;
    let row = write::<Row>(&mut connection, org, set).await?;
    let row = row.ok_or_else(|| {
        Problem::version_conflict("the branding has another version than the expected one")
    })?;
    written(&app, &mut connection, row).await
}

/// In lower case.
fn colour(field: &str, value: Option<String>) -> Result<Option<String>, Problem> {
    let is_colour = |text: &str| {
        text.strip_prefix('#')
            .is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    match value {
        Some(text) if !is_colour(&text) => {
            Err(Problem::invalid(format!("{field}: expected a colour like #1f6feb")))
        }
        value => Ok(value.map(|text| text.to_ascii_lowercase())),
    }
}

/// Runs a write; 404 where there is no such organisation.
async fn write<T>(
    connection: &mut PgConnection,
    org: OrgId,
    statement: QueryAs<'_, Postgres, T, PgArguments>,
) -> Result<Option<T>, Problem>
where
    T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    statement.fetch_optional(connection).await.map_err(|error| match error.as_database_error() {
        Some(found) if found.is_foreign_key_violation() => {
            Problem::not_found(format!("there is no organisation {org}"))
        }
        _ => error.into(),
    })
}

async fn written(
    app: &App,
    connection: &mut PgConnection,
    row: Row,
) -> Result<Written<Branding>, Problem> {
    let token = WriteToken(app.databases.flushed(connection).await?);
    Ok(Written { status: StatusCode::OK, body: row.into(), token })
}

/// The logo itself.
#[utoipa::path(
    get,
    path = "/v1/orgs/{org}/branding/logo",
    tag = "branding",
    params(OrgPath, TokenHeader),
    responses(Downloads)
)]
async fn logo(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    held: Held,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    // Once more, on the primary: the logo may have been replaced since, which a replica has yet to learn.
    let mut missing = None;
    for freshness in [freshness, Freshness::Newest] {
        let (row, _) = find(&app, org, freshness).await?;
        let Row {
            logo_object: Some(object),
            logo_media: Some(media),
            logo_sha256: Some(sha256),
            ..
        } = row
        else {
            return Err(no_logo(org));
        };
        let key = Key { org, object };
        let file = File { name: "logo".to_owned(), media: &media, sha256: &sha256 };
        if let Some(content) = attachments::content(&app, Bucket::Logos, key, file, &held).await? {
            return Ok(content);
        }
        missing = Some(key);
    }
    Err(missing.map_or_else(Problem::internal, |key| attachments::lost(Bucket::Logos, key)))
}

fn no_logo(org: OrgId) -> Problem {
    Problem::not_found(format!("organisation {org} has no logo"))
}

/// A row as it is now, and the logo that it named before.
#[derive(Debug, FromRow)]
struct Replaced {
    #[sqlx(flatten)]
    row: Row,
    before: Option<Uuid>,
}

/// What was there before has to be read first: after the change, the row is this statement's own, and FOR UPDATE passes over
/// it. Two at once may both find no row before: then the sweep finds the first's object.
const SET_LOGO: &str = concat!(
    "WITH old AS (SELECT logo_object FROM branding WHERE org_id = $1 FOR UPDATE) \
     INSERT INTO branding (org_id, logo_object, logo_media, logo_bytes, logo_sha256) \
     SELECT $1, $2, $3, $4, $5 WHERE (SELECT count(*) FROM old) >= 0 \
     ON CONFLICT (org_id) DO UPDATE SET logo_object = excluded.logo_object, \
         logo_media = excluded.logo_media, logo_bytes = excluded.logo_bytes, \
         logo_sha256 = excluded.logo_sha256, version = branding.version + 1, updated_at = now() \
     RETURNING (SELECT logo_object FROM old) AS before, ",
    columns!()
);

/// Sets the logo: JPEG, PNG or WebP.
#[utoipa::path(put, path = "/v1/orgs/{org}/branding/logo", tag = "branding", params(OrgPath),
    request_body(content((Binary = "image/jpeg"), (Binary = "image/png"), (Binary = "image/webp"))),
    responses((status = 200, body = Branding, headers(("X-Consistency-Token" = String))), UploadRefusals))]
async fn set_logo(
    Tenant(org): Tenant,
    State(app): State<Arc<App>>,
    mut upload: Upload,
) -> Result<Written<Branding>, Problem> {
    let taken = take_logo(&app, org, &mut upload).await;
    if taken.is_err() {
        upload.discard().await;
    }
    taken
}

async fn take_logo(
    app: &App,
    org: OrgId,
    Upload { media, body }: &mut Upload,
) -> Result<Written<Branding>, Problem> {
    let media = attachments::accepted(Bucket::Logos, *media)?;
    let (key, digest) = app.objects.put(Bucket::Logos, org, media, body).await?;
    let bytes = i64::try_from(digest.bytes).expect("limits are far below");
    let set = sqlx::query_as(SET_LOGO)
        .bind(org.get())
        .bind(key.object)
        .bind(media.name())
        .bind(bytes)
        .bind(digest.sha256.as_slice());
    // Where this fails, nobody may know whether the row names the object now: the sweep does.
    let mut connection = app.databases.write(Database::Shared).acquire().await?;
    let replaced = write::<Replaced>(&mut connection, org, set).await?;
    let Replaced { row, before } = replaced.ok_or_else(Problem::internal)?;
    let written = written(app, &mut connection, row).await;
    drop(connection);
    if let Some(object) = before {
        attachments::remove(app, Bucket::Logos, Key { org, object }).await;
    }
    written
}

const REMOVE_LOGO: &str = "\
    WITH old AS (SELECT logo_object FROM branding WHERE org_id = $1 AND logo_object IS NOT NULL FOR UPDATE) \
    UPDATE branding SET logo_object = NULL, logo_media = NULL, logo_bytes = NULL, logo_sha256 = NULL, \
        version = version + 1, updated_at = now() \
    FROM old WHERE branding.org_id = $1 RETURNING old.logo_object";

/// Removes the logo.
#[utoipa::path(delete, path = "/v1/orgs/{org}/branding/logo", tag = "branding", params(OrgPath),
    responses((status = 204, description = "It is gone", headers(("X-Consistency-Token" = String))), Refusals))]
async fn remove_logo(
    Tenant(org): Tenant,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    let mut connection = app.databases.write(Database::Shared).acquire().await?;
    let removed =
        write::<(Uuid,)>(&mut connection, org, sqlx::query_as(REMOVE_LOGO).bind(org.get()));
    let (object,) = removed.await?.ok_or_else(|| no_logo(org))?;
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    drop(connection);
    attachments::remove(&app, Bucket::Logos, Key { org, object }).await;
    Ok(attachments::gone(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_six_digits_after_a_hash_in_lower_case() {
        let read = |text: &str| colour("x", Some(text.to_owned())).ok().flatten();
        assert_eq!(read("#1F6feb").as_deref(), Some("#1f6feb"));
        for bad in ["", "#", "1f6feb", "#1f6fe", "#1f6feb0", "#1f6feg", "red", "#é6feb0"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(colour("x", None).unwrap(), None);
    }
}
