//! `cash`: daily balances of a period, and the latest position of every property.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use chrono::{Days, NaiveDate, Utc};
use serde::Deserialize;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::load::{self, Statement, standing};
use super::rows::{BalanceRow, Of};
use crate::cache::{
    Balances, CashBook, CashView, LiveCache, Loaded, Position, WINDOW_DAYS, window_start,
};
use crate::db::{Database, Databases, Freshness, Reader};
use crate::domain::{Day, OrgId, PropertyId};
use crate::gateway::{
    App, Consistency, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader,
};
use crate::projections::Projection;

/// The longest period of one answer.
const PERIOD_DAYS_MAX: u64 = 366;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(balances)).routes(routes!(position))
}

/// Which balances: all properties and the last 31 days unless said otherwise.
#[derive(Debug, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Period {
    /// All properties when left out.
    property: Option<PropertyId>,
    /// First day, at most 366 days before `to`.
    from: Option<Day>,
    /// Last day; today when left out.
    to: Option<Day>,
}

/// The latest closing balance of every property, and their sum.
#[utoipa::path(get, path = "/v1/orgs/{org}/cash/position", tag = "cash", params(OrgPath, TokenHeader),
    responses((status = 200, body = Position), Refusals))]
async fn position(
    Tenant(org): Tenant,
    consistency: Consistency,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let load = |freshness| load::one::<Books>(&app, org, freshness);
    app.cached(&app.caches.cash, org, consistency, CashView::Position, load).await
}

/// Daily balances of a period, by property and day.
#[utoipa::path(get, path = "/v1/orgs/{org}/cash/balances", tag = "cash", params(OrgPath, TokenHeader, Period),
    responses((status = 200, body = Balances), Refusals))]
async fn balances(
    Tenant(org): Tenant,
    consistency: Consistency,
    Params(period): Params<Period>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let today = Utc::now().date_naive();
    if period == (Period { property: period.property, ..Period::default() }) {
        let load = |freshness| load::one::<Books>(&app, org, freshness);
        let view = CashView::Balances { today, property: period.property };
        return app.cached(&app.caches.cash, org, consistency, view, load).await;
    }
    let (from, to) = bounds(&period, today)?;
    let property = period.property.map(PropertyId::uuid);
    let freshness = app.as_of(org, Projection::Finance, consistency).await?;
    let mut reader = app.databases.read(Database::Finance, freshness);
    let query = || sqlx::query_as(PERIOD).bind(org.get()).bind(from).bind(to).bind(property);
    let rows: Vec<BalanceRow> = reader.fetch_all(query).await?;
    let balances = rows.into_iter().filter_map(BalanceRow::checked).collect();
    Ok(Reply::json(&Balances { from, to, balances }, reader.source().server()))
}

/// The first and last day asked for.
fn bounds(period: &Period, today: NaiveDate) -> Result<(NaiveDate, NaiveDate), Problem> {
    let to = period.to.map_or(today, Day::date);
    let from = period.from.map_or_else(|| to - Days::new(WINDOW_DAYS - 1), Day::date);
    if from > to {
        return Err(Problem::malformed(format!("`from` {from} is after `to` {to}")));
    }
    if to.signed_duration_since(from).num_days() >= PERIOD_DAYS_MAX.cast_signed() {
        return Err(Problem::malformed(format!(
            "the period from {from} to {to} is longer than {PERIOD_DAYS_MAX} days"
        )));
    }
    Ok((from, to))
}

const PERIOD: &str = "\
    SELECT property_id, date, opening_cents, revenue_cents, expense_cents, closing_cents \
    FROM daily_cash_balances_partitioned \
    WHERE org_id = $1 AND date BETWEEN $2 AND $3 AND ($4::uuid IS NULL OR property_id = $4) \
    ORDER BY property_id, date";

/// Of each organisation: each property's days from $3 on, and its last one before. Read within one partition, from its
/// primary key.
const BOOKS: &str = "\
    SELECT a.org_id, coalesce(c.position, 0) AS position, coalesce(c.epoch, 0) AS epoch, \
           b.property_id, b.date, b.opening_cents, b.revenue_cents, b.expense_cents, b.closing_cents \
    FROM unnest($1::bigint[], $2::smallint[]) AS a (org_id, shard) \
    LEFT JOIN projection_checkpoints AS c ON c.projection = 'finance' AND c.shard = a.shard \
    LEFT JOIN LATERAL ( \
        SELECT property_id, date, opening_cents, revenue_cents, expense_cents, closing_cents \
        FROM daily_cash_balances_partitioned WHERE org_id = a.org_id AND date >= $3 \
        UNION ALL \
        (SELECT DISTINCT ON (property_id) \
             property_id, date, opening_cents, revenue_cents, expense_cents, closing_cents \
         FROM daily_cash_balances_partitioned WHERE org_id = a.org_id AND date < $3 \
         ORDER BY property_id, date DESC) \
    ) AS b ON true \
    ORDER BY a.org_id, b.property_id, b.date";

/// All cash books, from a day on.
pub(super) struct Books {
    begin: NaiveDate,
}

impl Statement for Books {
    type Row = Of<BalanceRow>;
    type Value = Loaded<CashBook>;
    type Cache = LiveCache<CashBook>;

    fn cache(app: &App) -> &Self::Cache {
        &app.caches.cash
    }

    fn reader(databases: &Databases, freshness: Freshness) -> Reader {
        databases.read(Database::Finance, freshness).planned_once()
    }

    fn now() -> Self {
        Self { begin: window_start(Utc::now().date_naive()) }
    }

    fn query(
        &self,
        orgs: Vec<i64>,
        shards: Vec<i16>,
    ) -> QueryAs<'static, Postgres, Self::Row, PgArguments> {
        sqlx::query_as(BOOKS).bind(orgs).bind(shards).bind(self.begin)
    }

    fn values(
        &self,
        _: &[OrgId],
        rows: Vec<Self::Row>,
        reader: &Reader,
    ) -> HashMap<OrgId, Self::Value> {
        standing(rows, reader, BalanceRow::checked, |rows| CashBook::new(self.begin, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_31_days_unless_said_and_never_above_a_year() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let optional = |text: &str| (!text.is_empty()).then(|| Day::try_from(day(text)).unwrap());
        let period = |from: &str, to: &str| Period {
            property: None,
            from: optional(from),
            to: optional(to),
        };
        let today = day("2026-11-30");
        assert_eq!(bounds(&period("", ""), today).unwrap(), (day("2026-10-31"), today));
        assert_eq!(
            bounds(&period("", "2026-03-31"), today).unwrap(),
            (day("2026-03-01"), day("2026-03-31"))
        );
        assert!(bounds(&period("2026-01-01", "2027-01-01"), today).is_ok());
        assert!(bounds(&period("2026-01-01", "2027-01-02"), today).is_err());
        assert!(bounds(&period("2026-12-01", ""), today).is_err());
    }
}
