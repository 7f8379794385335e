//! Monthly partitions of the two entry tables: made ahead, read back from the catalogue, checked, dropped when they are past
//! retention.
//!
//! There is no DEFAULT partition: it would forbid `DETACH … CONCURRENTLY`, and a stray row should fail loudly.

mod catalogue;
mod check;
mod ddl;
mod error;
mod hold;
mod horizon;
mod maintenance;
mod manager;
mod month;
mod retention;

pub use catalogue::{ENTRY_TABLES, Partition, partitions};
pub use check::{Finding, check};
pub use error::PartitionError;
pub use hold::{agree_on_day, held};
pub use horizon::{Horizon, horizon};
pub use maintenance::{Maintained, Status, create_ahead, maintain, on_replica, status};
pub use manager::create;
pub use month::{Month, MonthError};
pub use retention::{drop_expired, expired};
