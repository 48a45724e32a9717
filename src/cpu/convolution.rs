//! Convolution of one image at a time, without a matrix of patches: kernels that read the windows where they lie.
//!
//! With channels last, a row of a window is one run of `size · channels` numbers in memory, and so is the row of the
//! weights that belongs to it. An image gets a margin of zeros first, in a buffer that stays in its core's cache; then a
//! tile of places and channels is summed in vector registers over all runs of the window. Vectors hold output channels.
//!
//! | pass | is |
//! |---|---|
//! | forward | the image with its padding, slid over by the weights |
//! | gradient by the input | the gradient by the output, with zeros between its places where the stride is not 1, slid over by the weights turned by 180° |
//! | gradient by the weights | of each weight the sum, over all places, of what it read times the gradient there |

use pulp::{Simd, WithSimd};

use super::workers::{Arch, lanes};
use crate::model::{Shape, Window};

/// A convolution of images of one shape, and its weights as the kernels read them.
pub struct Convolution {
    window: Window,
    input: Shape,
    output: Shape,
    forward: Packed,
    backward: Packed,
}

/// Room for one image on its way through a convolution.
#[derive(Default)]
pub struct Room {
    /// The image with its margin.
    image: Vec<f32>,
    /// The gradient by the output with its margin.
    gradient: Vec<f32>,
}

/// Images with a margin, and how a window slides over them.
#[derive(Clone, Copy)]
struct Sliding {
    /// Rows of a window.
    rows: usize,
    /// Numbers of a window's row.
    run: usize,
    /// Numbers from one row of the image to the next.
    pitch: usize,
    /// Numbers from one place to the next in a row.
    step: usize,
    /// Numbers from one row of places to the next.
    row_step: usize,
    /// Rows and columns of places.
    places: [usize; 2],
}

impl Convolution {
    pub fn new(window: Window, input: Shape, output: Shape) -> Self {
        let (inputs, outputs) = (window.size * window.size * input.channels(), output.channels());
        let forward = Packed::new(inputs, outputs);
        let backward = Packed::new(window.size * window.size * outputs, input.channels());
        Self { window, input, output, forward, backward }
    }

    /// Takes over weights, `[window row, window column, input channel]` and a bias row by `[output channel]`.
    pub fn set_weights(&mut self, weights: &[f32]) {
        let (size, inputs, outputs) = (self.window.size, self.input.channels(), self.output.channels());
        let (weights, bias) = weights.split_at(size * size * inputs * outputs);
        self.forward.fill(|row, output| weights[row * outputs + output], |output| bias[output]);
        let turned = |row: usize, input: usize| {
            let (place, output) = (row / outputs, row % outputs);
            weights[((size * size - 1 - place) * inputs + input) * outputs + output]
        };
        self.backward.fill(turned, |_| 0.0);
    }

    /// The sums of every place and channel of an image.
    pub fn forward(&self, arch: Arch, image: &[f32], room: &mut Room, output: &mut [f32]) {
        let sliding = self.pad(image, room);
        arch.dispatch(Slide { sliding, image: &room.image, weights: &self.forward, output });
    }

    /// The gradient by an image from that by its output.
    pub fn backward(&self, arch: Arch, d_output: &[f32], room: &mut Room, d_image: &mut [f32]) {
        let Window { size, stride, padding } = self.window;
        let channels = self.output.channels();
        let [height, width] = [self.input.height(), self.input.width()];
        let (margin, pitch) = (size - 1 - padding, (width + size - 1) * channels);
        room.gradient.resize((height + size - 1) * pitch, 0.0);
        for (y, row) in d_output.chunks_exact(self.output.width() * channels).enumerate() {
            let padded = &mut room.gradient[(margin + y * stride) * pitch + margin * channels..];
            if stride == 1 {
                padded[..row.len()].copy_from_slice(row);
            } else {
                for (padded, place) in padded.chunks_mut(stride * channels).zip(row.chunks_exact(channels)) {
                    padded[..channels].copy_from_slice(place);
                }
            }
        }
        let sliding = Sliding {
            rows: size,
            run: size * channels,
            pitch,
            step: channels,
            row_step: pitch,
            places: [height, width],
        };
        arch.dispatch(Slide { sliding, image: &room.gradient, weights: &self.backward, output: d_image });
    }

