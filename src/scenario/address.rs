//! Addresses of services. Everything of a scenario is kept with its runs, so no address may hold a secret.

use std::borrow::Cow;

/// Why a text will not do as the address of a service or of its figures.
pub(super) fn check_address(text: &str) -> Result<(), &'static str> {
    let plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '#' | '\\'));
    let host = host(text).unwrap_or_default();
    if !plain || !host.starts_with(|c: char| c.is_alphanumeric() || c == '[') {
        Err("expected an http or https address, like \"http://127.0.0.1:8080\"")
    } else if authority(text).is_some_and(|authority| authority.contains('@')) {
        Err("expected no user or password, which would be kept with every run; \
             a token is taken from the environment, bearer_token_env = \"API_TOKEN\"")
    } else if text.contains('?') {
        Err("expected no query: it would be kept with every run, and may hold a token")
    } else {
        Ok(())
    }
}

/// An address for a message, without what may be secret in it.
pub(super) fn shown_url(text: &str) -> Cow<'_, str> {
    let shown = text.split('?').next().unwrap_or_default();
    match authority(text).and_then(|authority| authority.rsplit_once('@')) {
        Some((secret, _)) => Cow::Owned(shown.replacen(&format!("{secret}@"), "…@", 1)),
        None if shown.len() < text.len() => Cow::Owned(format!("{shown}?…")),
        None => Cow::Borrowed(text),
    }
}

/// A base address as it is kept: a path is appended, and it brings the slash.
pub(super) fn trim_url(text: &str) -> String {
    text.trim_end_matches('/').to_owned()
}

/// Whether a secret for one address may be sent to another: to the same host, and no less guarded on the way.
pub(super) fn may_share_secret(own: &str, other: &str) -> bool {
    let same =
        host(own).zip(host(other)).is_some_and(|(own, other)| own.eq_ignore_ascii_case(other));
    same && (other.starts_with("https://") || own.starts_with("http://"))
}

/// User, host and port.
fn authority(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    rest.split(['/', '?']).next()
}

fn host(url: &str) -> Option<&str> {
    let place = authority(url)?;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    // Colons inside brackets are the address's own.
    let end = place.rfind(']').map_or_else(|| place.find(':'), |bracket| Some(bracket + 1));
    end.map_or(Some(place), |end| place.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services_are_taken() {
        for good in ["http://h", "https://h.example:8443/v1/", "http://[::1]:80", "http://h/a@b"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_no_address_or_holds_a_secret_is_refused() {
        for bad in [
            "",
            "h:80",
            "ftp://h",
            "http://",
            "http:///x",
            "http://h#x",
            "http://h x",
            "http://:80",
            "http://u@h",
            "http://u:p@h/x",
            "http://h/?token=1",
            "http://h?x",
            "http://a\\@h",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(shown_url("http://u:p@h/x"), "http://…@h/x");
        assert_eq!(shown_url("http://u:p@h/x?t=1"), "http://…@h/x");
        assert_eq!(shown_url("http://h/x?t=1"), "http://h/x?…");
        assert_eq!(shown_url("http://h/x"), "http://h/x");
    }

    #[test]
    fn a_host_is_the_same_whatever_its_port_and_path() {
        assert!(may_share_secret("http://[::1]:80/a", "http://[::1]:81/b"));
        assert!(may_share_secret("http://h:1", "https://H"));
        assert!(!may_share_secret("https://h", "http://h"));
        assert!(!may_share_secret("http://[::1]:80", "http://[::2]:80"));
    }
}
