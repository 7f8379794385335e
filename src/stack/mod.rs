//! The stack: Postgres primary, its replicas, the backend and what of the outside world it needs, as supervised child processes.
//!
//! ```text
//! PostgresBinaries::find ─┐
//! preflight ──────────────┴→ Stack<Seeding> ── open ──→ Stack<Ready> ── stop ──→ nothing left
//!                            COPY, unsafe and fast       fsync on, replicas streaming, backend serving
//! ```
//!
//! [`Stack<Seeding>`] is a primary that may lose data in a crash and says so by its type; [`Stack<Ready>`] is
//! the only one that can be measured. Whatever way a stack ends (stopped, dropped, failed half-way, its parent
//! killed with -9) its processes end with it: each child is tied to a guardian thread of ours by the kernel's
//! parent-death signal, and the next run removes the directories that a killed one left.
//!
//! Never does: load the population, send requests, judge. Never starts a server that listens on a network
//! address, or one as root.

mod account;
mod backend;
mod binaries;
mod channel_manager;
mod directory;
mod error;
mod guard;
mod incidents;
mod leftovers;
mod lifecycle;
mod log;
mod partial;
mod populations;
mod postgres;
mod preflight;
mod process;
mod program;
mod replica;
mod settings;
mod spec;
mod tree;
mod wait;
mod yardstick;

pub use backend::{BACKEND_SCHEMA, backend_schema};
pub use binaries::PostgresBinaries;
pub use directory::state_directory;
pub use error::{PreflightProblem, StackError};
pub use leftovers::{LOGS, Reclaimable, reclaim, reclaimable};
pub use lifecycle::{Ready, Seeded, Seeding, Stack, Stopped};
pub use log::Evidence;
pub use populations::{Keeping, Population, PopulationKey, Populations};
pub use preflight::{Requirements, allow_open_files, preflight};
pub use settings::SETTINGS_VERSION;
pub use spec::{BackendProgram, Limits, StackSpec};
