//! The services, one file each: its routes and what they do. They know the organisation from the token, the caches, the
//! databases and the event store; they never look at headers or statuses beyond what `gateway` hands them.

mod accounts;
mod attachments;
mod branding;
mod cash;
mod checkin;
mod day_close;
mod entries;
mod events;
mod expenses;
mod gateway;
mod guest_documents;
mod health;
mod load;
mod night_audit;
mod notifications;
mod org_changes;
mod orgs;
mod ota;
mod properties;
mod read_models;
mod realtime;
mod receipts;
mod reports;
mod reservations;
mod revenues;
mod rooms;
mod rows;
mod service;
mod staff;
mod table;
mod task_images;
mod tasks;
mod users;
mod warm;

pub(crate) use day_close::begin_night;
pub use day_close::{CloseError, Night, audit_all};
pub(crate) use load::load_together;
pub(crate) use org_changes::follow_org_changes;
pub use service::{Service, UnknownService};
pub(crate) use warm::{warm, warm_listed};
