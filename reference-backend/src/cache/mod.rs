//! What reads find in memory. One namespace per kind of answer, keyed by organisation; bounded, with jittered lifetimes, one
//! load per key at a time, every look-up counted.
//!
//! **Update in place, not invalidate.** Busy organisations are both written and read often: were a write to drop its
//! organisation's entries, the hit ratio would fall exactly where it matters. The effect of a booked entry on what we keep is
//! simple arithmetic (add to a total, move later balances, put a row in its place), so the entries follow the projections'
//! committed batches ([`Caches`] is their observer) and stay. [`live`] says why each event counts exactly once and why a late load cannot undo
//! one. Answers are kept as the bytes sent; a change drops the bytes, not the value.
//!
//! The two namespaces that no event changes ([`fixed`]) hold bytes only; a direct write to them raises the least
//! version that may be shown.
//!
//! The first miss of an organisation warms its other namespaces in the background: see [`warming`].
//!
//! Never here: SQL, HTTP, and any decision about which server to ask.

mod batches;
mod caches;
mod cash;
mod cursor;
mod first_page;
mod fixed;
mod live;
mod namespace;
mod profit_and_loss;
mod properties;
mod ready;
mod recent;
#[cfg(test)]
pub(crate) mod samples;
mod summary;
mod together;
mod warming;

pub(crate) use batches::BATCH_MAX;
pub(crate) use caches::Caches;
pub(crate) use cash::{Balance, Balances, CashBook, CashView, Position, WINDOW_DAYS, window_start};
pub(crate) use cursor::Cursor;
pub(crate) use first_page::{FirstPage, PAGE_ROWS, Page, Row, Side};
pub(crate) use fixed::{Fixed, OrgCache, OrgRecord};
pub(crate) use live::{Live, LiveCache, LiveError, Loaded};
pub(crate) use namespace::{Asker, Lookup};
pub(crate) use profit_and_loss::{
    LINES_MAX, MONTHS, ProfitAndLoss, Results, ResultsView, ShownMonth, Sum,
};
pub(crate) use properties::{PropertyCache, PropertyList};
pub(crate) use ready::Ready;
pub(crate) use summary::{All, Summaries, Summary, SummaryView};
pub(crate) use warming::Warmable;
