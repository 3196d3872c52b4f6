//! Pictures for tests: 48 by 24 pixels, the left half red and the right half
//! blue, in the forms that decoders find hard. Made with Pillow; the interlaced
//! and the 16-bit PNG by hand.

use crate::picture::Kind;

/// A picture and what it is.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) bytes: &'static [u8],
}

macro_rules! samples {
    ($($kind:ident $name:literal),* $(,)?) => {
        &[$(Sample {
            name: $name,
            kind: Kind::$kind,
            bytes: include_bytes!(concat!("../testdata/", $name)),
        }),*]
    };
}

pub(crate) const SAMPLES: &[Sample] = samples![
    Jpeg "baseline.jpg",
    Jpeg "progressive.jpg",
    Jpeg "cmyk.jpg",
    Jpeg "grey.jpg",
    Jpeg "oriented.jpg",
    Png "alpha.png",
    Png "animated.png",
    Png "interlaced.png",
    Png "one_bit.png",
    Png "oriented.png",
    Png "palette.png",
    Png "sixteen.png",
    Gif "animated.gif",
    Gif "transparent.gif",
    WebP "alpha.webp",
    WebP "animated.webp",
    WebP "lossless_alpha.webp",
    WebP "lossy.webp",
    WebP "oriented.webp",
];

pub(crate) fn sample(name: &str) -> &'static [u8] {
    SAMPLES
        .iter()
        .find(|sample| sample.name == name)
        .map(|sample| sample.bytes)
        .unwrap()
}

/// A PNG that announces this size and holds nothing of it.
pub(crate) fn announced_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, &[]).unwrap();
    drop(writer);
    bytes
}
