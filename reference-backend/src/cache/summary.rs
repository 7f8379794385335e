//! The finance summaries of an organisation: totals and categories by property.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::NaiveDate;
use serde::Serialize;
use utoipa::ToSchema;

use super::caches::to_json;
use super::live::Live;
use crate::domain::{Categories, Event, PropertyId, RecordedEvent, Version};

/// One property's totals, as the read model keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Summary {
    pub(crate) property: PropertyId,
    pub(crate) revenue_cents: i64,
    pub(crate) expense_cents: i64,
    pub(crate) entry_count: i64,
    pub(crate) last_entry_date: Option<NaiveDate>,
    pub(crate) version: Version,
    #[serde(flatten)]
    pub(crate) categories: Categories,
}

impl Summary {
    fn empty(property: PropertyId) -> Self {
        Self {
            property,
            revenue_cents: 0,
            expense_cents: 0,
            entry_count: 0,
            last_entry_date: None,
            version: Version::ZERO,
            categories: Categories::default(),
        }
    }
}

/// All summaries of an organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summaries(BTreeMap<PropertyId, Summary>);

/// What is asked of [`Summaries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SummaryView {
    /// All properties.
    All,
    /// One property.
    One(PropertyId),
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Summaries)]
pub(crate) struct All<'a> {
    properties: Vec<&'a Summary>,
    revenue_cents: i64,
    expense_cents: i64,
    entry_count: i64,
}

impl FromIterator<Summary> for Summaries {
    fn from_iter<I: IntoIterator<Item = Summary>>(rows: I) -> Self {
        Self(rows.into_iter().map(|row| (row.property, row)).collect())
    }
}

impl Live for Summaries {
    type View = SummaryView;

    fn apply(&mut self, event: &RecordedEvent) -> bool {
        let summary =
            self.0.entry(event.property).or_insert_with(|| Summary::empty(event.property));
        let entry = event.event.entry();
        let total_cents = match event.event {
            Event::RevenueRecorded(_) => &mut summary.revenue_cents,
            Event::ExpenseRecorded(_) => &mut summary.expense_cents,
        };
        *total_cents += entry.amount.cents();
        summary.categories.apply(&event.event);
        summary.entry_count += 1;
        summary.last_entry_date = summary.last_entry_date.max(Some(entry.date));
        summary.version = event.version;
        true
    }

    fn render(&self, view: SummaryView) -> Option<Bytes> {
        match view {
            SummaryView::One(property) => self.0.get(&property).map(to_json),
            SummaryView::All => Some(to_json(&All {
                properties: self.0.values().collect(),
                revenue_cents: self.0.values().map(|summary| summary.revenue_cents).sum(),
                expense_cents: self.0.values().map(|summary| summary.expense_cents).sum(),
                entry_count: self.0.values().map(|summary| summary.entry_count).sum(),
            })),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::samples::{booked, day, property};

    #[test]
    fn events_add_up() {
        let mut summaries = Summaries::default();
        assert!(summaries.is_empty());
        summaries.apply(&booked(1, 1, 250, day(9), Event::RevenueRecorded));
        summaries.apply(&booked(1, 2, 100, day(4), Event::ExpenseRecorded));
        summaries.apply(&booked(1, 3, 50, day(2), Event::RevenueRecorded));
        let text = |view| String::from_utf8(summaries.render(view).unwrap().to_vec()).unwrap();
        insta::assert_snapshot!(text(SummaryView::One(property(1))), @r#"{"property":"00000000-0000-0000-0000-000000000001","revenue_cents":300,"expense_cents":100,"entry_count":3,"last_entry_date":"2026-11-09","version":3,"revenue_categories":["rooms"],"expense_categories":["rooms"]}"#);
        assert!(
            text(SummaryView::All)
                .ends_with(r#"],"revenue_cents":300,"expense_cents":100,"entry_count":3}"#)
        );
        assert_eq!(summaries.render(SummaryView::One(property(2))), None);
    }
}
