//! Layers, checks, and the token secret.

use std::collections::BTreeSet;

use figment::Figment;
use secrecy::SecretString;

use super::Config;
use super::environment::Environment;
use super::read::section;
use super::sources::{self, Sources};
use crate::events::Shard;

const SECRET_VARIABLE: &str = "PLIMSOLL_BACKEND_TOKEN_SECRET";
/// An HS256 key shorter than the hash is weaker than the hash.
const SECRET_BYTES_MIN: usize = 32;

/// Why the program cannot start with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One line per problem.
    #[error("settings:\n  {}\nhelp: every setting is explained in config/default.toml", .0.join("\n  "))]
    Invalid(Vec<String>),
    /// The file is not there.
    #[error("read settings from {0}: no such file\nhelp: give its path with --config")]
    NoFile(std::path::PathBuf),
    /// Without it no token could be checked.
    #[error(
        "{SECRET_VARIABLE}: expected at least {SECRET_BYTES_MIN} bytes, found {found}\n\
         help: set it to the key that signs the bearer tokens"
    )]
    Secret {
        /// Length found, in bytes.
        found: usize,
    },
}

/// The key of the bearer tokens; an error when it is missing or shorter than 32 bytes.
pub fn token_secret_from_env() -> Result<SecretString, ConfigError> {
    let secret = std::env::var(SECRET_VARIABLE).unwrap_or_default();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(ConfigError::Secret { found: secret.len() });
    }
    Ok(SecretString::from(secret))
}

impl Config {
    /// Defaults, then a text in the form of the file; variables are left out.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Sources::of(Environment::default(), &[]).with_text("of this program", text).load()
    }

    /// What types alone cannot rule out.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut above_zero = |name: &str, value: u64| {
            if value == 0 {
                problems.push(format!("{name} = 0: expected a number from 1 up"));
            }
        };
        let (store, projections) = (&self.event_store, &self.projections);
        above_zero("server.request_timeout_ms", self.server.request_timeout_ms.0);
        above_zero("server.in_flight_max", self.server.in_flight_max as u64);
        above_zero("server.connections_max", self.server.connections_max as u64);
        above_zero("server.head_timeout_ms", self.server.head_timeout_ms.0);
        above_zero("server.body_bytes_max", self.server.body_bytes_max as u64);
        above_zero("event_store.queue_commands", store.queue_commands as u64);
        above_zero("event_store.batch_commands_max", store.batch_commands_max as u64);
        above_zero("event_store.statement_timeout_ms", store.statement_timeout_ms.0);
        above_zero("event_store.feed_batches", store.feed_batches as u64);
        above_zero("projections.batch_events_max", projections.batch_events_max as u64);
        above_zero("projections.transaction_timeout_ms", projections.transaction_timeout_ms.0);
        above_zero("projections.tries_before_paused", projections.tries_before_paused.into());
        above_zero("projections.retry_first_ms", projections.retry_first_ms.0);
        above_zero("cache.warm_queue", self.cache.warm_queue as u64);
        if !(1..=Shard::COUNT).contains(&store.appenders) {
            let (appenders, most) = (store.appenders, Shard::COUNT);
            problems.push(format!(
                "event_store.appenders = {appenders}: expected a number from 1 to {most}, the number of shards"
            ));
        }
        problems.extend(self.features.problems());
        problems.extend(self.jobs.problems());
        problems.extend(self.snapshots.problems());
        problems.extend(self.following.problems());
        problems.extend(self.pubsub.problems());
        problems.extend(self.objects.problems(self.server.request_timeout_ms));
        problems.extend(self.database.replica_choice.problems());
        problems.extend(self.partitions.problems());
        problems.extend(self.monitoring.problems());
        problems.extend(self.logs.problems());
        problems.extend(self.database.pools.problems());
        problems.extend(self.resilience.problems());
        problems.extend(self.ota.problems());
        problems.extend(self.contradictions());
        problems.extend(self.exposed());
        problems
    }

    /// Settings that are sound alone but not together.
    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut names = BTreeSet::new();
        for name in self.database.replicas.iter().map(|replica| replica.name.as_str()) {
            let is_label = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_label || matches!(name, "primary" | "cache") {
                problems.push(format!(
                    "database.replicas: name {name:?}: expected visible ASCII characters, other than \"primary\" and \"cache\""
                ));
            } else if !names.insert(name) {
                problems.push(format!("database.replicas: name {name:?}: given twice"));
            }
        }
        if self.projections.retry_first_ms > self.projections.retry_max_ms {
            problems.push("projections.retry_first_ms: above retry_max_ms".to_owned());
        }
        let calls = [
            ("resilience.forwarding", &self.resilience.forwarding),
            ("ota.calls", &self.ota.calls),
        ];
        for (name, calls) in calls {
            // Else the request would end first, and the breaker would never learn that the other is slow.
            if calls.timeout_ms >= self.server.request_timeout_ms {
                problems.push(format!("{name}.timeout_ms: not below server.request_timeout_ms"));
            }
        }
        problems
    }
}

