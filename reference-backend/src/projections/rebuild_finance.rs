//! Makes entries and daily balances what events and history say, in place, some organisations at a time, while writes go on.
//!
//! Not beside the live tables, as the summaries are: entries from before the event store are kept nowhere else, and neither are the
//! balances of months past retention. So these stand as they are, and are what the rest is computed from:
//! - an entry whose id a command cannot have is history, and stays; every other is an event's, or goes;
//! - a day within the kept months is the sum of its entries; the first of them opens as the last day before it closed, or, if
//!   there is none, as it does now. Months past retention stand, also while they are still there.
//!
//! Each step keeps the projection out by the lock of its checkpoints, so it sees exactly the events up to there; where it changes
//! something, it raises the shard's epoch. Events that the projection set aside are tried again, each alone; what the tables
//! still do not take stays set aside.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use super::balances::{Balance, Rebuilt, rebuild};
use super::finance::insert_events;
use super::{Projection, ProjectionError, checkpoint, days};
use crate::config::Config;
use crate::db::{self, Database, Databases};
use crate::domain::{Event, OrgId, PropertyId, RecordedEvent};
use crate::events::{Shard, read_organisations};
use crate::partitioning;

/// Organisations corrected by one transaction.
const STEP: i64 = 50;

/// What was wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Corrected {
    /// Entries that no event or history knows, or that differed from their event; removed.
    pub entries_removed: u64,
    /// Entries that were missing, or differed; written.
    pub entries_written: u64,
    /// Days that no entry makes; removed.
    pub days_removed: u64,
    /// Days that were missing, or other than their entries; written.
    pub days_written: u64,
    /// Events that had been set aside and are in the tables now.
    pub dead_letters_settled: u64,
}

impl Corrected {
    fn any(self) -> bool {
        self != Self::default()
    }

    fn add(&mut self, other: Self) {
        self.entries_removed += other.entries_removed;
        self.entries_written += other.entries_written;
        self.days_removed += other.days_removed;
        self.days_written += other.days_written;
        self.dead_letters_settled += other.dead_letters_settled;
    }
}

/// Corrects all organisations.
///
/// # Errors
/// When a database fails. What was corrected until then stays.
pub async fn rebuild_finance(config: &Config) -> anyhow::Result<Corrected> {
    let databases = Databases::connect(&config.database).await?;
    let finance = databases.write(Database::Finance);
    checkpoint::make(finance, Projection::Finance).await?;
    let (today, kept) = (Utc::now().date_naive(), config.partitions.retention_months);
    let horizon = partitioning::horizon(finance, today, kept).await?;
    let (mut all, mut after) = (Corrected::default(), 0);
    loop {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT org_id FROM organisations WHERE org_id > $1 ORDER BY org_id LIMIT $2",
        )
        .bind(after)
        .bind(STEP)
        .fetch_all(databases.write(Database::Shared))
        .await?;
        let step = Step {
            store: databases.write(Database::EventStore).clone(),
            first_day: horizon.first,
            from: after + 1,
            // The last step takes what belongs to nobody, too.
            to: ids.last().copied().unwrap_or(i64::MAX),
        };
        let (corrected, settled) = step.run(finance).await?;
        remove_letters(config, &settled).await?;
        all.add(corrected);
        match ids.last() {
            Some(last) => after = *last,
            None => break,
        }
    }
    databases.close().await;
    Ok(all)
}

/// Organisations with neighbouring numbers.
struct Step {
    store: PgPool,
    /// Of the kept months.
    first_day: NaiveDate,
    from: i64,
    to: i64,
}

/// Revenue or not, organisation, date, id, property, category, cents, recorded at.
type EntryRow = (bool, i64, NaiveDate, Uuid, Uuid, String, i64, DateTime<Utc>);
type Days = BTreeMap<(i64, Uuid), Vec<Balance>>;

/// Of the same days as the events that they are held against. Ids of version 8 are history's.
const ENTRIES: &str = "\
    SELECT * FROM ( \
        SELECT true, org_id, date, id, property_id, category, amount_cents, recorded_at \
        FROM revenues_partitioned WHERE org_id BETWEEN $1 AND $2 AND date >= $3 \
        UNION ALL \
        SELECT false, org_id, date, id, property_id, category, amount_cents, recorded_at \
        FROM expenses_partitioned WHERE org_id BETWEEN $1 AND $2 AND date >= $3) e \
    WHERE substr(id::text, 15, 1) <> '8'";

