//! What a client holds after a write, so that its next reads show it.

use std::fmt;
use std::str::FromStr;

use super::Shard;

/// A place in the event store that a read must have reached. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsistencyToken {
    /// The shard written to.
    pub shard: Shard,
    /// Position of the last event written.
    pub position: i64,
}

/// A text that is no token of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("consistency token: not one that this service gave out")]
pub struct TokenError;

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1{:x}{:x}", self.shard.number(), self.position)
    }
}

impl FromStr for ConsistencyToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        // "1" is the format's version; then one digit of shard, then the position, both hexadecimal.
        let rest = text.strip_prefix('1').ok_or(TokenError)?;
        let (shard, position) = rest.split_at_checked(1).ok_or(TokenError)?;
        if !position.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenError);
        }
        let shard = i16::from_str_radix(shard, 16).ok().and_then(Shard::from_number);
        let position = i64::from_str_radix(position, 16).map_err(|_| TokenError)?;
        Ok(Self { shard: shard.ok_or(TokenError)?, position })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_parses_back(shard in 0i16..8, position in 0i64..) {
            let token = ConsistencyToken { shard: Shard::from_number(shard).unwrap(), position };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<ConsistencyToken>();
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "1", "13", "18f", "20f", "10-1", "10+1", "1é1", "107fffffffffffffff0"] {
            assert_eq!(bad.parse::<ConsistencyToken>(), Err(TokenError), "{bad:?}");
        }
    }
}
