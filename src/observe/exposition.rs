//! Reads the Prometheus text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Pure.
//!
//! Types, help and time stamps are of no use on an axis of our own, so only samples are taken. A text with one bad line
//! is refused whole, as Prometheus does: half a scrape would look like counters that stood still.

use std::collections::BTreeMap;

use crate::archive::SeriesKey;

/// A text that is not in the Prometheus format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the Prometheus text format at line {line}: {text:?}")]
pub struct ExpositionError {
    /// Counted from 1.
    pub line: usize,
    /// How the line begins.
    pub text: String,
}

/// All samples of a scrape, in its order; those that are not finite are left out, as nothing can be computed with them.
pub fn parse_exposition(text: &str) -> Result<Vec<(SeriesKey, f64)>, ExpositionError> {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut samples = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sample = parse_sample(line).ok_or_else(|| ExpositionError {
            line: index + 1,
            text: line.chars().take(SHOWN_CHARS_MAX).collect(),
        })?;
        samples.push(sample);
    }
    samples.retain(|(_, value)| value.is_finite());
    Ok(samples)
}

/// `name{label="value"} 1.5 1700000000000`: the time stamp, and an OpenMetrics exemplar, are passed over.
fn parse_sample(line: &str) -> Option<(SeriesKey, f64)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let (name, rest) = line.split_at(line.find(|c| !is_name(c))?);
    let starts_well = name.starts_with(|c: char| !c.is_ascii_digit());
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => parse_labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let rest = rest.split(" # ").next()?;
    let mut words = rest.split_ascii_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let stamp_is_number = words.next().is_none_or(|stamp| stamp.parse::<f64>().is_ok());
    let key = SeriesKey { name: name.to_owned(), labels };
    (starts_well && stamp_is_number && words.next().is_none()).then_some((key, value))
}

/// What follows the opening brace, up to the closing one; and what follows that.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (label, quoted) = rest.split_once('=')?;
        let (value, after) = parse_value(quoted.trim_start().strip_prefix('"')?)?;
        labels.insert(label.trim().to_owned(), value);
        let after = after.trim_start();
        rest = after.strip_prefix(',').or_else(|| after.starts_with('}').then_some(after))?;
    }
}

/// What follows the opening quote, up to the closing one; and what follows that.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped => escaped,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        let samples = parse_exposition(text).unwrap();
        let pair =
            |(key, value): (SeriesKey, f64)| format!("{} {:?} {value}", key.name, key.labels);
        samples.into_iter().map(pair).collect()
    }

    #[test]
    fn a_scrape_of_the_backend_is_read() {
        let samples = parse_exposition(include_str!("../../fixtures/scrapes/backend.txt")).unwrap();
        let value = |name: &str, labels: &[(&'static str, &'static str)]| {
            let key = SeriesKey::new(name, labels.iter().copied());
            samples.iter().find(|(k, _)| *k == key).map(|(_, value)| *value)
        };
        let reads = |source, server| {
            let labels = [("reason", "none"), ("server", server), ("source", source)];
            value("backend_reads_total", &labels)
        };
        assert_eq!(reads("replica", "replica-1"), Some(4210.0));
        assert_eq!(reads("cache", "cache"), Some(98_231.0));
        assert_eq!(reads("cache", "replica-1"), None);
        let bucket = [("kind", "read"), ("database", "finance"), ("le", "+Inf")];
        assert_eq!(value("backend_db_query_duration_seconds_bucket", &bucket), Some(8412.0));
        assert_eq!(value("backend_info", &[("version", "0.1.0")]), Some(1.0));
        assert_eq!(samples.len(), 18);
    }

    #[test]
    fn the_corners_of_the_format_are_read() {
        insta::assert_debug_snapshot!(listed(include_str!("../../fixtures/scrapes/corners.txt")), @r#"
        [
            "http_requests_total {\"code\": \"200\", \"method\": \"post\"} 1027",
            "http_requests_total {\"code\": \"400\", \"method\": \"post\"} 3",
            "msdos_file_access_time_seconds {\"error\": \"Cannot find file:\\n\\\"FILE.TXT\\\"\", \"path\": \"C:\\\\DIR\\\\FILE.TXT\"} 1458255915",
            "metric_without_timestamp_and_labels {} 12.47",
            "spaces {\"a\": \"b , }\", \"c\": \"d\"} -4.5",
            "empty {} 0",
            "tabbed {\"a\": \"1\"} 7",
            "with:colons {} 0.001",
            "exemplar_bucket {\"le\": \"0.1\"} 8",
        ]
        "#);
    }

    #[test]
    fn what_is_not_the_format_is_refused_with_its_line() {
        for bad in [
            "<html>",
            "a",
            "a b",
            "a{ 1",
            "a{b} 1",
            "a{b=\"c} 1",
            "a{b=\"c\" d=\"e\"} 1",
            "1a 1",
            "a 1 x",
            "a 1 2 3",
            "{\"a\": 1}",
        ] {
            let error = parse_exposition(&format!("# HELP a\na 1\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, 3, "{bad}");
        }
    }
}
