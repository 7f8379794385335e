//! Load: a schedule of arrivals, sent by a worker process at their intended times, measured from intent.

mod account;
mod address;
mod desk;
mod drive;
mod engine;
mod exchange;
mod frame;
mod line;
mod pacer;
mod packed;
mod profile;
mod recorder;
mod release;
mod request;
mod schedule;
mod tally;
mod template;
#[cfg(test)]
mod testing;
mod token;
mod user;
mod worker;

pub use account::Driven;
pub use drive::{DriveEvent, LoadError, Progress, Reins, drive};
pub use frame::{Frame, Order, PROTOCOL, WorkerPlan};
pub use schedule::{Arrival, Schedule, Shard};
pub use tally::{ClockTally, OperationTally, Tally, Told};
pub use template::Directory;
pub use token::Auth;
pub use worker::{WorkerError, work};
