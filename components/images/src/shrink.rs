//! Makes a picture small, row by row: whole boxes of pixels are averaged as rows
//! come in, so that a large picture never has to be in memory, and what is left
//! is resized.

use image::imageops::{FilterType, resize};
use image::{Rgba, RgbaImage};

/// Averaging stops at this multiple of the final side: resizing does the rest,
/// with a filter that looks better.
const SPARE: u32 = 2;

/// Takes in the rows of a picture, from the top.
pub(crate) struct Shrinker {
    size: (u32, u32),
    final_size: (u32, u32),
    /// Pixels on each side of a box.
    side: usize,
    columns: usize,
    /// Sums over the boxes that are not full: colours times alpha, and alpha.
    sums: Vec<[u32; 4]>,
    rows_summed: usize,
    rows_left: u32,
    /// Averages, with colours premultiplied by alpha.
    pixels: Vec<u8>,
}

/// A picture ended before its last row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("rows are missing")]
pub(crate) struct RowsMissing;

/// The size that fits into a square: of the same shape, not larger than the
/// picture, and at least a pixel each way.
pub(crate) fn fit(width: u32, height: u32, max_side: u32) -> (u32, u32) {
    let larger = width.max(height);
    if larger <= max_side {
        return (width, height);
    }
    let scaled = |side: u32| {
        let (side, larger, max_side) = (u64::from(side), u64::from(larger), u64::from(max_side));
        ((side * max_side + larger / 2) / larger).max(1) as u32
    };
    (scaled(width), scaled(height))
}

impl Shrinker {
    /// For a picture of this size; rows are of `width` pixels.
    pub(crate) fn new(width: u32, height: u32, max_side: u32) -> Self {
        let side = (width.max(height) / (max_side * SPARE)).max(1) as usize;
        let columns = (width as usize).div_ceil(side);
        Self {
            size: (width, height),
            final_size: fit(width, height, max_side),
            side,
            columns,
            sums: vec![[0; 4]; columns],
            rows_summed: 0,
            rows_left: height,
            pixels: Vec::with_capacity(columns * (height as usize).div_ceil(side) * 4),
        }
    }

    /// Adds a row of pixels with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)
    /// bytes each. Rows after the last are ignored.
    pub(crate) fn row(&mut self, row: &[u8], channels: usize) {
        if self.rows_left == 0 {
            return;
        }
        match channels {
            1 => self.add(row, |&[grey]: &[u8; 1]| [grey, grey, grey, 255]),
            2 => self.add(row, |&[grey, alpha]: &[u8; 2]| [grey, grey, grey, alpha]),
            3 => self.add(row, |&[r, g, b]: &[u8; 3]| [r, g, b, 255]),
            _ => self.add(row, |rgba: &[u8; 4]| *rgba),
        }
        self.rows_left -= 1;
        self.rows_summed += 1;
        if self.rows_summed == self.side || self.rows_left == 0 {
            self.average();
        }
    }

    /// The sums fit: a box has at most 102 × 102 pixels of 255 × 255.
    fn add<const N: usize>(&mut self, row: &[u8], rgba: impl Fn(&[u8; N]) -> [u8; 4]) {
        let (pixels, _) = row.as_chunks::<N>();
        for (sum, pixels) in self.sums.iter_mut().zip(pixels.chunks(self.side)) {
            for pixel in pixels {
                let [r, g, b, a] = rgba(pixel).map(u32::from);
                sum[0] += r * a;
                sum[1] += g * a;
                sum[2] += b * a;
                sum[3] += a;
            }
        }
    }

    fn average(&mut self) {
        let width = self.size.0 as usize;
        for (column, sum) in self.sums.iter_mut().enumerate() {
            let columns = self.side.min(width - column * self.side);
            let count = (columns * self.rows_summed) as u32;
            let [r, g, b, a] = std::mem::take(sum);
            let colour = |sum: u32| ((sum / count + 127) / 255) as u8;
            let alpha = ((a + count / 2) / count) as u8;
            self.pixels.extend([colour(r), colour(g), colour(b), alpha]);
        }
        self.rows_summed = 0;
    }

