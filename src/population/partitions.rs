//! Which leaf of a table takes a row: read once from Postgres' catalogue, decided here from then on.

use chrono::NaiveDate;
use sqlx::Row as _;

use super::connect::Server;
use super::error::PopulationError;
use super::pg_hash::partition_hash;
use super::tables::{TABLES, Table, TableId};

/// A table without partitions, or one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) table: TableId,
    /// Quoted as needed.
    pub(super) name: String,
    bound: Bound,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bound {
    Whole,
    /// From a date to before another.
    Range(NaiveDate, NaiveDate),
    Hash {
        modulus: u64,
        remainder: u64,
    },
}

/// The leaves of all tables.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) leaves: Vec<Leaf>,
}

/// Leaves of one table with their bounds, or the table itself.
const LEAVES: &str = "
    SELECT c.oid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
    FROM pg_class c
    WHERE c.relkind = 'r'
      AND (c.oid = $1::regclass OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::regclass))
    ORDER BY c.relname";

impl Layout {
    /// Reads the leaves that take the organisations' history from `first` to before `end`.
    pub(super) async fn read(
        server: &Server,
        first: NaiveDate,
        end: NaiveDate,
    ) -> Result<Self, PopulationError> {
        let mut leaves = Vec::new();
        for table in &TABLES {
            let mut connection = server.connect(table.database).await?;
            let rows =
                sqlx::query(LEAVES).bind(table.name).fetch_all(&mut connection).await.map_err(
                    PopulationError::during(format!("look up {}", table.name), table.database),
                )?;
            leaves.extend(rows.iter().filter_map(|row| {
                let bound = parse_bound(row.get("bound"))?;
                Some(Leaf { table: table.id, name: row.get("name"), bound })
            }));
        }
        // Months outside the history get no rows, so no connection either.
        leaves.retain(|leaf| match leaf.bound {
            Bound::Range(from, to) => from < end && first < to,
            Bound::Whole | Bound::Hash { .. } => true,
        });
        let layout = Self { leaves };
        for table in [TableId::Revenues, TableId::Expenses] {
            layout.check_dates(table, first, end)?;
        }
        Ok(layout)
    }

    /// Every day of the history must have a partition.
    fn check_dates(
        &self,
        table: TableId,
        first: NaiveDate,
        end: NaiveDate,
    ) -> Result<(), PopulationError> {
        let mut date = first;
        while date < end {
            let covers = |leaf: &&Leaf| leaf.table == table && leaf.takes_date(date);
            match self.leaves.iter().find(covers).map(|leaf| &leaf.bound) {
                Some(Bound::Range(_, to)) => date = *to,
                Some(_) => return Ok(()),
                None => {
                    return Err(PopulationError::NoPartition {
                        table: Table::of(table).name,
                        date,
                    });
                }
            }
        }
        Ok(())
    }

    /// Every remainder must have a partition of the balances: a thousand organisations meet each of them.
    pub(super) fn check_hashes(&self, organisations: u64) -> Result<(), PopulationError> {
        let table = TableId::Balances;
        for org_id in 1..=i64::try_from(organisations.min(1000)).unwrap_or(1000) {
            if !self.leaves.iter().any(|leaf| leaf.table == table && leaf.takes_key(org_id)) {
                return Err(PopulationError::NoHashPartition {
                    table: Table::of(table).name,
                    org_id,
                });
            }
        }
        Ok(())
    }

    /// The leaf of a table without partitions.
    pub(super) fn whole(&self, table: TableId) -> usize {
        self.find(|leaf| leaf.table == table)
    }

    /// The leaf of a table that takes a date of the history.
    pub(super) fn by_date(&self, table: TableId, date: NaiveDate) -> usize {
        self.find(|leaf| leaf.table == table && leaf.takes_date(date))
    }

    /// The leaf of a table that takes an organisation.
    pub(super) fn by_hash(&self, table: TableId, org_id: i64) -> usize {
        self.find(|leaf| leaf.table == table && leaf.takes_key(org_id))
    }

    fn find(&self, is: impl Fn(&Leaf) -> bool) -> usize {
        self.leaves.iter().position(is).expect("the layout was checked against the history")
    }
}

impl Leaf {
    fn takes_date(&self, date: NaiveDate) -> bool {
        match self.bound {
            Bound::Range(from, to) => (from..to).contains(&date),
            Bound::Whole => true,
            Bound::Hash { .. } => false,
        }
    }

    fn takes_key(&self, key: i64) -> bool {
        match self.bound {
            Bound::Hash { modulus, remainder } => partition_hash(key) % modulus == remainder,
            Bound::Whole => true,
            Bound::Range(..) => false,
        }
    }
}

/// Reads `FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')` and `FOR VALUES WITH (modulus 16, remainder 3)`. A DEFAULT
/// partition, or one by another rule, takes nothing of ours.
fn parse_bound(text: Option<String>) -> Option<Bound> {
    let Some(text) = text else { return Some(Bound::Whole) };
    if let Some(range) = text.strip_prefix("FOR VALUES FROM ") {
        let (from, to) = range.split_once(" TO ")?;
        let date = |text: &str| text.trim_matches(['(', ')', '\'']).parse().ok();
        return Some(Bound::Range(date(from)?, date(to)?));
    }
    let hash = text.strip_prefix("FOR VALUES WITH (modulus ")?.strip_suffix(')')?;
    let (modulus, remainder) = hash.split_once(", remainder ")?;
    Some(Bound::Hash { modulus: modulus.parse().ok()?, remainder: remainder.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Bound>) {
        assert_eq!(parse_bound(Some(text.to_owned())), expected, "{text}");
    }

    #[test]
    fn bounds_are_read_as_postgres_prints_them() {
        let day = |d: &str| d.parse().unwrap();
        check(
            "FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
            Some(Bound::Range(day("2026-01-01"), day("2026-02-01"))),
        );
        check(
            "FOR VALUES WITH (modulus 16, remainder 3)",
            Some(Bound::Hash { modulus: 16, remainder: 3 }),
        );
        check("DEFAULT", None);
        check("FOR VALUES FROM (MINVALUE) TO ('2026-02-01')", None);
        assert_eq!(parse_bound(None), Some(Bound::Whole));
    }

    #[test]
    fn a_gap_in_the_months_is_found_before_anything_is_written() {
        let day = |d: &str| d.parse().unwrap();
        let leaf = |from, to| Leaf {
            table: TableId::Revenues,
            name: String::new(),
            bound: Bound::Range(day(from), day(to)),
        };
        let layout = Layout {
            leaves: vec![leaf("2026-01-01", "2026-02-01"), leaf("2026-03-01", "2026-04-01")],
        };
        let check = |first, end| layout.check_dates(TableId::Revenues, day(first), day(end));
        assert!(check("2026-01-01", "2026-02-01").is_ok());
        let error = check("2026-01-01", "2026-04-01").unwrap_err().to_string();
        assert!(error.contains("no partition for 2026-02-01"), "{error}");
    }
}
