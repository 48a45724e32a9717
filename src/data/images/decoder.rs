//! Decoding of image files, natively.

use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use ::image::error::{ImageError, LimitErrorKind};
use ::image::imageops::{self, FilterType};
use ::image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat as FileFormat, ImageReader, Limits};

use super::{MANY_PIXELS, MAX_BYTES, SHRUNK_SIDE};
use crate::data::preprocessing::{Color, ImageFormat};

/// Images of more bytes than these are decoded one at a time, so that many threads need no more memory than some.
const LARGE: u64 = 32 << 20;
static ONE_LARGE: Mutex<()> = Mutex::new(());

/// Decodes an image, the right way up; its side is `SHRUNK_SIDE` if it was very large.
pub(super) fn decode(bytes: &[u8], format: FileFormat) -> Result<DynamicImage, String> {
    let unreadable = |error: ImageError| match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            format!("decoded it would take more than {MAX_BYTES} bytes: make it smaller, or leave it out")
        }
        ImageError::Unsupported(_) => unsupported(&error),
        // The decoder of TIFF tells some kinds that it does not know as errors of the file.
        error if error.to_string().to_ascii_lowercase().contains("support") => unsupported(&error),
        error => format!("a damaged image ({error}): replace it, or leave it out"),
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    limits.reserve(decoder.total_bytes()).map_err(unreadable)?;
    let _one = (decoder.total_bytes() > LARGE).then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    if u64::from(image.width()) * u64::from(image.height()) > MANY_PIXELS {
        image = image.thumbnail(SHRUNK_SIDE, SHRUNK_SIDE);
    }
    image.apply_orientation(orientation);
    Ok(image)
}

fn unsupported(error: &ImageError) -> String {
    format!("an image of a kind that is not read ({error}): convert it, or leave it out")
}

/// The pixels of an image in a format, `[features]`.
pub(super) fn pixels_of(format: &ImageFormat, image: DynamicImage) -> Vec<u8> {
    if image.color().has_alpha() {
        return format.pixels_of(&image.into_rgba8());
    }
    let &ImageFormat { width, height, color, .. } = format;
    match color {
        Color::Grey => imageops::resize(&image.into_luma8(), width, height, FilterType::Triangle).into_raw(),
        Color::Rgb => format.resized(&image.into_rgb8()),
    }
}

/// An image in grey, as [`super::ink_of`] has it.
pub(super) fn ink_of(image: DynamicImage) -> GrayImage {
    if image.color().has_alpha() { super::ink_of(&image.into_rgba8()) } else { image.into_luma8() }
}

#[cfg(test)]
mod tests {
    use ::image::RgbImage;

    use super::*;

    #[test]
    fn the_luma_of_a_colour_is_that_of_the_library() {
        let colors = || (0..1u32 << 24).step_by(7).map(|color| [color as u8, (color >> 8) as u8, (color >> 16) as u8]);
        let pixels: Vec<u8> = colors().flatten().collect();
        let picture = RgbImage::from_raw(pixels.len() as u32 / 3, 1, pixels).unwrap();
        let greys = DynamicImage::ImageRgb8(picture).into_luma8();
        let wrong: Vec<_> =
            colors().zip(greys.into_raw()).filter(|&(color, grey)| super::super::luma(color) != grey).collect();
        assert!(wrong.is_empty(), "{} {:?}", wrong.len(), &wrong[..5.min(wrong.len())]);
    }

    /// A TIFF of one grey pixel of 32 bits, in this sample format: 1 for unsigned numbers, 3 for floats.
    fn tiff(sample_format: u32) -> Vec<u8> {
        let entries = [
            (256, 1),
            (257, 1),
            (258, 32),
            (259, 1),
            (262, 1),
            (273, 134),
            (277, 1),
            (278, 1),
            (279, 4),
            (339, sample_format),
        ];
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            // Each entry is one number of 32 bits.
            bytes.extend([u16::to_le_bytes(tag), [4, 0]].concat());
            bytes.extend([1u32, value].map(u32::to_le_bytes).concat());
        }
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn a_picture_of_a_kind_that_the_decoder_does_not_know_is_not_called_damaged() {
        for sample_format in [1, 3] {
            let problem = decode(&tiff(sample_format), FileFormat::Tiff).err();
            let is_told =
                problem.as_ref().is_none_or(|problem| problem.contains("an image of a kind that is not read"));
            assert!(is_told, "{problem:?}");
        }
        assert!(decode(&tiff(1), FileFormat::Tiff).is_err());
        assert!(decode(b"II*\0\x08", FileFormat::Tiff).unwrap_err().starts_with("a damaged image"));
    }
}
