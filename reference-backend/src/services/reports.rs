//! `reports`: profit and loss by month and category, and how full the rooms were; of an organisation or one property.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use chrono::{NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryAs;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::load::{self, Statement, standing};
use super::rows::Of;
use super::table;
use crate::cache::{
    LINES_MAX, LiveCache, Loaded, MONTHS, ProfitAndLoss, Results, ResultsView, ShownMonth, Sum,
};
use crate::db::{Database, Databases, Freshness, Reader};
use crate::domain::{Category, Day, OrgId, PropertyId};
use crate::gateway::{
    App, Consistency, Fresh, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader,
};
use crate::partitioning::Month;
use crate::projections::Projection;

/// Most months of one report.
const MONTHS_MAX: usize = 24;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(profit_and_loss)).routes(routes!(occupancy))
}

/// Which months: the last twelve unless said otherwise, of all properties.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Period {
    /// The first month, by any of its days.
    from: Option<Day>,
    /// The last month, by any of its days; at most 24 months in all.
    to: Option<Day>,
    property: Option<Uuid>,
}

impl Period {
    /// The first and the last month.
    fn months(self, today: NaiveDate) -> Result<(Month, Month), Problem> {
        let month = |day: Day| Month::of(day.date());
        let last = self.to.map_or_else(|| Month::of(today), month);
        let first = self.from.map_or_else(|| last.minus(MONTHS - 1), month);
        if first > last {
            return Err(Problem::malformed("`from` is in a later month than `to`"));
        }
        if first.through(last).count() > MONTHS_MAX {
            return Err(Problem::malformed(format!(
                "the period is longer than {MONTHS_MAX} months"
            )));
        }
        Ok((first, last))
    }
}

/// A row of a statement: one category in one month.
#[derive(Debug, FromRow)]
struct SumRow {
    is_revenue: bool,
    month: NaiveDate,
    category: String,
    cents: i64,
    entries: i64,
}

impl SumRow {
    fn checked(self) -> Option<Sum> {
        let Self { is_revenue, month, category, cents, entries } = self;
        let category = Category::new(&category).ok()?;
        Some(Sum { is_revenue, month: Month::of(month), category, cents, entries })
    }
}

/// A row of [`RESULTS`], or nothing where the left join found none.
#[derive(Debug, FromRow)]
pub(super) struct ResultRow {
    property_id: Option<Uuid>,
    is_revenue: Option<bool>,
    month: Option<NaiveDate>,
    category: Option<String>,
    cents: Option<i64>,
    entries: Option<i64>,
}

impl ResultRow {
    fn checked(self) -> Option<(PropertyId, Sum)> {
        let sum = SumRow {
            is_revenue: self.is_revenue?,
            month: self.month?,
            category: self.category?,
            cents: self.cents?,
            entries: self.entries?,
        };
        Some((PropertyId::from(self.property_id?), sum.checked()?))
    }
}

macro_rules! results_of {
    ($is_revenue:literal, $table:literal) => {
        concat!(
            "SELECT property_id, ",
            $is_revenue,
            " AS is_revenue, date_trunc('month', date)::date AS month, category, \
              sum(amount_cents)::bigint AS cents, count(*) AS entries FROM ",
            $table,
            " WHERE org_id = a.org_id AND date >= $3 GROUP BY 1, 3, 4"
        )
    };
}

/// Of each organisation: every property's sums of the months from $3 on, from the indexes by property alone; at most $4.
const RESULTS: &str = concat!(
    "SELECT a.org_id, coalesce(c.position, 0) AS position, coalesce(c.epoch, 0) AS epoch, \
         r.property_id, r.is_revenue, r.month, r.category, r.cents, r.entries \
     FROM unnest($1::bigint[], $2::smallint[]) AS a (org_id, shard) \
     LEFT JOIN projection_checkpoints AS c ON c.projection = 'finance' AND c.shard = a.shard \
     LEFT JOIN LATERAL (",
    results_of!("true", "revenues_partitioned"),
    " UNION ALL ",
    results_of!("false", "expenses_partitioned"),
    " LIMIT $4) AS r ON true"
);

/// The sums of organisations, from a month on.
pub(super) struct AllResults {
    from: Month,
}

impl Statement for AllResults {
    type Row = Of<ResultRow>;
    type Value = Loaded<Results>;
    type Cache = LiveCache<Results>;

