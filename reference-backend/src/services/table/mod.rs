//! What the services on plain tables share. A service file then says only what is its own: its rows, its rules, its SQL.
//!
//! Every statement has the organisation as `$1`; every thing is named by `(org_id, id)`. Lists end at a cursor ([`After`]).
//! A create carries the client's id of the thing ([`create`]); a change carries the version it expects, or none ([`change`]).
//! Both answer a token ([`Written`]) that reads take ([`Fresh`](crate::gateway::Fresh)). Rules that need other rows (a
//! property must exist, a name must be free) are constraints of the tables: what they say is turned into words by
//! [`Thing::broken`].

mod check;
mod create;
mod page;
mod read;
mod thing;
mod write;

pub(super) use check::{asked_text, document, nullable, range, text, time};
pub(super) use create::{create, created_before};
pub(super) use page::{After, Limit};
pub(super) use read::{list, one};
pub(super) use thing::{Created, Thing, no_property, now};
pub(super) use write::{Written, change};
