//! What the business means: identifiers, money, commands, events and the cash account. Pure: no clock, no I/O.

mod account;
mod categories;
mod command;
mod day;
mod entry;
mod ids;
mod stay;

pub use account::CashAccount;
pub use categories::Categories;
pub use command::{Action, Command, Event, RecordedEvent, UnknownEventType};
pub use day::{Day, DayError};
pub use entry::{Amount, Category, Entry, EntryError};
pub use ids::{CommandId, OrgId, OrgIdError, PropertyId, Version};
pub use stay::Stay;
