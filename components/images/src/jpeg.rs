//! JPEG pictures, scaled while they are decoded: only a progressive one needs
//! memory for all of it, and how much stands in its header.

use jpeg_decoder::{Decoder, PixelFormat};

use crate::shrink::Shrinker;
use crate::thumbnail::{MAX_SIDE, Small, Undecodable, bounded, orientation};

/// Asks the decoder for some more than the final size; the rest is resized.
const SPARE: u16 = 2;

/// Encoders write about ten. Each costs time for all of the picture, however few
/// its bytes are.
const MAX_SCANS: usize = 64;

pub(crate) fn decode(bytes: &[u8]) -> Result<Small, Undecodable> {
    if scans(bytes) > MAX_SCANS {
        return Err(Undecodable::of("it has too many scans"));
    }
    bounded(Some(decoder_bytes(bytes)?))?;
    let mut decoder = Decoder::new(bytes);
    let side = MAX_SIDE as u16 * SPARE;
    decoder.scale(side, side).map_err(Undecodable::of)?;
    let pixels = decoder.decode().map_err(Undecodable::of)?;
    let info = decoder
        .info()
        .ok_or_else(|| Undecodable::of("there is no picture"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let mut shrinker = Shrinker::new(width, height, MAX_SIDE);
    let bytes_each = info.pixel_format.pixel_bytes();
    for row in pixels.chunks_exact((width as usize * bytes_each).max(1)) {
        match info.pixel_format {
            PixelFormat::L8 => shrinker.row(row, 1),
            PixelFormat::RGB24 => shrinker.row(row, 3),
            PixelFormat::CMYK32 => shrinker.row(&rgb(row), 3),
            PixelFormat::L16 => return Err(Undecodable::of("16 bits are not supported")),
        }
    }
    let small = shrinker.finish().map_err(Undecodable::of)?;
    Ok((small, orientation(decoder.exif_data())))
}

/// How often a scan begins (ITU-T T.81, B.1.1.3). Compressed data never looks like
/// it; what else does, such as a picture in the EXIF block, counts too.
fn scans(bytes: &[u8]) -> usize {
    let pairs = bytes.windows(2);
    pairs.filter(|pair| **pair == [0xff, 0xda]).count()
}

/// What ink on white paper looks like, near enough for a thumbnail.
fn rgb(cmyk: &[u8]) -> Vec<u8> {
    let (pixels, _) = cmyk.as_chunks::<4>();
    let seen = |ink: u8, black: u8| {
        let light = (255 - u16::from(ink)) * (255 - u16::from(black));
        (light / 255) as u8
    };
    let rgb = pixels
        .iter()
        .flat_map(|&[c, m, y, k]| [seen(c, k), seen(m, k), seen(y, k)]);
    rgb.collect()
}

/// What the decoder takes, by the frame header (ITU-T T.81, B.2.2): of a
/// progressive picture it holds two bytes for each sample until the last scan.
fn decoder_bytes(bytes: &[u8]) -> Result<u64, Undecodable> {
    let (marker, frame) =
        frame_header(bytes).ok_or_else(|| Undecodable::of("there is no frame header"))?;
    let [_, h1, h0, w1, w0, count, components @ ..] = frame else {
        return Err(Undecodable::of("the frame header is too short"));
    };
    let (components, _) = components.as_chunks::<3>();
    if ![1, 3, 4].contains(count) || components.len() != usize::from(*count) {
        return Err(Undecodable::of("the number of components is not supported"));
    }
    let factors = components
        .iter()
        .map(|[_, factors, _]| (u64::from(factors >> 4), u64::from(factors & 0xf)));
    let most = factors.clone().fold((1, 1), |(h, v), (own_h, own_v)| {
        (own_h.max(h), own_v.max(v))
    });
    let side = |high: &u8, low: &u8, most: u64| {
        let side = u64::from(u16::from_be_bytes([*high, *low]));
        side.div_ceil(most * 8) * 8
    };
    let (width, height) = (side(w1, w0, most.0), side(h1, h0, most.1));
    let whole: u64 = factors.map(|(h, v)| width * h * height * v * 2).sum();
    match marker {
        // Baseline and extended sequential: what is done is scaled at once, of
        // anything large to an eighth each way.
        0xc0 | 0xc1 => Ok(whole / 64),
        0xc2 => Ok(whole),
        _ => Err(Undecodable::of("the coding process is not supported")),
    }
}

/// The marker and content of the first frame header.
fn frame_header(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let start = rest.iter().position(|byte| *byte == 0xff)?;
        rest = rest.get(start..)?;
        let marker = rest.iter().position(|byte| *byte != 0xff)?;
        let (marker, after) = rest.get(marker..)?.split_first()?;
        rest = after;
        match marker {
            // A fill byte, and markers that have no content.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            0xd9 | 0xda => return None,
            _ => {
                let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
                let content = rest.get(2..length)?;
                if matches!(marker, 0xc0..=0xcf) && ![0xc4, 0xc8, 0xcc].contains(marker) {
                    return Some((*marker, content));
                }
                rest = rest.get(length..)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::sample;

    /// A scan of a few bytes costs as much time as one of all the picture.
    #[test]
    fn a_picture_of_too_many_scans_is_not_decoded() {
        let picture = sample("progressive.jpg");
        assert!(decode(picture).is_ok());
        let last = picture.windows(2).rposition(|pair| *pair == [0xff, 0xda]);
        let (before, scan) = picture.split_at(last.unwrap());
        let scan = scan.strip_suffix(&[0xff, 0xd9]).unwrap();
        let many = [before, &scan.repeat(MAX_SCANS), &[0xff, 0xd9]].concat();
        let error = decode(&many).unwrap_err();
        assert_eq!(error, Undecodable::of("it has too many scans"));
    }
}
