//! `cache-warming`: ranks organisations by their recent events. Every process loads the ranked ones into its caches, see
//! `notice`.

use std::collections::HashMap;

use futures::{TryStreamExt, stream};
use sqlx::Connection;

use super::runs::Outcome;
use crate::db::{Database, Freshness};
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
    let most = i64::from(app.jobs.warm_organisations);
    let counted = stream::iter(Shard::all().map(Ok)).try_fold(
        HashMap::new(),
        async |mut counts: HashMap<i64, i64>, shard| {
            let mut reader = app.databases.read(Database::EventStore, Freshness::Any);
            let query = || {
                let recent = i64::from(app.jobs.warm_recent_events);
                sqlx::query_as(BUSIEST).bind(shard.number()).bind(recent).bind(most)
            };
            counts.extend(reader.fetch_all::<(i64, i64)>(query).await?);
            Ok::<_, sqlx::Error>(counts)
        },
    );
    let mut ranked: Vec<_> = counted.await?.into_iter().collect();
    ranked.sort_unstable_by_key(|(org, events)| (std::cmp::Reverse(*events), *org));
    ranked.truncate(app.jobs.warm_organisations as usize);
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
