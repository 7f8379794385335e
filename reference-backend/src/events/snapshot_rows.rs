//! The rows of `snapshots`: many accounts by one statement.

use std::collections::HashMap;

use sqlx::postgres::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::Shard;
use super::account::Loaded;
use super::plan::Account;
use super::read::{EventRow, ReadError};
use crate::domain::{CashAccount, OrgId, Version};

/// Accounts looked at by one statement.
const LOOK_ACCOUNTS: i64 = 1_000;
/// Most events of one account read back at a time.
pub(super) const READ_BACK_EVENTS: i32 = 1_000;

const LATEST: &str = "\
    SELECT coalesce(s.version, 0), s.state \
    FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS a (org_id, id, n) \
    LEFT JOIN snapshots s ON s.org_id = a.org_id AND s.aggregate_type = 1 AND s.aggregate_id = a.id \
    ORDER BY a.n";

/// Columns of accounts, for `unnest`.
fn columns<'a>(accounts: impl Iterator<Item = &'a Account>) -> (Vec<i64>, Vec<Uuid>) {
    accounts.map(|(org, property)| (org.get(), property.uuid())).unzip()
}

/// The snapshots of accounts, in their order; of an empty account where none is kept.
pub(super) async fn latest(store: &PgPool, accounts: &[Account]) -> Result<Vec<Loaded>, ReadError> {
    let (orgs, properties) = columns(accounts.iter());
    let rows: Vec<(i32, Option<Json<CashAccount>>)> =
        sqlx::query_as(LATEST).bind(orgs).bind(properties).fetch_all(store).await?;
    let loaded = |(version, state): (i32, Option<Json<CashAccount>>)| Loaded {
        version: Version::new(version),
        account: state.map_or_else(CashAccount::default, |Json(state)| state),
    };
    Ok(rows.into_iter().map(loaded).collect())
}

const AFTER: &str = "\
    SELECT e.* FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::int[]) \
        AS a (shard, org_id, id, version) \
    CROSS JOIN LATERAL ( \
        SELECT position, org_id, aggregate_id, version, event_type, command_id, recorded_at, data \
        FROM events WHERE shard = a.shard AND org_id = a.org_id AND aggregate_type = 1 \
        AND aggregate_id = a.id AND version > a.version ORDER BY version LIMIT $5) e \
    ORDER BY e.org_id, e.aggregate_id, e.version";

/// Accounts with the events after what is known of them taken in.
pub(super) async fn read_after(
    store: &PgPool,
    known: Vec<(Account, Loaded)>,
) -> Result<Vec<(Account, Loaded)>, ReadError> {
    let (orgs, properties) = columns(known.iter().map(|(account, _)| account));
    let shards: Vec<i16> = known.iter().map(|((org, _), _)| Shard::of(*org).number()).collect();
    let versions: Vec<i32> = known.iter().map(|(_, loaded)| loaded.version.get()).collect();
    let rows: Vec<EventRow> = sqlx::query_as(AFTER)
        .bind(shards)
        .bind(orgs)
        .bind(properties)
        .bind(versions)
        .bind(READ_BACK_EVENTS)
        .fetch_all(store)
        .await?;
    let mut accounts: HashMap<Account, Loaded> = known.into_iter().collect();
    for row in rows {
        let event = row.into_event()?;
        if let Some(loaded) = accounts.get_mut(&(event.org, event.property)) {
            loaded.take(&event)?;
        }
    }
    Ok(accounts.into_iter().collect())
}

/// A newer snapshot stays. What was there before the first of ours is kept as the baseline.
const UPSERT: &str = "\
    INSERT INTO snapshots AS s (org_id, aggregate_type, aggregate_id, version, state, taken_at, \
        baseline_version, baseline_state) \
    SELECT org_id, 1, id, version, state, now(), 0, $5 \
    FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::jsonb[]) AS n (org_id, id, version, state) \
    ORDER BY org_id, id \
    ON CONFLICT (org_id, aggregate_type, aggregate_id) DO UPDATE SET \
        version = EXCLUDED.version, state = EXCLUDED.state, taken_at = EXCLUDED.taken_at, \
        baseline_version = coalesce(s.baseline_version, s.version), \
        baseline_state = coalesce(s.baseline_state, s.state) \
    WHERE s.version < EXCLUDED.version";

