//! The profit and loss of an organisation's last months: sums by property, month and category, from which the report of the
//! default period is answered. What a busy organisation booked this month is not added up anew each time.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::caches::to_json;
use super::live::Live;
use crate::domain::{Category, Event, PropertyId, RecordedEvent};
use crate::partitioning::Month;

/// Months of a report unless said otherwise, up to and with the current one.
pub(crate) const MONTHS: u32 = 12;
/// Most lines of one report, and most sums kept of one organisation.
pub(crate) const LINES_MAX: usize = 10_000;

/// One category in one month: of one property, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) is_revenue: bool,
    pub(crate) month: Month,
    pub(crate) category: Category,
    pub(crate) cents: i64,
    pub(crate) entries: i64,
}

type Key = (PropertyId, Month, bool, Category);

/// Sums of the months from one on; nothing where they are too many to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Results {
    from: Month,
    sums: Option<BTreeMap<Key, Added>>,
}

/// What a sum is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Added {
    cents: i64,
    entries: i64,
}

/// Which months of [`Results`], both included, and of which property; all when left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResultsView {
    pub(crate) from: Month,
    pub(crate) to: Month,
    pub(crate) property: Option<PropertyId>,
}

impl Results {
    /// From rows of the database, of the months from `from` on.
    pub(crate) fn new(from: Month, rows: Vec<(PropertyId, Sum)>) -> Self {
        let sums = (rows.len() <= LINES_MAX).then(|| {
            let keyed = rows.into_iter().map(|(property, sum)| {
                let Sum { is_revenue, month, category, cents, entries } = sum;
                ((property, month, is_revenue, category), Added { cents, entries })
            });
            keyed.collect()
        });
        Self { from, sums }
    }
}

impl Live for Results {
    type View = ResultsView;

    fn apply(&mut self, event: &RecordedEvent) -> bool {
        let entry = event.event.entry();
        let month = Month::of(entry.date);
        let Some(sums) = self.sums.as_mut().filter(|_| month >= self.from) else { return false };
        let is_revenue = matches!(event.event, Event::RevenueRecorded(_));
        let added =
            sums.entry((event.property, month, is_revenue, entry.category.clone())).or_default();
        added.cents += entry.amount.cents();
        added.entries += 1;
        if sums.len() > LINES_MAX {
            self.sums = None;
        }
        true
    }

    /// Nothing where the sums are not kept, or not from the first month asked for on.
    fn render(&self, view: ResultsView) -> Option<Bytes> {
        let sums = self.sums.as_ref().filter(|_| view.from >= self.from)?;
        let mut found: BTreeMap<(Month, bool, &Category), Added> = BTreeMap::new();
        for ((property, month, is_revenue, category), added) in sums {
            let wanted = view.property.is_none_or(|wanted| wanted == *property);
            if wanted && (view.from..=view.to).contains(month) {
                let sum = found.entry((*month, *is_revenue, category)).or_default();
                sum.cents += added.cents;
                sum.entries += added.entries;
            }
        }
        let sums = found.into_iter().map(|((month, is_revenue, category), added)| Sum {
            is_revenue,
            month,
            category: category.clone(),
            cents: added.cents,
            entries: added.entries,
        });
        Some(to_json(&ProfitAndLoss::of(view.from, view.to, sums)))
    }

    fn is_empty(&self) -> bool {
        self.sums.as_ref().is_some_and(BTreeMap::is_empty)
    }
}

/// A month in answers, as in `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$")]
pub(crate) struct ShownMonth(pub(crate) Month);

impl Serialize for ShownMonth {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0.first_day().format("%Y-%m"))
    }
}

/// Profit and loss. Months without entries are left out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProfitAndLoss {
    from: ShownMonth,
    to: ShownMonth,
    #[serde(flatten)]
    total: Totals,
    months: Vec<MonthResult>,
}

/// One month's.
#[derive(Debug, Serialize, ToSchema)]
struct MonthResult {
    month: ShownMonth,
    #[serde(flatten)]
    total: Totals,
    /// By category.
    revenues: Vec<Line>,
    expenses: Vec<Line>,
}

/// Sums in whole cents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Totals {
    revenue_cents: i64,
    expense_cents: i64,
    /// Below zero where more went out than came in.
    profit_cents: i64,
}

impl Totals {
    fn add(&mut self, sum: &Sum) {
        let side = if sum.is_revenue { &mut self.revenue_cents } else { &mut self.expense_cents };
        *side += sum.cents;
        self.profit_cents = self.revenue_cents - self.expense_cents;
    }
}

/// One category's.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Line {
    category: String,
    amount_cents: i64,
    entries: i64,
}

