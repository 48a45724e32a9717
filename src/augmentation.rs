//! Augmentation: random small shifts, rotations and scalings of the images of each training batch, before the model
//! reads them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Shape;
use crate::random::{Stream, signed_unit, step_key, stream_key, word};

/// Limits of the random changes; the change of each image is uniform between minus and plus the limit.
///
/// The text form, `shift=2,rotate=10,scale=0.1` without zero parts, is how files and messages contain
/// text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augment {
    /// Largest shift in each direction, in pixels.
    pub shift: f32,
    /// Largest rotation about the centre, in degrees; at most 45.
    pub rotate: f32,
    /// Largest relative change of size, below 1: 0.1 allows 0.9 to 1.1 times the size.
    pub scale: f32,
}

impl Augment {
    /// The parts with their names.
    fn parts(self) -> [(&'static str, f32); 3] {
        [("shift", self.shift), ("rotate", self.rotate), ("scale", self.scale)]
    }

    /// Checks the range of each part.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the part.
    pub fn check(self) -> Result<()> {
        let rules = [
            ((0.0..=MAX_SHIFT).contains(&self.shift), "at least 0 and at most 1000 pixels"),
            ((0.0..=45.0).contains(&self.rotate), "at least 0 and at most 45 degrees"),
            ((0.0..1.0).contains(&self.scale), "a share: at least 0 and below 1"),
        ];
        for ((name, value), (holds, rule)) in self.parts().into_iter().zip(rules) {
            if !holds {
                return Err(Error::Invalid(format!("`augment` {name}={value}: must be {rule}")));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts().into_iter().filter(|(_, value)| *value != 0.0);
        let parts: Vec<String> = parts.map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(if parts.is_empty() { "shift=0" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Augment {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut augment = Self::default();
        let mut said = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let place = match name {
                "shift" => &mut augment.shift,
                "rotate" => &mut augment.rotate,
                "scale" => &mut augment.scale,
                _ => {
                    return Err(format!(
                        "{part:?} is unknown: the parts are shift=PIXELS, rotate=DEGREES and scale=SHARE"
                    ));
                }
            };
            if said.contains(&name) {
                return Err(format!("{name} is there twice"));
            }
            said.push(name);
            *place = value.parse().map_err(|_| format!("{part:?} has no number, as in {name}=2"))?;
        }
        augment.check().map_err(|error| error.to_string().replacen("`augment` ", "", 1))?;
        Ok(augment)
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> Self {
        augment.to_string()
    }
}

impl TryFrom<String> for Augment {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// Upper limit of the shift, in pixels; beyond it, no image has a pixel left.
const MAX_SHIFT: f32 = 1000.0;

/// Augmentation of images of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Limits of the random changes.
    pub augment: Augment,
    /// Shape of an image, even if the model reads its features flattened.
    pub image: Shape,
}

impl Augmentation {
    /// Builds the augmentation for examples of this shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the examples are not images, or if a part is out of range.
    pub fn new(augment: Augment, image: Shape) -> Result<Self> {
        augment.check()?;
        match image {
            Shape::Image { .. } => Ok(Self { augment, image }),
            Shape::Flat(features) => Err(Error::Invalid(format!(
                "`augment` {augment}: it changes images, and an example of this data is {features} features in a row"
            ))),
        }
    }

    /// Change of the image in row `row` of the batch of step `step`, from 1: the affine map from positions in the
    /// augmented image to positions in the original, `[a, b, c, d, e, f]` with `x' = a x + b y + c` and `y' = d x + e y
    /// + f`.
    ///
    /// Positions are pixel centres, from (0, 0). The original is sampled by bilinear interpolation; beyond its edge,
    /// the nearest pixel of the edge is repeated.
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

/// Sine and cosine of an angle of at most π/4, by Taylor series: within 1e-7, and with the same bits everywhere, which
/// platform libraries do not guarantee.
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
    fn texts_are_read_as_they_are_written_and_wrong_ones_refused() {
        for text in ["shift=2,rotate=10,scale=0.1", "rotate=7.5", "shift=0"] {
            assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
        }
        assert_eq!("scale=0.1, shift=2".parse::<Augment>(), Ok(Augment { shift: 2.0, rotate: 0.0, scale: 0.1 }));
        for (text, told) in [
            ("", "\"\" is unknown"),
            ("flip=1", "shift=PIXELS, rotate=DEGREES and scale=SHARE"),
            ("shift", "has no number"),
            ("shift=two", "has no number"),
            ("shift=1,shift=2", "shift is there twice"),
            ("shift=-1", "shift=-1: must be at least 0"),
            ("shift=nan", "must be at least 0"),
            ("rotate=46", "at most 45 degrees"),
            ("scale=1", "below 1"),
        ] {
            let error = text.parse::<Augment>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        let error = Augmentation::new("shift=2".parse().unwrap(), Shape::Flat(4)).unwrap_err().to_string();
        assert_eq!(error, "`augment` shift=2: it changes images, and an example of this data is 4 features in a row");
    }

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