    /// Adds the gradient of an image to that by the weights, `[inputs + 1, width]`.
    pub fn add_weight_gradient(
        &self,
        arch: Arch,
        image: &[f32],
        d_output: &[f32],
        room: &mut Room,
        gradient: &mut [f32],
    ) {
        let sliding = self.pad(image, room);
        let (channels, width) = (self.output.channels(), self.width());
        let d_output = if channels == width {
            d_output
        } else {
            room.gradient.clear();
            for place in d_output.chunks_exact(channels) {
                room.gradient.extend_from_slice(place);
                room.gradient.resize(room.gradient.len().next_multiple_of(width), 0.0);
            }
            &room.gradient
        };
        arch.dispatch(Collect { sliding, image: &room.image, d_output, width, gradient });
        if channels != width {
            // Its margin is expected to be 0.
            room.gradient.clear();
        }
    }

    /// Numbers in a row of the gradient that is collected: the output channels, and zeros up to whole vectors.
    fn width(&self) -> usize {
        self.forward.vectors * self.forward.lanes
    }

    /// Numbers of the gradient that is collected, `[inputs + 1, width]`.
    pub fn gradient_length(&self) -> usize {
        (self.forward.inputs + 1) * self.width()
    }

    /// The gradient by the weights, `[inputs + 1, outputs]`: the sum of those that were collected, in their order.
    pub fn sum_gradients(&self, collected: &[f32], gradient: &mut [f32]) {
        let (width, length) = (self.width(), self.gradient_length());
        for (row, gradient) in gradient.chunks_exact_mut(self.forward.outputs).enumerate() {
            gradient.fill(0.0);
            for collected in collected.chunks_exact(length) {
                let collected = &collected[row * width..];
                gradient.iter_mut().zip(collected).for_each(|(sum, &value)| *sum += value);
            }
        }
    }

    /// Copies an image to the middle of its margin of zeros.
    fn pad(&self, image: &[f32], room: &mut Room) -> Sliding {
        let Window { size, stride, padding } = self.window;
        let [height, width, channels] = [self.input.height(), self.input.width(), self.input.channels()];
        let pitch = (width + 2 * padding) * channels;
        room.image.resize((height + 2 * padding) * pitch, 0.0);
        for (y, row) in image.chunks_exact(width * channels).enumerate() {
            room.image[(padding + y) * pitch + padding * channels..][..row.len()].copy_from_slice(row);
        }
        Sliding {
            rows: size,
            run: size * channels,
            pitch,
            step: stride * channels,
            row_step: stride * pitch,
            places: [self.output.height(), self.output.width()],
        }
    }
}

/// Weights in blocks of one or two vectors of output channels: `[block, input, vector of the block]`.
struct Packed {
    values: Vec<f32>,
    /// `[output channel]`, and zeros up to whole vectors.
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    vectors: usize,
    lanes: usize,
}

impl Packed {
    fn new(inputs: usize, outputs: usize) -> Self {
        let lanes = lanes();
        let vectors = outputs.div_ceil(lanes);
        let (values, bias) = (vec![0.0; vectors * lanes * inputs], vec![0.0; vectors * lanes]);
        Self { values, bias, inputs, outputs, vectors, lanes }
    }

    fn fill(&mut self, weight: impl Fn(usize, usize) -> f32, bias: impl Fn(usize) -> f32) {
        let Self { inputs, outputs, lanes, vectors, .. } = *self;
        for first in (0..vectors).step_by(2) {
            let width = lanes * (vectors - first).min(2);
            let block = &mut self.values[first * lanes * inputs..][..width * inputs];
            let columns = (outputs - first * lanes).min(width);
            for (row, values) in block.chunks_exact_mut(width).enumerate() {
                for (column, value) in values[..columns].iter_mut().enumerate() {
                    *value = weight(row, first * lanes + column);
                }
            }
        }
        self.bias[..outputs].iter_mut().enumerate().for_each(|(output, value)| *value = bias(output));
    }
}

