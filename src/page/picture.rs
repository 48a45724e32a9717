//! Small images as PNG in `data:` addresses.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use png::{BitDepth, ColorType, Compression, Encoder};

/// The longest side that a picture may have; larger ones are shrunk.
const MAX_SIDE: usize = 96;
/// The colours of weights below and above 0; they can be told apart by the colour-blind, and on light and dark ground.
const NEGATIVE: [u8; 3] = [0x2b, 0x83, 0xd6];
const POSITIVE: [u8; 3] = [0xe6, 0x6a, 0x0c];

/// Bytes of pixels, `[rows, columns]`, as a grey image: 0 is black.
pub fn grey(pixels: &[u8], image: [usize; 2]) -> Result<String> {
    let (values, [rows, columns]) = shrunk(&pixels.iter().map(|&pixel| f32::from(pixel)).collect::<Vec<_>>(), image);
    let bytes: Vec<u8> = values.iter().map(|value| value.round() as u8).collect();
    encode(&bytes, [rows, columns], ColorType::Grayscale)
}

/// Weights, `[rows, columns]`: the further from 0, the stronger the colour, full at `largest`. 0 is transparent, so that
/// it has the colour of the page.
pub fn diverging(weights: &[f32], image: [usize; 2], largest: f32) -> Result<String> {
    let (values, image) = shrunk(weights, image);
    let pixel = |&weight: &f32| {
        let [red, green, blue] = if weight < 0.0 { NEGATIVE } else { POSITIVE };
        let strength = if largest > 0.0 { (weight.abs() / largest).min(1.0) } else { 0.0 };
        [red, green, blue, (255.0 * strength).round() as u8]
    };
    encode(&values.iter().flat_map(pixel).collect::<Vec<_>>(), image, ColorType::Rgba)
}

/// Means over squares of pixels, so that no side is longer than [`MAX_SIDE`].
fn shrunk(values: &[f32], [rows, columns]: [usize; 2]) -> (Vec<f32>, [usize; 2]) {
    let factor = rows.max(columns).div_ceil(MAX_SIDE).max(1);
    let size = [rows.div_ceil(factor), columns.div_ceil(factor)];
    let mean = |row: usize, column: usize| {
        let within = |at: usize, end: usize| at * factor..((at + 1) * factor).min(end);
        let square = within(row, rows).flat_map(|row| &values[row * columns..][within(column, columns)]);
        let (sum, count) = square.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        sum / count
    };
    let values = (0..size[0]).flat_map(|row| (0..size[1]).map(move |column| (row, column)));
    (values.map(|(row, column)| mean(row, column)).collect(), size)
}

fn encode(bytes: &[u8], [rows, columns]: [usize; 2], colours: ColorType) -> Result<String> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, u32::try_from(columns)?, u32::try_from(rows)?);
    encoder.set_color(colours);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::High);
    encoder.write_header()?.write_image_data(bytes)?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels of a picture.
    fn decode(address: &str) -> (Vec<u8>, u32, u32) {
        let file = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        (pixels, frame.width, frame.height)
    }

    #[test]
    fn pictures_hold_the_pixels_they_were_made_of() {
        assert_eq!(
            decode(&grey(&[0, 50, 100, 150, 200, 255], [2, 3]).unwrap()),
            (vec![0, 50, 100, 150, 200, 255], 3, 2)
        );
        let (pixels, ..) = decode(&diverging(&[-2.0, 0.0, 1.0], [1, 3], 2.0).unwrap());
        assert_eq!(pixels[..4], [0x2b, 0x83, 0xd6, 255]);
        assert_eq!((pixels[7], pixels[8], pixels[11]), (0, 0xe6, 128));
    }

    #[test]
    fn large_pictures_are_shrunk_to_means_whatever_their_sides() {
        let pixels: Vec<u8> = (0..250 * 97).map(|at| if at % 97 < 48 { 10 } else { 20 }).collect();
        let (pixels, width, height) = decode(&grey(&pixels, [250, 97]).unwrap());
        assert_eq!((width, height, pixels.len()), (33, 84, 33 * 84));
        assert!(pixels[..16].iter().all(|&pixel| pixel == 10) && pixels[16..33].iter().all(|&pixel| pixel == 20));
    }
}