impl ProfitAndLoss {
    /// Puts the sums, of a category and month one each, into their months, by category.
    pub(crate) fn of(from: Month, to: Month, sums: impl IntoIterator<Item = Sum>) -> Self {
        let mut months = BTreeMap::new();
        let mut total = Totals::default();
        for sum in sums {
            total.add(&sum);
            let result = months.entry(sum.month).or_insert_with(|| MonthResult {
                month: ShownMonth(sum.month),
                total: Totals::default(),
                revenues: Vec::new(),
                expenses: Vec::new(),
            });
            result.total.add(&sum);
            let side = if sum.is_revenue { &mut result.revenues } else { &mut result.expenses };
            let Sum { category, cents: amount_cents, entries, .. } = sum;
            side.push(Line { category: category.as_str().to_owned(), amount_cents, entries });
        }
        for result in months.values_mut() {
            for lines in [&mut result.revenues, &mut result.expenses] {
                lines.sort_unstable_by(|one, other| one.category.cmp(&other.category));
            }
        }
        let (from, to) = (ShownMonth(from), ShownMonth(to));
        Self { from, to, total, months: months.into_values().collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::samples::{booked, day, property};

    #[test]
    fn sums_go_to_their_months_and_add_up() {
        let sum = |is_revenue, month: &str, category: &str, cents| Sum {
            is_revenue,
            month: Month::of(month.parse().unwrap()),
            category: Category::new(category).unwrap(),
            cents,
            entries: 1,
        };
        let sums = vec![
            sum(false, "2026-10-01", "food", 70),
            sum(true, "2026-10-01", "rooms", 50),
            sum(true, "2026-11-01", "bar", 5),
            sum(true, "2026-11-01", "rooms", 10),
        ];
        let month = |text: &str| Month::of(text.parse().unwrap());
        let found = ProfitAndLoss::of(month("2026-09-01"), month("2026-11-01"), sums);
        let totals = |revenue_cents, expense_cents| Totals {
            revenue_cents,
            expense_cents,
            profit_cents: revenue_cents - expense_cents,
        };
        assert_eq!(found.total, totals(65, 70));
        let months: Vec<_> = found.months.iter().map(|month| month.total).collect();
        assert_eq!(months, [totals(50, 70), totals(15, 0)]);
        let categories = found.months[1].revenues.iter().map(|line| line.category.as_str());
        assert_eq!(categories.collect::<Vec<_>>(), ["bar", "rooms"]);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["from"], &json["profit_cents"]), (&"2026-09".into(), &(-5).into()));
    }

    /// What a load finds of events.
    fn loaded(from: Month, events: &[RecordedEvent]) -> Results {
        let mut all = Results::new(from, Vec::new());
        events.iter().for_each(|event| {
            all.apply(event);
        });
        let sums = all.sums.into_iter().flatten();
        let row = |((property, month, is_revenue, category), Added { cents, entries })| {
            (property, Sum { is_revenue, month, category, cents, entries })
        };
        Results::new(from, sums.map(row).collect())
    }

    proptest! {
        #[test]
        fn the_answer_is_the_sum_of_the_entries_of_its_months(
            entries in prop::collection::vec((0..120_u64, 1..1000_i64, any::<bool>()), 1..40),
            split in 0..40_usize,
        ) {
            let events: Vec<_> = (1_i64..).zip(&entries).map(|(position, (days, cents, revenue))| {
                let kind = if *revenue { Event::RevenueRecorded } else { Event::ExpenseRecorded };
                booked(1, position, *cents, day(30) - chrono::Days::new(*days), kind)
            }).collect();
            let to = Month::of(day(1));
            let from = to.minus(2);
            let (before, after) = events.split_at(split.min(events.len()));
            let mut results = loaded(from, before);
            after.iter().for_each(|event| { results.apply(event); });
            let answer = |property| -> serde_json::Value {
                serde_json::from_slice(&results.render(ResultsView { from, to, property }).unwrap()).unwrap()
            };
            let within = |event: &&RecordedEvent| Month::of(event.event.entry().date) >= from;
            let truth: i64 = events.iter().filter(within).map(|event| {
                let cents = event.event.entry().amount.cents();
                if matches!(event.event, Event::RevenueRecorded(_)) { cents } else { -cents }
            }).sum();
            prop_assert_eq!(&answer(None)["profit_cents"], truth);
            prop_assert_eq!(answer(Some(property(1))), answer(None));
            prop_assert_eq!(&answer(Some(property(2)))["months"], &serde_json::json!([]));
            prop_assert_eq!(results.clone(), loaded(from, &events));
        }
    }

    #[test]
    fn too_many_sums_are_not_kept_and_months_before_the_first_not_answered() {
        let month = Month::of(day(1));
        let view = |from| ResultsView { from, to: month, property: None };
        let sum = |n: usize| Sum {
            is_revenue: true,
            month,
            category: Category::new(&n.to_string()).unwrap(),
            cents: 1,
            entries: 1,
        };
        let rows = |count| (0..count).map(|n| (property(1), sum(n))).collect();
        let mut full = Results::new(month, rows(LINES_MAX));
        assert!(full.render(view(month)).is_some());
        assert!(full.render(view(month.minus(1))).is_none());
        full.apply(&booked(1, 1, 1, day(1), Event::RevenueRecorded));
        assert!(full.render(view(month)).is_none());
        assert!(Results::new(month, rows(LINES_MAX + 1)).render(view(month)).is_none());
    }
}
