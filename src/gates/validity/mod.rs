//! Whether the run may be judged at all: the run's own figures, before the system's.
//!
//! Each check is green, amber, red or grey; red says which way the fault pushes the figures. What was not measured is
//! grey and says so: it is never counted as good. Thresholds and their reasons are in `docs/methodology.md`.

mod answer;
mod events;
mod generator;
mod list;
mod load;
mod machine;
mod observation;
mod proof;
mod reads;
mod servers;

pub(super) use list::{validity, validity_of_step};
