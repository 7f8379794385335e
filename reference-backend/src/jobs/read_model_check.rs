//! `read-model-consistency-check`: each finance summary is what its account's events come to.
//!
//! Summaries and events are in different databases, so no snapshot spans them. Instead the summaries are read with the
//! checkpoint of their projection, in one statement, and held against the events up to exactly there: what is in flight lies
//! beyond it.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Utc};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::check::{Finding, Tally, organisations};
use super::runs::Outcome;
use super::work::Scope;
use crate::db::{Database, Freshness, Reader};
use crate::domain::Categories;
use crate::events::Shard;
use crate::gateway::App;
use crate::projections::{ACCOUNTS_AT, AccountAt, RepairKind, shards_of};

const SUMMARIES: &str = "\
    SELECT c.shards, c.positions, s.org_id, s.property_id, s.revenue_cents, s.expense_cents, \
        s.entry_count, s.version, s.last_entry_date, s.doc \
    FROM (SELECT array_agg(shard) AS shards, array_agg(position) AS positions \
          FROM projection_checkpoints WHERE projection = 'finance-summary') AS c \
    LEFT JOIN finance_summaries AS s ON s.org_id = ANY($1)";

/// Shards of which a server does not have the events up to a position: a replica that is behind the one asked before.
const BEHIND: &str = "\
    SELECT u.shard FROM unnest($1::smallint[], $2::bigint[]) AS u (shard, position) \
    WHERE u.position > (SELECT coalesce(max(position), 0) FROM events e WHERE e.shard = u.shard)";

/// Organisations with events in a range of positions.
const TOUCHED: &str = "\
    SELECT DISTINCT org_id FROM events WHERE shard = $1 AND position > $2 AND position <= $3 ORDER BY org_id";

const PROGRESS: &str = "SELECT shard, position FROM check_progress WHERE kind = 'summary'";

const ADVANCE: &str = "\
    INSERT INTO check_progress (kind, shard, position) VALUES ('summary', $1, $2) \
    ON CONFLICT (kind, shard) DO UPDATE SET position = EXCLUDED.position";

const HEAD: &str = "SELECT coalesce(max(position), 0) FROM events WHERE shard = $1";

/// Positions that one look for organisations goes through: far less than a statement may take.
const RANGE: i64 = 200_000;

/// A row of [`SUMMARIES`]; the account is null where there are no summaries.
#[derive(Debug, FromRow)]
struct Row {
    shards: Option<Vec<i16>>,
    positions: Option<Vec<i64>>,
    org_id: Option<i64>,
    property_id: Option<Uuid>,
    revenue_cents: Option<i64>,
    expense_cents: Option<i64>,
    entry_count: Option<i64>,
    version: Option<i32>,
    last_entry_date: Option<NaiveDate>,
    doc: Option<Json<Categories>>,
}

/// Looks at the organisations with events since the last check, or at all.
pub(super) async fn check(app: &App, scope: Scope) -> Outcome {
    let mut tally = Tally::new(RepairKind::Summary);
    let failed = |error: sqlx::Error| format!("look at summaries: {error}");
    match scope {
        Scope::All => {
            let mut last = 0;
            loop {
                let page = organisations(app, last).await.map_err(failed)?;
                let Some(end) = page.last() else { return Ok(tally.summary()) };
                last = *end;
                tally.take(app, page.len(), &wrong(app, page).await.map_err(failed)?).await?;
            }
        }
        Scope::Recent => {
            let begun = progress(app).await.map_err(failed)?;
            for shard in Shard::all() {
                let from = begun.get(&shard.number()).copied().unwrap_or_default();
                let head = head(app, shard).await.map_err(failed)?;
                // Kept after each, so that a check that is broken off has come further all the same.
                for range in ranges(from, head) {
                    let orgs = touched(app, shard, range).await.map_err(failed)?;
                    for page in orgs.chunks(app.config.jobs.check_organisations as usize) {
                        let wrong = wrong(app, page.to_vec()).await.map_err(failed)?;
                        tally.take(app, page.len(), &wrong).await?;
                    }
                    advance(app, shard, range.1).await.map_err(failed)?;
                }
            }
            Ok(tally.summary())
        }
    }
}

/// The positions after `from` up to `head`, in parts: after which, and up to which.
fn ranges(from: i64, head: i64) -> impl Iterator<Item = (i64, i64)> {
    let end = move |begin: i64| (begin + RANGE).min(head);
    let first = (from < head).then(|| (from, end(from)));
    std::iter::successors(first, move |(_, last)| (*last < head).then(|| (*last, end(*last))))
}

