//! Rules on single values, refused with the field's name.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer};

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
