//! Exchange with the outside channel manager, which sells the rooms on other sites: availability and rates go out, bookings
//! come in. It is the one thing that is nobody's here, so everything about it is bounded: calls in flight, tries, time,
//! sizes of answers. No database connection and no transaction is held while it is asked. On whose behalf it is asked no call
//! says: see docs/decisions/0012.

mod channel_manager;
mod exchange;
mod rows;
mod stub;
mod sync;

pub use channel_manager::ChannelManager;
pub(crate) use exchange::{Exchange, ExchangeError, Kind, Wanted, exchange};
pub use stub::{Behaviour, stub};
pub use sync::sync_all;
