//! PostgreSQL: pools per database, server and role; which server answers a read; migrations.
//!
//! Writes go to the primary as `app_rw`. Every read for a request goes through [`Databases::read`] as `app_ro`, is counted
//! where it ran, and never runs on a replica that is unhealthy, too far behind, or short of the write it must show. A replica
//! that fails a read costs that read one more try, on another replica or else on the primary.

mod breaker;
mod choice;
mod fault;
mod lanes;
mod lsn;
mod migrate;
mod names;
mod pools;
mod reader;
mod replicas;
mod written;

pub use choice::{Freshness, Source};
pub use lsn::Lsn;
pub(crate) use migrate::admin;
pub use migrate::{MigrateError, migrate, migrations};
pub use names::Database;
pub use pools::{Databases, DbError, maintenance};
pub use reader::Reader;
pub use written::{WriteToken, WriteTokenError};
