//! Events for the tests of this module.

use chrono::{DateTime, NaiveDate};
use uuid::Uuid;

use crate::domain::{
    Amount, Category, CommandId, Entry, Event, OrgId, PropertyId, RecordedEvent, Version,
};

/// A revenue of one cent.
pub(crate) fn event(org: i64, position: i64) -> RecordedEvent {
    booked(org, position, 1, day(1), Event::RevenueRecorded)
}

pub(crate) fn property(number: u128) -> PropertyId {
    PropertyId::from(Uuid::from_u128(number))
}

/// A day of November 2026.
pub(crate) fn day(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap()
}

/// Any entry of property 1; its id is its position.
pub(crate) fn booked(
    org: i64,
    position: i64,
    cents: i64,
    date: NaiveDate,
    kind: fn(Entry) -> Event,
) -> RecordedEvent {
    RecordedEvent {
        org: OrgId::new(org).unwrap(),
        property: property(1),
        version: Version::new(i32::try_from(position).unwrap()),
        position,
        command: CommandId::from(Uuid::from_u128(position.unsigned_abs().into())),
        recorded_at: DateTime::UNIX_EPOCH,
        event: kind(Entry {
            amount: Amount::from_cents(cents).unwrap(),
            category: Category::new("rooms").unwrap(),
            date,
        }),
    }
}