/// Writes snapshots, sorted by key, so that two writers cannot lock each other out; how many were written.
pub(super) async fn upsert(
    store: &PgPool,
    snapshots: &[(Account, Loaded)],
) -> Result<u64, sqlx::Error> {
    if snapshots.is_empty() {
        return Ok(0);
    }
    let (orgs, properties) = columns(snapshots.iter().map(|(account, _)| account));
    let versions: Vec<i32> = snapshots.iter().map(|(_, loaded)| loaded.version.get()).collect();
    let states: Vec<Json<CashAccount>> =
        snapshots.iter().map(|(_, loaded)| Json(loaded.account)).collect();
    let written = sqlx::query(UPSERT)
        .bind(orgs)
        .bind(properties)
        .bind(versions)
        .bind(states)
        .bind(Json(CashAccount::default()))
        .execute(store)
        .await?;
    Ok(written.rows_affected())
}

/// What a look at some accounts of a shard found.
#[derive(Debug)]
pub(super) struct Look {
    /// Those whose snapshot is too far behind, and by how many events.
    pub(super) behind: Vec<(Account, i32)>,
    /// The last that was looked at; none when there were no more.
    pub(super) last: Option<Account>,
}

/// Goes from account to account along the primary key of `events`, however many events each has.
const LEFT_BEHIND: &str = "\
    WITH RECURSIVE account AS ( \
        (SELECT org_id, aggregate_id, 1 AS n FROM events WHERE shard = $1 \
         AND (org_id, aggregate_type, aggregate_id) > ($2, 1::smallint, $3) \
         ORDER BY org_id, aggregate_type, aggregate_id LIMIT 1) \
        UNION ALL \
        SELECT next.org_id, next.aggregate_id, a.n + 1 FROM account a CROSS JOIN LATERAL ( \
            SELECT org_id, aggregate_id FROM events WHERE shard = $1 \
            AND (org_id, aggregate_type, aggregate_id) > (a.org_id, 1::smallint, a.aggregate_id) \
            ORDER BY org_id, aggregate_type, aggregate_id LIMIT 1) next \
        WHERE a.n < $4) \
    SELECT a.org_id, a.aggregate_id, e.version - coalesce(s.version, 0) \
    FROM account a \
    CROSS JOIN LATERAL ( \
        SELECT max(version) AS version FROM events WHERE shard = $1 AND org_id = a.org_id \
        AND aggregate_type = 1 AND aggregate_id = a.aggregate_id) e \
    LEFT JOIN snapshots s ON s.org_id = a.org_id AND s.aggregate_type = 1 \
        AND s.aggregate_id = a.aggregate_id \
    ORDER BY a.n";

/// Looks at the next accounts of a shard after one.
pub(super) async fn left_behind(
    store: &PgPool,
    shard: Shard,
    after: Option<Account>,
    every_events: u32,
) -> Result<Look, ReadError> {
    let (org, property) =
        after.map_or((0, Uuid::nil()), |(org, property)| (org.get(), property.uuid()));
    let rows: Vec<(i64, Uuid, i32)> = sqlx::query_as(LEFT_BEHIND)
        .bind(shard.number())
        .bind(org)
        .bind(property)
        .bind(LOOK_ACCOUNTS)
        .fetch_all(store)
        .await?;
    let mut look = Look { behind: Vec::new(), last: None };
    for (org, property, behind) in rows {
        let account = (OrgId::new(org)?, property.into());
        if i64::from(behind) >= i64::from(every_events) {
            look.behind.push((account, behind));
        }
        look.last = Some(account);
    }
    Ok(look)
}
