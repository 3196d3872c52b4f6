//! The thumbnail of a picture. Content may be hostile: memory is bounded before
//! it is taken, and every mistake is an error.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbaImage};

use crate::jpeg;
use crate::picture::Kind;
use crate::shrink::Shrinker;

/// Pixels on the larger side.
pub(crate) const MAX_SIDE: u32 = 320;

/// What decoding may take. With the content itself (at most 16 MiB) it fits into
/// the 128 MiB that a sandbox has by default.
pub(crate) const MAX_MEMORY: u64 = 108 * 1024 * 1024;

const JPEG_QUALITY: u8 = 80;

/// A thumbnail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Thumbnail {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

/// Why no thumbnail can be made, now or later.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecodable {
    #[error("the picture cannot be decoded: {0}")]
    Damaged(String),
    #[error("decoding the picture takes more than {MAX_MEMORY} bytes")]
    Memory,
}

impl Undecodable {
    pub(crate) fn of(reason: impl ToString) -> Self {
        Self::Damaged(reason.to_string())
    }
}

/// A small picture, and how it is to be turned.
pub(crate) type Small = (RgbaImage, Orientation);

/// Makes the thumbnail: JPEG, or PNG where the picture is not opaque.
pub(crate) fn thumbnail(bytes: &[u8], kind: Kind) -> Result<Thumbnail, Undecodable> {
    let (small, orientation) = match kind {
        Kind::Jpeg => jpeg::decode(bytes)?,
        Kind::Png => png(bytes)?,
        Kind::Gif | Kind::WebP => whole(bytes, kind)?,
    };
    let is_opaque = small.pixels().all(|pixel| pixel.0[3] == 255);
    let mut small = DynamicImage::ImageRgba8(small);
    small.apply_orientation(orientation);
    let mut bytes = Vec::new();
    let (kind, written) = if is_opaque {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        let written = small.into_rgb8().write_with_encoder(encoder);
        (Kind::Jpeg, written)
    } else {
        let written = small.write_to(&mut Cursor::new(&mut bytes), Kind::Png.format());
        (Kind::Png, written)
    };
    written.map_err(Undecodable::of)?;
    Ok(Thumbnail { kind, bytes })
}

/// The orientation that a picture's EXIF block tells.
pub(crate) fn orientation(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// Row by row, in 8 bits, whatever the picture has. An interlaced one has to be
/// decoded whole; an animated one has its default image.
fn png(bytes: &[u8]) -> Result<Small, Undecodable> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(Undecodable::of)?;
    let (width, height) = reader.info().size();
    let channels = reader.output_color_type().0.samples();
    let mut shrinker = Shrinker::new(width, height, MAX_SIDE);
    if reader.info().interlaced {
        let row_bytes = reader.output_line_size(width).unwrap_or_default();
        let mut whole = vec![0; bounded(reader.output_buffer_size().map(|size| size as u64))?];
        reader.next_frame(&mut whole).map_err(Undecodable::of)?;
        for row in whole.chunks_exact(row_bytes.max(1)) {
            shrinker.row(row, channels);
        }
    } else {
        while let Some(row) = reader.next_row().map_err(Undecodable::of)? {
            shrinker.row(row.data(), channels);
        }
    }
    let orientation = orientation(reader.info().exif_metadata.as_deref());
    let small = shrinker.finish().map_err(Undecodable::of)?;
    Ok((small, orientation))
}

/// GIF and WebP are decoded whole; of an animation, the first frame.
fn whole(bytes: &[u8], kind: Kind) -> Result<Small, Undecodable> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind.format());
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(Undecodable::of)?;
    let (width, height) = decoder.dimensions();
    if kind == Kind::WebP {
        let pixels = u64::from(width) * u64::from(height);
        bounded(Some(pixels * webp_bytes_per_pixel(bytes)))?;
    }
    let orientation = decoder.orientation().map_err(Undecodable::of)?;
    let channels = usize::from(decoder.color_type().channel_count());
    let mut whole = vec![0; bounded(Some(decoder.total_bytes()))?];
    // What the decoder takes besides counts too.
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY - whole.len() as u64);
    decoder.set_limits(limits).map_err(Undecodable::of)?;
    decoder.read_image(&mut whole).map_err(Undecodable::of)?;
    let mut shrinker = Shrinker::new(width, height, MAX_SIDE);
    for row in whole.chunks_exact((width as usize * channels).max(1)) {
        shrinker.row(row, channels);
    }
    let small = shrinker.finish().map_err(Undecodable::of)?;
    Ok((small, orientation))
}

/// What the WebP decoder takes for a pixel, its answer included: it has no limit
/// of its own.
fn webp_bytes_per_pixel(bytes: &[u8]) -> u64 {
    const ANIMATION: u8 = 0b10;
    const ALPHA: u8 = 0b1_0000;
    let flags = bytes.get(20).copied().unwrap_or_default();
    match bytes.get(12..16) {
        // RGB, and the planes of YUV: four and a half.
        Some(b"VP8 ") => 5,
        Some(b"VP8X") if flags & ANIMATION != 0 => 14,
        Some(b"VP8X") if flags & ALPHA != 0 => 9,
        // RGB of RGBA.
        _ => 7,
    }
}

/// A size of memory that may be taken.
pub(crate) fn bounded(size: Option<u64>) -> Result<usize, Undecodable> {
    size.filter(|size| *size <= MAX_MEMORY)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or(Undecodable::Memory)
}
