//! Selectors: which series of the target make up a signal, `name{label="value",other=~"a|b"}` as in Prometheus.
//!
//! Of Prometheus's regular expressions only alternatives of plain texts are taken: what else a label needs is rare,
//! and a selector that silently matches nothing is worse than one that is refused.

use std::fmt;
use std::str::FromStr;

use crate::archive::{Series, SeriesKey, Timeline};

/// A selection of series. Prints what it parses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Name of the series.
    pub name: String,
    /// What its labels must be; all must hold.
    pub matchers: Vec<Matcher>,
}

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// Name of the label. A series without it has the empty value.
    pub label: String,
    /// The comparison.
    pub operator: Operator,
    /// The values compared with: one for `=` and `!=`, one or more for `=~` and `!~`.
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `=~`: one of the alternatives.
    OneOf,
    /// `!~`: none of the alternatives.
    NoneOf,
}

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a selector, like name{{label=\"value\",other=~\"a|b\"}}, with =, !=, =~ or !~, \
     and after =~ nothing but plain alternatives"
)]
pub struct SelectorError;

impl Selector {
    /// Whether a series is selected.
    pub fn matches(&self, key: &SeriesKey) -> bool {
        key.name == self.name && self.matchers.iter().all(|matcher| matcher.matches(key))
    }

    /// The series of a timeline that are selected.
    pub fn matching<'a>(&'a self, timeline: &'a Timeline) -> impl Iterator<Item = &'a Series> {
        timeline.series.iter().filter(|series| self.matches(&series.key))
    }

    /// The same labels on the series whose name ends in `suffix`: a histogram's `_bucket`.
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self { name: format!("{}{suffix}", self.name), matchers: self.matchers.clone() }
    }
}

impl Matcher {
    fn matches(&self, key: &SeriesKey) -> bool {
        let value = key.label(&self.label).unwrap_or_default();
        let listed = self.values.iter().any(|listed| listed == value);
        match self.operator {
            Operator::Is | Operator::OneOf => listed,
            Operator::IsNot | Operator::NoneOf => !listed,
        }
    }

    /// Reads a matcher at the start of a text; gives what follows too.
    fn take(text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !is_name_char(c))?;
        let (label, rest) = text.split_at(end);
        let (sign, operator) =
            Operator::SIGNS.into_iter().find(|(s, _)| rest.trim_start().starts_with(s))?;
        let quoted = rest.trim_start().strip_prefix(sign)?.trim_start().strip_prefix('"')?;
        let (value, rest) = take_quoted(quoted)?;
        let values = match operator {
            Operator::Is | Operator::IsNot => vec![value],
            Operator::OneOf | Operator::NoneOf => alternatives(&value)?,
        };
        is_name(label).then(|| (Self { label: label.to_owned(), operator, values }, rest))
    }
}

impl Operator {
    /// Longer signs first: `=` begins `=~`.
    const SIGNS: [(&str, Self); 4] =
        [("=~", Self::OneOf), ("!~", Self::NoneOf), ("!=", Self::IsNot), ("=", Self::Is)];

    fn sign(self) -> &'static str {
        match self {
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::OneOf => "=~",
            Self::NoneOf => "!~",
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (name, matchers) = match text.trim().split_once('{') {
            None => (text.trim(), Some(Vec::new())),
            Some((name, inside)) => (name.trim(), take_matchers(inside)),
        };
        match matchers {
            Some(matchers) if is_name(name) => Ok(Self { name: name.to_owned(), matchers }),
            _ => Err(SelectorError),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, Matcher { label, operator, values }) in self.matchers.iter().enumerate() {
            let value =
                values.join("|").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if i == 0 { '{' } else { ',' };
            write!(f, "{open}{label}{}\"{value}\"", operator.sign())?;
        }
        if self.matchers.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

/// Reads what follows the opening brace, up to the closing one, which must be the last thing.
fn take_matchers(mut rest: &str) -> Option<Vec<Matcher>> {
    let mut matchers = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return after.is_empty().then_some(matchers);
        }
        let (matcher, after) = Matcher::take(rest)?;
        matchers.push(matcher);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None => after.starts_with('}').then_some(after)?,
        };
    }
}

/// Reads a quoted value after its opening quote; gives what follows the closing one too.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

/// Splits `a|b`; nothing when an alternative is more than a plain text.
fn alternatives(value: &str) -> Option<Vec<String>> {
    let plain = !value.contains(['.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '^', '$', '\\']);
    plain.then(|| value.split('|').map(str::to_owned).collect())
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

fn is_name(text: &str) -> bool {
    text.chars().all(is_name_char) && text.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let key = SeriesKey::new("reads_total", labels.iter().copied());
        selector.parse::<Selector>().unwrap().matches(&key)
    }

    #[test]
    fn all_matchers_must_hold() {
        let replica = [("source", "replica"), ("server", "r 1")];
        assert!(selects("reads_total", &replica));
        assert!(selects(r#"reads_total{source="replica",server="r 1"}"#, &replica));
        assert!(!selects(r#"reads_total{source="replica", server="r 2"}"#, &replica));
        assert!(!selects("writes_total", &replica));
    }

    #[test]
    fn every_operator_matches_as_in_prometheus() {
        let primary = [("source", "primary")];
        assert!(selects(r#"reads_total{source=~"replica|primary"}"#, &primary));
        assert!(!selects(r#"reads_total{source=~"replica|prim"}"#, &primary), "whole values only");
        assert!(!selects(r#"reads_total{source!="primary"}"#, &primary));
        assert!(!selects(r#"reads_total{source!~"replica|primary"}"#, &primary));
        assert!(selects(r#"reads_total{absent=""}"#, &primary), "no label is an empty value");
    }

    #[test]
    fn what_is_printed_parses_back() {
        for text in ["up", r#"a:b{c="d"}"#, r#"x{y=~"a|b",z!="q\"\\\n"}"#, r#"x{y!~"a"}"#] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_could_match_by_surprise_is_refused() {
        for bad in [
            "",
            "9x",
            "x{",
            "x}",
            "x{y}",
            "x{y=z}",
            r#"x{y="z"} 5"#,
            r#"x{y="z" q="r"}"#,
            r#"x{y=~"a.*"}"#,
            r#"x{y="z}"#,
            r#"{y="z"}"#,
            r#"x{="z"}"#,
            r#"x{y=="z"}"#,
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?} must not be a selector");
        }
    }
}
