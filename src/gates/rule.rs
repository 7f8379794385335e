//! The grammar of gates: `p95 < 500ms`, `cache_hit_ratio > 85%`, `event_rate >= 5000/s`.
//!
//! The limit of a rate may be a share of what is offered: `event_rate >= 97%`.
//!
//! A rule that cannot fail, or cannot hold, is refused when it is read: a gate is there to tell two cases apart.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::figure::FigureName;
use super::verdict::Unit;
use crate::units::{ByteSize, Micros, Rate, parse_number};

/// A figure, a comparison and a limit. Prints what it parses.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What is looked at.
    pub figure: FigureName,
    /// On which side of the limit it must be.
    pub comparison: Comparison,
    /// The limit, in the figure's unit; a share of the rate offered when `of_offered`.
    pub limit: f64,
    /// Whether the limit is a share of the rate that is offered.
    pub of_offered: bool,
}

/// On which side of the limit a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// What a rule is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole run: `all`.
    Run,
    /// One operation: `each_operation`, `operation`.
    Operation,
    /// One service: `each_service`.
    Service,
}

/// Why a text is not a rule. [`RuleError::help`] says what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No comparison in it, or one that is not known.
    #[error("expected a figure, one of < <= > >=, and a limit, like \"p95 < 500ms\"")]
    Shape,
    /// A figure that does not exist.
    #[error("unknown figure {name:?}{}", did_you_mean(.nearest.as_deref()))]
    UnknownFigure {
        /// As written.
        name: String,
        /// The allowed name nearest to it.
        nearest: Option<String>,
    },
    /// A limit that is not in the figure's unit.
    #[error("limit {limit:?} of {figure}: expected {expected}")]
    Limit {
        /// The figure.
        figure: String,
        /// As written.
        limit: String,
        /// What may be written, with an example.
        expected: &'static str,
    },
    /// A limit that no value of the figure can satisfy.
    #[error("\"{rule}\" can never hold: {figure} is {range}")]
    NeverHolds {
        /// The rule.
        rule: String,
        /// The figure.
        figure: String,
        /// The values it can have.
        range: &'static str,
    },
    /// A limit that every value of the figure satisfies.
    #[error("\"{rule}\" always holds, so it proves nothing: {figure} is {range}")]
    AlwaysHolds {
        /// The rule.
        rule: String,
        /// The figure.
        figure: String,
        /// The values it can have.
        range: &'static str,
    },
    /// A figure that exists for the whole run only.
    #[error("{figure} is known for the whole run only, not for {scope}")]
    Scope {
        /// The figure.
        figure: String,
        /// Where it was written.
        scope: Scope,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

impl RuleError {
    /// What to do next.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Shape => "write one rule to a text, like \"error_rate < 0.5%\"",
            Self::UnknownFigure { .. } => FigureName::ALLOWED,
            Self::Limit { .. } => {
                "times are written like 500ms, shares like 0.5%, rates like 5000/s; the unit of a signal of your \
                 own is the ending of its name: _ms, _us, _ratio, _share, _rate, _bytes, or none for a plain number"
            }
            Self::NeverHolds { .. } | Self::AlwaysHolds { .. } => {
                "choose a limit that some runs meet and others do not"
            }
            Self::Scope { .. } => "move the rule to `all`",
        }
    }
}

impl Rule {
    /// Reads a rule; `extra` are the signals that the scenario defines itself.
    pub fn parse(text: &str, extra: &BTreeSet<String>) -> Result<Self, RuleError> {
        let is_sign = |c: char| matches!(c, '<' | '>' | '=' | '!');
        let start = text.find(is_sign).ok_or(RuleError::Shape)?;
        let (name, rest) = (text[..start].trim(), &text[start..]);
        let end = rest.find(|c| !is_sign(c)).ok_or(RuleError::Shape)?;
        let comparison = Comparison::parse(&rest[..end]).ok_or(RuleError::Shape)?;
        let limit = rest[end..].trim();
        if name.is_empty() || limit.is_empty() {
            return Err(RuleError::Shape);
        }
        let figure = FigureName::parse(name, extra).ok_or_else(|| RuleError::UnknownFigure {
            name: name.to_owned(),
            nearest: FigureName::nearest(name, extra),
        })?;
        let share =
            limit.strip_suffix('%').filter(|_| figure.follows_offer()).and_then(parse_number);
        let (limit, of_offered) = match share.filter(|percent| (0.0..=100.0).contains(percent)) {
            Some(percent) => (percent / 100.0, true),
            None => (parse_limit(&figure, limit)?, false),
        };
        let rule = Self { figure, comparison, limit, of_offered };
        rule.tells_cases_apart()?;
        Ok(rule)
    }

    /// Whether the rule may stand in a scope.
    pub fn check_scope(&self, scope: Scope) -> Result<(), RuleError> {
        if scope == Scope::Run || self.figure.has_parts() {
            Ok(())
        } else {
            Err(RuleError::Scope { figure: self.figure.to_string(), scope })
        }
    }

