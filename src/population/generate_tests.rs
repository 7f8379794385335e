//! The laws of the generator.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroU64;

use chrono::NaiveDate;
use proptest::prelude::*;

use super::generate::{EntryKind, Generator, History, Organisation};
use crate::ids::OrgId;

fn anchor() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1).unwrap()
}

fn generator(seed: u64, organisations: u64, months: u8) -> Generator {
    Generator::new(seed, NonZeroU64::new(organisations).unwrap(), months, anchor())
}

fn all(seed: u64, organisations: u64, months: u8) -> Vec<(Organisation, History)> {
    let generator = generator(seed, organisations, months);
    let org = |index| OrgId::from_index(index);
    (0..organisations)
        .map(|n| (generator.organisation(org(n)), generator.history(org(n))))
        .collect()
}

fn rows(organisation: &Organisation, history: &History) -> usize {
    let (o, h) = (organisation, history);
    1 + o.users.len()
        + o.properties.len()
        + h.entries.len()
        + h.balances.len()
        + 2 * h.accounts.len()
        + 3 * o.properties.len()
}

proptest! {
    #[test]
    fn balances_equal_entries_and_open_as_the_last_one_closed(
        seed: u64, index in 0_u64..1_000_000, months in 1_u8..=24,
    ) {
        let history = generator(seed, 1_000_000, months).history(OrgId::from_index(index));
        let mut days: HashMap<_, (i64, i64)> = HashMap::new();
        for entry in &history.entries {
            let (revenue, expense) = days.entry((entry.property, entry.date)).or_default();
            match entry.kind {
                EntryKind::Revenue => *revenue += entry.amount_cents,
                EntryKind::Expense => *expense += entry.amount_cents,
            }
        }
        prop_assert_eq!(history.balances.len(), days.len());
        let mut closing = HashMap::new();
        for day in &history.balances {
            prop_assert_eq!(days[&(day.property, day.date)], (day.revenue_cents, day.expense_cents));
            let (last, opening) = closing.get(&day.property).copied().unwrap_or((NaiveDate::MIN, 0));
            prop_assert!(last < day.date, "days of a property must ascend");
            prop_assert_eq!(day.opening_cents, opening);
            let closed = day.opening_cents + day.revenue_cents - day.expense_cents;
            prop_assert_eq!(day.closing_cents, closed);
            closing.insert(day.property, (day.date, closed));
        }
    }

    #[test]
    fn accounts_equal_the_sum_of_their_entries(seed: u64, index in 0_u64..1_000_000) {
        let history = generator(seed, 1_000_000, 12).history(OrgId::from_index(index));
        for account in &history.accounts {
            let of = |kind| {
                let own = move |e: &&super::Entry| e.property == account.property && e.kind == kind;
                let sum: i64 = history.entries.iter().filter(own).map(|e| e.amount_cents).sum();
                let names: BTreeSet<_> =
                    history.entries.iter().filter(own).map(|e| e.category).collect();
                (sum, names.into_iter().collect::<Vec<_>>())
            };
            let (revenue, expense) = (of(EntryKind::Revenue), of(EntryKind::Expense));
            prop_assert_eq!(account.revenue_cents, revenue.0);
            prop_assert_eq!(account.expense_cents, expense.0);
            prop_assert_eq!(account.revenue_categories().collect::<Vec<_>>(), revenue.1);
            prop_assert_eq!(account.expense_categories().collect::<Vec<_>>(), expense.1);
            let own = || history.entries.iter().filter(|e| e.property == account.property);
            prop_assert_eq!(account.entries as usize, own().count());
            prop_assert_eq!(account.last_entry, own().map(|e| e.date).max());
        }
    }

    #[test]
    fn everything_is_dated_within_history(seed: u64, index in 0_u64..1_000_000, months in 1_u8..=24) {
        let generator = generator(seed, 1_000_000, months);
        let (first, org) = (anchor() - chrono::Months::new(months.into()), OrgId::from_index(index));
        let organisation = generator.organisation(org);
        prop_assert!(organisation.created_at.date_naive() < first);
        let history = generator.history(org);
        for entry in &history.entries {
            prop_assert!((first..anchor()).contains(&entry.date));
            prop_assert_eq!(entry.recorded_at.date_naive(), entry.date);
            prop_assert!(entry.amount_cents > 0);
        }
        prop_assert!(history.accounts.iter().all(|a| a.taken_at.date_naive() < anchor()));
    }

    #[test]
    fn properties_alone_are_those_of_the_organisation(seed: u64, index in 0_u64..1_000_000, u in 0.0..1.0) {
        let (generator, org) = (generator(seed, 1_000_000, 12), OrgId::from_index(index));
        let whole: Vec<_> = generator.organisation(org).properties.iter().map(|p| p.id).collect();
        prop_assert_eq!(&generator.properties(org).collect::<Vec<_>>(), &whole);
        prop_assert!(whole.contains(&generator.property(org, u)));
        let accounts = generator.history(org).accounts;
        prop_assert_eq!(accounts.iter().map(|a| a.property).collect::<Vec<_>>(), whole);
    }
}

