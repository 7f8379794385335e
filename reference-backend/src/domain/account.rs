//! The cash account of a property: the aggregate.

use serde::{Deserialize, Serialize};

use super::Event;

/// State of a cash account; its serialised form is a snapshot's `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CashAccount {
    /// Sum of all revenues, in whole cents.
    pub revenue_cents: i64,
    /// Sum of all expenses, in whole cents.
    pub expense_cents: i64,
    /// Number of entries booked.
    pub entries: i64,
}

impl CashAccount {
    /// The state after one more event.
    pub fn apply(&mut self, event: &Event) {
        let cents = event.entry().amount.cents();
        match event {
            Event::RevenueRecorded(_) => self.revenue_cents += cents,
            Event::ExpenseRecorded(_) => self.expense_cents += cents,
        }
        self.entries += 1;
    }

    /// The state after all that another account took in as well. The state of a history is the sum of the states of its parts.
    pub fn add(&mut self, later: Self) {
        self.revenue_cents += later.revenue_cents;
        self.expense_cents += later.expense_cents;
        self.entries += later.entries;
    }

    /// What is left, in whole cents; negative when more went out than came in.
    pub fn balance_cents(&self) -> i64 {
        self.revenue_cents - self.expense_cents
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Amount, Category, Entry};

    fn event(is_revenue: bool, cents: i64) -> Event {
        let entry = Entry {
            amount: Amount::from_cents(cents).unwrap(),
            category: Category::new("rooms").unwrap(),
            date: NaiveDate::default(),
        };
        if is_revenue { Event::RevenueRecorded(entry) } else { Event::ExpenseRecorded(entry) }
    }

    fn replayed<'a>(from: CashAccount, events: impl IntoIterator<Item = &'a Event>) -> CashAccount {
        events.into_iter().fold(from, |mut account, event| {
            account.apply(event);
            account
        })
    }

    proptest! {
        #[test]
        fn a_replay_from_a_snapshot_anywhere_is_the_state(
            history in prop::collection::vec((any::<bool>(), 1i64..=Amount::MAX_CENTS), 0..80),
            cut in 0usize..80,
        ) {
            let events: Vec<_> = history.iter().map(|(kind, cents)| event(*kind, *cents)).collect();
            let whole = replayed(CashAccount::default(), &events);
            let (before, after) = events.split_at(cut.min(events.len()));
            let snapshot = replayed(CashAccount::default(), before);
            let stored: CashAccount =
                serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();
            prop_assert_eq!(replayed(stored, after), whole);
            let mut summed = stored;
            summed.add(replayed(CashAccount::default(), after));
            prop_assert_eq!(summed, whole);
            let sum = |kind: bool| history.iter().filter(|e| e.0 == kind).map(|e| e.1).sum::<i64>();
            let counted =
                CashAccount { revenue_cents: sum(true), expense_cents: sum(false), entries: events.len() as i64 };
            prop_assert_eq!(whole, counted);
        }
    }
}
