//! Drops the months past retention: marks, detaches without blocking, drops. Each step can be the last before a crash; the
//! next run goes on from there.

use sqlx::postgres::PgConnection;
use tracing::info;

use super::catalogue::{self, ENTRY_TABLES, Found, MARK};
use super::ddl::{self, Change};
use super::{Month, PartitionError};
use crate::config;

/// A partition past retention.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expired {
    table: &'static str,
    name: String,
    from: Step,
}

/// What is left to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Marked, and detached already.
    Drop,
    /// Marked, and half detached: a run was interrupted.
    Finalize,
    /// Attached like any other.
    Detach,
}

/// Names of the partitions that [`drop_expired`] would drop, oldest first.
pub async fn expired(
    connection: &mut PgConnection,
    current: Month,
    retention_months: u32,
) -> Result<Vec<String>, PartitionError> {
    let expired = find(connection, current, retention_months).await?;
    Ok(expired.into_iter().map(|expired| expired.name).collect())
}

/// Drops the partitions of all months more than `retention_months` before the current one; returns their names.
///
/// Never the last partition of a table. Writers and readers of the table are not held up: DETACH CONCURRENTLY waits for them
/// instead, and DROP then meets a table that nobody uses.
pub async fn drop_expired(
    connection: &mut PgConnection,
    current: Month,
    retention_months: u32,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    ddl::alone(connection, config, async |connection| {
        drop_found(connection, current, retention_months, config).await
    })
    .await
}

pub(super) async fn drop_found(
    connection: &mut PgConnection,
    current: Month,
    retention_months: u32,
    config: &config::Partitions,
) -> Result<Vec<String>, PartitionError> {
    let mut dropped = Vec::new();
    for expired in find(connection, current, retention_months).await? {
        let Expired { table, name, from } = expired;
        if from == Step::Detach {
            let mark = Change::Together(format!("COMMENT ON TABLE {name} IS '{MARK}'"));
            ddl::change(connection, config, &name, &mark).await?;
            detach(connection, config, table, &name).await?;
        }
        if from == Step::Finalize {
            finalize(connection, config, table, &name).await?;
        }
        let drop = Change::Together(format!("DROP TABLE {name}"));
        ddl::change(connection, config, &name, &drop).await?;
        info!("dropped partition {name}: past {retention_months} months of retention");
        dropped.push(name);
    }
    Ok(dropped)
}

/// A time-out while it waits for readers leaves the partition half detached; then the second half is left to do.
async fn detach(
    connection: &mut PgConnection,
    config: &config::Partitions,
    table: &'static str,
    name: &str,
) -> Result<(), PartitionError> {
    let apart = Change::Apart(format!("ALTER TABLE {table} DETACH PARTITION {name} CONCURRENTLY"));
    let once = config::Partitions { lock_tries: 1, ..config.clone() };
    for _ in 0..config.lock_tries {
        match ddl::change(connection, &once, name, &apart).await {
            Err(PartitionError::Locked { .. }) => {}
            done => return done,
        }
        let attached = catalogue::attached(&mut *connection, table).await?;
        if attached.iter().any(|found| found.name == name && found.half_detached) {
            return finalize(connection, config, table, name).await;
        }
    }
    Err(PartitionError::Locked { partition: name.to_owned(), tries: config.lock_tries })
}

async fn finalize(
    connection: &mut PgConnection,
    config: &config::Partitions,
    table: &'static str,
    name: &str,
) -> Result<(), PartitionError> {
    let rest = Change::Apart(format!("ALTER TABLE {table} DETACH PARTITION {name} FINALIZE"));
    ddl::change(connection, config, name, &rest).await
}

async fn find(
    connection: &mut PgConnection,
    current: Month,
    retention_months: u32,
) -> Result<Vec<Expired>, PartitionError> {
    let kept_from = current.minus(retention_months);
    let mut expired = Vec::new();
    for table in ENTRY_TABLES {
        let attached = catalogue::attached(&mut *connection, table).await?;
        let detached = catalogue::detached(&mut *connection, table).await?;
        expired.extend(judge(table, &attached, &detached, kept_from)?);
    }
    Ok(expired)
}

