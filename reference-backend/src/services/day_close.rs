//! Closing a property's day: what the books said, who was still at the desk, who did not come. For one property when asked,
//! and for all at night.
//!
//! A day is closed once: the first audit stays. So nothing is closed before the books hold every event that had been
//! acknowledged when the closing began.

use std::time::Duration;

use chrono::NaiveDate;
use sqlx::FromRow;
use uuid::Uuid;

use crate::db::{Database, Databases, Freshness};
use crate::domain::OrgId;
use crate::events::Shard;
use crate::projections::books_caught_up;

/// Properties closed by one statement.
const BATCH: i64 = 2_000;
/// How long a night waits for the books.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why days could not be closed. What was closed by then stays closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The projection is behind.
    #[error("the books do not hold all acknowledged events yet")]
    BooksBehind,
}

/// What a night came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Night {
    /// Properties looked at.
    pub properties: u64,
    /// Days closed now; the others had been before.
    pub closed: u64,
}

/// A property, and what its day looks like outside the books.
#[derive(Debug, FromRow)]
pub(super) struct Desk {
    org_id: i64,
    property_id: Uuid,
    no_shows: i64,
    #[sqlx(skip)]
    open_checkins: i64,
}

const BEGIN: &str = "INSERT INTO nights (date) VALUES ($1) ON CONFLICT DO NOTHING";

const CLOSED: &str = "\
    INSERT INTO nights (date, closed_at) VALUES ($1, now()) \
    ON CONFLICT (date) DO UPDATE SET closed_at = coalesce(nights.closed_at, EXCLUDED.closed_at)";

/// Days before $1, from the first night there was but not before $2, that were not closed for all.
const OPEN: &str = "\
    SELECT d::date FROM generate_series( \
        greatest((SELECT min(date) FROM nights), $2::date)::timestamp, ($1::date - 1)::timestamp, '1 day') AS d \
    WHERE NOT EXISTS (SELECT FROM nights WHERE date = d::date AND closed_at IS NOT NULL) \
    ORDER BY d LIMIT $3";

/// Notes that a day is to be closed for all, so that it is known to be open until it is. Returns the days before it that are
/// still open, the oldest first, none before `first` and at most so many.
pub(crate) async fn begin_night(
    databases: &Databases,
    day: NaiveDate,
    first: NaiveDate,
    most: i64,
) -> sqlx::Result<Vec<NaiveDate>> {
    let pool = databases.write(Database::Finance);
    sqlx::query(BEGIN).bind(day).execute(pool).await?;
    sqlx::query_scalar(OPEN).bind(day).bind(first).bind(most).fetch_all(pool).await
}

/// Closes a day of all properties, in batches; those that are closed already stay as they are, so it can be run again.
pub async fn audit_all(databases: &Databases, date: NaiveDate) -> Result<Night, CloseError> {
    wait_for_books(databases, Shard::all(), PATIENCE).await?;
    let (mut night, mut after) = (Night::default(), (0, Uuid::nil()));
    loop {
        let desks = batch(databases, after, date).await?;
        let Some(last) = desks.last() else {
            sqlx::query(CLOSED).bind(date).execute(databases.write(Database::Finance)).await?;
            return Ok(night);
        };
        after = (last.org_id, last.property_id);
        night.properties += desks.len() as u64;
        night.closed += close(databases, date, desks).await?;
    }
}

/// The properties behind $1, $2 and who did not come to each on $3. Both from indexes: the primary key, and the reservations
/// of a property by arrival.
const DESKS: &str = "\
    SELECT p.org_id, p.property_id, \
           (SELECT count(*) FROM reservations AS r WHERE r.org_id = p.org_id \
            AND r.property_id = p.property_id AND r.arrival = $3 AND r.status = 'booked') AS no_shows \
    FROM (SELECT org_id, property_id FROM properties WHERE (org_id, property_id) > ($1, $2) \
          ORDER BY org_id, property_id LIMIT $4) AS p \
    ORDER BY p.org_id, p.property_id";

async fn batch(
    databases: &Databases,
    (org, property): (i64, Uuid),
    date: NaiveDate,
) -> sqlx::Result<Vec<Desk>> {
    let query = || sqlx::query_as(DESKS).bind(org).bind(property).bind(date).bind(BATCH);
    databases.read(Database::Hospitality, Freshness::Any).fetch_all(query).await
}

/// The same of one property, if the organisation has it.
const DESK: &str = "\
    SELECT p.org_id, p.property_id, \
           (SELECT count(*) FROM reservations AS r WHERE r.org_id = p.org_id \
            AND r.property_id = p.property_id AND r.arrival = $3 AND r.status = 'booked') AS no_shows \
    FROM properties AS p WHERE p.org_id = $1 AND p.property_id = $2";

