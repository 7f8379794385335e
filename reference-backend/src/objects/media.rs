//! The types of content that are taken, each known by its first bytes.

/// A type of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    /// A JPEG picture.
    Jpeg,
    /// A PNG picture.
    Png,
    /// A WebP picture.
    Webp,
    /// A PDF document.
    Pdf,
}

impl Media {
    /// Bytes from the start that tell all types apart.
    pub(super) const HEAD: usize = 12;

    /// All types.
    pub const ALL: [Self; 4] = [Self::Jpeg, Self::Png, Self::Webp, Self::Pdf];

    /// As in `Content-Type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Pdf => "application/pdf",
        }
    }

    /// What names of files end in, without the dot.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Pdf => "pdf",
        }
    }

    /// From a `Content-Type`, whose parameters do not matter here.
    pub fn from_content_type(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|media| media.name().eq_ignore_ascii_case(essence))
    }

    /// Whether content begins as this type does; `head` is the whole content or at least [`Media::HEAD`] bytes of it.
    pub(super) fn begins(self, head: &[u8]) -> bool {
        match self {
            Self::Jpeg => head.starts_with(b"\xff\xd8\xff"),
            Self::Png => head.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Webp => head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP"),
            Self::Pdf => head.starts_with(b"%PDF-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_names_one_media_and_is_read_back() {
        for media in Media::ALL {
            assert_eq!(Media::from_content_type(media.name()), Some(media));
        }
        assert_eq!(Media::from_content_type("IMAGE/JPEG; charset=binary"), Some(Media::Jpeg));
        for other in ["", "image", "image/svg+xml", "text/html", "image/jpegx", "application/pdf2"]
        {
            assert_eq!(Media::from_content_type(other), None, "{other}");
        }
    }

    #[test]
    fn each_type_is_known_by_its_own_first_bytes_alone() {
        let samples: [&[u8]; 4] =
            [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0", b"RIFF\0\0\0\0WEBPVP8 ", b"%PDF-1.7\n"];
        for (at, sample) in samples.into_iter().enumerate() {
            for (index, media) in Media::ALL.into_iter().enumerate() {
                assert_eq!(media.begins(sample), index == at, "{media:?} of sample {at}");
            }
        }
        for none in [&b""[..], b"RIFF\0\0\0\0WAVE", b"RIFF", b"<svg", b"%PDF", b"\xff\xd8"] {
            assert!(!Media::ALL.into_iter().any(|media| media.begins(none)), "{none:?}");
        }
    }
}
