//! Why partitions could not be made, dropped or read.

use chrono::NaiveDate;

use super::{Month, MonthError};

/// Why partitions could not be made, dropped or read.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The database failed.
    #[error("partitions of {object}: {source}")]
    Sql {
        /// The table or partition at hand.
        object: String,
        /// What PostgreSQL said.
        #[source]
        source: sqlx::Error,
    },
    /// Traffic held the table through all tries.
    #[error(
        "change partition {partition}: no lock in {tries} tries\n\
         help: a long transaction holds the table; end it, or raise partitions.lock_tries"
    )]
    Locked {
        /// The partition.
        partition: String,
        /// Tries made.
        tries: u32,
    },
    /// Another process makes or drops partitions now.
    #[error(
        "change partitions: another process is at it for longer than {waited_ms} ms\n\
         help: let it finish, or raise partitions.busy_wait_ms"
    )]
    Busy {
        /// `partitions.busy_wait_ms`.
        waited_ms: u64,
    },
    /// A partition with a foreign name.
    #[error(transparent)]
    Name(#[from] MonthError),
    /// Its name and its bounds say different months: whoever trusted either would make or drop the wrong one.
    #[error(
        "partition {partition}: its name says {named}, its bounds say {bounds}\n\
         help: rename it, or detach it and attach it with the bounds of its month"
    )]
    Disagreement {
        /// The partition.
        partition: String,
        /// The month in its name.
        named: Month,
        /// The bounds as the catalogue has them.
        bounds: String,
    },
    /// A detached table stands where a partition has to be made.
    #[error(
        "make partition {partition}: a table of this name exists and is not attached\n\
         help: `reference-backend partitions check` says what it holds; attach it or drop it by hand"
    )]
    NameTaken {
        /// The partition.
        partition: String,
    },
    /// A partition was being detached by someone else, who did not finish.
    #[error(
        "drop partitions of {table}: {partition} is half detached, and not by this program\n\
         help: end it with ALTER TABLE {table} DETACH PARTITION {partition} FINALIZE"
    )]
    HalfDetached {
        /// The partitioned table.
        table: &'static str,
        /// The partition.
        partition: String,
    },
    /// Nobody knows which months are past retention.
    #[error(
        "make or drop partitions: it is {here} by this machine's clock, and {there} by the server's\n\
         help: set the clock that is wrong"
    )]
    Clock {
        /// The day here, UTC.
        here: NaiveDate,
        /// The day there, UTC.
        there: NaiveDate,
    },
    /// Something else still needs the months that are past retention.
    #[error(
        "drop partitions: {0}\nhelp: end the sync, or let the projection catch up; then drop them"
    )]
    Held(&'static str),
    /// Entries dated today would fail.
    #[error(
        "{table} has no partition for {month}\n\
         help: run `reference-backend partitions create`, which makes the months ahead"
    )]
    CurrentMonthMissing {
        /// The partitioned table.
        table: &'static str,
        /// The current month.
        month: Month,
    },
}

impl PartitionError {
    pub(super) fn sql(object: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Self {
        let object = object.into();
        move |source| Self::Sql { object, source }
    }
}