/// The most rows of any tile. A browser's compiler keeps fewer sums in registers, and each kernel is to be loaded.
const MOST_ROWS: usize = if cfg!(target_arch = "wasm32") { 6 } else { 14 };

/// Runs the kernel for a tile of so many rows, 1 to 14: `slide` or `collect`. A row is a number and names for its
/// variables; each sum has a variable of its own, as the compiler does not keep those of an array in registers.
macro_rules! with_rows {
    ($kernel:ident, $count:expr, $arguments:tt) => {
        with_rows!(@ $kernel, $count, $arguments, []
            (0 a0 b0) (1 a1 b1) (2 a2 b2) (3 a3 b3) (4 a4 b4) (5 a5 b5) (6 a6 b6)
            (7 a7 b7) (8 a8 b8) (9 a9 b9) (10 a10 b10) (11 a11 b11) (12 a12 b12) (13 a13 b13))
    };
    (@ $kernel:ident, $count:expr, $arguments:tt, [$($row:tt)*]) => {
        {}
    };
    (@ $kernel:ident, $count:expr, $arguments:tt, [$($row:tt)*] $next:tt $($rest:tt)*) => {
        if [$(stringify!($row),)* ""].len() <= MOST_ROWS && $count == [$(stringify!($row),)* ""].len() {
            $kernel!($arguments, $($row)* $next)
        } else {
            with_rows!(@ $kernel, $count, $arguments, [$($row)* $next] $($rest)*)
        }
    };
}

/// The sums of a tile of places and `$vectors` vectors of channels.
macro_rules! slide {
    (($simd:ident, $sliding:ident, $image:ident, $weights:ident, $bias:ident, $output:ident, $vectors:literal),
     $(($place:literal $sum:ident $run:ident))*) => {{
        $(let mut $sum = [$bias[0], $bias[$vectors - 1]];)*
        for (row, weights) in $weights.chunks_exact($sliding.run * $vectors).enumerate() {
            let image = &$image[row * $sliding.pitch..];
            $(let $run = &image[$place * $sliding.step..][..$sliding.run];)*
            let (weights, _) = pulp::as_arrays::<$vectors, _>(weights);
            for (at, weights) in weights[..$sliding.run].iter().enumerate() {
                $(
                    let value = $simd.splat_f32s($run[at]);
                    $sum[0] = $simd.mul_add_e_f32s(value, weights[0], $sum[0]);
                    if $vectors == 2 {
                        $sum[1] = $simd.mul_add_e_f32s(value, weights[$vectors - 1], $sum[1]);
                    }
                )*
            }
        }
        $(
            if let Some(output) = $output.next() {
                let (first, second) = output.split_at_mut(output.len().min(lanes_of($simd)));
                store($simd, $sum[0], first);
                if $vectors == 2 {
                    store($simd, $sum[1], second);
                }
            }
        )*
    }};
}

/// Adds to the gradient by the weights of inputs, side by side in a window's row, and `$vectors` vectors of channels.
macro_rules! collect {
    (($simd:ident, $sliding:ident, $image:ident, $d_output:ident, $stride:ident, $gradient:ident, $vectors:literal),
     $(($input:literal $sum:ident $unused:ident))*) => {{
        const INPUTS: usize = [$($input),*].len();
        $(let mut $sum = [$gradient[$input * $stride], $gradient[$input * $stride + $vectors - 1]];)*
        let [rows, columns] = $sliding.places;
        for y in 0..rows {
            let image = &$image[y * $sliding.row_step..];
            let d_output = &$d_output[y * columns * $stride..];
            for x in 0..columns {
                let values = &image[x * $sliding.step..][..INPUTS];
                let d_output = &d_output[x * $stride..][..$vectors];
                $(
                    let value = $simd.splat_f32s(values[$input]);
                    $sum[0] = $simd.mul_add_e_f32s(value, d_output[0], $sum[0]);
                    if $vectors == 2 {
                        $sum[1] = $simd.mul_add_e_f32s(value, d_output[$vectors - 1], $sum[1]);
                    }
                )*
            }
        }
        $($gradient[$input * $stride..][..$vectors].copy_from_slice(&$sum[..$vectors]);)*
    }};
}

