//! Load: a schedule of arrivals, sent by a worker process at their intended times, measured from intent.

mod pacer;
mod schedule;
mod template;
#[cfg(test)]
mod testing;
mod token;

pub use schedule::{Arrival, Schedule, Shard};
pub use template::Directory;
pub use token::Auth;
