//! Where the program runs: which overlay goes over the defaults, and what is refused where others can reach it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Config;

/// More would let a token live on for minutes after its end.
const LEEWAY_SECONDS_MAX: u64 = 60;

/// Where the program runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// On one's own machine, and in tests.
    #[default]
    Development,
    /// A rehearsal of production.
    Staging,
    /// Where real organisations are.
    Production,
}

impl Environment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// The name in `--environment` and `BACKEND_ENVIRONMENT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// The settings that differ from the defaults here, as TOML.
    pub(super) const fn overlay(self) -> &'static str {
        match self {
            Self::Development => include_str!("../../config/development.toml"),
            Self::Staging => include_str!("../../config/staging.toml"),
            Self::Production => include_str!("../../config/production.toml"),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no environment has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment {0:?}: expected one of {names}", names = Environment::ALL.map(Environment::name).join(", "))]
pub struct UnknownEnvironment(String);

impl FromStr for Environment {
    type Err = UnknownEnvironment;

    fn from_str(name: &str) -> Result<Self, UnknownEnvironment> {
        let found = Self::ALL.into_iter().find(|environment| environment.name() == name);
        found.ok_or_else(|| UnknownEnvironment(name.to_owned()))
    }
}

impl Config {
    /// What is sound on one's own machine and unsafe where others can reach it.
    pub(super) fn exposed(&self) -> Vec<String> {
        if self.environment == Environment::Development {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let mut refuse = |what: String, help: &str| {
            problems.push(format!("{what}: refused in {}; {help}", self.environment));
        };
        if !self.server.trusted_network {
            let private = "or set server.trusted_network = true if nobody else can listen in";
            if !self.server.listen.ip().is_loopback() {
                refuse(
                    format!("server.listen = \"{}\"", self.server.listen),
                    &format!(
                        "tokens would cross the network in plain text: listen on loopback behind a proxy that ends TLS, {private}"
                    ),
                );
            }
            let replicas = self.database.replicas.iter().map(|replica| &replica.host);
            let primary = std::iter::once(&self.database.primary.host);
            for (setting, host) in primary
                .map(|host| ("database.primary.host", host))
                .chain(replicas.map(|host| ("database.replicas", host)))
                .filter(|(_, host)| !is_local(host))
            {
                refuse(
                    format!("{setting} = {host:?}"),
                    &format!("connections carry no password: use a Unix socket, {private}"),
                );
            }
        }
        if self.auth.leeway_seconds > LEEWAY_SECONDS_MAX {
            refuse(
                format!("auth.leeway_seconds = {}", self.auth.leeway_seconds),
                &format!("expected at most {LEEWAY_SECONDS_MAX}"),
            );
        }
        if self.logs.filter.to_ascii_lowercase().contains("trace") {
            refuse(
                format!("logs.filter = {:?}", self.logs.filter),
                "libraries trace what they read from the network, tokens too",
            );
        }
        problems
    }
}

/// Whether a connection to it stays on this machine.
fn is_local(host: &str) -> bool {
    host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn refusals(environment: Environment, text: &str) -> String {
        let sources = Sources::of(environment, &[]);
        sources
            .with_text("test.toml", text)
            .load()
            .map_or_else(|e| e.to_string(), |_| String::new())
    }

    #[test]
    fn what_is_unsafe_in_production_is_refused_there_and_in_staging() {
        let bad = "[server]\nlisten = \"0.0.0.0:80\"\n[auth]\nleeway_seconds = 3600\n[logs]\nfilter = \"TRACE\"\n\
                   [database.primary]\nhost = \"db.example\"\nport = 5432\n\
                   [[database.replicas]]\nname = \"r\"\nhost = \"10.0.0.7\"\nport = 5432\n";
        for environment in [Environment::Staging, Environment::Production] {
            let told = refusals(environment, bad);
            for setting in [
                "server.listen",
                "primary.host",
                "replicas = \"10.0.0.7\"",
                "leeway_seconds",
                "logs.filter",
            ] {
                assert!(told.contains(setting), "{setting} missing in: {told}");
            }
        }
        assert_eq!(refusals(Environment::Development, bad), "");
        let private = "[server]\nlisten = \"0.0.0.0:80\"\ntrusted_network = true\n";
        assert_eq!(refusals(Environment::Production, private), "");
    }

    #[test]
    fn every_environment_is_sound_by_itself() {
        for environment in Environment::ALL {
            assert_eq!(environment.name().parse(), Ok(environment));
            assert_eq!(refusals(environment, ""), "");
        }
        assert!("prod".parse::<Environment>().unwrap_err().to_string().contains("production"));
    }
}
