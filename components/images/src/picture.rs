//! What a picture is, by its content alone, and whether it is taken in. Reads
//! headers; decodes no pixel.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};
use reply::Reply;

/// No side is longer: rows are read whole.
const MAX_SIDE: u32 = 65_535;

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
        let reader = ImageReader::with_format(Cursor::new(bytes), kind.format());
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
        Reply::problem(status, &self.to_string()).with("cache-control", "no-store")
    }
}
