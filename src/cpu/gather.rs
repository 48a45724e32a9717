//! Reads the examples of a batch, and augments them in training.

use crate::augmentation::Augmentation;
use crate::data::{Examples, Features, Row};

/// Number of rows between the example that is gathered and the one that is [touched](touch).
pub const AHEAD: usize = 2;

/// Brings the features of an example into the cache. The examples of a batch lie anywhere in memory, so that the processor
/// waits for each of them, and does not guess the next.
#[inline(always)]
pub fn touch(examples: &Examples, example: usize) {
    const LINE: usize = 64; // bytes
    let row = example * examples.features..(example + 1) * examples.features;
    match &*examples.inputs {
        Features::Bytes(bytes) => {
            let lines = bytes[row].iter().step_by(LINE);
            std::hint::black_box(lines.fold(0, |sum, byte| sum ^ byte));
        }
        Features::Floats(values) => {
            let lines = values[row].iter().step_by(LINE / size_of::<f32>());
            std::hint::black_box(lines.fold(0, |sum, value| sum ^ value.to_bits()));
        }
        Features::Stored(_) => {}
    }
}

/// Writes the features of an example; a byte is scaled to 0..1.
#[inline(always)]
pub fn gather(examples: &Examples, example: usize, row: &mut [f32]) {
    let at = example * examples.features;
    match &*examples.inputs {
        Features::Bytes(bytes) => scale(&bytes[at..], row),
        Features::Floats(values) => row.copy_from_slice(&values[at..][..examples.features]),
        Features::Stored(stored) => match stored.row(example) {
            Row::Bytes(bytes) => scale(&bytes, row),
            Row::Floats(values) => row.copy_from_slice(&values),
        },
    }
}

#[inline(always)]
fn scale(bytes: &[u8], row: &mut [f32]) {
    for (value, &byte) in row.iter_mut().zip(bytes) {
        *value = f32::from(byte) * (1.0 / 255.0);
    }
}

/// Reads an image through the map of [`Augmentation::map`], between its pixels by bilinear interpolation.
#[inline(always)]
pub fn augment(augmentation: &Augmentation, [a, b, c, d, e, f]: [f32; 6], image: &[f32], row: &mut [f32]) {
    let shape = augmentation.image;
    let [height, width, channels] = [shape.height(), shape.width(), shape.channels()];
    let clamp = |place: f32, side: usize| place.max(0.0).min((side - 1) as f32) as usize;
    for (index, pixel) in row.chunks_exact_mut(channels).enumerate() {
        let (x, y) = ((index % width) as f32, (index / width) as f32);
        let (from_x, from_y) = (a * x + b * y + c, d * x + e * y + f);
        let (left, top) = (from_x.floor(), from_y.floor());
        let (right_share, lower_share) = (from_x - left, from_y - top);
        let columns = [clamp(left, width), clamp(left + 1.0, width)];
        let [upper, lower] = [clamp(top, height), clamp(top + 1.0, height)]
            .map(|y| columns.map(|x| &image[(y * width + x) * channels..][..channels]));
        for (channel, value) in pixel.iter_mut().enumerate() {
            let between = |[left, right]: [&[f32]; 2]| left[channel] + right_share * (right[channel] - left[channel]);
            let (upper, lower) = (between(upper), between(lower));
            *value = upper + lower_share * (lower - upper);
        }
    }
}
