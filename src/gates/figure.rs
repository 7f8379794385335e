//! The figures that a gate may name, as people write them: `p95`, `error_rate`, `projection_lag_ms_p99`.
//!
//! A name says its unit, its possible range and where it makes sense. Never looks at a record: that is `figures`
//! and `signals`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::verdict::Unit;
use crate::units::parse_number;

/// A figure by name. Prints what it parses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FigureName {
    /// A statistic of times, in µs.
    Time(Span, Statistic),
    /// Errors and time-outs as a share of the arrivals that were not dropped.
    ErrorRate,
    /// Time-outs alone, as a share of the same.
    TimeoutRate,
    /// Arrivals that were never sent, as a share of all that the schedule asked for.
    DroppedRate,
    /// Good answers as a share of the arrivals that were not dropped.
    Availability,
    /// Arrivals asked for, per second.
    OfferedRate,
    /// Requests sent, per second.
    AchievedRate,
    /// Events acknowledged to the client, per second.
    EventRate,
    /// The event rate of the last step that held.
    HeldEventRate,
    /// The achieved rate of the last step that held.
    HeldRate,
    /// How many steps held, from the first on.
    StepsHeld,
    /// A figure about the server.
    Signal(SignalName),
}

/// Which span of a request's life is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Done − intended: what a user waits.
    Response,
    /// Done − sent: what the server takes.
    Service,
    /// Sent − intended: what the generator adds.
    SendLag,
}

/// What is read from many values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statistic {
    /// A percentile.
    Percentile(Percentile),
    /// The arithmetic mean.
    Mean,
    /// The largest.
    Max,
}

/// A percentile strictly between 0 and 100, exact to a thousandth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentile(u32);

/// A signal by name: of the reference target or the scenario's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignalName {
    /// The signal: `cache_hit_ratio`, `projection_lag_ms`.
    pub base: String,
    /// What is read from its values, for a signal that has many: `_p95`, `_max`.
    pub statistic: Option<Statistic>,
}

/// Signals of the reference target that are one value.
const SINGLE_SIGNALS: [&str; 4] =
    ["cache_hit_ratio", "replica_share", "partition_skew", PROJECTED_RATE];
/// Of these, the one that is a rate: events that reached the read side.
const PROJECTED_RATE: &str = "projected_rate";
/// Signals of the reference target that have a value at each second: `_pNN` or `_max` follows.
const GAUGE_SIGNALS: [&str; 2] = ["projection_lag_ms", "replication_lag_ms"];
/// The signal of the reference target that is a histogram: `_pNN` follows.
const HISTOGRAM_SIGNAL: &str = "db_query";
/// Names that need no statistic.
const PLAIN: [(&str, FigureName); 10] = [
    ("error_rate", FigureName::ErrorRate),
    ("timeout_rate", FigureName::TimeoutRate),
    ("dropped_rate", FigureName::DroppedRate),
    ("availability", FigureName::Availability),
    ("offered_rate", FigureName::OfferedRate),
    ("achieved_rate", FigureName::AchievedRate),
    ("event_rate", FigureName::EventRate),
    ("held_event_rate", FigureName::HeldEventRate),
    ("held_rate", FigureName::HeldRate),
    ("steps_held", FigureName::StepsHeld),
];
/// Spelled out, so that a slip of the pen finds its neighbour.
const EXAMPLES: [&str; 14] = [
    "p50",
    "p90",
    "p95",
    "p99",
    "p99.9",
    "mean",
    "max",
    "service_p95",
    "service_max",
    "send_lag_p99",
    "projection_lag_ms_p95",
    "projection_lag_ms_max",
    "replication_lag_ms_p99",
    "db_query_p95",
];

impl FigureName {
    /// What a user may write, for help.
    pub const ALLOWED: &str = "a figure is one of p95 (any pNN), mean, max; service_p95, send_lag_p99; error_rate, \
         timeout_rate, dropped_rate, availability; offered_rate, achieved_rate, event_rate, projected_rate; \
         cache_hit_ratio, replica_share, partition_skew, projection_lag_ms_p95, replication_lag_ms_p95, db_query_p95; \
         with load.steps held_event_rate, held_rate, steps_held; or a signal that the scenario defines";

