//! What the command line may change of a scenario, under the same checks as the file.

use std::num::NonZeroU64;

use super::address::{check_address, may_share_secret, shown_url, trim_url};
use super::model::{HttpTarget, ReferenceTarget, Scenario, Target};
use super::parse::{ORGANISATIONS_MAX, SEED_MAX, check_whole_seconds};
use super::problem::{Place, Problem, Problems};
use super::target::{SERVICE, check_split, is_service};
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
    /// `--split`, each time it is given: services that a further process of the reference backend hosts.
    pub split: Vec<Vec<String>>,
}

impl Scenario {
    /// This scenario with some values changed.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut refuse = |flag, why: String| {
            problems.push(Problem { place: Place::Flag(flag), message: why });
        };
        if let Some(organisations) = overrides.organisations {
            if organisations.get() > ORGANISATIONS_MAX {
                let why = format!("{organisations}: expected at most {ORGANISATIONS_MAX}");
                refuse("--organisations", why);
            }
            self.population.organisations = organisations;
        }
        if let Some(duration) = overrides.duration {
            if let Err(expected) = check_whole_seconds(duration, Micros::from_secs(1)) {
                refuse("--duration", format!("{duration}: expected {expected}"));
            }
            if self.load.steps.is_some() {
                let why =
                    "the load has steps; how long each takes is load.steps.each in the scenario";
                refuse("--duration", format!("{duration}: {why}"));
            }
            self.load.measure = duration;
        }
        if let Some(seed) = overrides.seed {
            if seed > SEED_MAX {
                refuse("--seed", format!("{seed}: expected at most {SEED_MAX}"));
            }
            self.seed = seed;
        }
        if let Some(url) = &overrides.target_url {
            match self.target.moved_to(url) {
                Ok(target) => self.target = target,
                Err(why) => refuse("--target", why),
            }
        }
        if !overrides.split.is_empty() {
            match self.target.split(&overrides.split) {
                Ok(target) => self.target = target,
                Err(why) => refuse("--split", why),
            }
        }
        Problems::new(problems).map_or(Ok(self), Err)
    }
}

impl Target {
    /// The reference backend in more processes. Else why not.
    fn split(&self, split: &[Vec<String>]) -> Result<Self, String> {
        let Self::Reference(old) = self else {
            return Err(
                "only the reference backend is started by a run, and can be split".to_owned()
            );
        };
        if let Some(odd) = split.iter().flatten().find(|service| !is_service(service)) {
            return Err(format!("{odd:?}: expected {SERVICE}"));
        }
        check_split(split)?;
        Ok(Self::Reference(ReferenceTarget { split: split.to_vec(), ..old.clone() }))
    }

