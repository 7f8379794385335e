//! A day that a client may ask about.

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

/// A day from 1900 to 2199, UTC: sums with it and the database's dates never overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "NaiveDate", into = "NaiveDate")]
pub struct Day(NaiveDate);

/// A day that no books have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("day {0}: expected one from 1900-01-01 to 2199-12-31")]
pub struct DayError(NaiveDate);

impl Day {
    /// The date.
    pub fn date(self) -> NaiveDate {
        self.0
    }
}

impl From<Day> for NaiveDate {
    fn from(day: Day) -> Self {
        day.0
    }
}

impl TryFrom<NaiveDate> for Day {
    type Error = DayError;
    fn try_from(date: NaiveDate) -> Result<Self, DayError> {
        if (1900..2200).contains(&date.year()) { Ok(Self(date)) } else { Err(DayError(date)) }
    }
}
