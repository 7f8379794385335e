//! The cash of an organisation: its daily balances of a recent window, from which both the balances of the default window
//! and the latest position are answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{Days, NaiveDate};
use serde::Serialize;
use utoipa::ToSchema;

use super::caches::to_json;
use super::live::Live;
use crate::domain::{Event, PropertyId, RecordedEvent};

/// Days in the default window of balances, today included.
pub(crate) const WINDOW_DAYS: u64 = 31;

/// One property's day, as the finance projection keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Balance {
    pub(crate) property: PropertyId,
    pub(crate) date: NaiveDate,
    pub(crate) opening_cents: i64,
    pub(crate) revenue_cents: i64,
    pub(crate) expense_cents: i64,
    pub(crate) closing_cents: i64,
}

/// Daily balances by property: all days from `from` on, and before them the last day there was, which says how the window
/// opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CashBook {
    from: NaiveDate,
    days: BTreeMap<PropertyId, Vec<Balance>>,
}

/// What is asked of a [`CashBook`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CashView {
    /// The latest closing of each property and their sum.
    Position,
    /// The balances of the default window that ends on this day, of one property or of all.
    Balances { today: NaiveDate, property: Option<PropertyId> },
}

/// The first day of the default window that ends `today`.
pub(crate) fn window_start(today: NaiveDate) -> NaiveDate {
    today - Days::new(WINDOW_DAYS - 1)
}

impl CashBook {
    /// From rows of the database: each property's days in order, the last one before `from` included.
    pub(crate) fn new(from: NaiveDate, rows: impl IntoIterator<Item = Balance>) -> Self {
        let mut days = BTreeMap::<PropertyId, Vec<Balance>>::new();
        for row in rows {
            days.entry(row.property).or_default().push(row);
        }
        Self { from, days }
    }

    fn balances(&self, today: NaiveDate, property: Option<PropertyId>) -> Balances {
        let (from, to) = (window_start(today), today);
        let held: Vec<&Vec<Balance>> = match property {
            Some(property) => self.days.get(&property).into_iter().collect(),
            None => self.days.values().collect(),
        };
        let days = held.into_iter().flatten();
        let balances = days.filter(|day| (from..=to).contains(&day.date)).copied().collect();
        Balances { from, to, balances }
    }

