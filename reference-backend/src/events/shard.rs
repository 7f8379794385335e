//! Which writer an organisation belongs to.

use std::fmt;

use crate::domain::OrgId;

/// One of the event store's shards: 0 to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// How many there are. Fixed with the partitions of `events`: an organisation never moves.
    pub const COUNT: usize = 8;

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0u8..8).map(Self)
    }

    /// The shard of an organisation. Mixed first (the finaliser of `SplitMix64`), so that no pattern in the numbers of busy
    /// organisations gathers them in one shard.
    pub fn of(org: OrgId) -> Self {
        let mut mixed = org.get().cast_unsigned();
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        Self((mixed >> 61) as u8)
    }

    /// The shards that each of `appenders` writes: every shard one of them, as many to each as can be. At least one appender, and
    /// none without a shard.
    pub(super) fn dealt_to(appenders: usize) -> Vec<Vec<Self>> {
        let appenders = appenders.clamp(1, Self::COUNT);
        let of = |n: usize| Self::all().filter(|shard| shard.index() % appenders == n).collect();
        (0..appenders).map(of).collect()
    }

    /// The shard with a number, if there is one.
    pub fn from_number(number: i16) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < Self::COUNT).map(Self)
    }

    /// Its number as the database holds it.
    pub fn number(self) -> i16 {
        self.0.into()
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_never_moves() {
        let shards = [1, 2, 3, 1_000_000].map(|n| Shard::of(OrgId::new(n).unwrap()).number());
        assert_eq!(shards, [2, 6, 0, 3], "changing this loses sight of every stored event");
    }

    #[test]
    fn every_shard_has_one_appender_and_every_appender_a_shard() {
        for (asked, made) in [(0, 1), (1, 1), (3, 3), (8, 8), (9, 8)] {
            let dealt = Shard::dealt_to(asked);
            assert_eq!(dealt.len(), made);
            assert!(dealt.iter().all(|shards| shards.len() >= Shard::COUNT / made), "{dealt:?}");
            let mut all = dealt.concat();
            all.sort_unstable();
            assert_eq!(all, Shard::all().collect::<Vec<_>>());
        }
    }

    #[test]
    fn neighbours_spread_evenly() {
        let mut counts = [0; Shard::COUNT];
        for n in 1..=8000 {
            counts[Shard::of(OrgId::new(n).unwrap()).index()] += 1;
        }
        assert!(counts.iter().all(|n| (900..1100).contains(n)), "{counts:?}");
    }
}
