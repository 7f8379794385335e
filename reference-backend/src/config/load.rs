//! Layers, checks, and the token secret.

use std::collections::BTreeSet;
use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use super::Config;

const DEFAULTS: &str = include_str!("../../config/default.toml");
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
    /// Defaults, then the file, then the environment; checked whole.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut layers = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(ConfigError::NoFile(path.to_owned()));
            }
            layers = layers.merge(Toml::file_exact(path));
        }
        Self::from_layers(&layers.merge(Env::prefixed("BACKEND__").split("__")))
    }

    /// Defaults, then a text in the form of the file; the environment is left out.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_layers(&Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(text)))
    }

    fn from_layers(layers: &Figment) -> Result<Self, ConfigError> {
        let mut problems = unknown_sections(layers);
        let config = sections(layers, &mut problems);
        if let Some(config) = &config {
            problems.extend(config.problems());
        }
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::Invalid(problems)),
        }
    }

    /// What types alone cannot rule out.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut above_zero = |name: &str, value: u64| {
            if value == 0 {
                problems.push(format!("{name} = 0: expected a number from 1 up"));
            }
        };
        let pools = &self.database.pools;
        let (store, projections) = (&self.event_store, &self.projections);
        above_zero("server.request_timeout_ms", self.server.request_timeout_ms.0);
        above_zero("server.in_flight_max", self.server.in_flight_max as u64);
        above_zero("server.body_bytes_max", self.server.body_bytes_max as u64);
        above_zero("database.pools.write_connections", pools.write_connections.into());
        above_zero(
            "database.pools.primary_read_connections",
            pools.primary_read_connections.into(),
        );
        above_zero(
            "database.pools.replica_read_connections",
            pools.replica_read_connections.into(),
        );
        above_zero("database.pools.acquire_timeout_ms", pools.acquire_timeout_ms.0);
        above_zero("database.pools.statement_timeout_ms", pools.statement_timeout_ms.0);
        above_zero("event_store.queue_commands", store.queue_commands as u64);
        above_zero("event_store.batch_commands_max", store.batch_commands_max as u64);
        above_zero("event_store.statement_timeout_ms", store.statement_timeout_ms.0);
        above_zero("event_store.feed_batches", store.feed_batches as u64);
        above_zero("projections.batch_events_max", projections.batch_events_max as u64);
        above_zero("projections.transaction_timeout_ms", projections.transaction_timeout_ms.0);
        above_zero("projections.tries_before_paused", projections.tries_before_paused.into());
        above_zero("projections.retry_first_ms", projections.retry_first_ms.0);
        above_zero("cache.warm_queue", self.cache.warm_queue as u64);
        problems.extend(self.database.replica_choice.problems());
        problems.extend(self.partitions.problems());
        problems.extend(self.contradictions());
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
        problems
    }
}

/// The sections of [`Config`]: each is a field of the same name, read before the first problem ends it, so that all
/// problems are told at once.
macro_rules! sections {
    ($($name:ident),* $(,)?) => {
        const SECTIONS: &[&str] = &[$(stringify!($name)),*];

        fn sections(layers: &Figment, problems: &mut Vec<String>) -> Option<Config> {
            $(let $name = section(layers, stringify!($name), problems);)*
            Some(Config { $($name: $name?),* })
        }
    };
}

sections!(server, auth, logs, database, event_store, projections, partitions, cache,);

fn section<T: DeserializeOwned>(
    layers: &Figment,
    name: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    match layers.focus(name).extract() {
        Ok(value) => Some(value),
        Err(errors) => {
            problems.extend(errors.into_iter().map(|error| explain(name, &error)));
            None
        }
    }
}

/// `server.listen (file backend.toml): invalid socket address syntax`.
fn explain(section: &str, error: &figment::Error) -> String {
    let path: Vec<&str> =
        std::iter::once(section).chain(error.path.iter().map(String::as_str)).collect();
    let origin = error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref());
    let origin = origin.map(|source| format!(" ({source})")).unwrap_or_default();
    format!("{}{origin}: {}", path.join("."), error.kind)
}

fn unknown_sections(layers: &Figment) -> Vec<String> {
    match layers.extract::<figment::value::Dict>() {
        Ok(tree) => tree
            .keys()
            .filter(|key| !SECTIONS.contains(&key.as_str()))
            .map(|key| format!("[{key}]: no such section; known are {}", SECTIONS.join(", ")))
            .collect(),
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

    #[test]
    fn contradictions_are_refused() {
        let bad = "[projections]\nretry_first_ms = 9000\nbatch_events_max = 0\n\
                   tries_before_paused = 0\n\
                   [[database.replicas]]\nname = \"primary\"\nhost = \"/s\"\nport = 1\n\
                   [[database.replicas]]\nname = \"Köln\"\nhost = \"/s\"\nport = 2\n";
        let message = Config::from_toml(bad).unwrap_err().to_string();
        for part in
            ["retry_first_ms", "batch_events_max", "tries_before_paused", "\"primary\"", "\"Köln\""]
        {
            assert!(message.contains(part), "{part} missing in: {message}");
        }
    }
}
