//! The target's address, and what a rendered path becomes in a request line.

use bytes::Bytes;
use hyper::Uri;
use reqwest::Url;

use super::request::RequestError;

/// A target's address in its parts.
#[derive(Debug)]
pub(crate) struct Address {
    /// `http://host:port`.
    origin: String,
    server: Uri,
    host: String,
    /// A path that comes before every operation's; mostly empty.
    prefix: String,
}

impl Address {
    /// From `http://host:port/prefix`, without a slash at the end. `example` is a path as it is written in a scenario: who is told
    /// that an address is wrong sees it where requests would have gone.
    pub(crate) fn new(base_url: &str, example: &str) -> Result<Self, RequestError> {
        let refused = |reason: String| RequestError::Address {
            address: format!("{base_url}{example}"),
            reason,
        };
        let url = Url::parse(base_url).map_err(|error| refused(error.to_string()))?;
        let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            return Err(refused("not http or https".to_owned()));
        };
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let origin = format!("{}://{host}", url.scheme());
        let server = Uri::try_from(&origin).map_err(|error| refused(error.to_string()))?;
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { origin, server, host, prefix })
    }

    /// Where connections go.
    pub(crate) fn server(&self) -> Uri {
        self.server.clone()
    }

    /// As the `Host` header says it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The target of a request: path and query, encoded as a browser does it.
    pub(crate) fn target(&self, path: String) -> Result<Uri, RequestError> {
        let path = if self.prefix.is_empty() { path } else { format!("{}{path}", self.prefix) };
        // What needs no encoding is not parsed as a URL, which would cost more than all the rest of a request's making.
        let encoded = if is_plain(&path) { path } else { self.encoded(&path)? };
        Uri::from_maybe_shared(Bytes::from(encoded)).map_err(|error| RequestError::Address {
            address: self.origin.clone(),
            reason: error.to_string(),
        })
    }

    fn encoded(&self, path: &str) -> Result<String, RequestError> {
        let address = format!("{}{path}", self.origin);
        let url = Url::parse(&address)
            .map_err(|error| RequestError::Address { address, reason: error.to_string() })?;
        Ok(match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        })
    }
}

/// Whether a URL with this path and query reads the same after parsing: only characters that are never encoded, and no
/// segment that begins with a dot.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let kept = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_~?=&:,+.".contains(byte);
    bytes.first() == Some(&b'/') && bytes.iter().all(kept) && !path.contains("/.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(base: &str) -> Address {
        Address::new(base, "/").unwrap()
    }

    #[test]
    fn odd_characters_are_encoded_and_a_fragment_stays_at_home() {
        let target = |path: &str| address("http://h:1").target(path.into()).unwrap().to_string();
        assert_eq!(target("/a b?c=ü"), "/a%20b?c=%C3%BC");
        assert_eq!(target("/a/../b#c"), "/b");
    }

    #[test]
    fn a_prefix_comes_first_and_a_standard_port_is_not_said() {
        let address = address("https://example.com:443/api");
        assert_eq!(address.target("/x".into()).unwrap(), "/api/x");
        assert_eq!(
            (address.host(), address.server().to_string().as_str()),
            ("example.com", "https://example.com/")
        );
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_a_url_would_say(path in "/[a-z0-9/._~?=&:,+%-]{0,12}") {
            let address = address("http://h:1");
            let sent = address.target(path.clone()).unwrap().to_string();
            prop_assert_eq!(sent, address.encoded(&path).unwrap());
        }
    }
}
