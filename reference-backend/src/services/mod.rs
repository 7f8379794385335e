//! The services, one file each: its routes and what they do. They know the organisation from the token, the caches, the
//! databases and the event store; they never look at headers or statuses beyond what `gateway` hands them.

mod cash;
mod entries;
mod events;
mod expenses;
mod health;
mod orgs;
mod read_models;
mod revenues;
mod rows;
mod service;
mod warm;

pub use service::{Service, UnknownService};
pub(crate) use warm::warm;