    /// Reads a name; `extra` are the signals that the scenario defines itself.
    pub fn parse(text: &str, extra: &BTreeSet<String>) -> Option<Self> {
        if let Some((_, plain)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Some(plain.clone());
        }
        Self::parse_time(text).or_else(|| SignalName::parse(text, extra).map(Self::Signal))
    }

    fn parse_time(text: &str) -> Option<Self> {
        let (span, statistic) = if let Some(rest) = text.strip_prefix("service_") {
            (Span::Service, rest)
        } else if let Some(rest) = text.strip_prefix("send_lag_") {
            (Span::SendLag, rest)
        } else {
            (Span::Response, text)
        };
        statistic.parse().ok().map(|statistic| Self::Time(span, statistic))
    }

    /// The allowed name nearest to one that is not allowed, if any is near.
    pub fn nearest(text: &str, extra: &BTreeSet<String>) -> Option<String> {
        if let Some(span) = text.strip_suffix("p100") {
            return Some(format!("{span}max"));
        }
        let known = PLAIN.iter().map(|(name, _)| *name).chain(SINGLE_SIGNALS).chain(EXAMPLES);
        known
            .chain(extra.iter().map(String::as_str))
            .map(|name| (strsim::normalized_damerau_levenshtein(text, name), name))
            .filter(|(likeness, _)| *likeness >= 0.6)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name.to_owned())
    }

    /// The unit in which this figure is observed and limited.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Time(..) => Unit::Us,
            Self::ErrorRate | Self::TimeoutRate | Self::DroppedRate | Self::Availability => {
                Unit::Ratio
            }
            Self::OfferedRate
            | Self::AchievedRate
            | Self::EventRate
            | Self::HeldEventRate
            | Self::HeldRate => Unit::PerSecond,
            Self::StepsHeld => Unit::Count,
            Self::Signal(signal) => signal.unit(),
        }
    }

    /// The smallest and the largest value that the figure can have, in its unit.
    pub fn range(&self) -> (f64, f64) {
        match self {
            Self::Signal(signal) if signal.base == "partition_skew" => (1.0, f64::INFINITY),
            _ if self.unit() == Unit::Ratio => (0.0, 1.0),
            // A signal of the scenario's own without a unit may be anything, a temperature below zero for one.
            Self::Signal(_) if self.unit() == Unit::Count => (f64::NEG_INFINITY, f64::INFINITY),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// Whether the figure can be told for one operation or one service by itself.
    pub fn has_parts(&self) -> bool {
        // The generator and the server are watched as a whole.
        !matches!(self, Self::Time(Span::SendLag, _) | Self::EventRate | Self::Signal(_))
            && !self.is_of_steps()
    }

    /// Whether it is told of all steps of a load together; every other figure is told of each step.
    pub fn is_of_steps(&self) -> bool {
        matches!(self, Self::HeldEventRate | Self::HeldRate | Self::StepsHeld)
    }

    /// Whether it is a rate that follows what is offered, so that its limit may be a share of that.
    pub(super) fn follows_offer(&self) -> bool {
        match self {
            Self::AchievedRate | Self::EventRate => true,
            Self::Signal(signal) => signal.base == PROJECTED_RATE,
            _ => false,
        }
    }
}

impl fmt::Display for FigureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(Span::Response, statistic) => write!(f, "{statistic}"),
            Self::Time(Span::Service, statistic) => write!(f, "service_{statistic}"),
            Self::Time(Span::SendLag, statistic) => write!(f, "send_lag_{statistic}"),
            Self::Signal(signal) => write!(f, "{signal}"),
            plain => {
                let (name, _) = PLAIN
                    .iter()
                    .find(|(_, figure)| figure == plain)
                    .expect("every figure without fields is in PLAIN");
                f.write_str(name)
            }
        }
    }
}

