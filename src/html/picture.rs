//! Small PNG images in `data:` URLs.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use png::{BitDepth, ColorType, Compression, Encoder};

/// Longest side of a picture; larger ones are shrunk.
const MAX_SIDE: usize = 96;
/// Colours of weights below and above 0, distinguishable for colour-blind readers and on light and dark backgrounds.
const NEGATIVE: [u8; 3] = [0x2b, 0x83, 0xd6];
const POSITIVE: [u8; 3] = [0xe6, 0x6a, 0x0c];

/// Encodes pixels, `[rows, columns]`, as a greyscale image: 0 is black.
pub fn grey(pixels: &[u8], image: [usize; 2]) -> Result<String> {
    let (values, [rows, columns]) = shrunk(&pixels.iter().map(|&pixel| f32::from(pixel)).collect::<Vec<_>>(), image);
    let bytes: Vec<u8> = values.iter().map(|value| value.round() as u8).collect();
    encode(&bytes, [rows, columns], ColorType::Grayscale)
}

/// Encodes pixels, `[rows, columns, 3]`, as an RGB image.
pub fn rgb(pixels: &[u8], image: [usize; 2]) -> Result<String> {
    let plane =
        |channel| shrunk(&pixels.iter().skip(channel).step_by(3).map(|&v| f32::from(v)).collect::<Vec<_>>(), image);
    let ([(red, size), (green, _), (blue, _)], byte) = ([0, 1, 2].map(plane), |value: f32| value.round() as u8);
    let pixels = red.into_iter().zip(green).zip(blue);
    let bytes: Vec<u8> = pixels.flat_map(|((red, green), blue)| [byte(red), byte(green), byte(blue)]).collect();
    encode(&bytes, size, ColorType::Rgb)
}

/// Encodes weights, `[rows, columns]`, with a diverging colour scale: the further from 0, the more opaque, fully at
/// `largest`. 0 is transparent and shows the background of the page.
pub fn diverging(weights: &[f32], image: [usize; 2], largest: f32) -> Result<String> {
    let (values, image) = shrunk(weights, image);
    let pixel = |&weight: &f32| {
        let [red, green, blue] = if weight < 0.0 { NEGATIVE } else { POSITIVE };
        let strength = if largest > 0.0 { (weight.abs() / largest).min(1.0) } else { 0.0 };
        [red, green, blue, (255.0 * strength).round() as u8]
    };
    encode(&values.iter().flat_map(pixel).collect::<Vec<_>>(), image, ColorType::Rgba)
}

/// Encodes what predictions look at as a PNG file: for each picture, `[rows, columns]` with one or three bytes per pixel, a
/// row with the picture at the left and its attribution, `[rows, columns]`, at the right: orange speaks for the
/// prediction, blue against it.
pub fn attribution_sheet(pictures: &[(Vec<u8>, Vec<f32>)], [rows, columns]: [usize; 2]) -> Result<Vec<u8>> {
    /// Least side of a picture on the sheet, and space between pictures.
    const SIDE: usize = 140;
    const SPACE: usize = 8;
    let zoom = SIDE.div_ceil(rows.max(columns)).max(1);
    let [height, width] = [rows * zoom + SPACE, 2 * (columns * zoom + SPACE)];
    let mut sheet = vec![255; 3 * width * height * pictures.len()];
    for (number, (pixels, attribution)) in pictures.iter().enumerate() {
        let channels = pixels.len() / (rows * columns);
        let largest = attribution.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for (row, column) in (0..rows * zoom).flat_map(|row| (0..columns * zoom).map(move |column| (row, column))) {
            let from = row / zoom * columns + column / zoom;
            let own = [0, 1, 2].map(|channel| pixels[from * channels + channel.min(channels - 1)]);
            let share = if largest > 0.0 { attribution[from] / largest } else { 0.0 };
            let colour = if share < 0.0 { NEGATIVE } else { POSITIVE };
            let shown = colour.map(|part| (255.0 - share.abs() * (255.0 - f32::from(part))).round() as u8);
            let top = number * height + row + SPACE / 2;
            for (pixel, left) in [(own, SPACE / 2), (shown, SPACE / 2 + columns * zoom + SPACE)] {
                sheet[3 * (top * width + left + column)..][..3].copy_from_slice(&pixel);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, u32::try_from(width)?, u32::try_from(height * pictures.len())?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.add_text_chunk("Software".into(), SOFTWARE.into())?;
    encoder.write_header()?.write_image_data(&sheet)?;
    Ok(file)
}

/// Name of the program in the files of [`attribution_sheet`].
pub const SOFTWARE: &str = "softstep";

/// Averages squares of pixels so that no side is longer than [`MAX_SIDE`].
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

    /// Decodes the pixels of a picture.
    fn decode(address: &str) -> (Vec<u8>, u32, u32) {
        let file = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        (pixels, frame.width, frame.height)
    }

    #[test]
    fn pictures_hold_the_pixels_they_were_made_of() {
        let colours: Vec<u8> = (0..18).map(|at| 10 * at).collect();
        assert_eq!(decode(&rgb(&colours, [2, 3]).unwrap()), (colours, 3, 2));
        let halves = [[255, 0, 0], [0, 0, 255]].map(|pixel| pixel.repeat(100)).concat().repeat(2);
        let (pixels, width, height) = decode(&rgb(&halves, [2, 200]).unwrap());
        assert_eq!(
            (&pixels[..3], &pixels[pixels.len() - 3..], width, height),
            (&[255, 0, 0][..], &[0, 0, 255][..], 67, 1)
        );
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