async fn progress(app: &App) -> sqlx::Result<BTreeMap<i16, i64>> {
    let pool = app.databases.write(Database::HealthCheck);
    let rows: Vec<(i16, i64)> = sqlx::query_as(PROGRESS).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

async fn advance(app: &App, shard: Shard, position: i64) -> sqlx::Result<()> {
    let advance = sqlx::query(ADVANCE).bind(shard.number()).bind(position);
    advance.execute(app.databases.write(Database::HealthCheck)).await.map(drop)
}

/// The shard's last position.
async fn head(app: &App, shard: Shard) -> sqlx::Result<i64> {
    let mut reader = app.databases.read(Database::EventStore, Freshness::Any);
    let head = || sqlx::query_as(HEAD).bind(shard.number());
    Ok(reader.fetch_optional::<(i64,)>(head).await?.map_or(0, |(head,)| head))
}

/// The organisations with events in a range.
async fn touched(app: &App, shard: Shard, (after, upto): (i64, i64)) -> sqlx::Result<Vec<i64>> {
    // Another server than that which told the head may lack the last of its events; they would be passed over.
    let mut reader = store_with(app, &[shard.number()], &[upto]).await?;
    let query = || sqlx::query_as(TOUCHED).bind(shard.number()).bind(after).bind(upto);
    let orgs: Vec<(i64,)> = reader.fetch_all(query).await?;
    Ok(orgs.into_iter().map(|(org,)| org).collect())
}

async fn wrong(app: &App, orgs: Vec<i64>) -> sqlx::Result<Vec<Finding>> {
    let mut reader = app.databases.read(Database::ReadModels, Freshness::Any);
    let rows: Vec<Row> = reader.fetch_all(|| sqlx::query_as(SUMMARIES).bind(orgs.clone())).await?;
    let checkpoint = rows.first().and_then(|row| row.shards.clone().zip(row.positions.clone()));
    // The projection has never run: there is nothing yet that could be wrong.
    let Some((shards, positions)) = checkpoint else { return Ok(Vec::new()) };
    let mut store = store_with(app, &shards, &positions).await?;
    let accounts: Vec<AccountAt> = store
        .fetch_all(|| {
            let bound = sqlx::query_as(ACCOUNTS_AT).bind(shards.clone()).bind(positions.clone());
            bound.bind(shards_of(&orgs)).bind(orgs.clone())
        })
        .await?;
    let mut accounts: BTreeMap<_, _> = accounts
        .into_iter()
        .map(|account| ((account.org_id, account.property_id), account))
        .collect();
    let mut found = Vec::new();
    for row in rows {
        let Some(key) = row.org_id.zip(row.property_id) else { continue };
        let reason = match accounts.remove(&key) {
            Some(account) => difference(&row, &account),
            // Of an account that has taken nothing yet there may be a summary, or none.
            None if row.version == Some(0) => None,
            None => Some("a summary of an account without events".to_owned()),
        };
        found.extend(reason.map(|reason| finding(key, reason)));
    }
    let missing = accounts.into_iter().filter(|(_, account)| account.version > 0);
    let missing = missing.map(|(key, _)| finding(key, "no summary".to_owned()));
    found.extend(missing);
    Ok(found)
}

/// A reader of a server that has the events up to some positions.
async fn store_with(app: &App, shards: &[i16], positions: &[i64]) -> sqlx::Result<Reader> {
    let mut reader = app.databases.read(Database::EventStore, Freshness::Any);
    let behind = || sqlx::query_as(BEHIND).bind(shards.to_vec()).bind(positions.to_vec());
    let behind: Vec<(i16,)> = reader.fetch_all(behind).await?;
    if behind.is_empty() {
        return Ok(reader);
    }
    Ok(app.databases.read(Database::EventStore, Freshness::Newest))
}

fn finding((org, property): (i64, Uuid), reason: String) -> Finding {
    Finding { org, property, from: Utc::now().date_naive(), reason }
}

/// What a summary says otherwise than its account. Days and categories of history before the first event are known to the
/// summary alone, so of these it must have those of the events, and may have more.
fn difference(row: &Row, account: &AccountAt) -> Option<String> {
    let says = (row.revenue_cents, row.expense_cents, row.entry_count, row.version);
    let comes_to = (
        Some(account.revenue_cents),
        Some(account.expense_cents),
        Some(account.entries),
        Some(account.version),
    );
    if says != comes_to {
        let figures =
            |(revenue, expense, entries, version): (Option<i64>, _, Option<i64>, Option<i32>)| {
                let figure = Option::unwrap_or_default;
                let (revenue, expense): (i64, i64) = (figure(revenue), figure(expense));
                let (entries, version) = (entries.unwrap_or_default(), version.unwrap_or_default());
                format!("{entries} entries of {revenue} and {expense} cents at version {version}")
            };
        return Some(format!("the summary says {}, events {}", figures(says), figures(comes_to)));
    }
    if account.last_entry_date > row.last_entry_date {
        return Some("the summary's last day is before that of the events".to_owned());
    }
    let Json(held) = row.doc.as_ref()?;
    (!held.covers(account.categories())).then(|| "the summary lacks a category".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_gone_through_in_parts_once_and_to_the_end() {
        let found = |from, head| ranges(from, head).collect::<Vec<_>>();
        assert_eq!(found(5, 5), []);
        assert_eq!(found(7, 5), [], "a server behind the one asked before");
        assert_eq!(found(5, 6), [(5, 6)]);
        assert_eq!(found(0, RANGE), [(0, RANGE)]);
        assert_eq!(found(3, RANGE + 4), [(3, RANGE + 3), (RANGE + 3, RANGE + 4)]);
    }
}
