//! The ledger: what the client was told about each command that it sent. Kept in a file without a name, so that memory does not
//! grow with the length of a run, and nothing is left behind however it ends.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

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

impl Outcome {
    /// As a byte, on the pipe, in the file and in the database.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Acknowledged => 1,
            Self::Refused => 2,
            Self::Unknown => 3,
        }
    }

    /// What [`Outcome::code`] made a byte of.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Acknowledged, Self::Refused, Self::Unknown]
            .into_iter()
            .find(|one| one.code() == code)
    }
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
#[derive(Debug, Default)]
pub struct Ledger {
    /// One entry per command.
    pub entries: LedgerEntries,
    /// Whether every command that was sent has its entry. A worker that died had sent some that nobody told of.
    pub whole: bool,
}

/// Where the file is made: what is kept there is on a disk, which is not sure of a directory for short-lived files.
const PLACE: &str = "/var/tmp";

/// Bytes of an entry: command, organisation, outcome.
const WIDTH: usize = 16 + 8 + 1;

/// Entries in the order in which they were added.
#[derive(Debug, Default)]
pub struct LedgerEntries {
    /// None before the first.
    file: Option<BufWriter<File>>,
    count: u64,
}

impl LedgerEntries {
    /// Adds entries. An error when they cannot be kept; then none of the entries is to be relied on.
    pub fn add(&mut self, entries: impl IntoIterator<Item = LedgerEntry>) -> io::Result<()> {
        for entry in entries {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(BufWriter::new(unnamed()?)),
            };
            file.write_all(&packed(&entry))?;
            self.count += 1;
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes what is still in memory.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }

    /// All entries, from the first; an error instead of one that was not flushed or is damaged.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<LedgerEntry>> {
        let file = self.file.as_ref().map(BufWriter::get_ref);
        let mut from_start = file.map(|file| BufReader::new(FromStart { file, read: 0 }));
        (0..self.count).map(move |_| {
            let file = from_start.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
            let mut bytes = [0; WIDTH];
            file.read_exact(&mut bytes)?;
            unpacked(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
        })
    }

    /// These entries, and no more.
    pub fn of(entries: impl IntoIterator<Item = LedgerEntry>) -> io::Result<Self> {
        let mut kept = Self::default();
        kept.add(entries)?;
        kept.flush()?;
        Ok(kept)
    }
}

/// Reads a file from its start, wherever it is written meanwhile.
struct FromStart<'a> {
    file: &'a File,
    read: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.read)?;
        self.read += count as u64;
        Ok(count)
    }
}

fn unnamed() -> io::Result<File> {
    match Path::new(PLACE).is_dir() {
        true => tempfile::tempfile_in(PLACE),
        false => tempfile::tempfile(),
    }
}

fn packed(entry: &LedgerEntry) -> [u8; WIDTH] {
    let mut bytes = [0; WIDTH];
    bytes[..16].copy_from_slice(entry.command.uuid().as_bytes());
    bytes[16..24].copy_from_slice(&entry.org.index().to_le_bytes());
    bytes[24] = entry.outcome.code();
    bytes
}

fn unpacked(bytes: &[u8; WIDTH]) -> Option<LedgerEntry> {
    let (command, rest) = bytes.split_first_chunk::<16>()?;
    let (org, [outcome]) = rest.split_first_chunk::<8>()? else { return None };
    let outcome = Outcome::from_code(*outcome)?;
    let org = OrgId::from_index(u64::from_le_bytes(*org));
    Some(LedgerEntry { command: CommandId::from_bytes(*command), org, outcome })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_entry() -> impl Strategy<Value = LedgerEntry> {
        let outcomes = vec![Outcome::Acknowledged, Outcome::Refused, Outcome::Unknown];
        (any::<[u8; 16]>(), 0..u64::MAX, prop::sample::select(outcomes)).prop_map(
            |(command, index, outcome)| LedgerEntry {
                command: CommandId::from_bytes(command),
                org: OrgId::from_index(index),
                outcome,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_added_is_read_in_its_order_as_often_as_wanted(
            parts in prop::collection::vec(prop::collection::vec(any_entry(), 0..300), 0..4)
        ) {
            let mut kept = LedgerEntries::default();
            for part in &parts {
                kept.add(part.iter().copied()).unwrap();
                kept.flush().unwrap();
            }
            let expected = parts.concat();
            prop_assert_eq!(kept.len(), expected.len() as u64);
            for _ in 0..2 {
                let read: io::Result<Vec<_>> = kept.iter().collect();
                prop_assert_eq!(read.unwrap(), expected.clone());
            }
        }
    }

    #[test]
    fn a_file_that_lacks_entries_is_an_error() {
        let mut kept = LedgerEntries::of([entry()]).unwrap();
        kept.count += 1;
        let read: Vec<bool> = kept.iter().map(|entry| entry.is_ok()).collect();
        assert_eq!(read, [true, false]);
    }

    fn entry() -> LedgerEntry {
        let command = CommandId::from_bytes([7; 16]);
        LedgerEntry { command, org: OrgId::from_index(1), outcome: Outcome::Refused }
    }
}