    /// The same service at another address; its figures move along when they were at the old one. Else why not.
    fn moved_to(&self, url: &str) -> Result<Self, String> {
        let Self::Http(old) = self else {
            return Err("cannot stand in for the reference backend, whose tokens and databases belong to a stack of \
                the run's own; to drive a service that already runs, write a scenario with target.url"
                .to_owned());
        };
        check_address(url).map_err(|why| format!("{}: {why}", shown_url(url)))?;
        let url = trim_url(url);
        if let Some(variable) = &old.bearer_token_env
            && !may_share_secret(&old.url, &url)
        {
            return Err(format!(
                "{url}: the token in {variable} is for {}, and is sent nowhere else; \
                 write a scenario for the other service",
                old.url
            ));
        }
        let metrics = old.metrics.as_ref().map(|metrics| match metrics.strip_prefix(&old.url) {
            Some(path) if path.starts_with('/') => format!("{url}{path}"),
            _ => metrics.clone(),
        });
        Ok(Self::Http(HttpTarget { url, metrics, ..old.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::builtin;

    fn smoke() -> Scenario {
        let (file, text) = builtin("smoke").unwrap();
        Scenario::parse(file, text).unwrap()
    }

    /// A scenario of a service that already runs, with these keys in its target.
    fn service(target: &str) -> Scenario {
        let text = format!(
            "name = \"x\"\npopulation.organisations = 1\nload.measure = \"1s\"\ntarget = {{ {target} }}\n\
             operation = [{{ name = \"x\", rate = \"1/s\", request.path = \"/\" }}]\n\
             gates.all = [\"p95 < 1s\"]\n"
        );
        Scenario::parse("x.toml", &text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn only_the_reference_backend_can_be_split_and_each_service_once() {
        let split = |scenario: Scenario, lists: &[&[&str]]| {
            let split = lists.iter().map(|l| l.iter().map(|s| (*s).to_owned()).collect()).collect();
            scenario
                .with(&Overrides { split, ..Overrides::default() })
                .map(|changed| changed.target)
        };
        let refusal = |scenario, lists| split(scenario, lists).unwrap_err().to_string();
        let lists: &[&[&str]] = &[&["revenues", "expenses"], &["read-models"]];
        match split(smoke(), lists).unwrap() {
            Target::Reference(target) => assert_eq!(target.split, lists),
            Target::Http(_) => panic!("expected the reference target"),
        }
        assert!(
            refusal(smoke(), &[&["cash"], &["cash"]]).contains("--split \"cash\" is named twice")
        );
        assert!(refusal(smoke(), &[&["Cash"]]).contains("name of a service"));
        let elsewhere = service("url = \"http://127.0.0.1:1\"");
        assert!(refusal(elsewhere, lists).contains("only the reference backend"));
    }

    fn target_at(url: &str) -> Overrides {
        Overrides { target_url: Some(url.to_owned()), ..Overrides::default() }
    }

    fn moved(scenario: Scenario, url: &str) -> HttpTarget {
        match scenario.with(&target_at(url)).unwrap_or_else(|why| panic!("{why}")).target {
            Target::Http(http) => http,
            Target::Reference(_) => panic!("expected an HTTP target"),
        }
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
            split: Vec::new(),
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
            split: Vec::new(),
        };
        insta::assert_snapshot!(service("url = \"http://h\"").with(&overrides).unwrap_err(), @r#"
        --organisations 18446744073709551615: expected at most 1000000000
        --duration 1.5s: expected whole seconds, 1 to 24h, like "60s"
        --seed 18446744073709551615: expected at most 9223372036854775807
        --target localhost:8080: expected an http or https address, like "http://127.0.0.1:8080"
        "#);
    }

    #[test]
    fn a_load_in_steps_has_its_own_length() {
        let mut scenario = smoke();
        scenario.load.steps = Some(crate::scenario::Steps {
            percents: vec![100, 200],
            each: Micros::from_secs(4),
            settle: Micros::default(),
        });
        let longer = Overrides { duration: Some(Micros::from_secs(60)), ..Overrides::default() };
        let refused = scenario.with(&longer).unwrap_err().to_string();
        assert!(refused.contains("--duration") && refused.contains("load.steps.each"), "{refused}");
    }

    #[test]
    fn no_address_stands_in_for_the_reference_backend() {
        let refused = smoke().with(&target_at("http://127.0.0.1:8080")).unwrap_err().to_string();
        assert!(refused.contains("--target") && refused.contains("target.url"), "{refused}");
    }

    #[test]
    fn figures_move_with_the_service_they_belong_to() {
        let at_the_service = service("url = \"http://one\", metrics = \"http://one/metrics\"");
        let http = moved(at_the_service, "http://two/");
        assert_eq!(http.url, "http://two");
        assert_eq!(http.metrics.as_deref(), Some("http://two/metrics"));
        let elsewhere = service("url = \"http://one\", metrics = \"http://figures/metrics\"");
        let http = moved(elsewhere, "http://two");
        assert_eq!(http.metrics.as_deref(), Some("http://figures/metrics"));
    }

    #[test]
    fn a_token_is_sent_to_its_own_host_alone_and_never_less_guarded() {
        let with_token =
            || service("url = \"https://api.example.com\", bearer_token_env = \"API_TOKEN\"");
        let same = moved(with_token(), "https://API.example.com:8443/v2");
        assert_eq!(same.bearer_token_env.as_deref(), Some("API_TOKEN"));
        for other in ["https://example.com", "http://api.example.com", "https://api.example.com.x"]
        {
            let refused = with_token().with(&target_at(other)).unwrap_err().to_string();
            assert!(refused.contains("API_TOKEN"), "{refused}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let scenario = service("url = \"http://one\"");
        let refused = scenario.with(&target_at("http://me:hunter2@h")).unwrap_err().to_string();
        assert!(refused.contains("bearer_token_env") && !refused.contains("hunter2"), "{refused}");
    }
}
