// Randomly shifted, rotated and scaled images, as defined in src/augmentation.rs: an affine map gives the position of
// each pixel in the original, which is sampled by bilinear interpolation; beyond its edge the nearest pixel is
// repeated.
//
// Provides: Source, source_of_row, value_of.
// Needs: example_of_row, random_word, row_key, value_of_example.
override SHIFT: f32; // pixels
override ROTATE: f32; // degrees, at most 45
override RESIZE: f32; // share of the size
override IMAGE_HEIGHT: u32;
override IMAGE_WIDTH: u32;
override IMAGE_CHANNELS: u32;

const RADIANS: f32 = 0.017453292519943295;

struct Source {
    example: u32,
    to_x: vec3<f32>, // x of the original = dot(to_x, (x, y, 1))
    to_y: vec3<f32>,
}

// A number in -1..1 from the upper 24 bits of a word.
fn signed_unit(word: u32) -> f32 {
    return f32(word >> 8u) / 8388608.0 - 1.0;
}

fn source_of_row(row: u32) -> Source {
    let key = row_key(0u, row);
    let angle = ROTATE * signed_unit(random_word(key, 2u)) * RADIANS;
    let size = 1.0 / (1.0 + RESIZE * signed_unit(random_word(key, 3u)));
    // By Taylor series, because WGSL guarantees little accuracy for sin and cos.
    let s = angle * angle;
    let sine = angle * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0))));
    let cosine = 1.0 - s / 2.0 * (1.0 - s / 12.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0 * (1.0 - s / 90.0))));
    let a = size * cosine;
    let b = size * sine;
    let center_x = 0.5 * f32(IMAGE_WIDTH - 1u);
    let center_y = 0.5 * f32(IMAGE_HEIGHT - 1u);
    let x = center_x + SHIFT * signed_unit(random_word(key, 0u));
    let y = center_y + SHIFT * signed_unit(random_word(key, 1u));
    let to_x = vec3<f32>(a, b, center_x - (a * x + b * y));
    let to_y = vec3<f32>(-b, a, center_y - (a * y - b * x));
    return Source(example_of_row(row), to_x, to_y);
}

fn value_of(source: Source, element: u32) -> f32 {
    let pixel = element / IMAGE_CHANNELS;
    let place = vec3<f32>(f32(pixel % IMAGE_WIDTH), f32(pixel / IMAGE_WIDTH), 1.0);
    let from_x = dot(source.to_x, place);
    let from_y = dot(source.to_y, place);
    let left = floor(from_x);
    let top = floor(from_y);
    let channel = element % IMAGE_CHANNELS;
    let upper = between(source, channel, left, top, from_x - left);
    let lower = between(source, channel, left, top + 1.0, from_x - left);
    return upper + (from_y - top) * (lower - upper);
}

// Interpolates between two neighbours in a row of pixels.
fn between(source: Source, channel: u32, left: f32, y: f32, share: f32) -> f32 {
    let first = pixel_of_image(source, channel, left, y);
    let second = pixel_of_image(source, channel, left + 1.0, y);
    return first + share * (second - first);
}

fn pixel_of_image(source: Source, channel: u32, x: f32, y: f32) -> f32 {
    let column = u32(clamp(x, 0.0, f32(IMAGE_WIDTH - 1u)));
    let row = u32(clamp(y, 0.0, f32(IMAGE_HEIGHT - 1u)));
    return value_of_example(source.example, (row * IMAGE_WIDTH + column) * IMAGE_CHANNELS + channel);
}
