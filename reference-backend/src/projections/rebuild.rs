//! Builds the finance summaries anew beside the live ones, and swaps them in, while writes go on.
//!
//! ```text
//! baselines (snapshots) ─┐                                ┌ one transaction: keep the projection out, take in the rest,
//! events 1 … checkpoint ─┼─▶ finance_summaries_rebuild ──▶┤ swap the tables, raise the epoch
//! events since, in turns ┘        (by the projection's    └ the projection goes on from its checkpoint, which was not moved
//!                                  own statement)
//! ```
//! A summary is the account's baseline and its events, never the live row, so whatever is wrong with that is gone afterwards.
//! The baseline is what the account was before the store's first event of it: totals and version from the row of `snapshots`, days and
//! categories from the entries of that time, which have ids of a version of their own. Categories of entries that retention
//! has dropped, and that no event names, are not shown any more.
//!
//! The side table is never ahead of the live checkpoint, so it is equal to it once the projection is kept out; each event is in
//! one of the turns. Nothing is kept of a build that fails: the next one begins anew.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::baseline::Baselines;
use super::checkpoint;
use super::summary::{self, Into};
use super::{Projection, ProjectionError};
use crate::config::Config;
use crate::db::{self, Database};
use crate::domain::RecordedEvent;
use crate::events::{Positions, Shard, read_shard};

/// Events taken in by one statement.
const TURN_EVENTS: usize = 5_000;
/// Fewer than so many behind, the projection is kept out for the rest.
const BEHIND_MAX: i64 = 2_000;
/// Tries to swap, each of which gives up rather than let traffic wait long for a lock.
const SWAP_TRIES: u32 = 50;
const SWAP_PAUSE: Duration = Duration::from_millis(100);

const PROJECTION: Projection = Projection::FinanceSummary;

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Summaries begun from a baseline.
    pub baselines: u64,
    /// Events taken in.
    pub events: u64,
    /// Summaries that were missing, too many, or other than the new ones at the same version, shortly before the swap. While
    /// writes go on, one that has just moved on cannot be compared.
    pub corrected: i64,
    /// How long the projection was kept out.
    pub held: Duration,
}

/// Builds the summaries anew and swaps them in. One at a time: a second one waits for the first.
///
/// # Errors
/// When a database fails, an event cannot be written, or the tables could not be locked for the swap. The live table then
/// is as it was.
pub async fn rebuild_summaries(config: &Config) -> anyhow::Result<Rebuilt> {
    let mut models = db::admin(config, Database::ReadModels).await?;
    let databases = db::Databases::connect(&config.database).await?;
    let rebuild = Rebuild {
        store: databases.write(Database::EventStore).clone(),
        reached: Positions::default(),
        events: 0,
    };
    let done = rebuild.run(&mut models, &databases).await;
    if done.is_err() {
        let _ = sqlx::raw_sql(DROP_SIDE).execute(&mut models).await;
    }
    databases.close().await;
    done
}

struct Rebuild {
    store: PgPool,
    /// What the side table holds.
    reached: Positions,
    events: u64,
}

/// Left over by a build that was broken off.
const DROP_SIDE: &str = "DROP TABLE IF EXISTS finance_summaries_rebuild";

const MAKE_SIDE: &str = "\
    CREATE TABLE finance_summaries_rebuild (LIKE finance_summaries INCLUDING ALL) WITH (fillfactor = 80); \
    GRANT SELECT, INSERT, UPDATE, DELETE ON finance_summaries_rebuild TO app_rw; \
    GRANT SELECT ON finance_summaries_rebuild TO app_ro";

/// Any number no one else uses.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_lock(1886153070)";

impl Rebuild {
    async fn run(
        mut self,
        models: &mut PgConnection,
        databases: &db::Databases,
    ) -> anyhow::Result<Rebuilt> {
        sqlx::raw_sql(ONE_AT_A_TIME).execute(&mut *models).await?;
        sqlx::raw_sql(DROP_SIDE).execute(&mut *models).await?;
        sqlx::raw_sql(MAKE_SIDE).execute(&mut *models).await?;
        checkpoint::make(&mut *models, PROJECTION).await?;
        let baselines = Baselines::new(databases).copy(models).await?;
        info!(baselines, "baselines are copied");
        self.catch_up(models).await?;
        sqlx::raw_sql("ANALYZE finance_summaries_rebuild").execute(&mut *models).await?;
        let corrected = sqlx::query_scalar(DIFFERENCES).fetch_one(&mut *models).await?;
        self.catch_up(models).await?;
        let held = self.swap_patiently(models).await?;
        Ok(Rebuilt { baselines, events: self.events, corrected, held })
    }

