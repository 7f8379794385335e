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

    /// What is left, in whole cents; negative when more went out than came in.
    pub fn balance_cents(&self) -> i64 {
        self.revenue_cents - self.expense_cents
    }
}