impl Sources {
    /// All settings, checked whole: every problem is told, with where its value came from.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.load_with_origins().map(|(config, _)| config)
    }

    /// The same, and the layers that know each value's origin.
    pub(super) fn load_with_origins(&self) -> Result<(Config, Figment), ConfigError> {
        let layers = self.layers()?;
        let mut problems = unknown_sections(&layers);
        let config = sections(&layers, self.environment(), &mut problems);
        if let Some(config) = &config {
            let found = config.problems().into_iter();
            problems.extend(found.map(|problem| with_origin(&layers, problem)));
        }
        match config {
            Some(config) if problems.is_empty() => Ok((config, layers)),
            _ => Err(ConfigError::Invalid(problems)),
        }
    }
}

/// A problem begins with the name of its setting; says where that came from.
fn with_origin(layers: &Figment, problem: String) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let name = problem.split(|c| !is_name(c)).next().unwrap_or_default();
    match sources::origin(layers, name) {
        Some(origin) => format!("{problem} ({origin})"),
        None => problem,
    }
}

/// The sections of [`Config`]: each is a field of the same name, read before the first problem ends it, so that all
/// problems are told at once.
macro_rules! sections {
    ($($name:ident),* $(,)?) => {
        const SECTIONS: &[&str] = &[$(stringify!($name)),*];

        fn sections(
            layers: &Figment,
            environment: Environment,
            problems: &mut Vec<String>,
        ) -> Option<Config> {
            let defaults = sources::defaults();
            $(let $name = section(layers, &defaults, stringify!($name), problems);)*
            Some(Config { environment, $($name: $name?),* })
        }
    };
}

sections!(
    server,
    auth,
    logs,
    monitoring,
    features,
    database,
    event_store,
    snapshots,
    projections,
    following,
    partitions,
    cache,
    objects,
    jobs,
    pubsub,
    services,
    resilience,
    ota,
);

