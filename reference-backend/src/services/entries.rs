//! What `revenues` and `expenses` have in common: an entry is checked, appended and acknowledged; entries are listed.

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::properties;
use super::rows::{At, EntryRow, Stand, split};
use crate::cache::{Cursor, FirstPage, Loaded, PAGE_ROWS, Page, Row, Side};
use crate::db::{Database, Freshness};
use crate::domain::{
    Action, Amount, Category, Command, CommandId, Day, Entry, OrgId, PropertyId, Version,
};
use crate::events::{AppendError, Appended, Shard};
use crate::gateway::{App, CONSISTENCY_TOKEN, Consistency, IdempotencyKey, Problem, Reply, Tenant};
use crate::partitioning::Horizon;
use crate::projections::Projection;

/// Most entries on a page.
const PAGE_ROWS_MAX: usize = 200;

/// The body that records an entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEntry {
    property: PropertyId,
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_cents: i64,
    #[schema(min_length = 1, max_length = 40, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    category: String,
    /// Today when left out.
    date: Option<NaiveDate>,
    expected_version: Option<Version>,
}

/// The answer to a recorded entry.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recorded {
    id: CommandId,
    property: PropertyId,
    version: Version,
    shard: i16,
    position: i64,
}

/// Checks an entry, appends it, and answers once it is durable.
pub(super) async fn record(
    app: &App,
    Tenant(org): Tenant,
    IdempotencyKey(id): IdempotencyKey,
    new: NewEntry,
    action: fn(Entry) -> Action,
) -> Result<Response, Problem> {
    let NewEntry { property, expected_version, date, .. } = new;
    let entry = checked(new, Utc::now().date_naive(), **app.horizon.load())?;
    properties::must_own(app, org, property).await?;
    let store = &app.writing.as_ref().expect("hosted services that write have a store").store;
    let (action, undated) = (action(entry), date.is_none());
    let command = Command { id, org, property, expected_version, action, undated };
    let appended = store.append(command).await?;
    Ok(acknowledged(&appended))
}

/// The entry, if every rule on it is kept.
fn checked(new: NewEntry, today: NaiveDate, horizon: Horizon) -> Result<Entry, Problem> {
    let refuse = |problem: crate::domain::EntryError| Problem::invalid(problem.to_string());
    let date = new.date.unwrap_or(today);
    if date > today {
        return Err(Problem::invalid(format!("date {date}: later than today, {today} UTC")));
    }
    if date < horizon.first {
        return Err(Problem::invalid(format!("date {date}: the books begin on {}", horizon.first)));
    }
    if !horizon.covers(date) {
        // Once acknowledged, it could never be projected. Not the client's fault: the months ahead have not been made.
        tracing::error!(
            "no partition for {date}; run `reference-backend migrate`, which makes the months ahead"
        );
        return Err(Problem::unavailable(format!("date {date}: the books are not open yet")));
    }
    Ok(Entry {
        amount: Amount::from_cents(new.amount_cents).map_err(refuse)?,
        category: Category::new(&new.category).map_err(refuse)?,
        date,
    })
}

fn acknowledged(appended: &Appended) -> Response {
    let token = [(HeaderName::from_static(CONSISTENCY_TOKEN), appended.token().to_string())];
    let body = Recorded {
        id: appended.command,
        property: appended.property,
        version: appended.version,
        shard: appended.shard.number(),
        position: appended.position,
    };
    (StatusCode::CREATED, token, Json(body)).into_response()
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let detail = error.to_string();
        match error {
            AppendError::Conflict { .. } => Self::version_conflict(detail),
            AppendError::KeyReused(_) => Self::invalid(detail),
            AppendError::Overloaded(_) | AppendError::Stopping => Self::unavailable(detail),
            AppendError::Unavailable(_) | AppendError::Unknown(_) => {
                tracing::warn!("{detail}");
                Self::unavailable(
                    "the event store cannot answer now; retry with the same Idempotency-Key",
                )
            }
        }
    }
}

/// Which entries to list: the newest 50 unless said otherwise.
#[derive(Debug, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    from: Option<Day>,
    to: Option<Day>,
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
}

/// A page of entries, newest first.
pub(super) async fn list(
    app: &App,
    Tenant(org): Tenant,
    consistency: Consistency,
    side: Side,
    listing: Listing,
) -> Result<Reply, Problem> {
    let limit = listing.limit.unwrap_or(PAGE_ROWS);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(Problem::malformed(format!(
            "limit {limit}: expected a number from 1 to {PAGE_ROWS_MAX}"
        )));
    }
    if listing
        == (Listing { limit: listing.limit.filter(|_| limit == PAGE_ROWS), ..Listing::default() })
    {
        let load = |freshness| load(app, org, side, freshness);
        return app.cached(app.caches.first_pages(side), org, consistency, (), load).await;
    }
    let freshness = app.as_of(org, Projection::Finance, consistency).await?;
    let (_, rows, server) = fetch(app, org, side, &listing, limit, freshness).await?;
    Ok(Reply::json(&Page::new(&rows, limit), server))
}

