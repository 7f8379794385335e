//! The days that entries may be booked on: those for which every entry table has a partition that stays.

use chrono::NaiveDate;
use sqlx::postgres::PgPool;

use super::catalogue::{self, ENTRY_TABLES};
use super::{Month, PartitionError};

/// The days for which every entry table has a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// First day covered.
    pub first: NaiveDate,
    /// First day no longer covered.
    pub end: NaiveDate,
}

impl Horizon {
    /// Whether an entry of this day has a partition.
    pub fn covers(&self, day: NaiveDate) -> bool {
        (self.first..self.end).contains(&day)
    }
}

/// The days that all entry tables cover without a gap, around `today`; an error if today itself is not covered.
///
/// Months past retention are no part of it, whether or not they were dropped yet: all processes refuse their days from the
/// first of the month on, so that nobody books on a partition that another process is about to drop.
pub async fn horizon(
    finance: &PgPool,
    today: NaiveDate,
    retention_months: u32,
) -> Result<Horizon, PartitionError> {
    let current = Month::of(today);
    let kept_from = current.minus(retention_months).first_day();
    let mut horizon: Option<Horizon> = None;
    for table in ENTRY_TABLES {
        let months = catalogue::months(finance, table).await?;
        let covered = covered_around(&months, current)
            .ok_or(PartitionError::CurrentMonthMissing { table, month: current })?;
        horizon = Some(match horizon {
            None => Horizon { first: covered.first.max(kept_from), end: covered.end },
            Some(h) => Horizon { first: h.first.max(covered.first), end: h.end.min(covered.end) },
        });
    }
    Ok(horizon.expect("there are entry tables"))
}

/// The unbroken run of months that holds `current`.
pub(super) fn covered_around(months: &[Month], current: Month) -> Option<Horizon> {
    if !months.contains(&current) {
        return None;
    }
    let has = |month: &Month| months.contains(month);
    let earlier = std::iter::successors(Some(current), |month| Some(month.minus(1)));
    let later = std::iter::successors(Some(current), |month| Some(month.plus(1)));
    let first = earlier.take_while(has).last()?.first_day();
    let end = later.take_while(has).last()?.plus(1).first_day();
    Some(Horizon { first, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn the_horizon_ends_at_the_first_gap() {
        let current = Month::of(day("2026-11-23"));
        let months = [1, 9, 10, 11, 12].map(|m| Month::of(day(&format!("2026-{m:02}-01"))));
        let horizon = covered_around(&months, current).unwrap();
        assert_eq!(horizon, Horizon { first: day("2026-09-01"), end: day("2027-01-01") });
        assert!(horizon.covers(day("2026-12-31")) && !horizon.covers(day("2027-01-01")));
        assert_eq!(covered_around(&months[..2], current), None);
    }
}
