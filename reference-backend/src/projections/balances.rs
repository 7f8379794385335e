//! Daily balances of one property: how they change when entries come in, in whatever order of days. Pure.
//!
//! `closing = opening + revenue - expense`, and a day opens as the property's previous row closed. So an entry of an earlier
//! day moves every later row.

use std::collections::BTreeMap;

use chrono::NaiveDate;

/// What a batch of events adds to one day, in whole cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Added {
    pub(super) revenue_cents: i64,
    pub(super) expense_cents: i64,
}

/// One day of one property, in whole cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Balance {
    pub(super) date: NaiveDate,
    pub(super) opening_cents: i64,
    pub(super) revenue_cents: i64,
    pub(super) expense_cents: i64,
}

impl Balance {
    pub(super) fn closing_cents(&self) -> i64 {
        self.opening_cents + self.revenue_cents - self.expense_cents
    }
}

/// The rows that are new or other than before. `stored` holds, by date, the last row before the first day added to (if there
/// is one) and all rows from that day on; where that day has a row, the one before may be missing.
pub(super) fn add(stored: &[Balance], added: &BTreeMap<NaiveDate, Added>) -> Vec<Balance> {
    // Without an earlier row the first one's opening stands: money that was there before the books began.
    let mut opening_cents = stored.first().map_or(0, |first| first.opening_cents);
    let mut rows: BTreeMap<NaiveDate, Option<Balance>> =
        stored.iter().map(|row| (row.date, Some(*row))).collect();
    for day in added.keys() {
        rows.entry(*day).or_insert(None);
    }
    let mut changed = Vec::new();
    for (date, before) in rows {
        let new = added.get(&date).copied().unwrap_or_default();
        let after = Balance {
            date,
            opening_cents,
            revenue_cents: before.map_or(0, |row| row.revenue_cents) + new.revenue_cents,
            expense_cents: before.map_or(0, |row| row.expense_cents) + new.expense_cents,
        };
        opening_cents = after.closing_cents();
        if before != Some(after) {
            changed.push(after);
        }
    }
    changed
}

/// What has to change for the rows to be right.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rebuilt {
    /// Rows that are new or other than before.
    pub(super) changed: Vec<Balance>,
    /// Days that have a row and no entries.
    pub(super) gone: Vec<NaiveDate>,
}

/// The rows from a day on, made anew of `sums`, which hold all days with entries from `covered` on; sums of earlier days are taken as
/// they are. `stored` is as for [`add`], `from` being the first day added to.
pub(super) fn rebuild(
    stored: &[Balance],
    from: NaiveDate,
    covered: NaiveDate,
    sums: &BTreeMap<NaiveDate, Added>,
) -> Rebuilt {
    let (before, stored) = stored.split_at(stored.partition_point(|row| row.date < from));
    let mut opening_cents =
        before.last().map_or_else(|| first_opening(stored, sums), Balance::closing_cents);
    let mut rows: BTreeMap<NaiveDate, Option<Balance>> =
        stored.iter().map(|row| (row.date, Some(*row))).collect();
    for day in sums.keys() {
        rows.entry(*day).or_insert(None);
    }
    let mut rebuilt = Rebuilt::default();
    for (date, held) in rows {
        let kept = held.filter(|_| date < covered);
        let kept = kept.map(|Balance { revenue_cents, expense_cents, .. }| Added {
            revenue_cents,
            expense_cents,
        });
        let Some(Added { revenue_cents, expense_cents }) = sums.get(&date).copied().or(kept) else {
            rebuilt.gone.push(date);
            continue;
        };
        let right = Balance { date, opening_cents, revenue_cents, expense_cents };
        opening_cents = right.closing_cents();
        if held != Some(right) {
            rebuilt.changed.push(right);
        }
    }
    rebuilt
}

