//! One line in the books: an amount, a category, a day.

use std::fmt;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize, Serializer};

/// An amount of money that moved, in whole cents: from 1 to [`Amount::MAX_CENTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Amount(i64);

impl Amount {
    /// Ten billion in the currency's main unit. Nine million such entries still fit a balance of 64 bits.
    pub const MAX_CENTS: i64 = 1_000_000_000_000;

    /// An error unless within 1 to [`Amount::MAX_CENTS`].
    pub fn from_cents(cents: i64) -> Result<Self, EntryError> {
        if (1..=Self::MAX_CENTS).contains(&cents) {
            Ok(Self(cents))
        } else {
            Err(EntryError::Amount(cents))
        }
    }

    /// Whole cents.
    pub fn cents(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Amount {
    type Error = EntryError;
    fn try_from(cents: i64) -> Result<Self, EntryError> {
        Self::from_cents(cents)
    }
}

impl From<Amount> for i64 {
    fn from(amount: Amount) -> i64 {
        amount.0
    }
}

/// What an entry is booked under: 1 to 40 characters, none of them a control character. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Category(Arc<str>);

impl Category {
    /// An error unless 1 to 40 printable characters.
    pub fn new(text: &str) -> Result<Self, EntryError> {
        let length = text.chars().count();
        if (1..=40).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(EntryError::Category)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Category {
    type Error = EntryError;
    fn try_from(text: String) -> Result<Self, EntryError> {
        Self::new(&text)
    }
}

impl Serialize for Category {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A revenue or an expense, as booked. Its serialised form is the event's `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Entry {
    /// Whole cents, above zero.
    #[serde(rename = "amount_cents")]
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub amount: Amount,
    /// What it is booked under.
    #[schema(value_type = String, min_length = 1, max_length = 40)]
    pub category: Category,
    /// The day it belongs to, UTC.
    pub date: NaiveDate,
}

/// Why a figure or text cannot be part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Amount out of range.
    #[error("amount of {0} cents: expected a whole number from 1 to {max}", max = Amount::MAX_CENTS)]
    Amount(i64),
    /// Category empty, too long or unprintable.
    #[error("category: expected 1 to 40 characters without control characters")]
    Category,
}
