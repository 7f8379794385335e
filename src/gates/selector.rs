//! Which series: `backend_reads_total{source=~"replica|primary",server!="cache"}`, a subset of Prometheus' selectors.
//!
//! `=` `!=` `=~` `!~`; the texts of `=~` and `!~` are alternatives, not regular expressions: no name in use needs more.

use std::str::FromStr;

use crate::archive::{Series, SeriesKey, Timeline};

/// A name and conditions on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    name: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    label: String,
    alternatives: Vec<String>,
    /// Whether the label must be one of the alternatives, or none of them.
    wanted: bool,
}

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No name, or braces that do not match.
    #[error("expected a series, like `name` or `name{{label=\"value\"}}`")]
    Shape,
    /// A condition that cannot be read.
    #[error(
        "condition {0:?}: expected label=\"value\", label!=\"value\" or label=~\"one|another\""
    )]
    Condition(String),
    /// A regular expression.
    #[error("condition {0:?}: only alternatives are understood, like label=~\"one|another\"")]
    Pattern(String),
}

impl Selector {
    /// The series of a timeline that match.
    pub fn matching<'a>(&'a self, timeline: &'a Timeline) -> impl Iterator<Item = &'a Series> {
        timeline.series.iter().filter(|series| self.matches(&series.key))
    }

    /// The same conditions on a series whose name ends in `suffix`: a histogram's `_bucket`.
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self { name: format!("{}{suffix}", self.name), conditions: self.conditions.clone() }
    }

    fn matches(&self, key: &SeriesKey) -> bool {
        key.name == self.name && self.conditions.iter().all(|condition| condition.holds(key))
    }
}

impl Condition {
    /// As in Prometheus, an absent label is an empty one.
    fn holds(&self, key: &SeriesKey) -> bool {
        let value = key.label(&self.label).unwrap_or_default();
        self.alternatives.iter().any(|one| one == value) == self.wanted
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let text = text.trim();
        let (name, inside) = match text.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').ok_or(SelectorError::Shape)?),
            None => (text, ""),
        };
        let name = name.trim_end();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || digit_first || !name.chars().all(allowed) {
            return Err(SelectorError::Shape);
        }
        let mut conditions = Vec::new();
        let mut rest = inside.trim();
        while !rest.is_empty() {
            let (condition, after) = parse_condition(rest)?;
            conditions.push(condition);
            rest = match after.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if after.is_empty() => after,
                None => return Err(SelectorError::Condition(after.to_owned())),
            };
        }
        Ok(Self { name: name.to_owned(), conditions })
    }
}

/// Reads one condition; gives what follows it.
fn parse_condition(text: &str) -> Result<(Condition, &str), SelectorError> {
    let bad = || SelectorError::Condition(text.to_owned());
    let sign = text.find(['=', '!']).ok_or_else(bad)?;
    let (label, rest) = (text[..sign].trim(), &text[sign..]);
    let quote = rest.find('"').ok_or_else(bad)?;
    let (pattern, wanted) = match rest[..quote].trim_end() {
        "=" => (false, true),
        "!=" => (false, false),
        "=~" => (true, true),
        "!~" => (true, false),
        _ => return Err(bad()),
    };
    let (value, after) = rest[quote + 1..].split_once('"').ok_or_else(bad)?;
    let plain_label = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if label.is_empty() || !plain_label || value.contains('\\') {
        return Err(bad());
    }
    if pattern && value.contains(['.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '^', '$']) {
        return Err(SelectorError::Pattern(format!("{label}=~\"{value}\"")));
    }
    let alternatives = match pattern {
        true => value.split('|').map(str::to_owned).collect(),
        false => vec![value.to_owned()],
    };
    Ok((Condition { label: label.to_owned(), alternatives, wanted }, after.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SeriesKey {
        SeriesKey::new("reads_total", [("source", "replica"), ("server", "replica-1")])
    }

    #[test]
    fn conditions_select_as_in_prometheus() {
        for (text, expected) in [
            ("reads_total", true),
            ("reads_total{}", true),
            ("reads", false),
            (r#"reads_total{source="replica"}"#, true),
            (r#"reads_total{source="primary"}"#, false),
            (r#"reads_total{source!="primary"}"#, true),
            (r#"reads_total{source =~ "primary|replica", server="replica-1"}"#, true),
            (r#"reads_total{source=~"primary|cache"}"#, false),
            (r#"reads_total{source!~"primary|cache"}"#, true),
            (r#"reads_total{reason=""}"#, true),
            (r#"reads_total{reason!=""}"#, false),
            (r#"reads_total{server="a,b}"}"#, false),
        ] {
            let selector: Selector = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches(&key()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_says_what_is_wrong() {
        let error = |text: &str| text.parse::<Selector>().expect_err(text).to_string();
        for text in ["", "{}", "a b", "9a", "a{", r#"a{b="c""#] {
            assert_eq!(error(text), SelectorError::Shape.to_string(), "{text}");
        }
        for text in [r#"a{b}"#, r#"a{b=c}"#, r#"a{="c"}"#, r#"a{b=="c"}"#, r#"a{b="c" d="e"}"#] {
            assert!(error(text).starts_with("condition"), "{text}: {}", error(text));
        }
        assert!(error(r#"a{b=~"5.."}"#).contains("only alternatives"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z{}=~!|\", ]{0,30}") {
            let _ = text.parse::<Selector>();
        }
    }
}