    fn position(&self) -> Position {
        let latest = self.days.values().filter_map(|days| days.last());
        let properties: Vec<_> = latest
            .map(|day| Closing {
                property: day.property,
                date: day.date,
                closing_cents: day.closing_cents,
            })
            .collect();
        let total_cents = properties.iter().map(|closing| closing.closing_cents).sum();
        Position { properties, total_cents }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Position {
    properties: Vec<Closing>,
    total_cents: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Closing {
    property: PropertyId,
    date: NaiveDate,
    closing_cents: i64,
}

/// The answer to "balances from … to …", by property and day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Balances {
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
    pub(crate) balances: Vec<Balance>,
}

impl Live for CashBook {
    type View = CashView;

    fn apply(&mut self, event: &RecordedEvent) -> bool {
        let entry = event.event.entry();
        let cents = entry.amount.cents();
        let (revenue, expense) = match event.event {
            Event::RevenueRecorded(_) => (cents, 0),
            Event::ExpenseRecorded(_) => (0, cents),
        };
        let days = self.days.entry(event.property).or_default();
        let later = book(days, self.from, event.property, entry.date, (revenue, expense));
        for day in &mut days[later..] {
            day.opening_cents += revenue - expense;
            day.closing_cents += revenue - expense;
        }
        true
    }

    fn render(&self, view: CashView) -> Option<Bytes> {
        Some(match view {
            CashView::Position => to_json(&self.position()),
            CashView::Balances { today, property } => to_json(&self.balances(today, property)),
        })
    }

    fn is_empty(&self) -> bool {
        self.days.is_empty()
    }
}

/// Books an amount on its day and returns the index of the first day after it.
fn book(
    days: &mut Vec<Balance>,
    from: NaiveDate,
    property: PropertyId,
    date: NaiveDate,
    (revenue, expense): (i64, i64),
) -> usize {
    let index = match days.binary_search_by_key(&date, |day| day.date) {
        Ok(index) => {
            let day = &mut days[index];
            day.revenue_cents += revenue;
            day.expense_cents += expense;
            day.closing_cents += revenue - expense;
            return index + 1;
        }
        Err(index) => index,
    };
    if index == 0 && days.first().is_some_and(|first| first.date < from) {
        return 0; // Older than all we hold: only the openings move.
    }
    let before = index.checked_sub(1).map(|before| days[before].closing_cents);
    let opening = before.or_else(|| days.first().map(|first| first.opening_cents)).unwrap_or(0);
    let day = Balance {
        property,
        date,
        opening_cents: opening,
        revenue_cents: revenue,
        expense_cents: expense,
        closing_cents: opening + revenue - expense,
    };
    days.insert(index, day);
    index + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::samples::{booked, day, property};

    /// All balances from scratch: the definition.
    fn replay(events: &[RecordedEvent]) -> Vec<Balance> {
        let mut by_day = BTreeMap::<NaiveDate, (i64, i64)>::new();
        for event in events {
            let (revenue, expense) = by_day.entry(event.event.entry().date).or_default();
            match &event.event {
                Event::RevenueRecorded(entry) => *revenue += entry.amount.cents(),
                Event::ExpenseRecorded(entry) => *expense += entry.amount.cents(),
            }
        }
        let mut opening_cents = 0;
        let closed = |(date, (revenue_cents, expense_cents))| {
            let closing_cents = opening_cents + revenue_cents - expense_cents;
            let property = property(1);
            let row = Balance {
                property,
                date,
                opening_cents,
                revenue_cents,
                expense_cents,
                closing_cents,
            };
            opening_cents = closing_cents;
            row
        };
        by_day.into_iter().map(closed).collect()
    }

    /// What a load finds: the window, and the last day before it.
    fn loaded(from: NaiveDate, all: &[Balance]) -> CashBook {
        let before = all.iter().rev().find(|row| row.date < from);
        let window = all.iter().filter(|row| row.date >= from);
        CashBook::new(from, before.into_iter().chain(window).copied())
    }

    proptest! {
        #[test]
        fn applying_an_event_equals_loading_after_it(
            entries in prop::collection::vec((1..29_u32, 1..1000_i64, any::<bool>()), 1..40),
            split in 0..40_usize,
        ) {
            let events: Vec<_> = (1_i64..).zip(&entries).map(|(position, (date, cents, revenue))| {
                let kind = if *revenue { Event::RevenueRecorded } else { Event::ExpenseRecorded };
                booked(1, position, *cents, day(*date), kind)
            }).collect();
            let (before, after) = events.split_at(split.min(events.len()));
            let from = day(15);
            let mut book = loaded(from, &replay(before));
            after.iter().for_each(|event| { book.apply(event); });

            let truth = replay(&events);
            let window = |book: &CashBook| -> Vec<_> {
                book.days.values().flatten().filter(|row| row.date >= from).copied().collect()
            };
            prop_assert_eq!(window(&book), window(&loaded(from, &truth)));
            let latest = |book: &CashBook| book.days.values().filter_map(|d| d.last()).copied().next();
            prop_assert_eq!(latest(&book), truth.last().copied());
        }
    }

    #[test]
    fn the_answers_have_their_shape() {
        let mut book = CashBook::new(day(1), []);
        book.apply(&booked(1, 1, 250, day(3), Event::RevenueRecorded));
        book.apply(&booked(1, 2, 100, day(4), Event::ExpenseRecorded));
        let text = |view| String::from_utf8(book.render(view).unwrap().to_vec()).unwrap();
        insta::assert_snapshot!(text(CashView::Position), @r#"{"properties":[{"property":"00000000-0000-0000-0000-000000000001","date":"2026-11-04","closing_cents":150}],"total_cents":150}"#);
        let balances = |property| text(CashView::Balances { today: day(30), property });
        assert_eq!(balances(Some(property(1))), balances(None), "it has this one alone");
        assert!(balances(Some(property(2))).ends_with(r#""balances":[]}"#));
        insta::assert_snapshot!(balances(None), @r#"{"from":"2026-10-31","to":"2026-11-30","balances":[{"property":"00000000-0000-0000-0000-000000000001","date":"2026-11-03","opening_cents":0,"revenue_cents":250,"expense_cents":0,"closing_cents":250},{"property":"00000000-0000-0000-0000-000000000001","date":"2026-11-04","opening_cents":250,"revenue_cents":0,"expense_cents":100,"closing_cents":150}]}"#);
    }
}
