//! The settings in force, each with its origin. What a name says is a secret is not shown.

use std::fmt::Write;

use serde_json::json;
use toml::{Table, Value};

use super::load::ConfigError;
use super::sources::{self, Sources};

/// Parts of names whose values nobody should see.
const SECRETS: [&str; 4] = ["secret", "password", "credential", "token"];
pub(super) const HIDDEN: &str = "(hidden)";

/// A setting that is shown.
struct Shown {
    /// Sections, outermost first.
    section: String,
    name: String,
    value: Value,
    origin: String,
}

impl Sources {
    /// All settings as TOML, each with its origin as a comment.
    pub fn show_toml(&self) -> Result<String, ConfigError> {
        let mut text = format!("# environment: {}\n", self.environment());
        let mut section = String::new();
        for shown in self.shown()? {
            if shown.section != section {
                let _ = write!(text, "\n[{}]\n", shown.section);
                section.clone_from(&shown.section);
            }
            let _ = writeln!(text, "{} = {} # {}", shown.name, shown.value, shown.origin);
        }
        Ok(text)
    }

    /// All settings as one JSON object: `{"server.listen": {"value": …, "origin": …}, …}`.
    pub fn show_json(&self) -> Result<serde_json::Value, ConfigError> {
        let one = |shown: Shown| {
            let answer = json!({"value": shown.value, "origin": shown.origin});
            (format!("{}.{}", shown.section, shown.name), answer)
        };
        let settings: serde_json::Map<_, _> = self.shown()?.into_iter().map(one).collect();
        Ok(json!({"environment": self.environment(), "settings": settings}))
    }

    fn shown(&self) -> Result<Vec<Shown>, ConfigError> {
        let (config, layers) = self.load_with_origins()?;
        let tree = Table::try_from(&config).expect("settings are plain data");
        let mut found = Vec::new();
        flatten("", &tree, &mut |section, name, value| {
            let setting = format!("{section}.{name}");
            let origin = sources::origin(&layers, &setting).unwrap_or_else(|| "default".to_owned());
            let value = if is_secret(name) { Value::from(HIDDEN) } else { without_user(value) };
            found.push(Shown { section: section.to_owned(), name: name.to_owned(), value, origin });
        });
        Ok(found)
    }
}

/// Settings of a section, then those of the sections in it. What stands outside all sections is no setting.
pub(super) fn flatten(section: &str, table: &Table, found: &mut impl FnMut(&str, &str, &Value)) {
    for (name, value) in table {
        if !section.is_empty() && !value.is_table() {
            found(section, name, value);
        }
    }
    for (name, value) in table {
        if let Value::Table(inner) = value {
            let dot = if section.is_empty() { "" } else { "." };
            flatten(&format!("{section}{dot}{name}"), inner, found);
        }
    }
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|part| name.contains(part))
}

/// A URL may carry a name and a password.
fn without_user(value: &Value) -> Value {
    match value {
        Value::String(text) => match (text.find("://"), text.rfind('@')) {
            (Some(begin), Some(end)) if begin + 3 <= end => {
                Value::from(format!("{}{HIDDEN}{}", &text[..begin + 3], &text[end..]))
            }
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(without_user).collect::<Vec<_>>().into(),
        Value::Table(table) => {
            let hide = |(name, value): (&String, &Value)| {
                let shown = if is_secret(name) { Value::from(HIDDEN) } else { without_user(value) };
                (name.clone(), shown)
            };
            Value::Table(table.iter().map(hide).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn sources() -> Sources {
        let variables = [("BACKEND__SERVER__IN_FLIGHT_MAX", "7"), ("USE_READ_REPLICAS", "0")];
        let file = "[server]\nlisten = \"127.0.0.1:9\"\nin_flight_max = 5\n\
                    [[database.replicas]]\nname = \"r\"\nhost = \"/s\"\nport = 1\n";
        Sources::of(Environment::Production, &variables).with_text("my.toml", file)
    }

    #[test]
    fn each_value_says_where_it_came_from() {
        let text = sources().show_toml().unwrap();
        for line in [
            "# environment: production",
            "request_timeout_ms = 5000 # default",
            "listen = \"127.0.0.1:9\" # file my.toml",
            "in_flight_max = 7 # variable BACKEND__SERVER__IN_FLIGHT_MAX",
            "slow_request_ms = 500 # environment production",
            "use_read_replicas = false # variable USE_READ_REPLICAS",
            "replicas = [{ host = \"/s\", name = \"r\", port = 1 }] # file my.toml",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} missing in:\n{text}");
        }
        let json = sources().show_json().unwrap();
        let limit = &json["settings"]["server.in_flight_max"];
        assert_eq!(limit["value"], 7);
        assert_eq!(limit["origin"], "variable BACKEND__SERVER__IN_FLIGHT_MAX");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let text = sources().show_toml().unwrap();
        let again = Config::from_toml(&text).unwrap();
        assert_eq!(again.server.in_flight_max, 7);
        assert_eq!(again.database.replicas.len(), 1);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let tree: Table = toml::from_str(
            "url = \"http://me:pw1@host/\"\nplain = \"a@b\"\nlist = [{ access_password = \"pw2\" }]",
        )
        .unwrap();
        let shown = without_user(&Value::Table(tree)).to_string();
        assert!(!shown.contains("pw1") && !shown.contains("pw2"), "{shown}");
        assert!(shown.contains("http://(hidden)@host/") && shown.contains("a@b"), "{shown}");
        assert!(is_secret("secret_access_key") && is_secret("client_token"));
        assert!(!is_secret("statement_timeout_ms"));
    }
}
