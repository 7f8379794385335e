//! Identifiers, one type per noun, made through a check. Imports nothing of ours.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An organisation: a tenant. Numbered from 1 to the population's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrgId(NonZeroU64);

impl OrgId {
    /// The organisation at a zero-based index of the population.
    pub fn from_index(index: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(index))
    }

    /// The zero-based index of this organisation in the population.
    pub fn index(self) -> u64 {
        self.0.get() - 1
    }

    /// The number as databases hold it.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The number as a Postgres `bigint`.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0.get()).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a run: `<scenario>-<UTC time>-<random>`. Also the name of its directory, so letters, digits, `-` and `_` only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text that cannot name a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run id {0:?}: expected 1 to 80 letters, digits, '-' or '_'")]
pub struct RunIdError(String);

impl RunId {
    /// The name as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace under which this run's command ids are derived.
    pub fn namespace(&self) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.0.as_bytes())
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if (1..=80).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RunIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;
    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id under which the client names a command, so that a retry is the same command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(Uuid);

impl CommandId {
    /// The command of one arrival of one run: the same whenever and wherever it is computed.
    pub fn derive(namespace: Uuid, arrival: u64) -> Self {
        Self(Uuid::new_v5(&namespace, &arrival.to_be_bytes()))
    }

    /// From the 16 bytes of its UUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_cannot_leave_its_directory() {
        for bad in ["", "../x", "a/b", "a b", "ü"] {
            assert!(bad.parse::<RunId>().is_err(), "{bad:?} must not be a run id");
        }
    }

    #[test]
    fn command_ids_differ_by_run_and_arrival() {
        let (a, b) = ("a".parse::<RunId>().unwrap(), "b".parse::<RunId>().unwrap());
        let id = |run: &RunId, arrival| CommandId::derive(run.namespace(), arrival);
        assert_eq!(id(&a, 7), id(&a, 7));
        assert_ne!(id(&a, 7), id(&a, 8));
        assert_ne!(id(&a, 7), id(&b, 7));
    }
}
