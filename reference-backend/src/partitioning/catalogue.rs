//! Which partitions there are, as PostgreSQL's catalogue has them. A partition's month is read twice, from its name and from
//! its bounds, and trusted only if both agree.

use chrono::NaiveDate;
use sqlx::{FromRow, PgExecutor};

use super::{Month, PartitionError};

/// The tables partitioned by month.
pub const ENTRY_TABLES: [&str; 2] = ["revenues_partitioned", "expenses_partitioned"];

/// Put on a partition as its comment before it is detached to be dropped. Whoever goes on after an interruption drops what
/// bears it, and nothing else that lies about.
pub(super) const MARK: &str = "past retention: to be dropped";

/// A table as the catalogue has it.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Found {
    pub(super) name: String,
    /// `FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')`; null of a table that is not attached.
    pub(super) bounds: Option<String>,
    /// A `DETACH … CONCURRENTLY` began and did not end.
    pub(super) half_detached: bool,
    /// Bears [`MARK`].
    pub(super) marked: bool,
    /// Rows, as the planner estimates them.
    pub(super) rows_estimate: i64,
    /// With its indexes.
    pub(super) bytes: i64,
}

/// A partition of a month.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// The month of both its name and its bounds.
    pub month: Month,
    /// Rows, as the planner estimates them.
    pub rows_estimate: i64,
    /// Size with its indexes.
    pub bytes: i64,
}

const ATTACHED: &str = "
    SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds, i.inhdetachpending AS half_detached,
           coalesce(obj_description(c.oid, 'pg_class') = $2, false) AS marked,
           greatest(c.reltuples, 0)::bigint AS rows_estimate, coalesce(pg_total_relation_size(c.oid), 0) AS bytes
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = $1::text::regclass
    ORDER BY c.relname";

/// Tables that bear a partition's name and are none.
const DETACHED: &str = "
    SELECT c.relname::text AS name, NULL::text AS bounds, false AS half_detached,
           coalesce(obj_description(c.oid, 'pg_class') = $2, false) AS marked,
           greatest(c.reltuples, 0)::bigint AS rows_estimate, coalesce(pg_total_relation_size(c.oid), 0) AS bytes
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND starts_with(c.relname::text, $1 || '_')
    ORDER BY c.relname";

pub(super) async fn attached(
    executor: impl PgExecutor<'_>,
    table: &'static str,
) -> Result<Vec<Found>, PartitionError> {
    let found = sqlx::query_as(ATTACHED).bind(table).bind(MARK).fetch_all(executor).await;
    found.map_err(PartitionError::sql(table))
}

pub(super) async fn detached(
    executor: impl PgExecutor<'_>,
    table: &'static str,
) -> Result<Vec<Found>, PartitionError> {
    let found = sqlx::query_as(DETACHED).bind(table).bind(MARK).fetch_all(executor).await;
    found.map_err(PartitionError::sql(table))
}

/// The partitions of a table, in order of months. One that is half detached shows no rows any more, and so is none.
pub async fn partitions(
    executor: impl PgExecutor<'_>,
    table: &'static str,
) -> Result<Vec<Partition>, PartitionError> {
    let found = attached(executor, table).await?;
    let whole = found.into_iter().filter(|found| !found.half_detached);
    let mut partitions = whole
        .map(|found| {
            let month = month_of(table, &found)?;
            let Found { name, rows_estimate, bytes, .. } = found;
            Ok(Partition { name, month, rows_estimate, bytes })
        })
        .collect::<Result<Vec<_>, PartitionError>>()?;
    partitions.sort_unstable_by_key(|partition| partition.month);
    Ok(partitions)
}

/// The months for which a table has partitions, in order.
pub(super) async fn months(
    executor: impl PgExecutor<'_>,
    table: &'static str,
) -> Result<Vec<Month>, PartitionError> {
    let partitions = partitions(executor, table).await?;
    Ok(partitions.into_iter().map(|partition| partition.month).collect())
}

/// The month that both the name and the bounds of an attached partition say.
pub(super) fn month_of(table: &str, found: &Found) -> Result<Month, PartitionError> {
    let named = Month::from_partition(table, &found.name)?;
    let bounds = found.bounds.as_deref().unwrap_or_default();
    if days(bounds) == Some((named.first_day(), named.plus(1).first_day())) {
        Ok(named)
    } else {
        let (partition, bounds) = (found.name.clone(), bounds.to_owned());
        Err(PartitionError::Disagreement { partition, named, bounds })
    }
}

/// First day and first day after, of `FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')`.
fn days(bounds: &str) -> Option<(NaiveDate, NaiveDate)> {
    let (from, to) = bounds.strip_prefix("FOR VALUES FROM ('")?.split_once("') TO ('")?;
    Some((from.parse().ok()?, to.strip_suffix("')")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, bounds: &str, expected: Result<&str, &str>) {
        let found = Found {
            name: name.to_owned(),
            bounds: Some(bounds.to_owned()),
            half_detached: false,
            marked: false,
            rows_estimate: 0,
            bytes: 0,
        };
        let month = month_of("t", &found);
        match (month, expected) {
            (Ok(month), Ok(expected)) => assert_eq!(month.to_string(), expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{name} {bounds}: {found:?}"),
        }
    }

    #[test]
    fn name_and_bounds_must_say_the_same_month() {
        let november = "FOR VALUES FROM ('2026-11-01') TO ('2026-12-01')";
        check("t_2026_11", november, Ok("2026_11"));
        check("t_2026_12", november, Err("its name says 2026_12"));
        check("t_2026_11", "FOR VALUES FROM ('2026-11-01') TO ('2027-01-01')", Err("bounds"));
        check("t_2026_11", "FOR VALUES FROM (MINVALUE) TO ('2026-12-01')", Err("bounds"));
        check("t_2026_11", "DEFAULT", Err("its bounds say DEFAULT"));
        check("t_default", "DEFAULT", Err("ends in _YYYY_MM"));
    }
}
