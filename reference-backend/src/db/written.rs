//! How far the primary has written, and the token that says so to a client: what it holds after a write to a plain table,
//! so that its next reads show the write, whichever process and server answers them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::Ordering;

use sqlx::postgres::PgConnection;

use super::{Database, Databases, Lsn};

/// A place in the primary's log that a read must show. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteToken(pub Lsn);

/// A text that is no token of a write to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("consistency token: not one that a write to a table gave")]
pub struct WriteTokenError;

/// The form's number; 1 is the form that the event store gives.
const FORM: char = '2';

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}{:x}", self.0.bytes())
    }
}

impl FromStr for WriteToken {
    type Err = WriteTokenError;

    fn from_str(text: &str) -> Result<Self, WriteTokenError> {
        let digits = text.strip_prefix(FORM).ok_or(WriteTokenError)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WriteTokenError);
        }
        u64::from_str_radix(digits, 16)
            .map(|raw| Self(Lsn::from_raw(raw)))
            .map_err(|_| WriteTokenError)
    }
}

const FLUSHED: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint";

impl Databases {
    /// A place in the log behind everything that was committed on `connection`, which leads to the primary.
    pub(crate) async fn flushed(&self, connection: &mut PgConnection) -> sqlx::Result<Lsn> {
        let bytes: i64 = sqlx::query_scalar(FLUSHED).fetch_one(connection).await?;
        let lsn = Lsn::from_bytes(bytes);
        self.saw_written(lsn);
        Ok(lsn)
    }

    /// Whether the primary has written as far. Asked only when it is further than this process knows of.
    pub(crate) async fn has_written(&self, lsn: Lsn) -> sqlx::Result<bool> {
        if lsn <= self.written() {
            return Ok(true);
        }
        let mut connection = self.write(Database::Shared).acquire().await?;
        Ok(lsn <= self.flushed(&mut connection).await?)
    }

    /// How far the primary has written at least.
    pub(crate) fn written(&self) -> Lsn {
        Lsn::from_raw(self.inner().written.load(Ordering::Relaxed))
    }

    fn saw_written(&self, lsn: Lsn) {
        self.inner().saw_written(lsn);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_parses_back(bytes in any::<u64>()) {
            let token = WriteToken(Lsn::from_raw(bytes));
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<WriteToken>();
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "2", "17", "2+1", "2-1", "2g", "2é", "21ffffffffffffffff"] {
            assert_eq!(bad.parse::<WriteToken>(), Err(WriteTokenError), "{bad:?}");
        }
    }
}
