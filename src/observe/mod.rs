//! Observation: the backend's figures, each Postgres, and `/proc`, once a second on one time axis.
//!
//! Every source has a task and a ticker of its own, and an answer that takes most of a second is given up, so a source
//! that is slow or gone leaves a gap in its own series and delays nobody. What went wrong is an incident, told once.

mod axis;
mod exposition;
mod filter;
mod observer;
mod outage;
mod postgres;
mod process;
mod prometheus;
mod sight;
mod source;
mod statement;

pub use axis::Axis;
pub use exposition::{ExpositionError, parse_exposition};
pub use filter::SeriesFilter;
pub use observer::{Observed, observe};
pub use sight::Sight;
