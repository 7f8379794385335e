//! What every part that speaks to a Postgres server of the stack has in common: how to connect, what the databases are
//! called, how rows are framed for binary COPY.
//!
//! Holds no statement and no connection: those belong to the parts.

mod connect;
pub(crate) mod copy_format;
pub(crate) mod database;

pub(crate) use connect::connect_options;
