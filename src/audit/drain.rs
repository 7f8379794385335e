//! Waits until the store stands still and the projections have read all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryAs;
use tokio::time::{Instant, sleep};

use super::error::AuditError;
use super::law::Finding;
use super::server::connect;
use crate::postgres::database::{EVENT_STORE, FINANCE, READ_MODELS};
use crate::scenario::PostgresEndpoint;

/// Projections and the databases that hold their checkpoints.
const PROJECTIONS: [(&str, &str); 2] = [("finance", FINANCE), ("finance-summary", READ_MODELS)];
const WRITTEN: &str = "SELECT shard, max(position) FROM events GROUP BY shard";
const READ: &str = "SELECT shard, position FROM projection_checkpoints WHERE projection = $1";
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Positions by shard.
type Positions = BTreeMap<i16, i64>;

/// Waits until every checkpoint stands at the end of its shard and no event has come since the look before, at most for
/// `wait`: a backend may still commit what it was sent before the load ended.
pub(super) async fn projections(
    primary: &PostgresEndpoint,
    wait: Duration,
) -> Result<Finding, AuditError> {
    let mut store = connect(primary, EVENT_STORE).await?;
    let mut projections = Vec::new();
    for (name, database) in PROJECTIONS {
        projections.push((name, connect(primary, database).await?));
    }
    let end = Instant::now() + wait;
    let mut before = None;
    loop {
        let written = positions(sqlx::query_as(WRITTEN), &mut store).await?;
        let mut behind = Vec::new();
        for (name, connection) in &mut projections {
            let read = positions(sqlx::query_as(READ).bind(*name), connection).await?;
            behind.extend(differences(name, &written, &read));
        }
        let steady = before.as_ref() == Some(&written);
        let over = before.is_some() && Instant::now() >= end;
        if over && behind.is_empty() && !steady {
            return Err(AuditError::NotIdle { seconds: wait.as_secs() });
        }
        if over || (steady && behind.is_empty()) {
            let count = (written.len() * PROJECTIONS.len()) as u64;
            return Ok(Finding { count, offenders: behind.len() as u64, named: behind });
        }
        before = Some(written);
        sleep(POLL_EVERY).await;
    }
}

async fn positions(
    query: QueryAs<'_, Postgres, (i16, i64), PgArguments>,
    connection: &mut PgConnection,
) -> Result<Positions, AuditError> {
    let rows = query.fetch_all(connection).await.map_err(AuditError::during("read positions"))?;
    Ok(rows.into_iter().collect())
}

/// Shards in which a projection is not where the store is, in words.
fn differences(name: &str, written: &Positions, read: &Positions) -> Vec<String> {
    let shards = written.keys().chain(read.keys()).collect::<BTreeSet<_>>();
    let at = |positions: &Positions, shard| positions.get(shard).copied().unwrap_or(0);
    shards
        .into_iter()
        .map(|shard| (shard, at(written, shard), at(read, shard)))
        .filter(|(_, written, read)| written != read)
        .map(|(shard, written, read)| format!("{name} is at {read} of {written} in shard {shard}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_is_neither_behind_nor_ahead() {
        let at = |positions: &[(i16, i64)]| positions.iter().copied().collect::<Positions>();
        let check = |written: &[_], read: &[_]| differences("p", &at(written), &at(read));
        assert!(check(&[(0, 5)], &[(0, 5), (1, 0)]).is_empty());
        assert_eq!(check(&[(0, 5)], &[]), ["p is at 0 of 5 in shard 0"]);
        assert_eq!(check(&[], &[(3, 1)]), ["p is at 1 of 0 in shard 3"]);
    }
}