const DAYS: &str = "\
    SELECT org_id, property_id, date, opening_cents, revenue_cents, expense_cents \
    FROM daily_cash_balances_partitioned WHERE org_id BETWEEN $1 AND $2 ORDER BY date";

impl Step {
    async fn run(&self, finance: &PgPool) -> anyhow::Result<(Corrected, Vec<Letter>)> {
        let mut transaction = finance.begin().await?;
        sqlx::raw_sql("LOCK TABLE projection_checkpoints IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await?;
        let mut touched = BTreeSet::new();
        let (mut corrected, settled) = self.correct_entries(&mut transaction, &mut touched).await?;
        corrected.add(self.correct_days(&mut transaction, &mut touched).await?);
        if !corrected.any() {
            transaction.rollback().await?;
            return Ok((corrected, settled));
        }
        for shard in touched {
            checkpoint::correct(&mut transaction, Projection::Finance, shard).await?;
        }
        transaction.commit().await?;
        Ok((corrected, settled))
    }

    /// The events that were set aside, and those whose entries must be there.
    async fn events(
        &self,
        finance: &mut PgConnection,
    ) -> anyhow::Result<(Vec<RecordedEvent>, Vec<RecordedEvent>)> {
        let positions = checkpoint::read(&mut *finance, Projection::Finance).await?.positions;
        let aside: Vec<(i16, i64)> = sqlx::query_as(
            "SELECT shard, position FROM projection_dead_letters WHERE projection = $1",
        )
        .bind(Projection::Finance.name())
        .fetch_all(finance)
        .await?;
        let aside: BTreeSet<(i16, i64)> = aside.into_iter().collect();
        let mut events = read_organisations(&self.store, self.from, self.to).await?;
        events.retain(|event| {
            let shard = Shard::of(event.org);
            event.position <= positions[shard.index()] && event.event.entry().date >= self.first_day
        });
        let is_aside = |event: &RecordedEvent| {
            aside.contains(&(Shard::of(event.org).number(), event.position))
        };
        Ok(events.into_iter().partition(is_aside))
    }

    async fn correct_entries(
        &self,
        finance: &mut PgConnection,
        touched: &mut BTreeSet<Shard>,
    ) -> anyhow::Result<(Corrected, Vec<Letter>)> {
        let (aside, events) = self.events(finance).await?;
        let found = sqlx::query_as(ENTRIES).bind(self.from).bind(self.to).bind(self.first_day);
        let found: Vec<EntryRow> = found.fetch_all(&mut *finance).await?;
        let wanted: BTreeMap<EntryRow, &RecordedEvent> =
            events.iter().map(|event| (row_of(event), event)).collect();
        let found: BTreeSet<EntryRow> = found.into_iter().collect();
        let (mut corrected, settled) = settle(finance, &aside, &found, touched).await?;
        let aside: BTreeSet<EntryRow> = aside.iter().map(row_of).collect();
        for row in found.iter().filter(|row| !wanted.contains_key(*row) && !aside.contains(*row)) {
            let remove = if row.0 { REMOVE_REVENUE } else { REMOVE_EXPENSE };
            let remove = sqlx::query(remove).bind(row.1).bind(row.2).bind(row.3);
            corrected.entries_removed += remove.execute(&mut *finance).await?.rows_affected();
            touched.extend(OrgId::new(row.1).map(Shard::of));
        }
        let missing = wanted.iter().filter(|(row, _)| !found.contains(*row));
        let missing: Vec<&RecordedEvent> = missing.map(|(_, event)| *event).collect();
        insert_events(finance, &missing).await?;
        corrected.entries_written += missing.len() as u64;
        touched.extend(missing.iter().map(|event| Shard::of(event.org)));
        Ok((corrected, settled))
    }

    async fn correct_days(
        &self,
        finance: &mut PgConnection,
        touched: &mut BTreeSet<Shard>,
    ) -> anyhow::Result<Corrected> {
        let range = (self.from, self.to);
        let mut wanted = days::of_organisations(finance, range, self.first_day).await?;
        let mut found = self.days(finance).await?;
        let accounts: BTreeSet<_> = wanted.keys().chain(found.keys()).copied().collect();
        let mut corrected = Corrected::default();
        for account in accounts {
            let stored = found.remove(&account).unwrap_or_default();
            let sums = wanted.remove(&account).unwrap_or_default();
            let rebuilt = rebuild(&stored, self.first_day, self.first_day, &sums);
            if rebuilt == Rebuilt::default() {
                continue;
            }
            let org = OrgId::new(account.0)?;
            touched.insert(Shard::of(org));
            corrected.days_removed += rebuilt.gone.len() as u64;
            corrected.days_written += rebuilt.changed.len() as u64;
            days::put_right(finance, (org, PropertyId::from(account.1)), rebuilt).await?;
        }
        Ok(corrected)
    }

    async fn days(&self, finance: &mut PgConnection) -> sqlx::Result<Days> {
        let rows: Vec<(i64, Uuid, NaiveDate, i64, i64, i64)> =
            sqlx::query_as(DAYS).bind(self.from).bind(self.to).fetch_all(finance).await?;
        let mut days = Days::new();
        for (org, property, date, opening_cents, revenue_cents, expense_cents) in rows {
            let balance = Balance { date, opening_cents, revenue_cents, expense_cents };
            days.entry((org, property)).or_default().push(balance);
        }
        Ok(days)
    }
}

const REMOVE_LETTER: &str = "\
    DELETE FROM projection_dead_letters WHERE projection = $1 AND shard = $2 AND position = $3";

/// Where an event stands that was set aside: shard and position.
type Letter = (i16, i64);

/// Only an administrator can: the role that projects may add to them alone. After the commit of what makes them needless; if this
/// is broken off, the next rebuild finds their entries there.
async fn remove_letters(config: &Config, settled: &[Letter]) -> anyhow::Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    let mut finance = db::admin(config, Database::Finance).await?;
    for (shard, position) in settled {
        let remove = sqlx::query(REMOVE_LETTER).bind(Projection::Finance.name());
        remove.bind(shard).bind(position).execute(&mut finance).await?;
    }
    Ok(finance.close().await?)
}

