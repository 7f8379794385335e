//! Identifiers, one type per noun.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An organisation: a tenant. Numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct OrgId(i64);

/// A number that cannot name an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("organisation {0}: expected a number from 1 up")]
pub struct OrgIdError(i64);

impl OrgId {
    /// An error unless the number is above zero.
    pub fn new(number: i64) -> Result<Self, OrgIdError> {
        if number > 0 { Ok(Self(number)) } else { Err(OrgIdError(number)) }
    }

    /// The number as databases hold it.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for OrgId {
    type Error = OrgIdError;
    fn try_from(number: i64) -> Result<Self, OrgIdError> {
        Self::new(number)
    }
}

impl From<OrgId> for i64 {
    fn from(id: OrgId) -> i64 {
        id.0
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The UUID as databases hold it.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

uuid_ids!(
    /// A hotel or house of an organisation; also the id of its cash account.
    PropertyId,
    /// The id under which a client names a command, so that a retry is the same command.
    CommandId
);

/// How many events an aggregate has taken: 0 before the first, then 1, 2, 3 … without gaps.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct Version(i32);

impl Version {
    /// An aggregate without events.
    pub const ZERO: Self = Self(0);

    /// An aggregate after its first event; a row when it is made.
    pub const FIRST: Self = Self(1);

    /// From the number as databases and clients hold it.
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// The number as databases hold it.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// The version after one more event.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl From<i32> for Version {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
