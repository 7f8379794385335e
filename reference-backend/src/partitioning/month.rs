//! Calendar months and the names of their partitions. Pure.

use std::fmt;

use chrono::{Datelike, Months, NaiveDate};

/// A calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i32,
    /// 1 to 12.
    month: u32,
}

/// A name that is no partition of a month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partition {0:?}: expected a name that ends in _YYYY_MM")]
pub struct MonthError(String);

impl Month {
    /// The month a day lies in.
    pub fn of(day: NaiveDate) -> Self {
        Self { year: day.year(), month: day.month() }
    }

    /// Its first day.
    pub fn first_day(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.year, self.month, 1).expect("made from a day that exists")
    }

    /// The month `months` later.
    pub fn plus(self, months: u32) -> Self {
        Self::of(self.first_day() + Months::new(months))
    }

    /// The month `months` earlier.
    pub fn minus(self, months: u32) -> Self {
        Self::of(self.first_day() - Months::new(months))
    }

    /// This month and all later ones up to and with `last`.
    pub fn through(self, last: Self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |month| Some(month.plus(1)))
            .take_while(move |month| *month <= last)
    }

    /// Name of this month's partition of a table.
    pub fn partition_of(self, table: &str) -> String {
        format!("{table}_{self}")
    }

    /// Reads the month back from a partition's name.
    pub fn from_partition(table: &str, name: &str) -> Result<Self, MonthError> {
        let bad = || MonthError(name.to_owned());
        let text = name.strip_prefix(table).and_then(|rest| rest.strip_prefix('_'));
        let (year, month) = text.and_then(|text| text.split_once('_')).ok_or_else(bad)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
            return Err(bad());
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
        let year = i32::try_from(number(year)?).map_err(|_| bad())?;
        NaiveDate::from_ymd_opt(year, number(month)?, 1).map(Self::of).ok_or_else(bad)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}_{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn month(year: i32, month: u32) -> Month {
        Month::of(NaiveDate::from_ymd_opt(year, month, 17).unwrap())
    }

    proptest! {
        #[test]
        fn a_name_reads_back(year in 1000i32..9999, m in 1u32..=12) {
            let name = month(year, m).partition_of("t");
            prop_assert_eq!(Month::from_partition("t", &name), Ok(month(year, m)));
        }

        #[test]
        fn months_are_gapless(year in 1000i32..9000, m in 1u32..=12, n in 0u32..60) {
            let first = month(year, m);
            let all: Vec<_> = first.through(first.plus(n)).collect();
            prop_assert_eq!(all.len(), n as usize + 1);
            prop_assert!(all.windows(2).all(|pair| pair[0].plus(1) == pair[1]));
            prop_assert_eq!(first.plus(n).minus(n), first);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for bad in ["t", "t_2026", "t_2026_13", "t_2026_1", "u_2026_01", "t_2026_01_x", "t_+026_01"]
        {
            assert!(Month::from_partition("t", bad).is_err(), "{bad}");
        }
    }
}
