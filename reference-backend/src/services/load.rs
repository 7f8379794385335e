//! How values that are kept in memory are loaded. A service says what it asks and what it makes of the rows; what is the same
//! for all of them is here: one organisation for a request, many with one statement for [`warm`](super::warm), and
//! for requests that miss at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::FromRow;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::QueryAs;

use super::rows::{Of, Stand, split_by_org, with_shards};
use crate::cache::{Live, Loaded, Warmable};
use crate::db::{Databases, Freshness, Reader};
use crate::domain::OrgId;
use crate::gateway::App;

/// A statement that finds one kind of value for as many organisations as are wanted, and the cache that keeps them.
pub(super) trait Statement: Sized + Send + Sync {
    /// A row of it.
    type Row: for<'r> FromRow<'r, PgRow> + Send + Unpin;
    /// What an organisation's rows come to.
    type Value: Send;
    /// Where that is kept.
    type Cache: Warmable<Value = Self::Value>;

    /// The cache of this process.
    fn cache(app: &App) -> &Self::Cache;

    /// Which database is asked.
    fn reader(databases: &Databases, freshness: Freshness) -> Reader;

    /// The statement as it is at this moment.
    fn now() -> Self;

    /// Asks of organisations and their shards.
    fn query(
        &self,
        orgs: Vec<i64>,
        shards: Vec<i16>,
    ) -> QueryAs<'static, Postgres, Self::Row, PgArguments>;

    /// The value of each organisation that was asked for.
    fn values(
        &self,
        orgs: &[OrgId],
        rows: Vec<Self::Row>,
        reader: &Reader,
    ) -> HashMap<OrgId, Self::Value>;
}

/// An organisation's value. Where any server will do, it is found with those of others that are missed at the same time.
pub(super) async fn one<S: Statement>(
    app: &App,
    org: OrgId,
    freshness: Freshness,
) -> sqlx::Result<S::Value> {
    if freshness == Freshness::Any
        && let Some(found) = S::cache(app).together().ask(org).await
    {
        return Ok(found);
    }
    let mut found = many::<S>(app, &[org], freshness).await?;
    found.remove(&org).ok_or(sqlx::Error::RowNotFound)
}

/// Loads what requests miss, each kind with one statement for as many as ask at the same time, until dropped.
pub(crate) async fn load_together(app: Arc<App>) {
    tokio::join!(
        together::<super::properties::Lists>(&app),
        together::<super::cash::Books>(&app),
        together::<super::orgs::Records>(&app),
        together::<super::read_models::Totals>(&app),
        together::<super::reports::AllResults>(&app),
    );
}

async fn together<S: Statement>(app: &App) {
    let pause = app.config.cache.miss_gather_ms.duration();
    let load = async |orgs: Vec<OrgId>| match many::<S>(app, &orgs, Freshness::Any).await {
        Ok(found) => found,
        Err(error) => {
            // Each asks alone then, and is told what is wrong with its own.
            tracing::debug!(%error, orgs = orgs.len(), "organisations could not be loaded together");
            HashMap::new()
        }
    };
    S::cache(app).together().run(pause, load).await;
}

/// The values of organisations, with one statement.
pub(super) async fn many<S: Statement>(
    app: &App,
    orgs: &[OrgId],
    freshness: Freshness,
) -> sqlx::Result<HashMap<OrgId, S::Value>> {
    if orgs.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = S::now();
    let (numbers, shards) = with_shards(orgs);
    let mut reader = S::reader(&app.databases, freshness);
    let rows = reader.fetch_all(|| statement.query(numbers.clone(), shards.clone())).await?;
    Ok(statement.values(orgs, rows, &reader))
}

/// Values that follow events, of rows that say where their projection stood.
pub(super) fn standing<T, U, L: Live>(
    found: Vec<Of<T>>,
    reader: &Reader,
    checked: impl Fn(T) -> Option<U>,
    value: impl Fn(Vec<U>) -> L,
) -> HashMap<OrgId, Loaded<L>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let from = reader.source().server();
    let loaded =
        |(Stand { position, epoch }, rows)| Loaded { value: value(rows), position, epoch, from };
    let by_org = split_by_org(found, checked).into_iter();
    by_org.map(|(org, rows)| (org, loaded(rows))).collect()
}
