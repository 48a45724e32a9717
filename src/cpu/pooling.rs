//! Max-pooling of one image at a time.

use crate::model::{Shape, Window};

/// Channels that are compared together: a vector of AVX-512, two of AVX2.
const LANES: usize = 16;

/// Places of a window in images of one shape.
#[derive(Clone, Copy)]
pub struct Pooling {
    pub window: Window,
    pub input: Shape,
    pub output: Shape,
}

impl Pooling {
    /// Where the pixels of the window at place (y, x) start in the image, row by row.
    #[inline(always)]
    fn candidates(self, place: usize) -> impl Iterator<Item = usize> {
        let Window { size, stride, .. } = self.window;
        let (y, x) = (place / self.output.width() * stride, place % self.output.width() * stride);
        let (width, channels) = (self.input.width(), self.input.channels());
        (0..size).flat_map(move |row| (0..size).map(move |column| ((y + row) * width + x + column) * channels))
    }

    /// The largest of each window and channel; NaN where there is one.
    #[inline(always)]
    pub fn forward(self, image: &[f32], output: &mut [f32]) {
        let channels = self.input.channels();
        for (place, largest) in output.chunks_exact_mut(channels).enumerate() {
            let (blocks, rest) = largest.as_chunks_mut::<LANES>();
            for (block, largest) in blocks.iter_mut().enumerate() {
                *largest = self.largest(image, place, block * LANES);
            }
            let first = channels - rest.len();
            for (channel, largest) in rest.iter_mut().enumerate() {
                [*largest] = self.largest(image, place, first + channel);
            }
        }
    }

    /// The largest of a window, of `N` channels from `first` on.
    #[inline(always)]
    fn largest<const N: usize>(self, image: &[f32], place: usize, first: usize) -> [f32; N] {
        let mut largest = [f32::NEG_INFINITY; N];
        for at in self.candidates(place) {
            let Some(values) = image[at + first..].first_chunk::<N>() else { break };
            for (largest, &value) in largest.iter_mut().zip(values) {
                *largest = if value > *largest || value.is_nan() { value } else { *largest };
            }
        }
        largest
    }

    /// The gradient by the image: that of each window goes to the first of its largest values.
    #[inline(always)]
    pub fn backward(self, image: &[f32], output: &[f32], d_output: &[f32], d_image: &mut [f32]) {
        let channels = self.input.channels();
        d_image.fill(0.0);
        let places = output.chunks_exact(channels).zip(d_output.chunks_exact(channels));
        for (place, (largest, d)) in places.enumerate() {
            let (blocks, rest) = largest.as_chunks::<LANES>();
            let (d_blocks, d_rest) = d.as_chunks::<LANES>();
            for (block, (largest, d)) in blocks.iter().zip(d_blocks).enumerate() {
                self.give(image, place, block * LANES, (*largest, *d), d_image);
            }
            let first = channels - rest.len();
            for (channel, (&largest, &d)) in rest.iter().zip(d_rest).enumerate() {
                self.give(image, place, first + channel, ([largest], [d]), d_image);
            }
        }
    }

    /// Gives the gradients of a window to the first of its largest values, of `N` channels from `first` on.
    #[inline(always)]
    fn give<const N: usize>(
        self,
        image: &[f32],
        place: usize,
        first: usize,
        // What no candidate has taken yet; taken, it is 0 to all that follow.
        (largest, mut rest): ([f32; N], [f32; N]),
        d_image: &mut [f32],
    ) {
        for at in self.candidates(place) {
            let Some(values) = image[at + first..].first_chunk::<N>() else { break };
            let Some(d_values) = d_image[at + first..].first_chunk_mut::<N>() else { break };
            for index in 0..N {
                let (value, largest) = (values[index], largest[index]);
                let is_largest = (value == largest) | (value.is_nan() & largest.is_nan());
                d_values[index] += if is_largest { rest[index] } else { 0.0 };
                rest[index] = if is_largest { 0.0 } else { rest[index] };
            }
        }
    }
}
