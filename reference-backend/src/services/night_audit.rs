//! `night-audit`: the closing of a property's day, by hand or by the job of the night; and what days were closed with.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::day_close::{self, CloseError};
use super::table::{After, Limit, Written};
use crate::db::{Database, Freshness, WriteToken};
use crate::domain::{Day, OrgId};
use crate::events::Shard;
use crate::gateway::{
    App, Body, Fresh, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader, WriteRefusals,
};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, run)).routes(routes!(show))
}

/// A property's day, as it was closed.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct NightAudit {
    property_id: Uuid,
    date: NaiveDate,
    /// The balance at the day's beginning.
    opening_cents: i64,
    revenue_cents: i64,
    expense_cents: i64,
    /// The balance at its end.
    closing_cents: i64,
    /// Check-ins begun by the end of the day, and neither completed nor cancelled when it was closed.
    open_checkins: i64,
    /// Reservations that arrive on the day and had not been checked in when it was closed.
    no_shows: i64,
    /// Last event of the organisation's shard that the books held when the day was closed.
    position: i64,
    audited_at: DateTime<Utc>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT property_id, date, opening_cents, revenue_cents, expense_cents, closing_cents, \
                    open_checkins, no_shows, position, audited_at \
             FROM night_audits WHERE org_id = $1 AND ",
            $rest
        )
    };
}

/// Which day to close.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Closing {
    property: Uuid,
    /// A day before today, UTC, and not before the books begin.
    date: Day,
}

/// Closes a property's day. A day that is closed stays as it is, and is answered as it is.
#[utoipa::path(post, path = "/v1/orgs/{org}/night-audits", tag = "night-audit", params(OrgPath),
    request_body = Closing,
    responses((status = 201, body = NightAudit, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn run(
    Tenant(org): Tenant,
    State(app): State<Arc<App>>,
    Body(Closing { property, date }): Body<Closing>,
) -> Result<Written<NightAudit>, Problem> {
    let date = closable(date.date(), Utc::now().date_naive(), app.horizon.load().first)?;
    let desk = day_close::desk(&app.databases, org, property, date).await?;
    let desk = desk.ok_or_else(|| {
        Problem::not_found(format!("organisation {org} has no property {property}"))
    })?;
    let wait = app.settings.load().read_your_writes_wait_ms.duration();
    day_close::wait_for_books(&app.databases, std::iter::once(Shard::of(org)), wait).await?;
    day_close::close(&app.databases, date, vec![desk]).await?;
    let mut connection = app.databases.write(Database::Finance).acquire().await?;
    let query = sqlx::query_as(ONE).bind(org.get()).bind(property).bind(date);
    let body = query.fetch_one(&mut *connection).await?;
    let token = WriteToken(app.databases.flushed(&mut connection).await?);
    Ok(Written { status: StatusCode::CREATED, body, token })
}

fn closable(date: NaiveDate, today: NaiveDate, first: NaiveDate) -> Result<NaiveDate, Problem> {
    if date >= today {
        return Err(Problem::invalid(format!("date {date}: not over yet; today is {today} UTC")));
    }
    if date < first {
        return Err(Problem::invalid(format!("date {date}: the books begin on {first}")));
    }
    Ok(date)
}

impl From<CloseError> for Problem {
    fn from(error: CloseError) -> Self {
        match error {
            CloseError::Sql(error) => error.into(),
            CloseError::BooksBehind => Self::unavailable(error.to_string()),
        }
    }
}

const ONE: &str = select!("property_id = $2 AND date = $3");

/// Which closed days: all, unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    property: Option<Uuid>,
    from: Option<Day>,
    to: Option<Day>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After<NaiveDate>>,
}

/// A page of closed days.
#[derive(Debug, Serialize, ToSchema)]
struct NightAudits {
    night_audits: Vec<NightAudit>,
    #[schema(value_type = Option<String>)]
    next: Option<After<NaiveDate>>,
}

/// Served by the primary key for one property, by the index on the date for all.
const PAGE: &str = select!(
    "($2::uuid IS NULL OR property_id = $2) AND ($3::date IS NULL OR date >= $3) \
     AND ($4::date IS NULL OR date <= $4) AND ($5::date IS NULL OR (date, property_id) < ($5, $6)) \
     ORDER BY date DESC, property_id DESC LIMIT $7"
);

/// Closed days, newest first.
#[utoipa::path(get, path = "/v1/orgs/{org}/night-audits", tag = "night-audit", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = NightAudits), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(Listing { property, from, to, limit, after }): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        let query = sqlx::query_as(PAGE).bind(org.get()).bind(property);
        let query = query.bind(from.map(Day::date)).bind(to.map(Day::date));
        query.bind(after.map(|at| at.key)).bind(after.map(|at| at.id)).bind(limit.rows())
    };
    let (rows, server) =
        super::table::list::<NightAudit>(&app, Database::Finance, freshness, query).await?;
    let (night_audits, next) = limit.page(rows, |row| After { key: row.date, id: row.property_id });
    Ok(Reply::json(&NightAudits { night_audits, next }, server))
}

/// The property and the day of the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its shape matters")]
struct DayPath {
    property: Uuid,
    date: NaiveDate,
}

/// One closed day.
#[utoipa::path(get, path = "/v1/orgs/{org}/night-audits/{property}/{date}", tag = "night-audit", params(OrgPath, DayPath, TokenHeader),
    responses((status = 200, body = NightAudit), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    path: Path<(String, String, String)>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let Path((_, property, date)) = path;
    let property = Uuid::try_parse(&property)
        .map_err(|_| Problem::malformed("the property in the path is not a UUID"))?;
    let date = date.parse::<NaiveDate>().ok().and_then(|date| Day::try_from(date).ok());
    let date = date.ok_or_else(|| Problem::malformed("the date in the path is not a day"))?.date();
    let (found, server) = find(&app, org, (property, date), freshness).await?;
    Ok(Reply::json(&found, server))
}

async fn find(
    app: &App,
    org: OrgId,
    (property, date): (Uuid, NaiveDate),
    freshness: Freshness,
) -> Result<(NightAudit, &'static str), Problem> {
    let mut reader = app.databases.read(Database::Finance, freshness);
    let query = || sqlx::query_as(ONE).bind(org.get()).bind(property).bind(date);
    let found: Option<NightAudit> = reader.fetch_optional(query).await?;
    let found = found.ok_or_else(|| {
        Problem::not_found(format!("organisation {org} has not closed {date} of {property}"))
    })?;
    Ok((found, reader.source().server()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_day_that_is_over_and_in_the_books_can_be_closed() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let closed = |date| closable(day(date), day("2026-11-23"), day("2026-01-01")).is_ok();
        assert!(closed("2026-11-22") && closed("2026-01-01"));
        assert!(!closed("2026-11-23") && !closed("2026-11-24") && !closed("2025-12-31"));
    }
}
