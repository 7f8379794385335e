//! The ledger: what the client was told about each command that it sent.

use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, OrgId};

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The backend said that the command is durable: it must be in the store exactly once.
    Acknowledged,
    /// The backend said that the command had no effect: it must not be in the store.
    Refused,
    /// No answer, or one that tells nothing (time-out, lost connection, 5xx): at most once.
    Unknown,
}

/// One command of a run. The worker sends these to the session, the audit holds them against the databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Sent as `Idempotency-Key`; the store keeps it as `command_id`.
    pub command: CommandId,
    /// The organisation that it was sent for.
    pub org: OrgId,
    /// What the client was told.
    pub outcome: Outcome,
}

/// All that is known of what the client was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// One entry per command.
    pub entries: Vec<LedgerEntry>,
    /// Whether every command that was sent has its entry. A worker that died had sent some that nobody told of.
    pub whole: bool,
}
