//! What is checked of a body while it comes in: that it is not too large, that it is what it says, and its digest. Pure.

use sha2::{Digest as _, Sha256};

use super::Media;

/// What a body was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: [u8; 32],
}

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than the bucket takes.
    #[error("at most {bytes_max} bytes are taken")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// No byte came.
    #[error("the body is empty")]
    Empty,
    /// Its first bytes are not those of the type.
    #[error("the content is not {}, as its Content-Type says", .0.name())]
    OtherType(Media),
}

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Intake {
    media: Media,
    bytes_max: u64,
    bytes: u64,
    hasher: Sha256,
    /// The first bytes, until there are enough to know the type.
    head: Vec<u8>,
}

impl Intake {
    pub(super) fn new(media: Media, bytes_max: u64) -> Self {
        let head = Vec::with_capacity(Media::HEAD);
        Self { media, bytes_max, bytes: 0, hasher: Sha256::new(), head }
    }

    /// The next piece. Refused as soon as it is known to be wrong.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(Refusal::TooLarge { bytes_max: self.bytes_max });
        }
        self.hasher.update(chunk);
        let missing = Media::HEAD - self.head.len();
        if missing > 0 {
            self.head.extend_from_slice(&chunk[..missing.min(chunk.len())]);
            if self.head.len() == Media::HEAD {
                self.check_type()?;
            }
        }
        Ok(())
    }

    /// The end came.
    pub(super) fn finish(self) -> Result<Digest, Refusal> {
        if self.bytes == 0 {
            return Err(Refusal::Empty);
        }
        self.check_type()?;
        Ok(Digest { bytes: self.bytes, sha256: self.hasher.finalize().into() })
    }

    fn check_type(&self) -> Result<(), Refusal> {
        if self.media.begins(&self.head) { Ok(()) } else { Err(Refusal::OtherType(self.media)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(media: Media, bytes_max: u64, chunks: &[&[u8]]) -> Result<Digest, Refusal> {
        let mut intake = Intake::new(media, bytes_max);
        chunks.iter().try_for_each(|chunk| intake.take(chunk))?;
        intake.finish()
    }

    #[test]
    fn the_digest_does_not_depend_on_how_the_body_was_cut() {
        let whole = b"%PDF-1.7 and so on".as_slice();
        let once = taken(Media::Pdf, 18, &[whole]).unwrap();
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(taken(Media::Pdf, 18, &bytes), Ok(once));
        assert_eq!(once.bytes, 18);
        assert_ne!(taken(Media::Pdf, 18, &[&whole[..17]]).unwrap().sha256, once.sha256);
    }

    #[test]
    fn the_limit_is_the_last_size_taken() {
        let body = b"%PDF-".as_slice();
        assert!(taken(Media::Pdf, 5, &[body]).is_ok());
        let refused = taken(Media::Pdf, 5, &[body, b"1"]);
        assert_eq!(refused, Err(Refusal::TooLarge { bytes_max: 5 }));
    }

    #[test]
    fn what_is_not_what_it_says_is_refused_before_its_end() {
        let mut intake = Intake::new(Media::Png, 1_000);
        assert_eq!(intake.take(b"%PDF-1.7"), Ok(()), "too short to tell");
        assert_eq!(intake.take(b"1234"), Err(Refusal::OtherType(Media::Png)));
        assert_eq!(taken(Media::Png, 9, &[b"%PDF-"]), Err(Refusal::OtherType(Media::Png)));
        assert_eq!(taken(Media::Png, 9, &[]), Err(Refusal::Empty));
    }
}