/// The most rows of a tile of so many vectors: its sums, the vectors they are multiplied with and one more number for
/// each row fit into the registers.
fn most_rows<S: Simd>(vectors: usize) -> usize {
    let rows = if S::REGISTER_COUNT >= 32 { 14 } else { 12 / vectors };
    rows.min(MOST_ROWS)
}

/// `count` in as few parts as hold `most` each, as equal as possible: (start, length).
fn parts(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    (0..parts).map(move |part| {
        let at = |part: usize| part * count / parts;
        (at(part), at(part + 1) - at(part))
    })
}

/// Slides weights over an image.
struct Slide<'a> {
    sliding: Sliding,
    image: &'a [f32],
    weights: &'a Packed,
    output: &'a mut [f32],
}

impl WithSimd for Slide<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sliding, image, weights, output } = self;
        let Packed { inputs, outputs, lanes, vectors, .. } = *weights;
        for first in (0..vectors).step_by(2) {
            let count = (vectors - first).min(2);
            let packed = S::as_simd_f32s(&weights.values[first * lanes * inputs..][..count * lanes * inputs]).0;
            let bias = S::as_simd_f32s(&weights.bias[first * lanes..][..count * lanes]).0;
            for (y, output) in output.chunks_exact_mut(sliding.places[1] * outputs).enumerate() {
                let image = &image[y * sliding.row_step..];
                for (start, places) in parts(sliding.places[1], most_rows::<S>(count)) {
                    let image = &image[start * sliding.step..];
                    // The channels of the places, from the first of the block on.
                    let mut output =
                        output[start * outputs..].chunks_exact_mut(outputs).map(|place| &mut place[first * lanes..]);
                    if count == 2 {
                        with_rows!(slide, places, (simd, sliding, image, packed, bias, output, 2));
                    } else {
                        with_rows!(slide, places, (simd, sliding, image, packed, bias, output, 1));
                    }
                }
            }
        }
    }
}

/// Numbers in a vector.
#[inline(always)]
fn lanes_of<S: Simd>(_: S) -> usize {
    S::F32_LANES
}

/// Writes a vector, cut where the room ends.
#[inline(always)]
fn store<S: Simd>(simd: S, vector: S::f32s, output: &mut [f32]) {
    match S::as_mut_simd_f32s(output) {
        ([whole, ..], _) => *whole = vector,
        (_, rest) => simd.partial_store_f32s(rest, vector),
    }
}

/// Collects the gradient by the weights.
struct Collect<'a> {
    sliding: Sliding,
    image: &'a [f32],
    /// Gradient by the outputs, in whole vectors.
    d_output: &'a [f32],
    width: usize,
    gradient: &'a mut [f32],
}

impl WithSimd for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sliding, image, d_output, width, gradient } = self;
        let vectors = width / S::F32_LANES;
        let (d_output, _) = S::as_simd_f32s(d_output);
        let (gradient, _) = S::as_mut_simd_f32s(gradient);
        for first in (0..vectors).step_by(2) {
            let d_output = &d_output[first..];
            let count = (vectors - first).min(2);
            for row in 0..sliding.rows {
                for (start, length) in parts(sliding.run, most_rows::<S>(count)) {
                    let image = &image[row * sliding.pitch + start..];
                    let gradient = &mut gradient[(row * sliding.run + start) * vectors + first..];
                    if count == 2 {
                        with_rows!(collect, length, (simd, sliding, image, d_output, vectors, gradient, 2));
                    } else {
                        with_rows!(collect, length, (simd, sliding, image, d_output, vectors, gradient, 1));
                    }
                }
            }
        }
        let bias = &mut gradient[sliding.rows * sliding.run * vectors..][..vectors];
        for place in d_output.chunks_exact(vectors) {
            for (sum, &d) in bias.iter_mut().zip(place) {
                *sum = simd.add_f32s(*sum, d);
            }
        }
    }
}
