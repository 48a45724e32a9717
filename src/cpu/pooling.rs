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
    /// Offsets in the image of the pixels of a window, row by row; `place` is the window's position, row-major.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeats the values in each of `count` channels, so that they fill whole vectors and parts of one.
    fn channels(values: &[f32], count: usize) -> Vec<f32> {
        values.iter().flat_map(|&value| vec![value; count]).collect()
    }

    #[test]
    fn the_first_of_equals_takes_the_gradient_and_a_nan_is_the_largest() {
        for count in [1, 16, 19] {
            let image = |height, width| Shape::Image { height, width, channels: count };
            let window = Window { size: 2, stride: 2, padding: 0 };
            let pooling = Pooling { window, input: image(2, 6), output: image(1, 3) };
            let input = channels(&[1.0, 2.0, 3.0, 3.0, 4.0, f32::NAN, 2.0, 2.0, 3.0, 0.0, f32::NAN, 5.0], count);
            let mut output = vec![0.0; 3 * count];
            pooling.forward(&input, &mut output);
            assert_eq!(output[..2 * count], channels(&[2.0, 3.0], count));
            assert!(output[2 * count..].iter().all(|value| value.is_nan()), "{output:?}");
            let mut d_input = vec![7.0; input.len()];
            pooling.backward(&input, &output, &channels(&[5.0, 6.0, 8.0], count), &mut d_input);
            let expected = [0.0, 5.0, 6.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            assert_eq!(d_input, channels(&expected, count));
        }
    }

    #[test]
    fn windows_that_overlap_add_their_gradients() {
        let image = |height, width| Shape::Image { height, width, channels: 1 };
        let window = Window { size: 2, stride: 1, padding: 0 };
        let pooling = Pooling { window, input: image(2, 3), output: image(1, 2) };
        let input = [1.0, 9.0, 2.0, 3.0, 4.0, 9.0];
        let (mut output, mut d_input) = ([0.0; 2], [0.0; 6]);
        pooling.forward(&input, &mut output);
        pooling.backward(&input, &output, &[5.0, 7.0], &mut d_input);
        assert_eq!((output, d_input), ([9.0; 2], [0.0, 12.0, 0.0, 0.0, 0.0, 0.0]));
    }
}
