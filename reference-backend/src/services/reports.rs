//! `reports`: profit and loss by month and category, and how full the rooms were; of an organisation or one property.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use chrono::{NaiveDate, Utc};
use serde::{Deserialize, Serialize, Serializer};
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table;
use crate::db::Database;
use crate::domain::Day;
use crate::gateway::{
    App, Consistency, Fresh, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader,
};
use crate::partitioning::Month;
use crate::projections::Projection;

/// Months of a report unless said otherwise, up to and with the current one.
const MONTHS: u32 = 12;
/// Most months of one report.
const MONTHS_MAX: usize = 24;
/// Most lines of one report.
const LINES_MAX: usize = 10_000;

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

/// A month in answers, as in `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$")]
struct ShownMonth(Month);

impl Serialize for ShownMonth {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0.first_day().format("%Y-%m"))
    }
}

/// One category in one month.
#[derive(Debug, FromRow)]
struct Sum {
    is_revenue: bool,
    month: NaiveDate,
    category: String,
    cents: i64,
    entries: i64,
}

/// Profit and loss. Months without entries are left out.
#[derive(Debug, Serialize, ToSchema)]
struct ProfitAndLoss {
    from: ShownMonth,
    to: ShownMonth,
    #[serde(flatten)]
    total: Totals,
    months: Vec<MonthResult>,
}

/// One month's.
#[derive(Debug, Serialize, ToSchema)]
struct MonthResult {
    month: ShownMonth,
    #[serde(flatten)]
    total: Totals,
    /// By category.
    revenues: Vec<Line>,
    expenses: Vec<Line>,
}

/// Sums in whole cents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Totals {
    revenue_cents: i64,
    expense_cents: i64,
    /// Below zero where more went out than came in.
    profit_cents: i64,
}

impl Totals {
    fn add(&mut self, sum: &Sum) {
        let side = if sum.is_revenue { &mut self.revenue_cents } else { &mut self.expense_cents };
        *side += sum.cents;
        self.profit_cents = self.revenue_cents - self.expense_cents;
    }
}

/// One category's.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Line {
    category: String,
    amount_cents: i64,
    entries: i64,
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
    let sums: Vec<Sum> = reader.fetch_all(query).await?;
    if sums.len() > LINES_MAX {
        return Err(too_long());
    }
    Ok(Reply::json(&result(from, to, sums), reader.source().server()))
}

fn too_long() -> Problem {
    Problem::invalid(format!(
        "the report would have more than {LINES_MAX} lines; ask for fewer months or one property"
    ))
}

/// Puts the sums, which are in order of their categories, into their months.
fn result(from: Month, to: Month, sums: Vec<Sum>) -> ProfitAndLoss {
    let mut months = BTreeMap::new();
    let mut total = Totals::default();
    for sum in sums {
        total.add(&sum);
        let month = ShownMonth(Month::of(sum.month));
        let result = months.entry(month).or_insert_with(|| MonthResult {
            month,
            total: Totals::default(),
            revenues: Vec::new(),
            expenses: Vec::new(),
        });
        result.total.add(&sum);
        let side = if sum.is_revenue { &mut result.revenues } else { &mut result.expenses };
        let Sum { category, cents: amount_cents, entries, .. } = sum;
        side.push(Line { category, amount_cents, entries });
    }
    let (from, to) = (ShownMonth(from), ShownMonth(to));
    ProfitAndLoss { from, to, total, months: months.into_values().collect() }
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

    #[test]
    fn sums_go_to_their_months_and_add_up() {
        let sum = |is_revenue, month: &str, category: &str, cents| Sum {
            is_revenue,
            month: day(month),
            category: category.to_owned(),
            cents,
            entries: 1,
        };
        let sums = vec![
            sum(false, "2026-10-01", "food", 70),
            sum(true, "2026-10-01", "rooms", 50),
            sum(true, "2026-11-01", "bar", 5),
            sum(true, "2026-11-01", "rooms", 10),
        ];
        let found = result(Month::of(day("2026-09-01")), Month::of(day("2026-11-01")), sums);
        let totals = |revenue_cents, expense_cents| Totals {
            revenue_cents,
            expense_cents,
            profit_cents: revenue_cents - expense_cents,
        };
        assert_eq!(found.total, totals(65, 70));
        let months: Vec<_> = found.months.iter().map(|month| month.total).collect();
        assert_eq!(months, [totals(50, 70), totals(15, 0)]);
        let categories = found.months[1].revenues.iter().map(|line| line.category.as_str());
        assert_eq!(categories.collect::<Vec<_>>(), ["bar", "rooms"]);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["from"], &json["profit_cents"]), (&"2026-09".into(), &(-5).into()));
    }
}