    fn cache(app: &App) -> &Self::Cache {
        &app.caches.results
    }

    fn reader(databases: &Databases, freshness: Freshness) -> Reader {
        databases.read(Database::Finance, freshness).planned_once()
    }

    fn now() -> Self {
        Self { from: Month::of(Utc::now().date_naive()).minus(MONTHS - 1) }
    }

    fn query(
        &self,
        orgs: Vec<i64>,
        shards: Vec<i16>,
    ) -> QueryAs<'static, Postgres, Self::Row, PgArguments> {
        let most = LINES_MAX as i64 + 1;
        sqlx::query_as(RESULTS).bind(orgs).bind(shards).bind(self.from.first_day()).bind(most)
    }

    fn values(
        &self,
        _: &[OrgId],
        rows: Vec<Self::Row>,
        reader: &Reader,
    ) -> HashMap<OrgId, Self::Value> {
        standing(rows, reader, ResultRow::checked, |rows| Results::new(self.from, rows))
    }
}

/// Of each side, only from the period's partitions.
macro_rules! side {
    ($is_revenue:literal, $table:literal, $whose:literal) => {
        concat!(
            "SELECT ",
            $is_revenue,
            " AS is_revenue, date_trunc('month', date)::date AS month, category, \
              sum(amount_cents)::bigint AS cents, count(*) AS entries FROM ",
            $table,
            " WHERE org_id = $1 AND date >= $2 AND date < $3",
            $whose,
            " GROUP BY 2, 3"
        )
    };
}

macro_rules! profit_and_loss {
    ($whose:literal) => {
        concat!(
            side!("true", "revenues_partitioned", $whose),
            " UNION ALL ",
            side!("false", "expenses_partitioned", $whose),
            " ORDER BY month, category LIMIT $4"
        )
    };
}

/// Of all properties, from the primary keys.
const PROFIT_AND_LOSS: &str = profit_and_loss!("");

/// Of one property, from the indexes by property, which hold all that is asked for.
const PROFIT_AND_LOSS_OF_ONE: &str = profit_and_loss!(" AND property_id = $5");

/// Profit and loss, by month and category.
#[utoipa::path(get, path = "/v1/orgs/{org}/reports/profit-and-loss", tag = "reports", params(OrgPath, TokenHeader, Period),
    responses((status = 200, body = ProfitAndLoss), (status = 422, body = Problem, content_type = "application/problem+json",
        description = "The report would have more than 10,000 lines"), Refusals))]
async fn profit_and_loss(
    Tenant(org): Tenant,
    consistency: Consistency,
    Params(period): Params<Period>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let (from, to) = period.months(Utc::now().date_naive())?;
    if period.from.is_none() && period.to.is_none() {
        let load = |freshness| load::one::<AllResults>(&app, org, freshness);
        let property = period.property.map(PropertyId::from);
        let view = ResultsView { from, to, property };
        let kept = app.cached_if_kept(&app.caches.results, org, consistency, view, load).await?;
        if let Some(reply) = kept {
            return Ok(reply);
        }
    }
    let freshness = app.as_of(org, Projection::Finance, consistency).await?;
    let mut reader = app.databases.read(Database::Finance, freshness).planned_once();
    let query = || {
        let of = |statement| {
            sqlx::query_as(statement)
                .bind(org.get())
                .bind(from.first_day())
                .bind(to.plus(1).first_day())
                .bind(LINES_MAX as i64 + 1)
        };
        match period.property {
            None => of(PROFIT_AND_LOSS),
            Some(property) => of(PROFIT_AND_LOSS_OF_ONE).bind(property),
        }
    };
    let sums: Vec<SumRow> = reader.fetch_all(query).await?;
    if sums.len() > LINES_MAX {
        return Err(too_long());
    }
    let sums = sums.into_iter().filter_map(SumRow::checked);
    Ok(Reply::json(&ProfitAndLoss::of(from, to, sums), reader.source().server()))
}

fn too_long() -> Problem {
    Problem::invalid(format!(
        "the report would have more than {LINES_MAX} lines; ask for fewer months or one property"
    ))
}

/// How full the rooms were.
#[derive(Debug, Serialize, ToSchema)]
struct Occupancy {
    from: ShownMonth,
    to: ShownMonth,
    properties: Vec<PropertyMonth>,
}

