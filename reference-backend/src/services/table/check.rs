//! Rules on single values, refused with the field's name.

use std::fmt::Display;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::domain::Day;
use crate::gateway::Problem;

/// 422 unless a text has 1 to `chars_max` characters, none of which controls.
pub(in crate::services) fn text(field: &str, value: &str, chars_max: usize) -> Result<(), Problem> {
    let chars = value.chars().count();
    if (1..=chars_max).contains(&chars) && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "{field}: expected 1 to {chars_max} characters without control characters"
    )))
}

/// The same for what a query string asks for: 400.
pub(in crate::services) fn asked_text(
    field: &str,
    value: &str,
    chars_max: usize,
) -> Result<(), Problem> {
    text(field, value, chars_max).map_err(|problem| Problem::malformed(problem.detail))
}

/// 422 unless a time is one that the database and sums with it can take.
pub(in crate::services) fn time(field: &str, value: DateTime<Utc>) -> Result<(), Problem> {
    let day = Day::try_from(value.date_naive());
    day.map(drop).map_err(|error| Problem::invalid(format!("{field}: {error}")))
}

/// 422 unless a document is one that the database can take, and not too long.
pub(in crate::services) fn document(
    field: &str,
    value: &Map<String, Value>,
    bytes_max: usize,
) -> Result<(), Problem> {
    let text = serde_json::to_string(value).expect("a document has text keys and finite numbers");
    if text.len() > bytes_max {
        return Err(Problem::invalid(format!(
            "{field}: expected at most {bytes_max} bytes of JSON"
        )));
    }
    // PostgreSQL's texts cannot hold it. A backslash that is itself escaped only looks like one: refused all the same.
    if text.contains("\\u0000") {
        return Err(Problem::invalid(format!("{field}: the character U+0000 cannot be kept")));
    }
    Ok(())
}

/// 422 unless a value is within the range.
pub(in crate::services) fn range<T: PartialOrd + Display>(
    field: &str,
    value: &T,
    allowed: &RangeInclusive<T>,
) -> Result<(), Problem> {
    if allowed.contains(value) {
        return Ok(());
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(Problem::invalid(format!("{field} {value}: expected {least} to {most}")))
}

/// For a field of a change that may be left out (keep what is there), null (have none) or a value.
#[expect(clippy::option_option, reason = "three cases, and serde's own way to tell them apart")]
pub(in crate::services) fn nullable<'de, D, T>(input: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(input).map(Some)
}
