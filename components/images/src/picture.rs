//! What a picture is, by its content alone, and whether it is taken in. Reads
//! headers; decodes no pixel.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};
use reply::Reply;

/// No side is longer: rows are read whole.
const MAX_SIDE: u32 = 65_535;

/// What reading a header may take: colour profiles are compressed.
const MAX_HEADER_MEMORY: u64 = 16 * 1024 * 1024;

/// The formats that are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Png,
    Jpeg,
    Gif,
    WebP,
}

/// A recognised picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) kind: Kind,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Why content is not taken in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the content is no PNG, JPEG, GIF or WebP picture")]
    Unknown,
    #[error("the picture's header is damaged")]
    Damaged,
    #[error("the picture has no pixels")]
    Empty,
    #[error("a picture has at most {0} pixels")]
    Pixels(u64),
    #[error("a picture has at most {MAX_SIDE} pixels on each side")]
    Side,
}

impl Kind {
    /// By the first bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        match image::guess_format(bytes).ok()? {
            ImageFormat::Png => Some(Self::Png),
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::Gif => Some(Self::Gif),
            ImageFormat::WebP => Some(Self::WebP),
            _ => None,
        }
    }

    /// By what [`Kind::media_type`] gave.
    pub(crate) fn from_media_type(text: &str) -> Option<Self> {
        [Self::Png, Self::Jpeg, Self::Gif, Self::WebP]
            .into_iter()
            .find(|kind| kind.media_type() == text)
    }

    pub(crate) fn media_type(self) -> &'static str {
        self.format().to_mime_type()
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Gif => "gif",
            Self::WebP => "webp",
        }
    }

    pub(crate) fn format(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Gif => ImageFormat::Gif,
            Self::WebP => ImageFormat::WebP,
        }
    }
}

impl Picture {
    /// Reads the header.
    pub(crate) fn recognise(bytes: &[u8], max_pixels: u64) -> Result<Self, Unfit> {
        let kind = Kind::of(bytes).ok_or(Unfit::Unknown)?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_HEADER_MEMORY);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), kind.format());
        reader.limits(limits);
        let (width, height) = reader.into_dimensions().map_err(|_| Unfit::Damaged)?;
        if width == 0 || height == 0 {
            return Err(Unfit::Empty);
        }
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(Unfit::Pixels(max_pixels));
        }
        if width.max(height) > MAX_SIDE {
            return Err(Unfit::Side);
        }
        Ok(Self {
            kind,
            width,
            height,
        })
    }
}

impl Unfit {
    pub(crate) fn reply(&self) -> Reply {
        let status = match self {
            Self::Unknown => 415,
            _ => 422,
        };
        Reply::problem(status, &self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{SAMPLES, announced_png, sample};

    fn recognise(bytes: &[u8]) -> Result<Picture, Unfit> {
        Picture::recognise(bytes, 24_000_000)
    }

    #[test]
    fn pictures_are_recognised_by_their_content() {
        for sample in SAMPLES {
            let expected = Picture {
                kind: sample.kind,
                width: 48,
                height: 24,
            };
            assert_eq!(recognise(sample.bytes), Ok(expected), "{}", sample.name);
        }
    }

    #[test]
    fn anything_else_is_not_taken_in() {
        let picture = sample("baseline.jpg");
        let later = [b"<html>".as_slice(), picture].concat();
        for bytes in [
            b"".as_slice(),
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"<!doctype html><script>",
            b"%PDF-1.7",
            b"BM\0\0\0\0",
            b"II*\0\x08\0\0\0",
            b"\0\0\0\x20ftypavif",
            b"RIFF\0\0\0\0WAVE",
            &later,
        ] {
            let unfit = recognise(bytes).unwrap_err();
            assert_eq!(unfit, Unfit::Unknown, "{bytes:?}");
            assert_eq!(unfit.reply().status, 415);
        }
    }

    #[test]
    fn a_damaged_header_is_refused() {
        for bytes in [
            b"\x89PNG\r\n\x1a\n".as_slice(),
            b"\xff\xd8\xff\xe0",
            b"GIF89a",
            b"GIF89a;",
            b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        ] {
            assert_eq!(recognise(bytes), Err(Unfit::Damaged), "{bytes:?}");
        }
        assert_eq!(Unfit::Damaged.reply().status, 422);
    }

    #[test]
    fn size_is_limited_by_the_header_alone() {
        for (width, height, expected) in [
            (6000, 4000, None),
            (6001, 4000, Some(Unfit::Pixels(24_000_000))),
            (60_000, 60_000, Some(Unfit::Pixels(24_000_000))),
            (0x7fff_ffff, 0x7fff_ffff, Some(Unfit::Damaged)),
            (65_535, 1, None),
            (65_536, 1, Some(Unfit::Side)),
        ] {
            let refused = recognise(&announced_png(width, height)).err();
            assert_eq!(refused, expected, "{width}x{height}");
        }
        let mut gif = sample("animated.gif").to_vec();
        gif[6..10].fill(0);
        assert_eq!(recognise(&gif), Err(Unfit::Empty));
    }

    #[test]
    fn media_types_are_read_back() {
        for kind in [Kind::Png, Kind::Jpeg, Kind::Gif, Kind::WebP] {
            assert_eq!(Kind::from_media_type(kind.media_type()), Some(kind));
        }
        assert_eq!(Kind::from_media_type("image/svg+xml"), None);
    }
}
