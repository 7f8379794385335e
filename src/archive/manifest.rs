//! What is in a run's directory, with checksums: how a file that was cut short or changed is noticed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the manifest in a run's directory.
pub(super) const MANIFEST: &str = "manifest.json";

/// Version of the archive's layout and of the files in it that are not rendered.
pub(super) const SCHEMA: u32 = 1;

/// The files of a run's directory, itself apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) schema: u32,
    pub(super) files: Vec<FileEntry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) name: String,
    /// Length.
    pub(super) bytes: u64,
    /// In lower-case hexadecimal.
    pub(super) sha256: String,
    /// Whether it can be made again from the others.
    pub(super) rendered: bool,
}

/// A file is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "read {}: the file was changed or cut short: expected {expected_bytes} bytes with sha256 {expected_sha256}, \
     found {found_bytes} bytes with {found_sha256}\nhelp: restore it from a copy, or run again: figures cannot be judged \
     from a damaged record",
    file.display()
)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Length as written.
    pub expected_bytes: u64,
    /// Length as found.
    pub found_bytes: u64,
    /// Checksum as written.
    pub expected_sha256: String,
    /// Checksum as found.
    pub found_sha256: String,
}

impl FileEntry {
    pub(super) fn new(name: &str, content: &[u8], rendered: bool) -> Self {
        Self {
            name: name.to_owned(),
            bytes: content.len() as u64,
            sha256: Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect(),
            rendered,
        }
    }

    /// Holds what was read of the file against what was written.
    pub(super) fn verify(&self, dir: &Path, content: &[u8]) -> Result<(), Damage> {
        let found = Self::new(&self.name, content, self.rendered);
        if found == *self {
            return Ok(());
        }
        Err(Damage {
            file: dir.join(&self.name),
            expected_bytes: self.bytes,
            found_bytes: found.bytes,
            expected_sha256: self.sha256.clone(),
            found_sha256: found.sha256,
        })
    }
}
