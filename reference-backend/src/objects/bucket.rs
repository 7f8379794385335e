//! The four buckets, and what each takes.

use super::Media;
use crate::config;

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Pictures of receipts, kept with expenses.
    Receipts,
    /// Copies of guests' papers, kept with check-ins.
    GuestDocuments,
    /// Pictures of what is to be done, kept with tasks.
    TaskImages,
    /// Organisations' logos.
    Logos,
}

impl Bucket {
    /// All buckets, in the order of [`Bucket::index`].
    pub const ALL: [Self; 4] =
        [Self::Receipts, Self::GuestDocuments, Self::TaskImages, Self::Logos];

    /// Its name: a directory, or what follows the prefix of an S3 bucket; the value of the label `bucket`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receipts => "receipts",
            Self::GuestDocuments => "guest-documents",
            Self::TaskImages => "task-images",
            Self::Logos => "logos",
        }
    }

    /// The types it takes. No SVG or HTML anywhere: both can carry scripts.
    pub const fn takes(self) -> &'static [Media] {
        match self {
            Self::Receipts | Self::GuestDocuments => {
                &[Media::Jpeg, Media::Png, Media::Webp, Media::Pdf]
            }
            Self::TaskImages | Self::Logos => &[Media::Jpeg, Media::Png, Media::Webp],
        }
    }

    /// Its largest object, in bytes.
    pub(super) const fn bytes_max(self, limits: &config::BytesMax) -> u64 {
        match self {
            Self::Receipts => limits.receipts,
            Self::GuestDocuments => limits.guest_documents,
            Self::TaskImages => limits.task_images,
            Self::Logos => limits.logos,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
