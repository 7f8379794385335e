//! What a run leaves behind: one directory, versioned, whole or absent.
//!
//! [`Record`] is everything that was measured, with no judgement in it: gates, validity and every report format
//! are functions of a record and its scenario, so an old run can be judged and rendered again offline.
//! The stages of a run share the types of this module instead of importing each other.

mod distribution;
mod hlog;
mod ledger;
mod manifest;
mod partial;
mod record;
mod store;
mod timeline;

pub use distribution::{Distribution, HIGHEST_US, new_histogram};
pub use hlog::{HlogError, restore_hlog, write_hlog};
pub use ledger::{Ledger, LedgerEntries, LedgerEntry, Outcome};
pub use manifest::Damage;
pub use record::{
    AuditCheck, AuditState, Environment, FAILURES_MAX, Failure, GooseCount, Incident, LoadRecord,
    LoadSecond, OperationRecord, OperationSecond, PostgresSetting, RarerFailures, Record, RunInfo,
    Stage, Window, WorkerEnd, Yardstick,
};
pub use store::{ArchiveError, RunDirectory, read_run, replace_rendered};
pub use timeline::{Series, SeriesKey, Timeline};