/// Writes what was set aside, as far as the tables take it now; which that was.
async fn settle(
    finance: &mut PgConnection,
    aside: &[RecordedEvent],
    found: &BTreeSet<EntryRow>,
    touched: &mut BTreeSet<Shard>,
) -> anyhow::Result<(Corrected, Vec<Letter>)> {
    let (mut corrected, mut settled) = (Corrected::default(), Vec::new());
    for event in aside {
        let is_there = found.contains(&row_of(event));
        if !is_there && !is_taken(finance, event).await? {
            continue;
        }
        let shard = Shard::of(event.org);
        settled.push((shard.number(), event.position));
        corrected.dead_letters_settled += 1;
        corrected.entries_written += u64::from(!is_there);
        touched.insert(shard);
    }
    Ok((corrected, settled))
}

/// Writes an event's entry in a savepoint; whether its table took it.
async fn is_taken(
    finance: &mut PgConnection,
    event: &RecordedEvent,
) -> Result<bool, ProjectionError> {
    let mut savepoint = finance.begin().await?;
    match insert_events(&mut savepoint, &[event]).await.map_err(ProjectionError::from) {
        Ok(()) => savepoint.commit().await.map(|()| true).map_err(ProjectionError::from),
        Err(error) if error.is_broken_rule() || error.is_missing_partition() => {
            savepoint.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

const REMOVE_REVENUE: &str =
    "DELETE FROM revenues_partitioned WHERE org_id = $1 AND date = $2 AND id = $3";
const REMOVE_EXPENSE: &str =
    "DELETE FROM expenses_partitioned WHERE org_id = $1 AND date = $2 AND id = $3";

/// An event as its entry's row.
fn row_of(event: &RecordedEvent) -> EntryRow {
    let entry = event.event.entry();
    (
        matches!(event.event, Event::RevenueRecorded(_)),
        event.org.get(),
        entry.date,
        event.command.uuid(),
        event.property.uuid(),
        entry.category.as_str().to_owned(),
        entry.amount.cents(),
        event.recorded_at,
    )
}
