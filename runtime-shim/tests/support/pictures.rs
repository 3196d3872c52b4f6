//! Pictures made by hand: PNG of any size, honest or not, and the committed fixtures of the
//! other formats. Reads the size of what comes back. Uses no image library, so that it does not
//! share the mistakes of the one under test.

/// Four quarters (red, green, blue, white), 64 × 48.
pub const JPEG: &[u8] = include_bytes!("../fixtures/quarters.jpg");
/// The same with an EXIF orientation of 6: to be turned right by 90° for showing.
pub const ROTATED_JPEG: &[u8] = include_bytes!("../fixtures/quarters-rotated.jpg");
pub const GIF: &[u8] = include_bytes!("../fixtures/quarters.gif");
/// 40 × 30; the first frame is red, the second green.
pub const ANIMATED_GIF: &[u8] = include_bytes!("../fixtures/two-frames.gif");
pub const LOSSLESS_WEBP: &[u8] = include_bytes!("../fixtures/quarters.webp");
pub const LOSSY_WEBP: &[u8] = include_bytes!("../fixtures/lossy.webp");

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What a sample is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colour {
    /// One bit, black or white.
    Bit,
    Rgb,
    /// Sixteen bits for each of four channels.
    Deep,
}

impl Colour {
    fn bits(self) -> u64 {
        match self {
            Self::Bit => 1,
            Self::Rgb => 24,
            Self::Deep => 64,
        }
    }

    /// Bytes of a decoded picture, each line with its filter's byte.
    pub fn bytes(self, width: u32, height: u32) -> u64 {
        u64::from(height) * (1 + (u64::from(width) * self.bits()).div_ceil(8))
    }
}

/// A PNG of noise by `seed`, so that no two are the same; uncompressed.
pub fn png(width: u32, height: u32, seed: u64) -> Vec<u8> {
    let mut data = Vec::new();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..height {
        // The row's filter: none.
        data.extend([0]);
        for _ in 0..width * 3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data.push(state as u8);
        }
    }
    from_chunks(&[
        (b"IHDR", &header(width, height, Colour::Rgb)),
        (b"IDAT", &stored(&data)),
        (b"IEND", b""),
    ])
}

/// A black PNG, packed as far as the format can.
pub fn black(width: u32, height: u32, colour: Colour) -> Vec<u8> {
    lying(width, height, colour, colour.bytes(width, height))
}

/// A PNG whose header declares a size that its data, `bytes` of zeros, need not have.
pub fn lying(width: u32, height: u32, colour: Colour, bytes: u64) -> Vec<u8> {
    from_chunks(&[
        (b"IHDR", &header(width, height, colour)),
        (b"IDAT", &zeros(bytes)),
        (b"IEND", b""),
    ])
}

/// A PNG of these chunks, with right checksums.
pub fn from_chunks(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut png = SIGNATURE.to_vec();
    for (name, data) in chunks {
        png.extend((data.len() as u32).to_be_bytes());
        let begin = png.len();
        png.extend(*name);
        png.extend(*data);
        let sum = crc32(&png[begin..]);
        png.extend(sum.to_be_bytes());
    }
    png
}

/// The content of `IHDR`.
pub fn header(width: u32, height: u32, colour: Colour) -> Vec<u8> {
    let (depth, kind) = match colour {
        Colour::Bit => (1, 0),
        Colour::Rgb => (8, 2),
        Colour::Deep => (16, 6),
    };
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([depth, kind, 0, 0, 0]);
    header
}

/// A zlib stream of stored blocks.
pub fn stored(data: &[u8]) -> Vec<u8> {
    let mut zlib = vec![0x78, 0x01];
    let blocks = data.chunks(65535);
    let last = blocks.len().saturating_sub(1);
    for (n, block) in blocks.enumerate() {
        let length = block.len() as u16;
        zlib.push(u8::from(n == last));
        zlib.extend(length.to_le_bytes());
        zlib.extend((!length).to_le_bytes());
        zlib.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    zlib.extend((b << 16 | a).to_be_bytes());
    zlib
}

/// A zlib stream of `count` zeros, about 160 times smaller: one zero, then matches of 258 bytes
/// at distance 1, and further zeros for the rest.
pub fn zeros(count: u64) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with fixed codes.
    bits.push(0b011, 3);
    let literal_zero = |bits: &mut Bits| bits.push_code(0b0011_0000, 8);
    let mut left = count;
    if left > 0 {
        literal_zero(&mut bits);
        left -= 1;
    }
    for _ in 0..left / 258 {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    for _ in 0..left % 258 {
        literal_zero(&mut bits);
    }
    bits.push_code(0, 7);
    let mut zlib = vec![0x78, 0x01];
    zlib.extend(bits.bytes());
    // Of zeros, the first sum stays 1 and the second counts them.
    let sum = (count % 65521) as u32;
    zlib.extend((sum << 16 | 1).to_be_bytes());
    zlib
}

#[derive(Default)]
struct Bits {
    done: Vec<u8>,
    rest: u32,
    count: u32,
}

impl Bits {
    /// A number, its lowest bit first.
    fn push(&mut self, number: u32, bits: u32) {
        self.rest |= number << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.done.push(self.rest as u8);
            self.rest >>= 8;
            self.count -= 8;
        }
    }

    /// A Huffman code, its highest bit first.
    fn push_code(&mut self, code: u32, bits: u32) {
        self.push(code.reverse_bits() >> (32 - bits), bits);
    }

    fn bytes(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.done.push(self.rest as u8);
        }
        self.done
    }
}

/// As PNG and gzip use it.
pub fn crc32(data: &[u8]) -> u32 {
    let mut table = [0_u32; 256];
    for (n, entry) in (0_u32..).zip(&mut table) {
        *entry = (0..8).fold(n, |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)));
    }
    !data.iter().fold(!0, |sum, byte| {
        (sum >> 8) ^ table[((sum ^ u32::from(*byte)) & 0xff) as usize]
    })
}

/// A GIF of one pixel's data again and again: `frames` frames of the whole screen.
pub fn gif_of(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let mut gif = b"GIF89a".to_vec();
    gif.extend(width.to_le_bytes());
    gif.extend(height.to_le_bytes());
    // A palette of two colours.
    gif.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    for _ in 0..frames {
        gif.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0]);
        gif.extend([2, 2, 0x44, 0x01, 0]);
    }
    gif.push(0x3b);
    gif
}

/// Width and height of a PNG or JPEG.
#[track_caller]
pub fn size(picture: &[u8]) -> (u32, u32) {
    let number = |at: usize, bytes: usize| {
        picture[at..at + bytes]
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    if picture.starts_with(SIGNATURE) {
        return (number(16, 4), number(20, 4));
    }
    assert!(picture.starts_with(b"\xff\xd8"), "neither PNG nor JPEG");
    let mut at = 2;
    loop {
        let marker = number(at, 2);
        // A frame's header; the others of this range define tables.
        if (0xffc0..=0xffcf).contains(&marker) && !matches!(marker, 0xffc4 | 0xffc8 | 0xffcc) {
            return (number(at + 7, 2), number(at + 5, 2));
        }
        at += 2 + number(at + 2, 2) as usize;
    }
}
