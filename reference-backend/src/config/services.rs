//! Where the services are that this process does not host.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::show::HIDDEN;
use crate::services::Service;

/// Where services are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// The process that hosts each; requests are forwarded to it.
    pub urls: BTreeMap<Service, BaseUrl>,
}

/// Scheme, host and port of an HTTP server: `http://10.0.0.7:8080`. Paths are put behind it as they come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl(String);

/// A text that is no [`BaseUrl`]; without the name and the password that may stand in it.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}: expected http:// or https:// with a host and nothing after its port")]
pub struct NotABaseUrl(String);

impl BaseUrl {
    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port: `10.0.0.7:8080`.
    pub(crate) fn authority(&self) -> &str {
        self.0.split_once("://").map_or(self.as_str(), |(_, authority)| authority)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = NotABaseUrl;

    fn try_from(text: String) -> Result<Self, NotABaseUrl> {
        let bare = Url::parse(&text).ok().filter(|url| {
            let clean = url.username().is_empty() && url.password().is_none();
            let nothing_after =
                url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && clean && nothing_after
        });
        match bare {
            Some(url) => Ok(Self(url.as_str().trim_end_matches('/').to_owned())),
            None => Err(NotABaseUrl(without_user(&text))),
        }
    }
}

/// Also where the text has no scheme, and so is no URL yet.
fn without_user(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    let slashes = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{slashes}{HIDDEN}@{host}")
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_does_not_tell_the_password() {
        let refused = |text: &str| BaseUrl::try_from(text.to_owned()).unwrap_err().to_string();
        for (text, told) in [
            ("http://me:pw@host:1", "\"http://(hidden)@host:1\""),
            ("http://me:p@w@host/a", "\"http://(hidden)@host/a\""),
            ("me:pw@host:1", "\"(hidden)@host:1\""),
            ("ftp://host", "\"ftp://host\""),
        ] {
            assert!(refused(text).starts_with(told), "{}", refused(text));
        }
        let file = "[services.urls]\ncash = \"http://me:hunter2@host:1\"\n";
        let problem = crate::config::Config::from_toml(file).unwrap_err().to_string();
        assert!(problem.contains("(hidden)@host") && !problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn only_a_bare_server_is_a_base() {
        let base = |text: &str| BaseUrl::try_from(text.to_owned()).map(String::from).ok();
        assert_eq!(base("http://10.0.0.7:8080").as_deref(), Some("http://10.0.0.7:8080"));
        assert_eq!(base("https://cash.internal/").as_deref(), Some("https://cash.internal"));
        for bad in
            ["10.0.0.7:8080", "ftp://a", "http://", "http://a/b", "http://a?b", "http://u:p@a"]
        {
            assert_eq!(base(bad), None, "{bad}");
        }
    }
}