    /// The rule with its limit in the figure's unit, where `per_second` is offered.
    pub(super) fn against(self, per_second: f64) -> Self {
        match self.of_offered {
            true => Self { limit: self.limit * per_second, of_offered: false, ..self },
            false => self,
        }
    }

    /// Whether an observed value, in the figure's unit, satisfies the rule.
    pub fn holds(&self, observed: f64) -> bool {
        self.comparison.holds(observed, self.limit)
    }

    fn tells_cases_apart(&self) -> Result<(), RuleError> {
        let (low, high) = self.figure.range();
        let holds_at = (self.holds(low), self.holds(high));
        let range = match (low, high) {
            (0.0, 1.0) => "between 0% and 100%",
            (1.0, _) => "1 when all is even, and above it otherwise",
            _ => "never below zero",
        };
        let (rule, figure) = (self.to_string(), self.figure.to_string());
        match holds_at {
            (false, false) => Err(RuleError::NeverHolds { rule, figure, range }),
            (true, true) => Err(RuleError::AlwaysHolds { rule, figure, range }),
            _ => Ok(()),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::parse(text, &BTreeSet::new())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.figure, self.comparison)?;
        match self.figure.unit() {
            _ if self.of_offered => write!(f, "{}%", percent(self.limit)),
            Unit::Us => write!(f, "{}", Micros::new(self.limit.round() as u64)),
            Unit::Ms => write!(f, "{}", Micros::new((self.limit * 1e3).round() as u64)),
            Unit::Ratio => write!(f, "{}%", percent(self.limit)),
            Unit::PerSecond => write!(f, "{}/s", self.limit),
            Unit::Count => write!(f, "{}", self.limit),
            Unit::Bytes => {
                let size = ByteSize::new(self.limit as u64);
                match size.to_string().parse() {
                    Ok(printed) if size == printed => write!(f, "{size}"),
                    _ => write!(f, "{}", size.get()),
                }
            }
        }
    }
}

/// A fraction as percent, without the dust of binary fractions.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e8).round() / 1e6
}

/// A limit in the figure's unit. A bare number for a share is refused: `0.5` may mean 0.5 % or a half.
fn parse_limit(figure: &FigureName, text: &str) -> Result<f64, RuleError> {
    let number = |text: &str| parse_number(text);
    let micros = || text.parse::<Micros>().ok().map(|micros| micros.get() as f64);
    let (limit, expected) = match figure.unit() {
        Unit::Us => (micros(), "a duration, like \"500ms\""),
        Unit::Ms => (micros().map(|us| us / 1e3), "a duration, like \"500ms\""),
        Unit::Ratio => (
            text.strip_suffix('%').and_then(number).map(|percent| percent / 100.0),
            "a percentage, like \"85%\"",
        ),
        Unit::PerSecond => {
            let expected = match figure.follows_offer() {
                true => {
                    "a rate above zero, like \"5000/s\", or a share of what is offered, like \"97%\""
                }
                false => "a rate above zero, like \"5000/s\"",
            };
            (text.parse::<Rate>().ok().map(Rate::get), expected)
        }
        Unit::Count => (number(text), "a plain number, like \"1.3\""),
        Unit::Bytes => (
            text.parse::<ByteSize>().ok().map(|size| size.get() as f64),
            "a size, like \"512 MiB\"",
        ),
    };
    limit.ok_or_else(|| RuleError::Limit {
        figure: figure.to_string(),
        limit: text.to_owned(),
        expected,
    })
}

