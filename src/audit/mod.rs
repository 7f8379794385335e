//! The audit: what the client was told, held against what the databases hold.
//!
//! Made after the load, with the backend running but idle. Most checks are laws: one SQL statement that must return no
//! row, run where the data is, after what belongs to it has been brought there by COPY. A law that cannot be asked (a
//! server is gone, the time is up) is grey with the reason; nothing here panics or waits without a limit. Nothing is
//! ever written but temporary tables.
//!
//! Every event in the store is taken to be of this run: a population brings snapshots, never events.

mod deadline;
mod drain;
mod error;
mod finance;
mod law;
mod ledger;
mod read_models;
mod replicas;
mod run;
mod server;
mod store;

pub use run::audit;
