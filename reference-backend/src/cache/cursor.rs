//! Where a page ended, as an opaque text: the sort key of its last row. The next page begins strictly below it, so rows that
//! arrive meanwhile neither repeat nor hide others.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::domain::Day;

/// A position in the entries of an organisation, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) date: NaiveDate,
    pub(crate) id: Uuid,
}

/// Digits of the day number; the 32 of the id follow.
const DAY_DIGITS: usize = 8;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{}", self.date.num_days_from_ce(), self.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (day, id) = text.split_at_checked(DAY_DIGITS)?;
            let day = i32::from_str_radix(day, 16).ok()?;
            let id = (id.len() == 32).then_some(id)?;
            let day = Day::try_from(NaiveDate::from_num_days_from_ce_opt(day)?).ok()?;
            Some(Self { date: day.date(), id: Uuid::try_parse(id).ok()? })
        };
        parsed()
            .ok_or("not a cursor that this server gave; pass `next` of the page before, unchanged")
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(day in 700_000..760_000_i32, id in any::<u128>()) {
            let cursor = Cursor {
                date: NaiveDate::from_num_days_from_ce_opt(day).unwrap(),
                id: Uuid::from_u128(id),
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }
}
