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

/// What decoding may take. With the content itself (8 MiB by default) it fits into
/// the 128 MiB that a sandbox has by default. The worker reads no limit of uploads:
/// pictures that take more get no thumbnail, whatever `images_max_bytes` and
/// `images_max_pixels` say.
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
    #[allow(clippy::needless_pass_by_value, reason = "errors are mapped by value")]
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
        bounded(Some(pixels * webp_half_bytes_per_pixel(bytes) / 2))?;
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

/// What the WebP decoder takes for a pixel, its answer included, in half bytes:
/// it has no limit of its own.
fn webp_half_bytes_per_pixel(bytes: &[u8]) -> u64 {
    const ANIMATION: u8 = 0b10;
    const ALPHA: u8 = 0b1_0000;
    let flags = bytes.get(20).copied().unwrap_or_default();
    match bytes.get(12..16) {
        // RGB, and the planes of YUV.
        Some(b"VP8 ") => 9,
        Some(b"VP8X") if flags & ANIMATION != 0 => 28,
        Some(b"VP8X") if flags & ALPHA != 0 => 18,
        // RGB of RGBA.
        _ => 14,
    }
}

/// A size of memory that may be taken.
pub(crate) fn bounded(size: Option<u64>) -> Result<usize, Undecodable> {
    size.filter(|size| *size <= MAX_MEMORY)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or(Undecodable::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{SAMPLES, announced_png, sample};

    fn decoded(thumbnail: &Thumbnail) -> RgbaImage {
        image::load_from_memory_with_format(&thumbnail.bytes, thumbnail.kind.format())
            .unwrap()
            .into_rgba8()
    }

    #[derive(Debug, PartialEq)]
    enum Colour {
        Red,
        Blue,
        Grey,
        Nothing,
    }

    fn colour(image: &RgbaImage, at: (u32, u32)) -> Colour {
        match image.get_pixel(at.0, at.1).0 {
            [.., alpha] if alpha < 20 => Colour::Nothing,
            [r, g, b, _] if r > 180 && g < 70 && b < 70 => Colour::Red,
            [r, g, b, _] if b > 180 && g < 70 && r < 70 => Colour::Blue,
            _ => Colour::Grey,
        }
    }

    #[test]
    fn every_form_is_decoded() {
        for sample in SAMPLES {
            let made = thumbnail(sample.bytes, sample.kind).unwrap();
            let image = decoded(&made);
            let (expected_kind, right) = match sample.name {
                name if name.contains("alpha") || name.contains("transparent") => {
                    (Kind::Png, Colour::Nothing)
                }
                "grey.jpg" | "one_bit.png" => (Kind::Jpeg, Colour::Grey),
                _ => (Kind::Jpeg, Colour::Blue),
            };
            assert_eq!(made.kind, expected_kind, "{}", sample.name);
            let left = match right {
                Colour::Grey => Colour::Grey,
                _ => Colour::Red,
            };
            let (first, last) = if sample.name.contains("oriented") {
                // Turned by a quarter: red is at the top.
                assert_eq!(image.dimensions(), (24, 48), "{}", sample.name);
                (colour(&image, (12, 4)), colour(&image, (12, 44)))
            } else {
                assert_eq!(image.dimensions(), (48, 24), "{}", sample.name);
                (colour(&image, (4, 12)), colour(&image, (44, 12)))
            };
            assert_eq!((first, last), (left, right), "{}", sample.name);
        }
    }

    #[test]
    fn a_large_picture_becomes_small() {
        let mut large = RgbaImage::from_pixel(1500, 900, image::Rgba([255, 0, 0, 255]));
        for (x, _, pixel) in large.enumerate_pixels_mut() {
            if x >= 750 {
                pixel.0 = [0, 0, 255, 255];
            }
        }
        let large = DynamicImage::ImageRgba8(large);
        for kind in [Kind::Png, Kind::Jpeg, Kind::Gif, Kind::WebP] {
            let mut bytes = Vec::new();
            let picture = match kind {
                Kind::Jpeg => DynamicImage::ImageRgb8(large.to_rgb8()),
                _ => large.clone(),
            };
            picture
                .write_to(&mut Cursor::new(&mut bytes), kind.format())
                .unwrap();
            let made = thumbnail(&bytes, kind).unwrap();
            let image = decoded(&made);
            assert_eq!(made.kind, Kind::Jpeg, "{kind:?}");
            assert_eq!(image.dimensions(), (320, 192), "{kind:?}");
            assert_eq!(colour(&image, (150, 100)), Colour::Red, "{kind:?}");
            assert_eq!(colour(&image, (170, 100)), Colour::Blue, "{kind:?}");
        }
    }

    #[test]
    fn an_announced_size_takes_no_memory() {
        for (width, height) in [(6000, 4000), (65_535, 300), (1, 65_535)] {
            let refused = thumbnail(&announced_png(width, height), Kind::Png);
            assert!(matches!(refused, Err(Undecodable::Damaged(_))));
        }
        let mut gif = sample("animated.gif").to_vec();
        gif[6..10].fill(0xff);
        assert_eq!(thumbnail(&gif, Kind::Gif), Err(Undecodable::Memory));
        let frame = |name: &str, marker: u8| {
            let mut bytes = sample(name).to_vec();
            let at = bytes.windows(2).position(|two| two == [0xff, marker]);
            let at = at.unwrap() + 5;
            bytes[at..at + 4].fill(0xff);
            thumbnail(&bytes, Kind::Jpeg)
        };
        assert_eq!(frame("progressive.jpg", 0xc2), Err(Undecodable::Memory));
        assert!(frame("baseline.jpg", 0xc0).is_err());
    }

    #[test]
    fn a_whole_picture_of_the_largest_size_may_be_decoded() {
        for (name, half_bytes) in [
            ("lossy.webp", 9),
            ("lossless_alpha.webp", 14),
            ("alpha.webp", 18),
            ("animated.webp", 28),
        ] {
            assert_eq!(webp_half_bytes_per_pixel(sample(name)), half_bytes);
        }
        // RGBA, and RGB with YUV.
        assert!(bounded(Some(24_000_000 * 4)).is_ok());
        assert!(bounded(Some(24_000_000 * 9 / 2)).is_ok());
    }

    #[test]
    fn damage_never_panics() {
        for sample in SAMPLES {
            for end in 0..sample.bytes.len() {
                let _ = thumbnail(&sample.bytes[..end], sample.kind);
            }
            for at in 0..sample.bytes.len() {
                for value in [0x00, 0x01, 0x7f, 0xff, sample.bytes[at] ^ 0x10] {
                    let mut bytes = sample.bytes.to_vec();
                    bytes[at] = value;
                    let _ = thumbnail(&bytes, sample.kind);
                }
            }
        }
    }
}
