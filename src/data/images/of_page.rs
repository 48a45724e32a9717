//! Pictures that a page has decoded, by the decoders of its browser.
//!
//! A page brings each to its form ([`file`]) as soon as it is decoded, so that one at a time is large, and gives that to
//! the readers as if it were the file.

use ::image::{ImageFormat as FileFormat, RgbaImage, imageops};

use super::{MANY_PIXELS, Picture, SHRUNK_SIDE, picture};
use crate::data::preprocessing::ImageFormat;

/// Bytes at the start of a file with the pixels of a picture.
const START: &[u8] = b"\0pixels of softstep";

/// The format that stands for such a file: one that no file has which is read.
pub(super) const FORMAT: FileFormat = FileFormat::Farbfeld;

/// Returns true if a file with these first bytes is a picture that a page is to decode.
pub fn is_to_decode(start: &[u8]) -> bool {
    matches!(picture(start), Some(Picture::Read(format)) if format != FORMAT)
}

/// Returns true if a file has the pixels of a picture.
pub(super) fn is_decoded(bytes: &[u8]) -> bool {
    bytes.starts_with(START)
}

/// A file with the pixels of a decoded picture in a format.
pub fn file(format: &ImageFormat, picture: RgbaImage) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let picture = if u64::from(width) * u64::from(height) > MANY_PIXELS {
        let share = f64::from(SHRUNK_SIDE) / f64::from(width.max(height));
        let [width, height] = [width, height].map(|side| (f64::from(side) * share).round().max(1.0) as u32);
        imageops::thumbnail(&picture, width, height)
    } else {
        picture
    };
    [START, &format.pixels_of(&picture)].concat()
}

/// Reads the pixels of such a file, `[features]`.
pub(super) fn pixels(bytes: &[u8], features: usize) -> Result<Vec<u8>, String> {
    let pixels = bytes.strip_prefix(START).filter(|pixels| pixels.len() == features);
    pixels.map(<[u8]>::to_vec).ok_or_else(|| PROBLEM.into())
}

/// Problem of a picture that the page could not decode.
pub(super) const PROBLEM: &str = "a damaged image (the browser cannot decode it): replace it, or leave it out";