    /// The small picture; its colours are not premultiplied any more.
    pub(crate) fn finish(self) -> Result<RgbaImage, RowsMissing> {
        let rows = self.pixels.len() / 4 / self.columns.max(1);
        if self.rows_left > 0 {
            return Err(RowsMissing);
        }
        let averaged = RgbaImage::from_raw(self.columns as u32, rows as u32, self.pixels)
            .ok_or(RowsMissing)?;
        let (width, height) = self.final_size;
        let mut small = if averaged.dimensions() == self.final_size {
            averaged
        } else {
            resize(&averaged, width, height, FilterType::CatmullRom)
        };
        for Rgba([r, g, b, alpha]) in small.pixels_mut() {
            for colour in [r, g, b] {
                *colour = divided(*colour, *alpha);
            }
        }
        Ok(small)
    }
}

/// A colour without its alpha.
fn divided(colour: u8, alpha: u8) -> u8 {
    let alpha = u16::from(alpha);
    (u16::from(colour) * 255 + alpha / 2)
        .checked_div(alpha)
        .map_or(0, |colour| colour.min(255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fit_and_keep_their_shape() {
        for (width, height, expected) in [
            (6000, 4000, (320, 213)),
            (4000, 6000, (213, 320)),
            (320, 320, (320, 320)),
            (321, 321, (320, 320)),
            (1, 1, (1, 1)),
            (319, 1, (319, 1)),
            (65_535, 1, (320, 1)),
            (1, 65_535, (1, 320)),
        ] {
            assert_eq!(fit(width, height, 320), expected, "{width}x{height}");
        }
    }

    fn shrunk(width: u32, height: u32, row: &[u8], channels: usize) -> RgbaImage {
        let mut shrinker = Shrinker::new(width, height, 320);
        for _ in 0..height {
            shrinker.row(row, channels);
        }
        shrinker.finish().unwrap()
    }

    #[test]
    fn one_colour_stays_that_colour() {
        for (width, height) in [
            (1, 1),
            (320, 200),
            (641, 640),
            (1300, 77),
            (5000, 3),
            (3, 5000),
        ] {
            let row = [10, 200, 30].repeat(width as usize);
            let small = shrunk(width, height, &row, 3);
            assert_eq!(small.dimensions(), fit(width, height, 320));
            for pixel in small.pixels() {
                assert_eq!(pixel.0, [10, 200, 30, 255], "{width}x{height}");
            }
        }
    }

    #[test]
    fn invisible_colours_do_not_show() {
        let row = [[255, 0, 0, 255], [0, 255, 0, 0]].concat().repeat(1300);
        for pixel in shrunk(2600, 1300, &row, 4).pixels() {
            let [r, g, b, alpha] = pixel.0;
            assert!(r > 250 && g == 0 && b == 0, "{pixel:?}");
            assert!((120..=136).contains(&alpha), "{pixel:?}");
        }
    }

    #[test]
    fn grey_is_three_equal_colours() {
        assert_eq!(
            shrunk(2, 1, &[7, 9], 1).as_raw()[..8],
            [7, 7, 7, 255, 9, 9, 9, 255]
        );
        assert_eq!(shrunk(1, 1, &[7, 0], 2).as_raw()[..], [0, 0, 0, 0]);
    }

    #[test]
    fn rows_are_counted() {
        let mut shrinker = Shrinker::new(1, 2, 320);
        shrinker.row(&[1], 1);
        assert_eq!(shrinker.finish(), Err(RowsMissing));
        let mut shrinker = Shrinker::new(1, 1, 320);
        shrinker.row(&[1], 1);
        shrinker.row(&[2], 1);
        assert_eq!(shrinker.finish().unwrap().as_raw()[..], [1, 1, 1, 255]);
    }
}
