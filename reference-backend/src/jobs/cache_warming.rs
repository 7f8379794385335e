//! `cache-warming`: ranks organisations by their recent events. Every process loads the ranked ones into its caches.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::{TryStreamExt, stream};
use sqlx::Connection;

use super::runs::Outcome;
use crate::db::{Database, Freshness};
use crate::domain::OrgId;
use crate::events::Shard;
use crate::gateway::App;

/// The busiest organisations of a shard by its last $2 events. Positions have no gaps, so their range is their number.
const BUSIEST: &str = "\
    SELECT org_id, count(*) FROM events \
    WHERE shard = $1 AND position > (SELECT max(position) FROM events WHERE shard = $1) - $2 \
    GROUP BY org_id ORDER BY count(*) DESC, org_id LIMIT $3";

const INSERT: &str = "\
    INSERT INTO warm_list (org_id, rank, events, computed_at) \
    SELECT org_id, rank, events, now() FROM unnest($1::bigint[], $2::bigint[]) \
        WITH ORDINALITY AS l (org_id, events, rank)";

/// Replaces the warm list.
pub(super) async fn rank(app: &App) -> Outcome {
    let ranked = busiest(app).await.map_err(|error| format!("count events: {error}"))?;
    let replaced = replace(app, &ranked).await;
    replaced.map_err(|error| format!("replace the warm list: {error}"))?;
    let events: i64 = ranked.iter().map(|(_, events)| events).sum();
    Ok(format!("{} organisations by {events} events", ranked.len()))
}

/// Organisations and their events, the busiest first.
async fn busiest(app: &App) -> sqlx::Result<Vec<(i64, i64)>> {
    let most = i64::from(app.config.jobs.warm_organisations);
    let counted = stream::iter(Shard::all().map(Ok)).try_fold(
        HashMap::new(),
        async |mut counts: HashMap<i64, i64>, shard| {
            let mut reader = app.databases.read(Database::EventStore, Freshness::Any);
            let query = || {
                let recent = i64::from(app.config.jobs.warm_recent_events);
                sqlx::query_as(BUSIEST).bind(shard.number()).bind(recent).bind(most)
            };
            counts.extend(reader.fetch_all::<(i64, i64)>(query).await?);
            Ok::<_, sqlx::Error>(counts)
        },
    );
    let mut ranked: Vec<_> = counted.await?.into_iter().collect();
    ranked.sort_unstable_by_key(|(org, events)| (std::cmp::Reverse(*events), *org));
    ranked.truncate(app.config.jobs.warm_organisations as usize);
    Ok(ranked)
}

async fn replace(app: &App, ranked: &[(i64, i64)]) -> sqlx::Result<()> {
    let (orgs, events): (Vec<i64>, Vec<i64>) = ranked.iter().copied().unzip();
    let mut connection = app.databases.write(Database::ReadModels).acquire().await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("DELETE FROM warm_list").execute(&mut *transaction).await?;
    sqlx::query(INSERT).bind(orgs).bind(events).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// The organisations to load into the caches.
#[derive(Debug)]
pub(crate) struct WarmList {
    pub(crate) computed_at: DateTime<Utc>,
    /// The busiest first.
    pub(crate) orgs: Vec<OrgId>,
}

const NEWER: &str = "\
    SELECT org_id, computed_at FROM warm_list WHERE $1::timestamptz IS NULL OR computed_at > $1 ORDER BY rank";

impl WarmList {
    /// The list, if there is one made after `seen`. Nobody's request, and so not counted as a read.
    pub(crate) async fn newer(
        app: &App,
        seen: Option<DateTime<Utc>>,
    ) -> sqlx::Result<Option<Self>> {
        let pool = app.databases.write(Database::ReadModels);
        let rows: Vec<(i64, DateTime<Utc>)> =
            sqlx::query_as(NEWER).bind(seen).fetch_all(pool).await?;
        let computed_at = rows.first().map(|(_, computed_at)| *computed_at);
        let orgs = rows.into_iter().filter_map(|(org, _)| OrgId::new(org).ok()).collect();
        Ok(computed_at.map(|computed_at| Self { computed_at, orgs }))
    }
}
