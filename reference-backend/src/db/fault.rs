//! Which failures of a read are the server's, so that another server may do better.

use sqlx::Error;

/// Why a server did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection broke, there was none in time, or the server is going or coming.
    Server,
    /// Replay had to remove what the read was looking at: recovery cancelled it.
    Conflict,
}

impl Fault {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Server => "failed",
            Self::Conflict => "conflict",
        }
    }

    /// None if the statement itself is to blame, which then fails everywhere.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Io(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::Tls(_) => {
                Some(Self::Server)
            }
            Error::Database(error) => error.code().and_then(|code| {
                // 40001, 40P01: a single read statement meets these only from recovery. 08: connection; 57P: operator
                // intervention; 53: out of resources.
                match &*code {
                    "40001" | "40P01" => Some(Self::Conflict),
                    code if ["08", "57P", "53"].iter().any(|class| code.starts_with(class)) => {
                        Some(Self::Server)
                    }
                    _ => None,
                }
            }),
            _ => None,
        }
    }
}
