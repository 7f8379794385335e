//! Which server may answer a read. Pure: works on what the monitor last saw.

use super::{Lsn, replicas::Observed};
use crate::config;

/// What a read must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Any replica within the limits on lag.
    Any,
    /// Everything committed up to this place in the log: a replica that has replayed it, else the primary.
    AtLeast(Lsn),
    /// The newest state: always the primary.
    Newest,
}

/// The server that answered a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A replica, by name.
    Replica(&'static str),
    /// The primary.
    Primary,
}

impl Source {
    /// `primary` or the replica's name: the value of the label `server` and of `X-Read-From`.
    pub const fn server(&self) -> &'static str {
        match self {
            Self::Replica(name) => name,
            Self::Primary => "primary",
        }
    }

    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Replica(_) => "replica",
            Self::Primary => "primary",
        }
    }
}

/// Why the primary answers a read that a replica might have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// There are no replicas, or a replica answered.
    None,
    /// The healthy replicas are too far behind, or behind the write the read must show.
    Lagging,
    /// No replica is healthy, or their breakers let no read through.
    Unhealthy,
    /// The replicas that were asked failed.
    Failed,
    /// Replicas are switched off.
    Off,
    /// The caller asked for the newest state.
    WritePath,
}

impl Reason {
    /// Whether a replica should have answered, so that the primary answers one read more than it was meant to.
    pub(super) const fn is_fallback(self) -> bool {
        matches!(self, Self::Lagging | Self::Unhealthy | Self::Failed)
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lagging => "lagging",
            Self::Unhealthy => "unhealthy",
            Self::Failed => "failed",
            Self::Off => "off",
            Self::WritePath => "write_path",
        }
    }
}

/// Limits beyond which a replica answers no reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Whether replicas answer at all.
    pub(super) replicas: bool,
    pub(super) lag_bytes_max: u64,
    pub(super) lag_ms_max: u64,
}

impl Limits {
    pub(super) fn of(choice: &config::Replicas, replicas: bool) -> Self {
        let (lag_bytes_max, lag_ms_max) = (choice.lag_bytes_max, choice.lag_max_ms.0);
        Self { replicas, lag_bytes_max, lag_ms_max }
    }
}

/// The index of the replica that shall answer, starting the search at `turn` and leaving out those `passed_over`; or why the
/// primary has to.
pub(super) fn choose(
    observed: impl ExactSizeIterator<Item = Observed> + Clone,
    limits: Limits,
    freshness: Freshness,
    turn: usize,
    passed_over: &[usize],
) -> Result<usize, Reason> {
    let count = observed.len();
    if freshness == Freshness::Newest {
        return Err(Reason::WritePath);
    }
    if count == 0 {
        return Err(Reason::None);
    }
    if !limits.replicas {
        return Err(Reason::Off);
    }
    let fresh = |replica: &Observed| {
        replica.lag_bytes <= limits.lag_bytes_max
            && replica.lag_ms <= limits.lag_ms_max
            && match freshness {
                Freshness::AtLeast(lsn) => replica.replayed >= lsn,
                Freshness::Any | Freshness::Newest => true,
            }
    };
    let candidates = observed.enumerate().filter(|(index, _)| !passed_over.contains(index));
    let fit = |(_, replica): &(usize, Observed)| replica.healthy && fresh(replica);
    let start = turn % count;
    let mut from_start = candidates.clone().filter(|(index, _)| *index >= start);
    let next = from_start.find(fit).or_else(|| candidates.clone().find(fit));
    match next {
        Some((index, _)) => Ok(index),
        None if candidates.clone().any(|(_, replica)| replica.healthy) => Err(Reason::Lagging),
        None => Err(Reason::Unhealthy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { replicas: true, lag_bytes_max: 1000, lag_ms_max: 100 };

    fn at(replayed: i64) -> Observed {
        Observed { healthy: true, replayed: Lsn::from_bytes(replayed), lag_bytes: 0, lag_ms: 0 }
    }

    #[test]
    fn switched_off_replicas_answer_nothing() {
        let off = Limits { replicas: false, ..LIMITS };
        let replicas = [at(10), at(10)];
        let found = choose(replicas.iter().copied(), off, Freshness::Any, 0, &[]);
        assert_eq!(found, Err(Reason::Off));
    }

    fn check(replicas: &[Observed], freshness: Freshness, expected: &[Result<usize, Reason>]) {
        for (turn, expected) in expected.iter().enumerate() {
            let found = choose(replicas.iter().copied(), LIMITS, freshness, turn, &[]);
            assert_eq!(found, *expected, "turn {turn} of {replicas:?} for {freshness:?}");
        }
    }

    #[test]
    fn healthy_replicas_take_turns() {
        check(&[at(5), at(5)], Freshness::Any, &[Ok(0), Ok(1), Ok(0)]);
    }

    #[test]
    fn an_unhealthy_replica_is_passed_over() {
        let sick = Observed { healthy: false, ..at(5) };
        check(&[sick, at(5)], Freshness::Any, &[Ok(1), Ok(1)]);
        check(&[sick, sick], Freshness::Any, &[Err(Reason::Unhealthy)]);
    }

    #[test]
    fn one_that_failed_the_read_is_not_asked_again() {
        let choose = |passed_over: &[usize], turn| {
            choose([at(5), at(5)].into_iter(), LIMITS, Freshness::Any, turn, passed_over)
        };
        assert_eq!([choose(&[0], 0), choose(&[0], 1)], [Ok(1), Ok(1)]);
        assert_eq!([choose(&[1], 0), choose(&[1], 1)], [Ok(0), Ok(0)]);
        assert_eq!(choose(&[0, 1], 0), Err(Reason::Unhealthy));
    }

    #[test]
    fn lag_beyond_either_limit_excludes() {
        let bytes = Observed { lag_bytes: 1001, ..at(5) };
        let time = Observed { lag_ms: 101, ..at(5) };
        check(&[bytes, time], Freshness::Any, &[Err(Reason::Lagging); 2]);
    }

    #[test]
    fn a_read_sees_the_write_it_follows() {
        let lsn = Freshness::AtLeast(Lsn::from_bytes(7));
        check(&[at(6), at(7)], lsn, &[Ok(1), Ok(1)]);
        check(&[at(6), at(6)], lsn, &[Err(Reason::Lagging)]);
    }

    #[test]
    fn the_newest_state_is_on_the_primary() {
        check(&[at(9)], Freshness::Newest, &[Err(Reason::WritePath)]);
        check(&[], Freshness::Any, &[Err(Reason::None)]);
    }
}
