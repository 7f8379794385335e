//! Where the services are that this process does not host.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;
use serde::{Deserialize, Serialize};

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

/// A text that is no [`BaseUrl`].
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
            None => Err(NotABaseUrl(text)),
        }
    }
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