impl Comparison {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "<" => Some(Self::Below),
            "<=" => Some(Self::AtMost),
            ">" => Some(Self::Above),
            ">=" => Some(Self::AtLeast),
            _ => None,
        }
    }

    /// Whether `observed` is on the right side of `limit`.
    pub fn holds(self, observed: f64, limit: f64) -> bool {
        match self {
            Self::Below => observed < limit,
            Self::AtMost => observed <= limit,
            Self::Above => observed > limit,
            Self::AtLeast => observed >= limit,
        }
    }

    /// Whether small values are the good ones.
    pub fn is_upper_bound(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "the whole run",
            Self::Operation => "one operation",
            Self::Service => "one service",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        text.parse::<Rule>().expect_err(text).to_string()
    }

    #[test]
    fn rules_read_as_people_write_them_and_print_back() {
        for (text, limit) in [
            ("p95 < 500ms", 500_000.0),
            ("p99.9 <= 1s", 1_000_000.0),
            ("max < 1s", 1_000_000.0),
            ("mean < 1.5ms", 1_500.0),
            ("service_p95 < 50ms", 50_000.0),
            ("send_lag_p99 < 5ms", 5_000.0),
            ("error_rate < 0.5%", 0.005),
            ("timeout_rate <= 0%", 0.0),
            ("dropped_rate <= 0%", 0.0),
            ("availability >= 99.9%", 0.999),
            ("event_rate >= 5000/s", 5_000.0),
            ("projected_rate >= 500/s", 500.0),
            ("offered_rate >= 500/s", 500.0),
            ("achieved_rate > 500/s", 500.0),
            ("cache_hit_ratio > 85%", 0.85),
            ("replica_share > 40%", 0.4),
            ("partition_skew < 1.3", 1.3),
            ("projection_lag_ms_p95 < 1s", 1_000.0),
            ("replication_lag_ms_max < 250us", 0.25),
            ("db_query_p95 < 500ms", 500.0),
        ] {
            let rule: Rule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!((rule.limit - limit).abs() < 1e-9, "{text} has limit {}", rule.limit);
            assert_eq!(rule.to_string(), text);
        }
        assert_eq!(" p95<500 ms ".parse::<Rule>().unwrap().to_string(), "p95 < 500ms");
    }

    #[test]
    fn an_unknown_figure_names_its_neighbour() {
        let expected = r#"unknown figure "cache_hit_ration"; did you mean "cache_hit_ratio"?"#;
        assert_eq!(refused("cache_hit_ration > 85%"), expected);
        assert!(refused("projection_lag_p95 < 1s").ends_with(r#""projection_lag_ms_p95"?"#));
        assert_eq!(refused("happiness > 3"), r#"unknown figure "happiness""#);
        assert_eq!(refused("p100 < 1s"), r#"unknown figure "p100"; did you mean "max"?"#);
    }

    #[test]
    fn a_limit_is_in_the_figures_unit() {
        for (text, expected) in [
            ("p95 < 5%", "a duration"),
            ("p95 < 500", "a duration"),
            ("p95 < -5ms", "a duration"),
            ("error_rate < 500ms", "a percentage"),
            ("error_rate < 0.5", "a percentage"),
            ("event_rate >= 5000", "a rate"),
            ("event_rate >= 0/s", "a rate"),
            ("partition_skew < 130%", "a plain number"),
            ("db_query_p95 < 0.5", "a duration"),
        ] {
            assert!(refused(text).contains(expected), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn a_rule_that_decides_nothing_is_refused() {
        for never in [
            "error_rate < 0%",
            "cache_hit_ratio > 100%",
            "availability >= 101%",
            "error_rate < -1%",
            "p95 < 0ms",
            "partition_skew < 1",
        ] {
            assert!(refused(never).contains("can never hold"), "{never}: {}", refused(never));
        }
        for always in
            ["error_rate <= 100%", "error_rate < 101%", "replica_share >= 0%", "p95 >= 0s"]
        {
            assert!(refused(always).contains("always holds"), "{always}: {}", refused(always));
        }
    }

    #[test]
    fn a_text_without_a_rule_says_the_shape() {
        for text in ["", "p95", "p95 <", "< 5ms", "p95 = 5ms", "p95 != 5ms", "p95 =< 5ms", "<"] {
            assert_eq!(refused(text), RuleError::Shape.to_string(), "{text}");
        }
    }

    #[test]
    fn a_scenarios_own_signals_are_figures() {
        let extra = BTreeSet::from(["queue_depth".to_owned(), "broker_lag_ms".to_owned()]);
        let limit = |text: &str| Rule::parse(text, &extra).map(|rule| rule.limit);
        assert_eq!(limit("queue_depth < 40"), Ok(40.0));
        assert_eq!(limit("queue_depth_max < 40"), Ok(40.0));
        assert_eq!(limit("broker_lag_ms_p99 < 2s"), Ok(2000.0));
        assert!(limit("broker_lag_ms_mean < 2s").is_err());
        assert!(limit("queue_depth < 40ms").is_err());
        assert!(limit("broker_lag_ms < 2").is_err());
        let error = limit("queue_dept < 40").expect_err("misspelled").to_string();
        assert!(error.ends_with(r#"did you mean "queue_depth"?"#), "{error}");
    }

    #[test]
    fn figures_of_the_whole_run_stay_there() {
        for text in ["cache_hit_ratio > 85%", "event_rate >= 5/s", "send_lag_p99 < 5ms"] {
            let rule: Rule = text.parse().unwrap();
            assert!(rule.check_scope(Scope::Run).is_ok());
            let error = rule.check_scope(Scope::Service).expect_err(text).to_string();
            assert!(error.ends_with("for the whole run only, not for one service"), "{error}");
        }
        for text in ["p95 < 1s", "service_max < 1s", "error_rate < 1%", "achieved_rate > 5/s"] {
            assert_eq!(text.parse::<Rule>().unwrap().check_scope(Scope::Operation), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Rule>();
        }

        #[test]
        fn every_limit_prints_back(us in 1u64..100_000_000_000, percent in 1u32..10_000) {
            for text in [format!("p99 < {us}us"), format!("error_rate < {}%", f64::from(percent) / 100.0)] {
                let rule: Rule = text.parse().unwrap();
                prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
            }
        }
    }
}
