//! The population: synthetic organisations, computed, copied into the databases and verified there.

mod catalogue;
mod directory;
mod generate;
#[cfg(test)]
mod generate_tests;
mod mix;
mod skew;

pub use catalogue::{Role, SizeClass};
pub use directory::Population;
pub use generate::{
    Account, DailyBalance, Entry, EntryKind, Generator, History, Organisation, Property, User,
};
pub use skew::Sampler;