#[test]
fn an_organisation_does_not_depend_on_the_population_around_it() {
    let (few, many) = (generator(7, 10, 12), generator(7, 1_000_000, 12));
    for org in (0..10).map(OrgId::from_index) {
        assert_eq!(few.organisation(org), many.organisation(org));
        assert_eq!(few.history(org), many.history(org));
    }
}

#[test]
fn the_seed_decides_everything() {
    assert_eq!(all(7, 50, 12), all(7, 50, 12));
    let (a, b) = (all(7, 50, 12), all(8, 50, 12));
    for (a, b) in a.iter().zip(&b) {
        assert_ne!(a.0.properties[0].id, b.0.properties[0].id);
        assert!(a.1.entries.is_empty() || a.1.entries != b.1.entries);
    }
}

#[test]
fn ids_are_unique() {
    let mut ids = HashSet::new();
    let generator = generator(1, 2000, 12);
    for (organisation, history) in all(1, 2000, 12) {
        let properties = organisation.properties.iter().map(|p| p.id);
        let users = organisation.users.iter().map(|u| u.id);
        let entries = history.entries.iter().map(|e| e.id);
        let desks = generator.front_desks(&organisation);
        let desks = desks.flat_map(|desk| [desk.staff.id, desk.task.id, desk.reservation.id]);
        for id in properties.chain(users).chain(entries).chain(desks) {
            assert_eq!(id.get_version_num(), 8);
            assert!(ids.insert(id), "{id} of organisation {} twice", organisation.id);
        }
    }
}

#[test]
fn an_organisation_has_about_36_rows() {
    let population = all(7, 20_000, 12);
    let mean = |class: Option<&str>| {
        let of =
            population.iter().filter(|(o, _)| class.is_none_or(|c| o.size_class.as_str() == c));
        let rows: Vec<usize> = of.map(|(o, h)| rows(o, h)).collect();
        rows.iter().sum::<usize>() as f64 / rows.len() as f64
    };
    let expected = [
        (None, 35.5, 1.0),
        (Some("micro"), 22.3, 0.5),
        (Some("small"), 44.5, 1.5),
        (Some("medium"), 100.0, 4.0),
        (Some("large"), 272.5, 20.0),
    ];
    for (class, rows, tolerance) in expected {
        let found = mean(class);
        assert!((found - rows).abs() < tolerance, "{class:?}: {found} rows, expected about {rows}");
    }
}

#[test]
fn size_classes_have_their_shares() {
    let generator = generator(3, 50_000, 1);
    let mut seen: HashMap<_, f64> = HashMap::new();
    for org in (0..50_000).map(OrgId::from_index) {
        *seen.entry(generator.organisation(org).size_class.as_str()).or_default() += 1.0 / 500.0;
    }
    for (class, percent) in [("micro", 70.0), ("small", 22.0), ("medium", 7.0), ("large", 1.0)] {
        assert!((seen[class] - percent).abs() < 0.8, "{class}: {} %", seen[class]);
    }
}

#[test]
fn people_are_reachable_nowhere() {
    for (organisation, _) in all(5, 500, 1) {
        for user in &organisation.users {
            assert!(user.email.ends_with(".example.com") && user.email.is_ascii(), "{user:?}");
        }
    }
}

/// The population is part of what makes a run repeatable: should this change, say so in the changelog.
#[test]
fn this_release_makes_the_population_of_the_last() {
    let (organisation, history) = all(7, 3, 12).remove(2);
    insta::assert_debug_snapshot!((organisation, &history.entries[..2], &history.balances[..1]));
}
