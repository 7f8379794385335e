//! Plimsoll draws the load line of a service, proves it, and says when a release moved it.

pub mod archive;
pub mod audit;
pub mod cli;
pub mod gates;
pub mod ids;
pub mod load;
pub mod observe;
pub mod population;
mod postgres;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stack;
pub mod units;
