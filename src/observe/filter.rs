//! Which of a target's series are kept. A service may offer thousands that nobody asked for.

use crate::archive::SeriesKey;
use crate::scenario::{Selector, SignalSource, Target};

/// A choice of series.
#[derive(Debug, Clone)]
pub enum SeriesFilter {
    /// Those whose name begins so.
    Prefix(&'static str),
    /// Those that any of the selectors matches.
    Selected(Vec<Selector>),
}

impl SeriesFilter {
    /// What the signals of a target need: of the reference backend all its own series.
    pub fn of(target: &Target) -> Self {
        let Target::Http(http) = target else { return Self::Prefix("backend_") };
        let parse = |text: &String| -> Selector {
            text.parse().expect("a scenario's selectors have been checked")
        };
        let selectors = http.signals.sources.values().flat_map(|source| match source {
            SignalSource::Ratio { part, of } => vec![parse(part), parse(of)],
            SignalSource::Rate { of } | SignalSource::Gauge { of, .. } => vec![parse(of)],
            SignalSource::Histogram { of, .. } => {
                ["_bucket", "_sum", "_count"].map(|part| parse(of).with_suffix(part)).to_vec()
            }
        });
        Self::Selected(selectors.collect())
    }

    /// Whether a series is kept.
    pub(super) fn keeps(&self, key: &SeriesKey) -> bool {
        match self {
            Self::Prefix(prefix) => key.name.starts_with(prefix),
            Self::Selected(selectors) => selectors.iter().any(|selector| selector.matches(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn kept(target: &str) -> Vec<String> {
        let text = format!(
            "name = \"x\"\npopulation.organisations = 1\nload.measure = \"1s\"\ntarget = {target}\n\
             operation = [{{ name = \"x\", rate = \"1/s\", request.path = \"/\" }}]\ngates.all = [\"max < 1s\"]"
        );
        let filter = SeriesFilter::of(&Scenario::parse("x.toml", &text).unwrap().target);
        let key = |name, kind| SeriesKey::new(name, [("kind", kind), ("le", "1")]);
        let keys = [
            "backend_reads_total",
            "hits_total",
            "query_seconds_bucket",
            "query_seconds_sum",
            "query_bucket",
        ]
        .map(|name| ["a", "b"].map(|kind| key(name, kind)));
        let shown = |key: &SeriesKey| format!("{} {}", key.name, key.labels["kind"]);
        keys.as_flattened().iter().filter(|key| filter.keeps(key)).map(shown).collect()
    }

    #[test]
    fn the_reference_backend_keeps_its_own() {
        assert_eq!(
            kept("{ kind = \"reference\" }"),
            ["backend_reads_total a", "backend_reads_total b"]
        );
    }

    #[test]
    fn of_another_service_only_what_its_signals_select_is_kept() {
        let signals = r#"{ hits_rate = { rate = "hits_total" }, query_ms = { histogram = 'query_seconds{kind="a"}', quantile = 0.5 } }"#;
        let target =
            format!("{{ url = \"http://h\", metrics = \"http://h/m\", signals = {signals} }}");
        assert_eq!(
            kept(&target),
            ["hits_total a", "hits_total b", "query_seconds_bucket a", "query_seconds_sum a"]
        );
        assert!(kept("{ url = \"http://h\" }").is_empty());
    }
}