/// What is past retention, what an interrupted run left first. Any partition that cannot be told by both its name and its
/// bounds stops the whole.
fn judge(
    table: &'static str,
    attached: &[Found],
    detached: &[Found],
    kept_from: Month,
) -> Result<Vec<Expired>, PartitionError> {
    let mut expired = Vec::new();
    for found in detached.iter().filter(|found| found.marked) {
        if Month::from_partition(table, &found.name)? < kept_from {
            expired.push((Step::Drop, found.name.clone()));
        }
    }
    let mut staying = 0;
    for found in attached {
        let month = catalogue::month_of(table, found)?;
        match (found.half_detached, month < kept_from) {
            (true, true) if found.marked => expired.push((Step::Finalize, found.name.clone())),
            (true, _) => {
                let partition = found.name.clone();
                return Err(PartitionError::HalfDetached { table, partition });
            }
            (false, true) => expired.push((Step::Detach, found.name.clone())),
            (false, false) => staying += 1,
        }
    }
    expired.sort();
    if staying == 0 {
        // The newest stays: a table without partitions takes no entry at all.
        let newest = expired.iter().rposition(|(step, _)| *step == Step::Detach);
        newest.map(|index| expired.remove(index));
    }
    let named = |(from, name)| Expired { table, name, from };
    Ok(expired.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "t";

    fn month(number: u32) -> Month {
        Month::of(chrono::NaiveDate::from_ymd_opt(2026, number, 1).unwrap())
    }

    fn attached(number: u32) -> Found {
        let (from, to) = (month(number).first_day(), month(number).plus(1).first_day());
        Found {
            name: month(number).partition_of(TABLE),
            bounds: Some(format!("FOR VALUES FROM ('{from}') TO ('{to}')")),
            half_detached: false,
            marked: false,
            rows_estimate: 0,
            bytes: 0,
        }
    }

    fn names(attached: &[Found], detached: &[Found], kept_from: u32) -> Vec<(Step, String)> {
        let expired = judge(TABLE, attached, detached, month(kept_from)).unwrap();
        expired
            .into_iter()
            .map(|e| (e.from, e.name.trim_start_matches("t_2026_").to_owned()))
            .collect()
    }

    fn step(step: Step, name: &str) -> (Step, String) {
        (step, name.to_owned())
    }

    #[test]
    fn only_what_is_past_retention_goes_and_never_the_last() {
        let months: Vec<_> = (1..=4).map(attached).collect();
        assert_eq!(names(&months, &[], 3), [step(Step::Detach, "01"), step(Step::Detach, "02")]);
        assert_eq!(names(&months, &[], 1), []);
        let last = names(&months, &[], 12);
        assert_eq!(last.len(), 3, "the newest stays: {last:?}");
        assert!(!last.contains(&step(Step::Detach, "04")));
    }

    #[test]
    fn an_interrupted_drop_is_gone_on_with() {
        let half = Found { half_detached: true, marked: true, ..attached(2) };
        let rest = Found { bounds: None, marked: true, ..attached(1) };
        let found = names(&[half, attached(3)], &[rest], 3);
        assert_eq!(found, [step(Step::Drop, "01"), step(Step::Finalize, "02")]);
    }

    #[test]
    fn what_someone_else_detached_is_not_dropped() {
        let kept = Found { bounds: None, ..attached(1) };
        assert_eq!(names(&[attached(3)], &[kept], 3), []);
        let half = Found { half_detached: true, ..attached(1) };
        let refused = judge(TABLE, &[half, attached(3)], &[], month(3));
        assert!(matches!(refused, Err(PartitionError::HalfDetached { .. })), "{refused:?}");
        let unexpired = Found { half_detached: true, marked: true, ..attached(3) };
        assert!(judge(TABLE, &[unexpired], &[], month(3)).is_err());
    }

    #[test]
    fn a_wrong_name_drops_nothing() {
        let liar = Found { name: "t_2026_01".to_owned(), ..attached(4) };
        let refused = judge(TABLE, &[liar, attached(3)], &[], month(3));
        assert!(matches!(refused, Err(PartitionError::Disagreement { .. })), "{refused:?}");
    }
}
