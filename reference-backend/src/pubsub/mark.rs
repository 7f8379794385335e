//! Where a browser's stream stands, as its `Last-Event-ID`. Pure.

use std::fmt;
use std::str::FromStr;

/// A place in both logs that a stream of one organisation is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Position of the last event in the organisation's shard.
    pub(crate) event: i64,
    /// Position of the last message of `realtime-updates`.
    pub(crate) message: i64,
}

/// A text that is no mark of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id that this stream gave")]
pub(crate) struct MarkError;

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.event, self.message)
    }
}

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(MarkError)
        };
        let (event, message) = text.split_once('.').ok_or(MarkError)?;
        Ok(Self { event: number(event)?, message: number(message)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mark_parses_back(event in 0i64.., message in 0i64..) {
            let mark = Mark { event, message };
            prop_assert_eq!(mark.to_string().parse(), Ok(mark));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Mark>();
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "1", ".", "1.", "-1.2", "1.2.3", "1.99999999999999999999"] {
            assert_eq!(bad.parse::<Mark>(), Err(MarkError), "{bad:?}");
        }
    }
}
