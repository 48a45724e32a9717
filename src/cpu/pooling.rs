//! Max-pooling of one image at a time.

use crate::model::{Shape, Window};

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
            largest.fill(f32::NEG_INFINITY);
            for at in self.candidates(place) {
                for (largest, &value) in largest.iter_mut().zip(&image[at..][..channels]) {
                    *largest = if value > *largest || value.is_nan() { value } else { *largest };
                }
            }
        }
    }

    /// The gradient by the image: that of each window goes to the first of its largest values.
    #[inline(always)]
    pub fn backward(self, image: &[f32], output: &[f32], d_output: &[f32], d_image: &mut [f32], rest: &mut Vec<f32>) {
        let channels = self.input.channels();
        d_image.fill(0.0);
        let places = output.chunks_exact(channels).zip(d_output.chunks_exact(channels));
        for (place, (largest, d)) in places.enumerate() {
            // What no candidate has taken yet; taken, it is 0 to all that follow.
            rest.clear();
            rest.extend_from_slice(d);
            for at in self.candidates(place) {
                let values = image[at..][..channels].iter().zip(largest);
                let gradients = d_image[at..][..channels].iter_mut().zip(rest.iter_mut());
                for ((&value, &largest), (d_value, rest)) in values.zip(gradients) {
                    let is_largest = value == largest || (value.is_nan() && largest.is_nan());
                    *d_value += if is_largest { *rest } else { 0.0 };
                    *rest = if is_largest { 0.0 } else { *rest };
                }
            }
        }
    }
}
