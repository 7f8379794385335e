//! What the command line may change of a scenario, under the same checks as the file.

use std::num::NonZeroU64;

use super::model::{HttpTarget, Scenario, SignalSource, Signals, Target};
use super::parse::{ORGANISATIONS_MAX, SEED_MAX, check_whole_seconds};
use super::problem::{Place, Problem, Problems};
use super::target::{URL_EXPECTED, is_base_url, trim_url};
use crate::units::Micros;

/// Values from the command line; each one given stands in place of the file's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--organisations`: size of the population.
    pub organisations: Option<NonZeroU64>,
    /// `--duration`: the measured time; the warm-up stays.
    pub duration: Option<Micros>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--target`: address of a service that already runs.
    pub target_url: Option<String>,
}

impl Scenario {
    /// This scenario with some values changed.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut refuse = |flag, found: String, expected: String| {
            let message = format!("{found}: expected {expected}");
            problems.push(Problem { place: Place::Flag(flag), message });
        };
        if let Some(organisations) = overrides.organisations {
            if organisations.get() > ORGANISATIONS_MAX {
                let expected = format!("at most {ORGANISATIONS_MAX}");
                refuse("--organisations", organisations.to_string(), expected);
            }
            self.population.organisations = organisations;
        }
        if let Some(duration) = overrides.duration {
            if let Err(expected) = check_whole_seconds(duration, Micros::from_secs(1)) {
                refuse("--duration", duration.to_string(), expected);
            }
            self.load.measure = duration;
        }
        if let Some(seed) = overrides.seed {
            if seed > SEED_MAX {
                refuse("--seed", seed.to_string(), format!("at most {SEED_MAX}"));
            }
            self.seed = seed;
        }
        if let Some(url) = &overrides.target_url {
            if !is_base_url(url) {
                refuse("--target", url.clone(), URL_EXPECTED.to_owned());
            }
            self.target = self.target.moved_to(&trim_url(url));
        }
        Problems::new(problems).map_or(Ok(self), Err)
    }
}

impl Target {
    /// The same kind of service at another address; its figures move along when they were at the old one.
    fn moved_to(self, url: &str) -> Self {
        let url = url.to_owned();
        Self::Http(match self {
            Self::Reference(_) => HttpTarget {
                metrics: Some(format!("{url}/metrics")),
                url,
                bearer_token_env: None,
                signals: reference_signals(),
            },
            Self::Http(old) => {
                let metrics = old.metrics.map(|metrics| match metrics.strip_prefix(&old.url) {
                    Some(path) if path.starts_with('/') => format!("{url}{path}"),
                    _ => metrics,
                });
                HttpTarget { url, metrics, ..old }
            }
        })
    }
}

/// What a reference backend tells of its signals by itself. What only its databases know, a run against an address
/// cannot see: a gate on that has no data, and is inconclusive.
fn reference_signals() -> Signals {
    let ratio = |part: &str, of: &str| SignalSource::Ratio { part: part.into(), of: of.into() };
    let seconds_as_ms = |of: &str| SignalSource::Gauge { of: of.into(), scale: 1e3 };
    let sources = [
        (
            "cache_hit_ratio",
            ratio(r#"backend_cache_requests_total{outcome="hit"}"#, "backend_cache_requests_total"),
        ),
        (
            "replica_share",
            ratio(
                r#"backend_reads_total{source="replica"}"#,
                r#"backend_reads_total{source=~"replica|primary"}"#,
            ),
        ),
        ("projection_lag_ms", seconds_as_ms("backend_projection_lag_seconds")),
        ("replication_lag_ms", seconds_as_ms("backend_replica_lag_seconds")),
        (
            "projected_rate",
            SignalSource::Rate {
                of: r#"backend_projection_events_total{projection="finance"}"#.into(),
            },
        ),
        (
            "db_query",
            SignalSource::Histogram {
                of: "backend_db_query_duration_seconds".into(),
                quantile: 0.95,
                scale: 1e3,
            },
        ),
    ];
    Signals { sources: sources.map(|(name, source)| (name.to_owned(), source)).into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{builtin, names};

    fn smoke() -> Scenario {
        let (file, text) = builtin("smoke").unwrap();
        Scenario::parse(file, text).unwrap()
    }

    fn target_at(url: &str) -> Overrides {
        Overrides { target_url: Some(url.to_owned()), ..Overrides::default() }
    }

    #[test]
    fn nothing_given_changes_nothing() {
        assert_eq!(smoke().with(&Overrides::default()).unwrap(), smoke());
    }

    #[test]
    fn each_value_given_replaces_the_files() {
        let overrides = Overrides {
            organisations: NonZeroU64::new(7),
            duration: Some(Micros::from_secs(5)),
            seed: Some(99),
            target_url: None,
        };
        let scenario = smoke().with(&overrides).unwrap();
        assert_eq!(scenario.population.organisations.get(), 7);
        assert_eq!(scenario.load.measure, Micros::from_secs(5));
        assert_eq!(scenario.load.warm_up, smoke().load.warm_up);
        assert_eq!(scenario.seed, 99);
        assert_eq!(scenario.target, smoke().target);
    }

    #[test]
    fn all_bad_values_are_told_at_once() {
        let overrides = Overrides {
            organisations: NonZeroU64::new(u64::MAX),
            duration: Some(Micros::new(1_500_000)),
            seed: Some(u64::MAX),
            target_url: Some("localhost:8080".to_owned()),
        };
        insta::assert_snapshot!(smoke().with(&overrides).unwrap_err(), @r#"
        --organisations 18446744073709551615: expected at most 1000000000
        --duration 1.5s: expected whole seconds, 1 to 24h, like "60s"
        --seed 18446744073709551615: expected at most 9223372036854775807
        --target localhost:8080: expected an http or https address, like "http://127.0.0.1:8080"
        "#);
    }

    #[test]
    fn figures_move_with_the_service_they_belong_to() {
        let moved = smoke().with(&target_at("http://one/")).unwrap().with(&target_at("http://two"));
        let Target::Http(http) = moved.unwrap().target else { panic!("expected an HTTP target") };
        assert_eq!(
            (http.url.as_str(), http.metrics.as_deref()),
            ("http://two", Some("http://two/metrics"))
        );

        let mut elsewhere = smoke().with(&target_at("http://one")).unwrap();
        let Target::Http(http) = &mut elsewhere.target else { panic!("expected an HTTP target") };
        http.metrics = Some("http://figures/metrics".to_owned());
        let Target::Http(http) = elsewhere.with(&target_at("http://two")).unwrap().target else {
            panic!("expected an HTTP target")
        };
        assert_eq!(http.metrics.as_deref(), Some("http://figures/metrics"));
    }

    #[test]
    fn a_phase_can_be_aimed_at_an_address_stored_and_read_again() {
        for name in names() {
            let (file, text) = builtin(name).unwrap();
            let aimed = Scenario::parse(file, text).unwrap().with(&target_at("http://h")).unwrap();
            let again = Scenario::parse("stored.toml", &aimed.to_toml());
            assert_eq!(again.unwrap_or_else(|problems| panic!("{problems}")), aimed);
        }
    }
}