impl SignalName {
    fn parse(text: &str, extra: &BTreeSet<String>) -> Option<Self> {
        let split = text.rsplit_once('_').and_then(|(base, statistic)| {
            statistic.parse::<Statistic>().ok().map(|statistic| (base, statistic))
        });
        let (base, statistic) = match split {
            Some((base, statistic)) => (base, Some(statistic)),
            None => (text, None),
        };
        let known = match statistic {
            None => SINGLE_SIGNALS.contains(&base),
            Some(Statistic::Percentile(_)) => {
                GAUGE_SIGNALS.contains(&base) || base == HISTOGRAM_SIGNAL
            }
            Some(Statistic::Max) => GAUGE_SIGNALS.contains(&base),
            Some(Statistic::Mean) => false,
        };
        // A scenario may name a histogram's one quantile `checkout_ms_p95`, or a gauge `depth` and gate `depth_p95`.
        let own =
            extra.contains(text) || (extra.contains(base) && statistic != Some(Statistic::Mean));
        (known || own).then(|| Self { base: base.to_owned(), statistic })
    }

    /// The unit of a signal is the ending of its name; without one it is a plain number.
    pub fn unit(&self) -> Unit {
        const ENDINGS: [(&str, Unit); 6] = [
            ("_ms", Unit::Ms),
            ("_us", Unit::Us),
            ("_ratio", Unit::Ratio),
            ("_share", Unit::Ratio),
            ("_rate", Unit::PerSecond),
            ("_bytes", Unit::Bytes),
        ];
        let by_ending = ENDINGS.iter().find(|(ending, _)| self.base.ends_with(ending));
        match by_ending {
            Some((_, unit)) => *unit,
            None if self.base == HISTOGRAM_SIGNAL => Unit::Ms,
            None => Unit::Count,
        }
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.statistic {
            Some(statistic) => write!(f, "{}_{statistic}", self.base),
            None => f.write_str(&self.base),
        }
    }
}

impl Percentile {
    /// The share of values at or below it, 0 to 1 exclusive.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }

    /// From 0 to 100 exclusive.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }

    /// How many samples it takes to see it at all: with fewer, even if none exceeds the limit, a true share of
    /// 1 − p beyond it could not be ruled out with 95 % confidence. Smallest n with pⁿ ≤ 0.05: 59 for p95,
    /// 299 for p99, 2995 for p99.9.
    pub fn samples_min(self) -> u64 {
        (0.05_f64.ln() / self.share().ln()).ceil() as u64
    }
}

/// A text that is neither `pNN`, `mean` nor `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected pNN with NN between 0 and 100 exclusive and at most three decimals, mean or max")]
pub struct StatisticError;

impl FromStr for Statistic {
    type Err = StatisticError;

    fn from_str(text: &str) -> Result<Self, StatisticError> {
        match text {
            "mean" => return Ok(Self::Mean),
            "max" => return Ok(Self::Max),
            _ => {}
        }
        let digits = text.strip_prefix('p').ok_or(StatisticError)?;
        let starts_well = digits.starts_with(|c: char| c.is_ascii_digit());
        let thousandths = parse_number(digits).ok_or(StatisticError)? * 1_000.0;
        let exact = (thousandths - thousandths.round()).abs() < 1e-6;
        if starts_well && exact && (0.5..99_999.5).contains(&thousandths) {
            Ok(Self::Percentile(Percentile(thousandths.round() as u32)))
        } else {
            Err(StatisticError)
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(percentile) => write!(f, "p{}", percentile.percent()),
            Self::Mean => f.write_str("mean"),
            Self::Max => f.write_str("max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentile(text: &str) -> Percentile {
        match text.parse() {
            Ok(Statistic::Percentile(percentile)) => percentile,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn the_least_samples_are_those_of_the_binomial_bound() {
        let expected = [("p50", 5), ("p90", 29), ("p95", 59), ("p99", 299), ("p99.9", 2995)];
        for (name, samples) in expected {
            assert_eq!(percentile(name).samples_min(), samples, "{name}");
        }
    }

    #[test]
    fn a_percentile_lies_strictly_between_0_and_100() {
        for bad in ["p0", "p100", "p", "p-5", "p+5", "p99.9999", "p1e1", "95"] {
            assert!(bad.parse::<Statistic>().is_err(), "{bad} must not be a statistic");
        }
        assert_eq!(percentile("p99.9").percent(), 99.9);
    }

    #[test]
    fn every_plain_name_and_example_prints_back() {
        let plain = PLAIN.iter().map(|(name, _)| *name);
        for name in plain.chain(SINGLE_SIGNALS).chain(EXAMPLES) {
            let figure = FigureName::parse(name, &BTreeSet::new()).expect(name);
            assert_eq!(figure.to_string(), name);
        }
    }
}
