//! Why a population could not be built.

use chrono::NaiveDate;

/// Why a population could not be built or does not verify.
#[derive(Debug, thiserror::Error)]
pub enum PopulationError {
    /// A database could not be reached.
    #[error(
        "connect to database {database} in {socket_dir}: {source}\nhelp: start the stack first, and run its migrations"
    )]
    Connect {
        /// Name of the database.
        database: String,
        /// Directory of the server's socket.
        socket_dir: String,
        /// What the server or the system said.
        #[source]
        source: sqlx::Error,
    },
    /// A table already holds rows. Nothing has been changed.
    #[error(
        "seed {table} of {database}: it is not empty\nhelp: seed a fresh stack; a population is never added to another"
    )]
    NotEmpty {
        /// Name of the database.
        database: &'static str,
        /// Name of the table.
        table: String,
    },
    /// A date of the history has no partition.
    #[error(
        "seed {table}: no partition for {date}\nhelp: run `migrate --history-months` with at least the scenario's history_months"
    )]
    NoPartition {
        /// Name of the partitioned table.
        table: &'static str,
        /// First date without one.
        date: NaiveDate,
    },
    /// Postgres distributes keys in a way that we do not reproduce.
    #[error(
        "seed {table}: no partition takes organisation {org_id}\nhelp: the table must be partitioned by hash on org_id, with every remainder present"
    )]
    NoHashPartition {
        /// Name of the partitioned table.
        table: &'static str,
        /// The first organisation that found none.
        org_id: i64,
    },
    /// A statement failed.
    #[error(
        "{act} in {database}: {source}\nhelp: the server's log has the statement; after a failed seed, begin with a fresh stack"
    )]
    Statement {
        /// What was being done, and to what.
        act: String,
        /// Name of the database.
        database: String,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
    /// A table does not hold what the generator computed.
    #[error(
        "verify {table}: {figure} is {found}, expected {expected}\nhelp: something else wrote to the databases, or rows were lost; begin with a fresh stack"
    )]
    Mismatch {
        /// Name of the table.
        table: &'static str,
        /// `rows`, `sum of amount_cents` or `checksum`.
        figure: String,
        /// What the generator computed.
        expected: i128,
        /// What the database holds.
        found: i128,
    },
    /// Stopped on request. Rows that were not committed are gone.
    #[error("seed: interrupted\nhelp: begin again with a fresh stack")]
    Cancelled,
    /// A part of the program broke.
    #[error(
        "seed: a task stopped unexpectedly: {0}\nhelp: this is a defect of plimsoll; please report it"
    )]
    Task(#[from] tokio::task::JoinError),
}

impl PopulationError {
    /// Names the act and the database that an error of the driver belongs to.
    pub(super) fn during(
        act: impl Into<String>,
        database: impl Into<String>,
    ) -> impl FnOnce(sqlx::Error) -> Self {
        |source| Self::Statement { act: act.into(), database: database.into(), source }
    }
}
