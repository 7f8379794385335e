//! Pages of a list: how many rows, from which on. A page begins strictly behind the last row of the one before, so rows that
//! come and go meanwhile neither repeat nor hide others.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::domain::Day;

/// Rows on a page: 50 unless said otherwise, at most 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::services) struct Limit(usize);

const ROWS: usize = 50;
const ROWS_MAX: usize = 200;

impl Default for Limit {
    fn default() -> Self {
        Self(ROWS)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let rows = usize::deserialize(input)?;
        if (1..=ROWS_MAX).contains(&rows) {
            return Ok(Self(rows));
        }
        Err(de::Error::custom(format!("limit {rows}: expected a number from 1 to {ROWS_MAX}")))
    }
}

impl Limit {
    /// How many rows to ask for: one more than are shown, which tells whether there is a next page.
    pub(in crate::services) fn rows(self) -> i64 {
        i64::try_from(self.0 + 1).expect("limits are small")
    }

    /// Of the rows that were found, those to show, and where there are more, the cursor of the next page; `after` is the
    /// place of a row.
    pub(in crate::services) fn page<T, K>(
        self,
        mut rows: Vec<T>,
        after: impl Fn(&T) -> After<K>,
    ) -> (Vec<T>, Option<After<K>>) {
        let more = rows.len() > self.0;
        rows.truncate(self.0);
        let next = rows.last().filter(|_| more).map(after);
        (rows, next)
    }
}

/// The place of a row in a list that is ordered by `K`, then by id. An opaque text to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::services) struct After<K = ()> {
    pub(in crate::services) key: K,
    pub(in crate::services) id: Uuid,
}

impl After {
    /// In a list that is ordered by id alone.
    pub(in crate::services) fn id(id: Uuid) -> Self {
        Self { key: (), id }
    }
}

/// What a list can be ordered by before the id.
pub(in crate::services) trait Key: Copy {
    /// As text without `~`.
    fn write(self) -> String;
    /// Back from it.
    fn read(text: &str) -> Option<Self>;
}

impl Key for () {
    fn write(self) -> String {
        String::new()
    }
    fn read(text: &str) -> Option<Self> {
        text.is_empty().then_some(())
    }
}

impl Key for NaiveDate {
    fn write(self) -> String {
        self.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        Some(Day::try_from(text.parse::<Self>().ok()?).ok()?.date())
    }
}

impl Key for DateTime<Utc> {
    /// In microseconds, as the database keeps it.
    fn write(self) -> String {
        format!("{:x}", self.timestamp_micros())
    }
    fn read(text: &str) -> Option<Self> {
        let time = Self::from_timestamp_micros(i64::from_str_radix(text, 16).ok()?)?;
        Day::try_from(time.date_naive()).ok().map(|_| time)
    }
}

impl<K: Key> fmt::Display for After<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.key.write(), self.id.simple())
    }
}

impl<K: Key> FromStr for After<K> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (key, id) = text.split_once('~')?;
            Some(Self { key: K::read(key)?, id: Uuid::try_parse(id).ok()? })
        };
        parsed().ok_or(
            "after: not a cursor that this server gave; pass `next` of the page before, unchanged",
        )
    }
}

impl<K: Key> Serialize for After<K> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de, K: Key> Deserialize<'de> for After<K> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn survives<K: Key + PartialEq + fmt::Debug>(key: K, id: u128) {
        let after = After { key, id: Uuid::from_u128(id) };
        assert_eq!(after.to_string().parse(), Ok(after));
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(micros in 0..7_000_000_000_000_000_i64, id in any::<u128>()) {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            survives((), id);
            survives(time, id);
            survives(time.date_naive(), id);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
            let _ = text.parse::<After>();
            let _ = text.parse::<After<NaiveDate>>();
            let _ = text.parse::<After<DateTime<Utc>>>();
        }
    }

    #[test]
    fn only_a_page_with_more_behind_it_has_a_next() {
        let ids = |count: u128| (0..count).map(Uuid::from_u128).collect::<Vec<_>>();
        let page = |count| Limit(3).page(ids(count), |id| After { key: (), id: *id });
        assert_eq!(page(3).1, None);
        let (rows, next) = page(4);
        assert_eq!((rows.len(), next.unwrap().id), (3, Uuid::from_u128(2)));
    }
}
