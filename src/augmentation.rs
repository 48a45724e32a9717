//! Augmentation: each image of a training batch is shifted, turned and scaled a little, at random, before the model
//! reads it.

use serde::{Deserialize, Serialize};

use crate::model::Shape;
use crate::random::{Stream, signed_unit, step_key, stream_key, word};

/// The most that images are changed; the change of each image is uniform between both signs of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Shift to each side, in pixels.
    pub shift: f32,
    /// Rotation about the centre, in degrees; 45 at most.
    pub rotate: f32,
    /// Change of size, as a share: 0.1 is between 0.9 and 1.1 times. Below 1.
    pub scale: f32,
}

/// Augmentation of images of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// The most that they are changed.
    pub augment: Augment,
    /// Shape of an image, also where the model reads its features in a row.
    pub image: Shape,
}

impl Augmentation {
    /// The change of the image in row `row` of the batch of step `step`, from 1, as the affine map from places in the
    /// changed image to places in the original: `[a, b, c, d, e, f]` with `x' = a x + b y + c` and `y' = d x + e y + f`.
    ///
    /// Places are pixel centres, from (0, 0). The original is read between its pixels by bilinear interpolation; beyond its
    /// edge, the nearest pixel of the edge stands.
    pub fn map(&self, seed: u64, step: u64, row: u32) -> [f32; 6] {
        let key = stream_key(step_key(seed, step), Stream::Augmentation);
        let random = |element| signed_unit(word(key, row, element));
        let Augment { shift, rotate, scale } = self.augment;
        let (shift_x, shift_y) = (shift * random(0), shift * random(1));
        let (sin, cos) = sin_cos(rotate * random(2) * (std::f32::consts::PI / 180.0));
        let size = 1.0 / (1.0 + scale * random(3));
        let [center_x, center_y] = [self.image.width(), self.image.height()].map(|side| 0.5 * (side as f32 - 1.0));
        let (a, b) = (size * cos, size * sin);
        let (x, y) = (center_x + shift_x, center_y + shift_y);
        [a, b, center_x - (a * x + b * y), -b, a, center_y - (a * y - b * x)]
    }
}

/// Sine and cosine of an angle of at most π/4, by the series of Taylor: within 1e-7, and with the same bits everywhere,
/// which the functions of a platform's library do not promise.
fn sin_cos(x: f32) -> (f32, f32) {
    let s = x * x;
    let sin = x * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0))));
    let cos = 1.0 - s / 2.0 * (1.0 - s / 12.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0 * (1.0 - s / 90.0))));
    (sin, cos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_are_right_up_to_45_degrees() {
        for step in -100..=100 {
            let x = std::f32::consts::FRAC_PI_4 * step as f32 / 100.0;
            let (sin, cos) = sin_cos(x);
            assert!((f64::from(sin) - f64::from(x).sin()).abs() < 1e-7, "{x}");
            assert!((f64::from(cos) - f64::from(x).cos()).abs() < 1e-7, "{x}");
        }
    }

    #[test]
    fn the_map_turns_about_the_centre_and_nothing_is_the_identity() {
        let image = Shape::Image { height: 9, width: 5, channels: 1 };
        let map = |augment| Augmentation { augment, image }.map(1, 2, 3);
        assert_eq!(map(Augment::default()), [1.0, 0.0, 0.0, -0.0, 1.0, 0.0]);
        let [a, b, c, d, e, f] = map(Augment { rotate: 45.0, scale: 0.2, shift: 0.0 });
        assert!((a * 2.0 + b * 4.0 + c - 2.0).abs() < 1e-5 && (d * 2.0 + e * 4.0 + f - 4.0).abs() < 1e-5);
        assert!(b != 0.0 && d == -b && a == e);
    }
}
