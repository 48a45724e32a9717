//! Preset networks, for users who do not want to choose layers.

use super::{Activation, Layer, Shape, Window};
use crate::error::{Error, Result};

/// A named network whose layers follow from the shape of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A small convolutional network: convolution, ReLU and pooling, repeated until an image's shorter side is 8 pixels
    /// or less, with 16 channels, then 32, and so on up to 128; dropout of a quarter; and a linear layer of 128 with
    /// ReLU. Kernels are 5×5, or 3×3 where the shorter side is less than 12 pixels.
    Cnn,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 1] = [Self::Cnn];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
        }
    }

    /// The preset with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The layers for examples of this shape, without the final linear one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the examples are not images.
    pub fn layers(self, input: Shape) -> Result<Vec<Layer>> {
        let Shape::Image { height, width, .. } = input else {
            return Err(Error::Invalid(format!(
                "`layers` {}: it needs images, and an example of this data is {input} features in a row",
                self.name()
            )));
        };
        let relu = Layer::Activation(Activation::Relu);
        let mut layers = Vec::new();
        let mut side = height.min(width);
        let mut channels = 16;
        while layers.is_empty() || side > 8 {
            let size = if side >= 12 { 5 } else { 3 };
            layers.push(Layer::Conv2d { channels, window: Window { size, stride: 1, padding: size / 2 } });
            layers.push(relu);
            if side >= 2 {
                layers.push(Layer::MaxPool2d { window: Window { size: 2, stride: 2, padding: 0 } });
            }
            side /= 2;
            channels = (2 * channels).min(128);
        }
        layers.extend([Layer::Dropout { p: 0.25 }, Layer::Linear { outputs: 128 }, relu]);
        Ok(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;

    #[test]
    fn the_convolutional_preset_fits_images_of_any_size_and_nothing_else() {
        for (height, width) in [(1, 1), (1, 300), (2, 3), (8, 8), (11, 12), (28, 28), (32, 32), (48, 64), (512, 512)] {
            let image = Shape::Image { height, width, channels: 3 };
            let layers = Preset::Cnn.layers(image).unwrap();
            let all = layers.iter().copied().chain([Layer::Linear { outputs: 10 }]);
            Architecture::new(image, all).unwrap();
        }
        let digit = Preset::Cnn.layers(Shape::Image { height: 28, width: 28, channels: 1 }).unwrap();
        let text = digit.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        assert_eq!(text, "conv:16x5,relu,pool:2,conv:32x5,relu,pool:2,dropout:0.25,linear:128,relu");
        let error = Preset::Cnn.layers(Shape::Flat(4)).unwrap_err().to_string();
        assert_eq!(error, "`layers` cnn: it needs images, and an example of this data is 4 features in a row");
    }
}