    /// Takes in events until the projection is not far ahead.
    async fn catch_up(&mut self, models: &mut PgConnection) -> anyhow::Result<()> {
        loop {
            let live = checkpoint::read(&mut *models, PROJECTION).await?.positions;
            let behind = behind(&self.reached, &live);
            self.take_in(models, live).await?;
            if behind <= BEHIND_MAX {
                return Ok(());
            }
            info!(self.events, "events are taken in");
        }
    }

    /// Takes in all events up to some positions.
    async fn take_in(
        &mut self,
        models: &mut PgConnection,
        upto: Positions,
    ) -> Result<(), ProjectionError> {
        for shard in Shard::all() {
            let index = shard.index();
            while self.reached[index] < upto[index] {
                let missing = usize::try_from(upto[index] - self.reached[index]).unwrap_or(0);
                let limit = missing.min(TURN_EVENTS);
                let events = read_shard(&self.store, shard, self.reached[index], limit).await?;
                let Some(last) = events.last().map(|event| event.position) else {
                    // The checkpoint is beyond the end of the store.
                    return Err(ProjectionError::Moved);
                };
                let events: Vec<&RecordedEvent> = events.iter().collect();
                summary::write(models, Into::Rebuild, &events).await?;
                self.reached[index] = last;
                self.events += events.len() as u64;
            }
        }
        Ok(())
    }

    /// Swaps; again when a lock was not to be had.
    async fn swap_patiently(&mut self, models: &mut PgConnection) -> anyhow::Result<Duration> {
        for attempt in 1.. {
            let before = (self.reached, self.events);
            let start = Instant::now();
            match self.swap(models).await {
                Ok(()) => return Ok(start.elapsed()),
                Err(error) if attempt < SWAP_TRIES && is_lock_timeout(&error) => {
                    // What it took in was rolled back.
                    (self.reached, self.events) = before;
                    warn!(attempt, "the tables are in use; swapping later");
                    sleep(SWAP_PAUSE).await;
                    let live = checkpoint::read(&mut *models, PROJECTION).await?.positions;
                    self.take_in(models, live).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the last try returns")
    }

    async fn swap(&mut self, models: &mut PgConnection) -> Result<(), ProjectionError> {
        let mut transaction = models.begin().await?;
        // The table's lock keeps the projection out, whose transactions begin with an update of it. Rows locked one by one, as
        // both would, could lock each other out.
        sqlx::raw_sql(
            "SET LOCAL lock_timeout = '500ms'; \
             LOCK TABLE projection_checkpoints IN SHARE ROW EXCLUSIVE MODE",
        )
        .execute(&mut *transaction)
        .await?;
        let mut live = Positions::default();
        for shard in Shard::all() {
            live[shard.index()] = checkpoint::correct(&mut transaction, PROJECTION, shard).await?;
        }
        self.take_in(&mut transaction, live).await?;
        swap_tables(&mut transaction).await?;
        // They are in the new table.
        sqlx::query("DELETE FROM projection_dead_letters WHERE projection = $1")
            .bind(PROJECTION.name())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

const DIFFERENCES: &str = "\
    SELECT count(*) FROM finance_summaries l \
    FULL JOIN finance_summaries_rebuild r USING (org_id, property_id) \
    WHERE l.version IS NULL OR r.version IS NULL OR (l.version = r.version AND l IS DISTINCT FROM r)";

/// Each index of the new table gets the name of the old one's that is defined alike.
const RENAME_INDEXES: &str = "\
    WITH i AS (SELECT indrelid::regclass::text AS relation, indexrelid::regclass::text AS name, \
                      regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', '') AS form \
               FROM pg_index WHERE indrelid IN ('finance_summaries'::regclass, 'finance_summaries_rebuild'::regclass)) \
    SELECT format('ALTER INDEX %s RENAME TO %s', new.name, old.name) FROM i old JOIN i new USING (form) \
    WHERE old.relation = 'finance_summaries' AND new.relation = 'finance_summaries_rebuild'";

async fn swap_tables(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("LOCK TABLE finance_summaries IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *connection)
        .await?;
    let renames: Vec<String> =
        sqlx::query_scalar(RENAME_INDEXES).fetch_all(&mut *connection).await?;
    sqlx::raw_sql(
        "DROP TABLE finance_summaries; ALTER TABLE finance_summaries_rebuild RENAME TO finance_summaries",
    )
    .execute(&mut *connection)
    .await?;
    for rename in renames {
        // Names from the catalogue, quoted there.
        sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut *connection).await?;
    }
    Ok(())
}

fn behind(reached: &Positions, live: &Positions) -> i64 {
    live.iter().zip(reached).map(|(live, reached)| live - reached).sum()
}

fn is_lock_timeout(error: &ProjectionError) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const DEADLOCK: &str = "40P01";
    let ProjectionError::Sql(error) = error else { return false };
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, LOCK_NOT_AVAILABLE | DEADLOCK))
}