/// How the books open when no earlier row says. Days that lack a row before the first there is were lost: it opens with them
/// taken in.
fn first_opening(stored: &[Balance], sums: &BTreeMap<NaiveDate, Added>) -> i64 {
    stored.first().map_or(0, |first| {
        let lost = sums.range(..first.date).map(|(_, day)| day.revenue_cents - day.expense_cents);
        first.opening_cents - lost.sum::<i64>()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, n).unwrap()
    }

    type Table = BTreeMap<NaiveDate, Balance>;

    /// Applies one batch as the projection does: reads what `add` asks for, writes what it returns.
    fn apply(table: &mut Table, batch: &[(u32, i64, i64)]) {
        let mut added: BTreeMap<NaiveDate, Added> = BTreeMap::new();
        for (n, revenue, expense) in batch {
            let sum = added.entry(day(*n)).or_default();
            sum.revenue_cents += revenue;
            sum.expense_cents += expense;
        }
        let Some(first) = added.keys().next().copied() else { return };
        let previous = table.range(..first).next_back().map(|(_, row)| *row);
        let from_first = table.range(first..).map(|(_, row)| *row);
        // The projection reads the last row alone where that is enough.
        let stored: Vec<_> = match table.values().last() {
            Some(last) if last.date <= first => vec![*last],
            _ => previous.into_iter().chain(from_first).collect(),
        };
        table.extend(add(&stored, &added).into_iter().map(|row| (row.date, row)));
    }

    #[test]
    fn a_back_dated_entry_moves_every_later_day() {
        let mut table = Table::new();
        apply(&mut table, &[(10, 100, 0), (12, 0, 30)]);
        apply(&mut table, &[(11, 5, 0)]);
        let rows: Vec<_> = table.values().map(|r| (r.opening_cents, r.closing_cents())).collect();
        assert_eq!(rows, [(0, 100), (100, 105), (105, 75)]);
    }

    #[test]
    fn money_from_before_the_books_stays() {
        let first =
            Balance { date: day(10), opening_cents: 50, revenue_cents: 1, expense_cents: 0 };
        let mut table = Table::from([(day(10), first)]);
        apply(&mut table, &[(9, 5, 0), (10, 0, 2)]);
        assert_eq!((table[&day(9)].opening_cents, table[&day(10)].closing_cents()), (50, 54));
    }

    #[test]
    fn rows_that_do_not_change_are_not_written() {
        let row = |n, opening_cents| Balance {
            date: day(n),
            opening_cents,
            revenue_cents: 7,
            expense_cents: 0,
        };
        let added = BTreeMap::from([(day(2), Added { revenue_cents: 4, expense_cents: 4 })]);
        let changed = add(&[row(1, 0), row(2, 7), row(3, 14)], &added);
        assert_eq!(changed.iter().map(|row| row.date).collect::<Vec<_>>(), [day(2)]);
    }

    proptest! {
        #[test]
        fn any_order_and_any_batches_give_the_same_books(
            entries in prop::collection::vec((1u32..28, 0i64..100, 0i64..100), 1..60),
            cuts in prop::collection::vec(1usize..10, 1..20),
        ) {
            let mut table = Table::new();
            let mut rest = &entries[..];
            for cut in cuts.iter().cycle() {
                let (batch, later) = rest.split_at((*cut).min(rest.len()));
                apply(&mut table, batch);
                rest = later;
                if rest.is_empty() { break; }
            }
            let mut whole = Table::new();
            let mut sorted = entries.clone();
            sorted.sort();
            apply(&mut whole, &sorted);
            prop_assert_eq!(&table, &whole);
            let mut closing = 0;
            for row in table.values() {
                prop_assert_eq!(row.opening_cents, closing);
                closing = row.closing_cents();
            }
            prop_assert_eq!(closing, entries.iter().map(|(_, r, e)| r - e).sum::<i64>());
        }
    }

    #[test]
    fn a_first_day_that_was_lost_comes_back_as_it_was() {
        let mut table = Table::new();
        apply(&mut table, &[(10, 100, 0), (12, 0, 30)]);
        let right = table.clone();
        table.remove(&day(10));
        let stored: Vec<_> = table.into_values().collect();
        let sum = |row: &Balance| {
            let Balance { revenue_cents, expense_cents, .. } = *row;
            (row.date, Added { revenue_cents, expense_cents })
        };
        let rebuilt = rebuild(&stored, day(10), day(1), &right.values().map(sum).collect());
        assert_eq!(rebuilt, Rebuilt { changed: vec![right[&day(10)]], gone: vec![] });
    }

    proptest! {
        #[test]
        fn rebuilt_books_are_the_right_ones_whatever_was_wrong(
            entries in prop::collection::vec((1u32..28, 1i64..100, 1i64..100), 1..40),
            spoilt in prop::collection::vec((1u32..28, -50i64..50, 0i64..50, any::<bool>()), 0..6),
            covered in 1u32..15,
        ) {
            let mut right = Table::new();
            apply(&mut right, &entries);
            let mut table = right.clone();
            // Days before `covered` can only be spoilt in how they open: of what they hold nothing else is known.
            let mut first = day(27);
            for (n, opening, revenue, gone) in spoilt {
                // The very first opening is taken as it is.
                let is_first = table.keys().next() == Some(&day(n)) || table.range(..day(n)).next().is_none();
                if is_first { continue; }
                first = first.min(day(n));
                if n < covered {
                    if let Some(row) = table.get_mut(&day(n)) { row.opening_cents += opening; }
                } else if gone {
                    table.remove(&day(n));
                } else {
                    let row = table.entry(day(n)).or_insert(Balance {
                        date: day(n), opening_cents: 0, revenue_cents: 0, expense_cents: 0 });
                    row.opening_cents += opening;
                    row.revenue_cents += revenue;
                }
            }
            let previous = table.range(..first).next_back().map(|(_, row)| *row);
            let stored: Vec<_> =
                previous.into_iter().chain(table.range(first..).map(|(_, row)| *row)).collect();
            let sums = right.values().filter(|row| row.date >= first.max(day(covered))).map(|row| {
                (row.date, Added { revenue_cents: row.revenue_cents, expense_cents: row.expense_cents })
            }).collect();
            let rebuilt = rebuild(&stored, first, day(covered), &sums);
            for gone in &rebuilt.gone { table.remove(gone); }
            table.extend(rebuilt.changed.into_iter().map(|row| (row.date, row)));
            prop_assert_eq!(&table, &right);
            let again: Vec<_> = table.range(..first).next_back().into_iter()
                .chain(table.range(first..)).map(|(_, row)| *row).collect();
            prop_assert_eq!(rebuild(&again, first, day(covered), &sums), Rebuilt::default());
        }
    }
}
