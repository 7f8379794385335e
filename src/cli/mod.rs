//! The command line: one file per command, exit codes, progress. The only place that writes to stdout.

mod args;
mod dispatch;
mod exit;
mod find;
mod output;
mod progress;
mod reference_backend;
mod report;
mod run;
mod seed;
mod stack;
mod watched;
mod worker;

pub use dispatch::main;
pub use exit::Exit;
