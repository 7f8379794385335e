//! Reads: counted, from a replica where one is fresh enough.

use sqlx::FromRow;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::QueryAs;
use uuid::Uuid;

use super::Thing;
use crate::db::{Database, Freshness};
use crate::domain::OrgId;
use crate::gateway::{App, Problem, Reply};

/// One thing of an organisation.
pub(in crate::services) async fn one<T: Thing>(
    app: &App,
    org: OrgId,
    id: Uuid,
    freshness: Freshness,
) -> Result<Reply, Problem> {
    let mut reader = app.databases.read(T::DATABASE, freshness);
    let query = || sqlx::query_as(T::ONE).bind(org.get()).bind(id);
    let found: Option<T> = reader.fetch_optional(query).await?;
    let found = found.ok_or_else(|| T::missing(org, id))?;
    Ok(Reply::json(&found, reader.source().server()))
}

/// The rows of a statement, and who gave them. `query` makes it anew for a second try.
pub(in crate::services) async fn list<T>(
    app: &App,
    database: Database,
    freshness: Freshness,
    query: impl Fn() -> QueryAs<'static, Postgres, T, PgArguments>,
) -> Result<(Vec<T>, &'static str), Problem>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let mut reader = app.databases.read(database, freshness);
    let rows = reader.fetch_all(query).await?;
    Ok((rows, reader.source().server()))
}
