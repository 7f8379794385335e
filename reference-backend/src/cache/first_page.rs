//! The first page of an organisation's revenues or expenses, newest first: a new entry is put in its place.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::caches::to_json;
use super::cursor::Cursor;
use super::live::Live;
use crate::domain::{CommandId, Event, PropertyId, RecordedEvent};

/// Entries on a page when the client does not say.
pub(crate) const PAGE_ROWS: usize = 50;

/// Revenues or expenses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Money that came in.
    Revenues,
    /// Money that went out.
    Expenses,
}

impl Side {
    fn of(event: &Event) -> Self {
        match event {
            Event::RevenueRecorded(_) => Self::Revenues,
            Event::ExpenseRecorded(_) => Self::Expenses,
        }
    }
}

/// A booked entry, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Row {
    pub(crate) id: CommandId,
    pub(crate) property: PropertyId,
    #[schema(value_type = String)]
    pub(crate) category: Arc<str>,
    pub(crate) amount_cents: i64,
    pub(crate) date: NaiveDate,
    pub(crate) recorded_at: DateTime<Utc>,
}

impl Row {
    fn key(&self) -> (NaiveDate, CommandId) {
        (self.date, self.id)
    }

    fn cursor(&self) -> Cursor {
        Cursor { date: self.date, id: self.id.uuid() }
    }
}

/// The answer to a listing: rows, and where the next page begins.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<'a> {
    entries: &'a [Row],
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

impl<'a> Page<'a> {
    /// A page of at most `limit` of `rows`, of which there is one more than `limit` when there is a next page.
    pub(crate) fn new(rows: &'a [Row], limit: usize) -> Self {
        let entries = &rows[..rows.len().min(limit)];
        let next = if rows.len() > limit { entries.last().map(Row::cursor) } else { None };
        Self { entries, next }
    }
}

/// The newest entries of one side: a page, and one more that tells whether another page follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstPage {
    side: Side,
    rows: Vec<Row>,
}

impl FirstPage {
    /// From rows of the database, newest first, at most `PAGE_ROWS + 1`.
    pub(crate) fn new(side: Side, rows: Vec<Row>) -> Self {
        Self { side, rows }
    }
}

impl Live for FirstPage {
    type View = ();

    fn apply(&mut self, event: &RecordedEvent) -> bool {
        if Side::of(&event.event) != self.side {
            return false;
        }
        let entry = event.event.entry();
        let row = Row {
            id: event.command,
            property: event.property,
            category: entry.category.as_str().into(),
            amount_cents: entry.amount.cents(),
            date: entry.date,
            recorded_at: event.recorded_at,
        };
        let place = self.rows.partition_point(|held| held.key() > row.key());
        if place > PAGE_ROWS {
            return false; // Beyond the page, and the row that says "there is more" is there already.
        }
        self.rows.insert(place, row);
        self.rows.truncate(PAGE_ROWS + 1);
        true
    }

    fn render(&self, (): ()) -> Option<Bytes> {
        Some(to_json(&Page::new(&self.rows, PAGE_ROWS)))
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::samples::{booked, day};

    fn page_of(events: &[RecordedEvent]) -> FirstPage {
        let mut page = FirstPage::new(Side::Revenues, Vec::new());
        for event in events {
            page.apply(event);
        }
        page
    }

    proptest! {
        #[test]
        fn the_page_is_the_newest_of_all_whatever_the_order(
            days in prop::collection::vec(1..29_u32, 0..120),
        ) {
            let events: Vec<_> = (1_i64..).zip(&days)
                .map(|(position, date)| booked(1, position, 1, day(*date), Event::RevenueRecorded))
                .collect();
            let mut keys: Vec<_> = events.iter().map(|e| (e.event.entry().date, e.command)).collect();
            keys.sort_by(|a, b| b.cmp(a));
            keys.truncate(PAGE_ROWS + 1);
            let held: Vec<_> = page_of(&events).rows.iter().map(Row::key).collect();
            prop_assert_eq!(held, keys);
        }
    }

    #[test]
    fn next_is_given_only_when_there_is_more() {
        let events: Vec<_> = (1..=51)
            .map(|position| booked(1, position, 1, day(2), Event::RevenueRecorded))
            .collect();
        assert_eq!(Page::new(&page_of(&events[..50]).rows, PAGE_ROWS).next, None);
        let page = page_of(&events);
        let page = Page::new(&page.rows, PAGE_ROWS);
        assert_eq!(page.entries.len(), PAGE_ROWS);
        assert_eq!(page.next, Some(page.entries[PAGE_ROWS - 1].cursor()));
    }

    #[test]
    fn the_other_side_changes_nothing() {
        let mut page = page_of(&[]);
        assert!(!page.apply(&booked(1, 1, 1, day(2), Event::ExpenseRecorded)));
        assert!(page.is_empty());
    }
}
