//! The categories that a property's books use, as its summary lists them: on each side so many, and whether there are more.
//!
//! Which are listed is decided by the set of all that were booked and by nothing else: the first by their bytes. So lists
//! that were cut can be joined, in any parts and order, and as often as one likes, and come to what the list of all would
//! have been cut to. That is why projection, caches, rebuild, repair and check need not agree on anything but this file.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Event;

/// Names of one side.
type Names = BTreeSet<Arc<str>>;

/// The categories in use, sorted by bytes; serialised, it is the document of a summary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Categories {
    /// What revenues were booked under: the first 200, by their bytes.
    #[schema(value_type = Vec<String>, max_items = 200)]
    revenue_categories: Names,
    /// There and true if there are more.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(required = false)]
    more_revenue_categories: bool,
    /// What expenses were booked under: the first 200, by their bytes.
    #[schema(value_type = Vec<String>, max_items = 200)]
    expense_categories: Names,
    /// There and true if there are more.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(required = false)]
    more_expense_categories: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_false(more: &bool) -> bool {
    !more
}

impl Categories {
    /// Names that are listed on each side.
    pub const LISTED_MAX: usize = 200;

    /// What these names come to.
    pub(crate) fn of(
        revenues: impl IntoIterator<Item = String>,
        expenses: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut categories = Self::default();
        let Self { revenue_categories, more_revenue_categories, .. } = &mut categories;
        revenues.into_iter().for_each(|name| {
            list(revenue_categories, more_revenue_categories, name);
        });
        let Self { expense_categories, more_expense_categories, .. } = &mut categories;
        expenses.into_iter().for_each(|name| {
            list(expense_categories, more_expense_categories, name);
        });
        categories
    }

    /// Takes in the category of one more event.
    pub fn apply(&mut self, event: &Event) {
        let (names, more) = match event {
            Event::RevenueRecorded(_) => {
                (&mut self.revenue_categories, &mut self.more_revenue_categories)
            }
            Event::ExpenseRecorded(_) => {
                (&mut self.expense_categories, &mut self.more_expense_categories)
            }
        };
        list(names, more, event.entry().category.as_str());
    }

    /// Takes in all that another takes in.
    pub fn join(&mut self, other: Self) {
        self.more_revenue_categories |= other.more_revenue_categories;
        for name in other.revenue_categories {
            list(&mut self.revenue_categories, &mut self.more_revenue_categories, name);
        }
        self.more_expense_categories |= other.more_expense_categories;
        for name in other.expense_categories {
            list(&mut self.expense_categories, &mut self.more_expense_categories, name);
        }
    }

    /// Whether all that another takes in was taken in.
    pub(crate) fn covers(&self, other: Self) -> bool {
        let mut both = self.clone();
        both.join(other);
        both == *self
    }
}

/// Lists a name if it is one of the first.
fn list(names: &mut Names, more: &mut bool, name: impl AsRef<str> + Into<Arc<str>>) {
    if names.contains(name.as_ref()) {
        return;
    }
    if names.len() >= Categories::LISTED_MAX {
        *more = true;
        if names.last().is_some_and(|last| **last < *name.as_ref()) {
            return;
        }
        names.pop_last();
    }
    names.insert(name.into());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(names: &[u16]) -> Categories {
        let names = names.iter().map(|number| format!("c{number}"));
        Categories::of(names.clone(), names.rev().take(3))
    }

    #[test]
    fn the_first_by_bytes_are_listed_and_the_others_are_told_of() {
        let full: Vec<u16> = (1_000..1_200).collect();
        let mut found = of(&full);
        assert!(!found.more_revenue_categories);
        found.join(of(&full));
        assert_eq!(found, of(&full), "the same again is no more");

        let mut later = found.clone();
        later.join(of(&[2_000]));
        assert_eq!(later.revenue_categories, found.revenue_categories);
        assert!(later.more_revenue_categories && !later.more_expense_categories);
        assert!(later.covers(found.clone()) && !found.covers(later));

        found.join(of(&[1]));
        assert_eq!(found.revenue_categories.first().map(AsRef::as_ref), Some("c1"));
        assert_eq!(found.revenue_categories.last().map(AsRef::as_ref), Some("c1198"));
        assert!(found.more_revenue_categories);
    }

    #[test]
    fn only_what_was_left_out_is_said() {
        let told = |categories| serde_json::to_value(categories).unwrap();
        let few = serde_json::json!({"revenue_categories": ["c1"], "expense_categories": ["c1"]});
        assert_eq!(told(of(&[1])), few);
        assert_eq!(serde_json::from_value::<Categories>(few).unwrap(), of(&[1]));
        let many = of(&(0..300).collect::<Vec<_>>());
        assert_eq!(told(many.clone())["more_revenue_categories"], true);
        assert_eq!(serde_json::from_value::<Categories>(told(many.clone())).unwrap(), many);
    }

    proptest! {
        #[test]
        fn parts_in_any_order_join_to_the_whole(
            names in prop::collection::vec(0..600_u16, 0..900),
            cuts in prop::collection::vec(0..900_usize, 0..6),
            turned: bool,
        ) {
            let mut parts: Vec<&[u16]> = vec![&names];
            for cut in cuts {
                let last = parts.pop().unwrap_or_default();
                let (first, second) = last.split_at(cut.min(last.len()));
                parts.extend([first, second]);
            }
            if turned {
                parts.reverse();
            }
            let mut joined = Categories::default();
            for part in &parts {
                let of_part = part.iter().map(|number| format!("c{number}"));
                joined.join(Categories::of(of_part, []));
            }
            let all: BTreeSet<String> = names.iter().map(|number| format!("c{number}")).collect();
            let listed = all.iter().take(Categories::LISTED_MAX).map(|name| Arc::from(name.as_str()));
            prop_assert_eq!(&joined.revenue_categories, &listed.collect::<Names>());
            prop_assert_eq!(joined.more_revenue_categories, all.len() > Categories::LISTED_MAX);
        }
    }
}