/// One property in one month.
#[derive(Debug, Serialize, ToSchema)]
struct PropertyMonth {
    month: ShownMonth,
    property: Uuid,
    /// Rooms that the property has today.
    rooms: i64,
    /// Rooms times the days of the month.
    nights_available: i64,
    /// Nights of reservations that were not cancelled; above `nights_available` where guests have no room yet.
    nights_sold: i64,
}

#[derive(Debug, FromRow)]
struct Nights {
    month: NaiveDate,
    property_id: Uuid,
    rooms: i64,
    available: i64,
    sold: i64,
}

/// Properties with rooms, by month. Reservations come from the index by property and arrival alone.
const OCCUPANCY: &str = "\
    WITH months AS ( \
        SELECT first::date, (first + interval '1 month')::date AS next \
        FROM generate_series($2::timestamp, $3::timestamp - interval '1 day', interval '1 month') AS first \
    ), houses AS ( \
        SELECT property_id, count(*) AS rooms FROM rooms \
        WHERE org_id = $1 AND ($4::uuid IS NULL OR property_id = $4) GROUP BY property_id \
    ), nights AS ( \
        SELECT m.first, r.property_id, \
               sum(least(r.departure, m.next) - greatest(r.arrival, m.first)) AS sold \
        FROM reservations AS r JOIN months AS m ON r.arrival < m.next AND r.departure > m.first \
        WHERE r.org_id = $1 AND ($4::uuid IS NULL OR r.property_id = $4) \
              AND r.arrival < $3 AND r.departure > $2 AND r.status <> 'cancelled' \
        GROUP BY m.first, r.property_id \
    ) \
    SELECT m.first AS month, h.property_id, h.rooms, h.rooms * (m.next - m.first) AS available, \
           coalesce(n.sold, 0)::bigint AS sold \
    FROM months AS m CROSS JOIN houses AS h \
    LEFT JOIN nights AS n ON n.first = m.first AND n.property_id = h.property_id \
    ORDER BY m.first, h.property_id LIMIT $5";

/// How full the rooms were, by month and property. Properties without rooms are left out.
#[utoipa::path(get, path = "/v1/orgs/{org}/reports/occupancy", tag = "reports", params(OrgPath, TokenHeader, Period),
    responses((status = 200, body = Occupancy), (status = 422, body = Problem, content_type = "application/problem+json",
        description = "The report would have more than 10,000 lines"), Refusals))]
async fn occupancy(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(period): Params<Period>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let (from, to) = period.months(Utc::now().date_naive())?;
    let query = || {
        sqlx::query_as(OCCUPANCY)
            .bind(org.get())
            .bind(from.first_day())
            .bind(to.plus(1).first_day())
            .bind(period.property)
            .bind(LINES_MAX as i64 + 1)
    };
    let (rows, server) =
        table::list::<Nights>(&app, Database::Hospitality, freshness, query).await?;
    if rows.len() > LINES_MAX {
        return Err(too_long());
    }
    let properties = rows.into_iter().map(|row| PropertyMonth {
        month: ShownMonth(Month::of(row.month)),
        property: row.property_id,
        rooms: row.rooms,
        nights_available: row.available,
        nights_sold: row.sold,
    });
    let (from, to) = (ShownMonth(from), ShownMonth(to));
    Ok(Reply::json(&Occupancy { from, to, properties: properties.collect() }, server))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_is_twelve_months_unless_said_and_never_above_two_years() {
        let period = |from: &str, to: &str| {
            let day = |text: &str| (!text.is_empty()).then(|| Day::try_from(day(text)).unwrap());
            let period = Period { from: day(from), to: day(to), property: None };
            let months = period.months(super::tests::day("2026-11-23"));
            months.map(|(from, to)| format!("{from}..{to}")).map_err(|problem| problem.detail)
        };
        assert_eq!(period("", "").unwrap(), "2025_12..2026_11");
        assert_eq!(period("", "2026-02-28").unwrap(), "2025_03..2026_02");
        assert_eq!(period("2024-12-31", "").unwrap(), "2024_12..2026_11");
        assert!(period("2024-11-30", "").unwrap_err().contains("24 months"));
        assert!(period("2026-12-01", "").unwrap_err().contains("later month"));
        assert!(period("1900-01-01", "2199-12-31").is_err());
    }
}
