//! The population: synthetic organisations, computed, copied into the databases and verified there.

mod catalogue;
mod connect;
mod copy;
mod directory;
mod error;
mod generate;
mod generate_front_desk;
#[cfg(test)]
mod generate_tests;
mod indexes;
mod jobs;
mod mix;
mod partitions;
mod pg_hash;
mod rows;
mod seed;
mod skew;
mod tables;
mod verify;

pub use catalogue::{Role, SizeClass};
pub use directory::Population;
pub use error::PopulationError;
pub use generate::{
    Account, DailyBalance, Entry, EntryKind, GENERATOR_VERSION, Generator, History, Organisation,
    Property, User,
};
pub use generate_front_desk::{FrontDesk, Reservation, Staff, Task};
pub use seed::{Progress, Seeded, Stage, seed};
pub use skew::Sampler;
pub use verify::verify;
