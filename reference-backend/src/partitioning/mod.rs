//! Monthly partitions of the two entry tables: made ahead, read back from their names, checked.

mod manager;
mod month;

pub use manager::{ENTRY_TABLES, Horizon, PartitionError, create, horizon};
pub use month::{Month, MonthError};
