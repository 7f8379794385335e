//! Which messages of a log are settled: all up to a floor, and some above it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The settled positions of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settled {
    floor: i64,
    /// First and last position of each range above the floor. They neither touch each other nor the floor.
    above: BTreeMap<i64, i64>,
}

impl Settled {
    /// The position up to which all are settled.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    pub(super) fn contains(&self, position: i64) -> bool {
        position <= self.floor
            || self.above.range(..=position).next_back().is_some_and(|(_, last)| position <= *last)
    }

    /// Adds the positions from `first` to `last`; none if that is before `first`.
    pub(super) fn add(&mut self, mut first: i64, mut last: i64) {
        if last < first {
            return;
        }
        // Ranges that meet the new one become part of it.
        while let Some((&from, &to)) = self.above.range(..=last.saturating_add(1)).next_back() {
            if to < first - 1 {
                break;
            }
            self.above.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        if first <= self.floor + 1 {
            self.floor = self.floor.max(last);
        } else {
            self.above.insert(first, last);
        }
    }

    /// The ranges above the floor as PostgreSQL writes them: `{[5,8),[11,12)}`.
    pub(super) fn multirange(&self) -> String {
        let mut text = String::from("{");
        for (first, last) in &self.above {
            let comma = if text.len() > 1 { "," } else { "" };
            let _ = write!(text, "{comma}[{first},{})", last + 1);
        }
        text.push('}');
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_meet_become_one() {
        let mut settled = Settled { floor: 3, ..Settled::default() };
        settled.add(6, 7);
        settled.add(10, 10);
        assert_eq!((settled.floor(), settled.multirange().as_str()), (3, "{[6,8),[10,11)}"));
        settled.add(8, 9);
        assert_eq!(settled.multirange(), "{[6,11)}");
        settled.add(4, 5);
        assert_eq!((settled.floor(), settled.multirange().as_str()), (10, "{}"));
    }

    proptest! {
        #[test]
        fn it_holds_what_was_added_and_nothing_else(
            floor in 0i64..20,
            ranges in prop::collection::vec((1i64..60, 0i64..6), 0..25),
        ) {
            let mut settled = Settled { floor, ..Settled::default() };
            let mut wanted: BTreeSet<i64> = (1..=floor).collect();
            for (first, length) in ranges {
                settled.add(first, first + length - 1);
                wanted.extend(first..first + length);
            }
            for position in 1..80 {
                prop_assert_eq!(settled.contains(position), wanted.contains(&position));
            }
            let gapless = (1..).take_while(|position| wanted.contains(position)).count();
            prop_assert_eq!(settled.floor(), gapless as i64);
        }
    }
}