pub(super) async fn load(
    app: &App,
    org: OrgId,
    side: Side,
    freshness: Freshness,
) -> sqlx::Result<Loaded<FirstPage>> {
    let (Stand { position, epoch }, rows, from) =
        fetch(app, org, side, &Listing::default(), PAGE_ROWS, freshness).await?;
    Ok(Loaded { value: FirstPage::new(side, rows), position, epoch, from })
}

/// Entries of one side from $2 to $3, strictly below the row ($4, $5), newest first. Served by the primary key, month by
/// month from the newest; stops at the limit.
macro_rules! entries_of {
    ($table:literal) => {
        concat!(
            "SELECT c.position, c.epoch, e.id, e.property_id, e.category, e.amount_cents, e.date, e.recorded_at \
             FROM (SELECT coalesce(max(position), 0) AS position, coalesce(max(epoch), 0) AS epoch \
                   FROM projection_checkpoints \
                   WHERE projection = 'finance' AND shard = $7) AS c \
             LEFT JOIN ( \
                 SELECT id, property_id, category, amount_cents, date, recorded_at FROM ",
            $table,
            " WHERE org_id = $1 AND date BETWEEN $2 AND $3 AND (date, id) < ($4, $5) \
                 ORDER BY date DESC, id DESC LIMIT $6 \
             ) AS e ON true \
             ORDER BY e.date DESC, e.id DESC"
        )
    };
}

const REVENUES: &str = entries_of!("revenues_partitioned");
const EXPENSES: &str = entries_of!("expenses_partitioned");

/// The rows of a listing and one more if there is one, where they were read, and the server.
async fn fetch(
    app: &App,
    org: OrgId,
    side: Side,
    listing: &Listing,
    limit: usize,
    freshness: Freshness,
) -> sqlx::Result<(Stand, Vec<Row>, &'static str)> {
    let statement = match side {
        Side::Revenues => REVENUES,
        Side::Expenses => EXPENSES,
    };
    let horizon = app.horizon.load();
    let from = listing.from.map_or(horizon.first, Day::date).max(horizon.first);
    let to = listing.to.map_or(horizon.end, Day::date).min(horizon.end);
    // Without a cursor, below a row that is later than all.
    let (date, id) =
        listing.after.map_or((horizon.end, Uuid::max()), |after| (after.date, after.id));
    let rows = i64::try_from(limit + 1).expect("limits are small");
    let query = || {
        sqlx::query_as(statement)
            .bind(org.get())
            .bind(from)
            .bind(to)
            .bind(date)
            .bind(id)
            .bind(rows)
            .bind(Shard::of(org).number())
    };
    let mut reader = app.databases.read(Database::Finance, freshness).planned_once();
    let found: Vec<At<EntryRow>> = reader.fetch_all(query).await?;
    let (stand, rows) = split(found, EntryRow::checked);
    Ok((stand, rows, reader.source().server()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn entry(json: &str) -> Result<Entry, String> {
        let new = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let horizon = Horizon { first: day("2025-11-01"), end: day("2026-12-01") };
        checked(new, day("2026-11-23"), horizon).map_err(|p| p.detail.into_owned())
    }

    fn with(field: &str) -> String {
        let mut json: serde_json::Value = serde_json::from_str(
            r#"{"property": "00000000-0000-0000-0000-000000000001", "amount_cents": 1, "category": "rooms"}"#,
        )
        .unwrap();
        let change: serde_json::Value = serde_json::from_str(&format!("{{{field}}}")).unwrap();
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json.to_string()
    }

    #[test]
    fn a_sound_entry_is_taken_today_by_default() {
        let taken = entry(&with("")).unwrap();
        assert_eq!(taken.date.to_string(), "2026-11-23");
        assert!(entry(&with(r#""date": "2025-11-01""#)).is_ok());
        assert!(entry(&with(r#""expected_version": 3"#)).is_ok());
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_name() {
        for (field, named) in [
            (r#""amount_cents": 0"#, "amount"),
            (r#""amount_cents": -5"#, "amount"),
            (r#""amount_cents": 1000000000001"#, "amount"),
            (r#""amount_cents": 1.5"#, "1.5"),
            (r#""category": """#, "category"),
            (r#""date": "2026-11-24""#, "later than today"),
            (r#""date": "2025-10-31""#, "the books begin on 2025-11-01"),
            (r#""date": "2026-02-30""#, "input is out of range"),
            (r#""colour": "red""#, "unknown field `colour`"),
            (r#""property": "7""#, "UUID"),
        ] {
            let refusal = entry(&with(field)).unwrap_err();
            assert!(refusal.contains(named), "{field}: {refusal}");
        }
    }

    #[test]
    fn a_day_without_a_partition_is_never_acknowledged() {
        let horizon = Horizon { first: day("2025-11-01"), end: day("2026-11-01") };
        for (date, status) in
            [("null", Some(503)), (r#""2026-11-01""#, Some(503)), (r#""2026-10-31""#, None)]
        {
            let new = serde_json::from_str(&with(&format!(r#""date": {date}"#))).unwrap();
            let refused = checked(new, day("2026-11-23"), horizon).err();
            assert_eq!(refused.map(|problem| problem.status.as_u16()), status, "{date}");
        }
    }
}
