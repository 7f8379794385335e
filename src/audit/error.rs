//! Why a check could not be made. Ends as the detail of a grey check.

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    /// A server could not be reached.
    #[error("connect to {server}, database {database}: {source}")]
    Connect {
        server: String,
        database: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// A statement failed.
    #[error("{act}: {source}")]
    Statement {
        act: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// What the client was told could not be read again.
    #[error("read the ledger: {0}")]
    Ledger(#[source] std::io::Error),
    /// No answer in time.
    #[error("no answer within {seconds} s")]
    TimeOut { seconds: u64 },
    /// Events keep coming.
    #[error("the store still grew after {seconds} s: the backend is not idle")]
    NotIdle { seconds: u64 },
    /// A replica stays behind.
    #[error("the replica has not replayed {written} within {seconds} s")]
    NotReplayed { written: String, seconds: u64 },
    /// What should be a replica does not replay a log.
    #[error("the server is not a replica")]
    NoReplica,
    /// An earlier step on the same connection broke it.
    #[error("not asked: {0}")]
    Earlier(String),
}

impl AuditError {
    /// Names the act that an error of the driver belongs to.
    pub(super) fn during(act: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Statement { act, source }
    }
}
