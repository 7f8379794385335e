//! Settings of the object stores. What each means stands in `config/default.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Millis;

/// Clocks of this machine and of a store may differ by so much.
const LEFTOVERS_AFTER_MS_MIN: u64 = 60_000;
/// Uploads are for pictures and papers, not for films.
const BYTES_MAX_MAX: u64 = 1 << 30;

/// Where objects are kept, and how large they may be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// Which kind of store.
    pub store: ObjectStoreKind,
    /// Directory of the four buckets, for [`ObjectStoreKind::Directory`].
    pub directory: PathBuf,
    /// Uploads worked on at a time; more are shed.
    pub uploads_max: usize,
    /// Time between two looks for objects that nothing names.
    pub sweep_interval_ms: Millis,
    /// Age from which an object that nothing names is a leftover, not an upload in progress.
    pub leftovers_after_ms: Millis,
    /// Largest object of each bucket.
    pub bytes_max: BytesMax,
    /// For [`ObjectStoreKind::S3`].
    pub s3: S3,
}

/// Which kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectStoreKind {
    /// Files below a directory.
    Directory,
    /// A service that speaks S3.
    S3,
}

/// Largest object of each bucket, in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BytesMax {
    /// Pictures of receipts.
    pub receipts: u64,
    /// Copies of guests' papers.
    pub guest_documents: u64,
    /// Pictures of what is to be done.
    pub task_images: u64,
    /// Organisations' logos.
    pub logos: u64,
}

/// A service that speaks S3. Its credentials are no settings: they are read from the variables that its own tools use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// URL; empty for AWS itself.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// What the names of the four buckets begin with.
    pub bucket_prefix: String,
    /// Whether the endpoint may be spoken to without TLS.
    pub allow_http: bool,
}

impl Objects {
    /// What types alone cannot rule out. `request` is the longest time that an upload may take.
    pub(super) fn problems(&self, request: Millis) -> Vec<String> {
        let mut problems = Vec::new();
        let sizes = [
            ("receipts", self.bytes_max.receipts),
            ("guest_documents", self.bytes_max.guest_documents),
            ("task_images", self.bytes_max.task_images),
            ("logos", self.bytes_max.logos),
        ];
        for (name, bytes) in sizes.into_iter().filter(|(_, b)| !(1..=BYTES_MAX_MAX).contains(b)) {
            problems.push(format!(
                "objects.bytes_max.{name} = {bytes}: expected a number from 1 to {BYTES_MAX_MAX}"
            ));
        }
        if self.uploads_max == 0 {
            problems.push("objects.uploads_max = 0: expected a number from 1 up".to_owned());
        }
        if self.directory.as_os_str().is_empty() {
            problems.push("objects.directory: expected a path".to_owned());
        }
        if self.sweep_interval_ms.0 == 0 {
            problems.push("objects.sweep_interval_ms = 0: expected a number from 1 up".to_owned());
        }
        // Twice the time of a request: its last statement may still run when it is given up.
        let leftovers_min = LEFTOVERS_AFTER_MS_MIN.max(request.0.saturating_mul(2));
        if self.leftovers_after_ms.0 < leftovers_min {
            problems.push(format!(
                "objects.leftovers_after_ms = {}: expected at least {leftovers_min}, or uploads in progress would be removed",
                self.leftovers_after_ms.0
            ));
        }
        if self.s3.endpoint.starts_with("http://") && !self.s3.allow_http {
            problems.push("objects.s3.endpoint: without TLS; use https, or set allow_http".into());
        }
        problems
    }
}
