//! Places in the write-ahead log.

use std::fmt;

/// A byte position in the primary's write-ahead log. A server that has replayed up to here shows every earlier commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Behind everything that is ever written.
    pub const MAX: Self = Self(u64::MAX);

    /// From bytes since the start of the log; negative numbers, which no server gives, count as the start.
    pub fn from_bytes(bytes: i64) -> Self {
        Self(u64::try_from(bytes).unwrap_or(0))
    }

    /// Bytes since the start of the log.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    pub(super) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

impl fmt::Display for Lsn {
    /// As PostgreSQL writes it: `1A/2B3C4D`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}
