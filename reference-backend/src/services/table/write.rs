//! Changes of one row, and the answer of every write.

use std::time::Instant;

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics::histogram;
use serde::Serialize;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use uuid::Uuid;

use super::Thing;
use super::thing::refusal;
use crate::db::{Database, WriteToken};
use crate::domain::{OrgId, Version};
use crate::gateway::{App, CONSISTENCY_TOKEN, Problem};

/// A committed write: what was written, and the token under which every process and server shows it.
#[derive(Debug)]
pub(in crate::services) struct Written<T> {
    pub(in crate::services) status: StatusCode,
    pub(in crate::services) body: T,
    pub(in crate::services) token: WriteToken,
}

impl<T: Serialize> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        let token = [(HeaderName::from_static(CONSISTENCY_TOKEN), self.token.to_string())];
        (self.status, token, Json(self.body)).into_response()
    }
}

/// Runs a statement that changes one row and returns it, or changes none: because there is no such row (404), because its
/// version is not the expected one, or because its state does not allow the change (409). The statement itself must hold the
/// conditions; here is only found out which of them failed.
pub(in crate::services) async fn change<T: Thing>(
    app: &App,
    org: OrgId,
    id: Uuid,
    expected: Option<Version>,
    statement: QueryAs<'_, Postgres, T, PgArguments>,
) -> Result<Written<T>, Problem> {
    let mut connection = app.databases.write(T::DATABASE).acquire().await?;
    let changed = timed(T::DATABASE, statement.fetch_optional(&mut *connection)).await;
    let Some(body) = changed.map_err(|error| refusal::<T>(&error))? else {
        let query = sqlx::query_as(T::ONE).bind(org.get()).bind(id);
        let found: Option<T> = query.fetch_optional(&mut *connection).await?;
        return Err(why_not(org, id, expected, found.as_ref()));
    };
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    Ok(Written { status: StatusCode::OK, body, token })
}

/// Runs a write, and records how long it took.
pub(super) async fn timed<T>(database: Database, write: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let done = write.await;
    let seconds = start.elapsed().as_secs_f64();
    histogram!("backend_db_query_duration_seconds", "database" => database.label(), "kind" => "write")
        .record(seconds);
    done
}

fn why_not<T: Thing>(
    org: OrgId,
    id: Uuid,
    expected: Option<Version>,
    found: Option<&T>,
) -> Problem {
    let Some(found) = found else { return T::missing(org, id) };
    let (noun, version) = (T::NOUN, found.version());
    match expected.filter(|expected| *expected != version) {
        Some(expected) => Problem::version_conflict(format!(
            "the {noun} has version {version}, and version {expected} was expected"
        )),
        None => Problem::conflict(format!("the {noun} {}", found.state())),
    }
}