/// One property, if the organisation has it. From the primary: both it and its guests may be new.
pub(super) async fn desk(
    databases: &Databases,
    org: OrgId,
    property: Uuid,
    date: NaiveDate,
) -> sqlx::Result<Option<Desk>> {
    let query = || sqlx::query_as(DESK).bind(org.get()).bind(property).bind(date);
    databases.read(Database::Hospitality, Freshness::Newest).fetch_optional(query).await
}

/// Check-ins that were begun by the end of the day $3 and are neither completed nor cancelled. Served by the index on these
/// alone, which is small.
const OPEN_CHECKINS: &str = "\
    SELECT c.org_id, c.property_id, count(*) \
    FROM unnest($1::bigint[], $2::uuid[]) AS p (org_id, property_id) \
    JOIN checkins AS c ON c.org_id = p.org_id AND c.property_id = p.property_id \
    WHERE c.status = 'started' AND c.created_at < ($3 + 1)::timestamp AT TIME ZONE 'UTC' \
    GROUP BY c.org_id, c.property_id ORDER BY c.org_id, c.property_id";

/// Closes the day by the books: a day without entries opens and closes as the last one before it closed. Each property's last
/// day is one look at the primary key of one partition.
const CLOSE: &str = "\
    INSERT INTO night_audits (org_id, property_id, date, opening_cents, revenue_cents, expense_cents, \
                              closing_cents, open_checkins, no_shows, position) \
    SELECT p.org_id, p.property_id, $6, \
           CASE WHEN b.date = $6 THEN b.opening_cents ELSE coalesce(b.closing_cents, 0) END, \
           CASE WHEN b.date = $6 THEN b.revenue_cents ELSE 0 END, \
           CASE WHEN b.date = $6 THEN b.expense_cents ELSE 0 END, \
           coalesce(b.closing_cents, 0), p.open_checkins, p.no_shows, coalesce(c.position, 0) \
    FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::smallint[]) \
         AS p (org_id, property_id, open_checkins, no_shows, shard) \
    LEFT JOIN LATERAL ( \
        SELECT date, opening_cents, revenue_cents, expense_cents, closing_cents \
        FROM daily_cash_balances_partitioned AS d \
        WHERE d.org_id = p.org_id AND d.property_id = p.property_id AND d.date <= $6 \
        ORDER BY d.date DESC LIMIT 1 \
    ) AS b ON true \
    LEFT JOIN projection_checkpoints AS c ON c.projection = 'finance' AND c.shard = p.shard \
    ON CONFLICT (org_id, property_id, date) DO NOTHING";

/// Closes the day of some properties, which are in the order of their keys; how many had not been closed before.
pub(super) async fn close(
    databases: &Databases,
    date: NaiveDate,
    mut desks: Vec<Desk>,
) -> sqlx::Result<u64> {
    let orgs: Vec<i64> = desks.iter().map(|desk| desk.org_id).collect();
    let properties: Vec<Uuid> = desks.iter().map(|desk| desk.property_id).collect();
    let query =
        || sqlx::query_as(OPEN_CHECKINS).bind(orgs.clone()).bind(properties.clone()).bind(date);
    // From the primary: a day is closed once, and a guest may only just have gone to the room.
    let mut reader = databases.read(Database::GuestCheckin, Freshness::Newest);
    let open: Vec<(i64, Uuid, i64)> = reader.fetch_all(query).await?;
    for (org, property, count) in open {
        if let Ok(at) = desks.binary_search_by_key(&(org, property), |d| (d.org_id, d.property_id))
        {
            desks[at].open_checkins = count;
        }
    }
    let shard = |org| OrgId::new(org).map_or(0, |org| Shard::of(org).number());
    let closed = sqlx::query(CLOSE)
        .bind(&orgs)
        .bind(&properties)
        .bind(desks.iter().map(|desk| desk.open_checkins).collect::<Vec<_>>())
        .bind(desks.iter().map(|desk| desk.no_shows).collect::<Vec<_>>())
        .bind(orgs.iter().map(|org| shard(*org)).collect::<Vec<_>>())
        .bind(date)
        .execute(databases.write(Database::Finance))
        .await?;
    Ok(closed.rows_affected())
}

/// Returns when the books hold all events of the shards that are acknowledged by now.
pub(super) async fn wait_for_books(
    databases: &Databases,
    shards: impl Iterator<Item = Shard>,
    patience: Duration,
) -> Result<(), CloseError> {
    let caught_up = books_caught_up(databases, shards, patience).await?;
    caught_up.then_some(()).ok_or(CloseError::BooksBehind)
}