fn unknown_sections(layers: &Figment) -> Vec<String> {
    match layers.extract::<figment::value::Dict>() {
        Ok(tree) => {
            let unknown = tree.keys().filter(|key| !SECTIONS.contains(&key.as_str()));
            let named = unknown.map(|key| {
                let origin = sources::origin(layers, key).unwrap_or_default();
                format!("[{key}] ({origin}): no such section; known are {}", SECTIONS.join(", "))
            });
            named.collect()
        }
        Err(errors) => errors.into_iter().map(|error| error.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete_and_sound() {
        let config = Config::from_toml("").unwrap();
        assert_eq!(config.server.listen.port(), 8080);
        assert!(config.database.replicas.is_empty());
    }

    #[test]
    fn a_file_names_servers() {
        let config = Config::from_toml(
            "[database.primary]\nhost = \"/s\"\nport = 5433\n\
             [[database.replicas]]\nname = \"replica-1\"\nhost = \"/s\"\nport = 5434\n",
        )
        .unwrap();
        assert_eq!(config.database.primary.port, 5433);
        assert_eq!(config.database.replicas[0].name, "replica-1");
        assert_eq!(config.database.admin_user, "postgres");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let bad = "[server]\nlisten = \"nowhere\"\n[database.pools]\nwrite_connection = 1\n[casche]\nx = 1\n";
        let message = Config::from_toml(bad).unwrap_err().to_string();
        for part in ["server.listen", "write_connection", "[casche]"] {
            assert!(message.contains(part), "{part} missing in: {message}");
        }
    }

    /// Lines of the refusal, without its first and its help.
    fn told(sources: &Sources) -> Vec<String> {
        let refusal = sources.load().unwrap_err().to_string();
        let lines = refusal.lines().filter(|line| line.starts_with("  "));
        lines.map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn several_problems_of_one_section_are_told_at_once_each_with_its_origin() {
        let variables =
            [("BACKEND__SERVER__LISTEN", "nowhere"), ("BACKEND__SERVER__COLOUR", "red")];
        let file = "[server]\nin_flight_max = -1\n[cache]\nwarm_queue = 0\n\
            [[database.replicas]]\nname = \"a\"\nhost = \"/s\"\nport = 1\n\
            [[database.replicas]]\nname = \"b\"\nport = 1\n\
            [[database.replicas]]\nname = \"c\"\nhost = 5\nport = 1\n";
        let sources = Sources::of(Environment::Production, &variables).with_text("my.toml", file);
        insta::assert_snapshot!(told(&sources).join("\n"), @r"
        server.colour (variable BACKEND__SERVER__COLOUR): no such setting; known are listen, request_timeout_ms, in_flight_max, connections_max, head_timeout_ms, body_bytes_max, trusted_network, drain_timeout_ms, read_your_writes_wait_ms
        server.in_flight_max (file my.toml): invalid value signed int `-1`, expected usize
        server.listen (variable BACKEND__SERVER__LISTEN): invalid socket address syntax
        database.replicas.1 (file my.toml): missing field `host`
        database.replicas.2.host (file my.toml): invalid type: found signed int `5`, expected a string
        cache.warm_queue = 0: expected a number from 1 up (file my.toml)
        ");
    }

    #[test]
    fn each_layer_goes_over_the_one_before() {
        let slow = |sources: &Sources| sources.load().unwrap().monitoring.slow_request_ms.0;
        let file = "[monitoring]\nslow_request_ms = 7\n";
        let variable = [("BACKEND__MONITORING__SLOW_REQUEST_MS", "8")];
        assert_eq!(slow(&Sources::of(Environment::Development, &[])), 0);
        assert_eq!(slow(&Sources::of(Environment::Production, &[])), 500);
        let over = Sources::of(Environment::Production, &[]).with_text("my.toml", file);
        assert_eq!(slow(&over), 7);
        let over = Sources::of(Environment::Production, &variable).with_text("my.toml", file);
        assert_eq!(slow(&over), 8);
    }

    #[test]
    fn flags_are_read_from_plain_variables_too() {
        let flags = |variables: &[(&str, &str)]| {
            Sources::of(Environment::default(), variables).load().unwrap().features
        };
        assert!(flags(&[]).use_read_replicas);
        assert!(!flags(&[("USE_READ_REPLICAS", "false")]).use_read_replicas);
        assert!(!flags(&[("ENABLE_PARTITION_MAINTENANCE", "0")]).enable_partition_maintenance);
        assert!(flags(&[("USE_PARTITIONED_TABLES", "1")]).use_partitioned_tables);
        let legacy = Sources::of(Environment::default(), &[("USE_PARTITIONED_TABLES", "0")]);
        let refused = told(&legacy).join("\n");
        assert!(refused.contains("nothing reads them yet"), "{refused}");
        let odd = Sources::of(Environment::default(), &[("USE_READ_REPLICAS", "perhaps")]);
        let told = told(&odd).join("\n");
        assert!(told.contains("features.use_read_replicas (variable USE_READ_REPLICAS)"), "{told}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_refused_by_its_name() {
        let sources = Sources::of(Environment::default(), &[]).with_text("my.toml", "[server\n");
        let message = sources.load().unwrap_err().to_string();
        assert!(message.contains("file my.toml: "), "{message}");
    }

    #[test]
    fn contradictions_are_refused() {
        let bad = "[projections]\nretry_first_ms = 9000\nbatch_events_max = 0\n\
                   tries_before_paused = 0\n\
                   [server]\nrequest_timeout_ms = 1000\n[ota.calls.breaker]\nfailure_ratio = 0.0\n\
                   [resilience.bulkheads]\nservices = { ota = 0 }\n\
                   [[database.replicas]]\nname = \"primary\"\nhost = \"/s\"\nport = 1\n\
                   [[database.replicas]]\nname = \"Köln\"\nhost = \"/s\"\nport = 2\n";
        let message = Config::from_toml(bad).unwrap_err().to_string();
        for part in [
            "retry_first_ms",
            "batch_events_max",
            "tries_before_paused",
            "resilience.forwarding.timeout_ms",
            "ota.calls.timeout_ms",
            "ota.calls.breaker.failure_ratio",
            "resilience.bulkheads.services.ota",
            "\"primary\"",
            "\"Köln\"",
        ] {
            assert!(message.contains(part), "{part} missing in: {message}");
        }
    }
}
