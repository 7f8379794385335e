//! Who asks: a bearer token (JWT, HS256) that names one organisation. Checked here and nowhere else; what comes out is a
//! [`Claims`] that the rest of the code can trust.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::problem::Problem;
use crate::domain::OrgId;

/// What a token says.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Claims {
    /// The organisation that the bearer may act for.
    pub(super) org: OrgId,
    /// When the token ends, in seconds since 1970.
    pub(super) exp: u64,
}

/// Checks bearer tokens against one secret.
pub(crate) struct Verifier {
    key: DecodingKey,
    rules: Validation,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// A verifier for tokens signed with `secret`, whose length the configuration has checked; `leeway` is the tolerated
    /// difference between clocks.
    pub(crate) fn new(secret: &SecretString, leeway_seconds: u64) -> Self {
        // The algorithm is ours to choose, never the token's.
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = leeway_seconds;
        Self { key: DecodingKey::from_secret(secret.expose_secret().as_bytes()), rules }
    }

    /// The claims of the request's bearer token.
    pub(super) fn verify(&self, headers: &HeaderMap) -> Result<Claims, Problem> {
        let token = headers
            .get(AUTHORIZATION)
            .ok_or_else(|| Problem::unauthenticated("send `Authorization: Bearer <token>`"))?
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| {
                Problem::unauthenticated("the Authorization header is not `Bearer <token>`")
            })?;
        self.verify_token(token)
    }

    /// The claims of a token, however it came.
    pub(super) fn verify_token(&self, token: &str) -> Result<Claims, Problem> {
        jsonwebtoken::decode::<Claims>(token, &self.key, &self.rules)
            .map(|data| data.claims)
            .map_err(|error| {
                Problem::unauthenticated(match error.kind() {
                    ErrorKind::ExpiredSignature => "the token has expired",
                    ErrorKind::InvalidSignature => "the token's signature is wrong",
                    _ => "the token is not an HS256 JWT with `org` and `exp`",
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use jsonwebtoken::{EncodingKey, Header};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn verdict(header: Option<String>) -> Result<i64, String> {
        let verifier = Verifier::new(&SecretString::from(SECRET), 0);
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
        }
        verifier.verify(&headers).map(|claims| claims.org.get()).map_err(|p| p.detail.into_owned())
    }

    fn bearer(algorithm: Algorithm, claims: &serde_json::Value, secret: &str) -> Option<String> {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap();
        Some(format!("Bearer {token}"))
    }

    #[test]
    fn only_an_unexpired_token_of_ours_is_believed() {
        let live = serde_json::json!({"org": 7, "iat": 0, "exp": 32_503_680_000_u64});
        let dead = serde_json::json!({"org": 7, "iat": 0, "exp": 1});
        let nobody = serde_json::json!({"exp": 32_503_680_000_u64});
        let eternal = serde_json::json!({"org": 7});
        let refused = |header| verdict(header).unwrap_err();

        assert_eq!(verdict(bearer(Algorithm::HS256, &live, SECRET)), Ok(7));
        assert!(refused(None).contains("send"));
        assert!(refused(Some("Basic abc".into())).contains("not `Bearer"));
        assert!(refused(Some("Bearer abc".into())).contains("HS256 JWT"));
        assert!(refused(bearer(Algorithm::HS256, &dead, SECRET)).contains("expired"));
        assert!(refused(bearer(Algorithm::HS256, &nobody, SECRET)).contains("`org`"));
        assert!(refused(bearer(Algorithm::HS256, &eternal, SECRET)).contains("`exp`"));
        assert!(refused(bearer(Algorithm::HS384, &live, SECRET)).contains("HS256"));
        assert!(
            refused(bearer(Algorithm::HS256, &live, &SECRET.replace('0', "1"))).contains("wrong")
        );
    }
}
