//! Tokens: how a worker proves who it asks for. Secrets stay in [`SecretString`]; the one place that exposes them is
//! the pipe to the worker (see `frame`).

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::ids::OrgId;

/// How long a signed token is good for, in seconds.
const LIFETIME_S: u64 = 3600;

/// What is sent as `Authorization`. Serialised only into the pipe to a worker: never put it into a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// The same bearer token with every request.
    Bearer {
        /// The token.
        #[serde(serialize_with = "expose")]
        token: SecretString,
    },
    /// A JWT for the arrival's organisation, signed with HS256.
    Organisation {
        /// The key.
        #[serde(serialize_with = "expose")]
        secret: SecretString,
    },
}

fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// Why no token could be made. Says nothing of the secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// A header cannot carry the token.
    #[error(
        "the bearer token holds characters that a header cannot carry\nhelp: check the variable that holds it for line breaks"
    )]
    Header,
    /// The token could not be signed.
    #[error("sign a token: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// The claims of the reference backend.
#[derive(Serialize)]
struct Claims {
    org: u64,
    iat: u64,
    exp: u64,
}

/// Makes the `Authorization` of each request.
pub(crate) enum Tokens {
    None,
    Fixed(HeaderValue),
    Signed(Box<(Header, EncodingKey)>),
}

impl Tokens {
    /// Prepares keys and fixed values once.
    pub(crate) fn new(auth: &Auth) -> Result<Self, TokenError> {
        Ok(match auth {
            Auth::None => Self::None,
            Auth::Bearer { token } => Self::Fixed(bearer(token.expose_secret())?),
            Auth::Organisation { secret } => {
                let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
                Self::Signed(Box::new((Header::new(Algorithm::HS256), key)))
            }
        })
    }

    /// The header's value for an organisation, at a time in Unix seconds.
    pub(crate) fn header(&self, org: OrgId, now_s: u64) -> Result<Option<HeaderValue>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::Signed(signer) => {
                let (header, key) = &**signer;
                let claims = Claims { org: org.get(), iat: now_s, exp: now_s + LIFETIME_S };
                bearer(&jsonwebtoken::encode(header, &claims, key)?).map(Some)
            }
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, TokenError> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| TokenError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    const SECRET: &str = "a secret of thirty-two characters";

    #[test]
    fn a_signed_token_names_its_organisation() {
        let tokens = Tokens::new(&Auth::Organisation { secret: SECRET.into() }).unwrap();
        let now_s = 4_000_000_000;
        let value = tokens.header(OrgId::from_index(41), now_s).unwrap().unwrap();
        let token = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        let claims: serde_json::Value =
            jsonwebtoken::decode(token, &key, &Validation::new(Algorithm::HS256)).unwrap().claims;
        assert_eq!(claims, serde_json::json!({ "org": 42, "iat": now_s, "exp": now_s + 3600 }));
    }

    #[test]
    fn no_secret_is_printed() {
        let auth = Auth::Bearer { token: SECRET.into() };
        let value = Tokens::new(&auth).unwrap().header(OrgId::from_index(0), 0).unwrap();
        let printed =
            format!("{auth:?} {value:?} {:?}", Auth::Organisation { secret: SECRET.into() });
        assert!(!printed.contains(SECRET), "{printed}");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        assert!(Tokens::new(&Auth::Bearer { token: "two\nlines".into() }).is_err());
    }
}
