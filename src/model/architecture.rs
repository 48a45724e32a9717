//! Architectures: the shape of an example and a list of layers. All shapes are inferred and checked here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Activation;
use crate::error::{Error, Result};

/// Upper limit of the layers of an architecture; deep networks of plain layers stop learning long before.
pub const MAX_LAYERS: usize = 1999;

/// Upper limit of the values of an example between two layers: 2²⁸, which is 1 GiB in f32.
pub(crate) const MAX_VALUES: usize = 1 << 28;

/// The shape of one example between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub enum Shape {
    /// A number of features, `[features]`.
    Flat(usize),
    /// An image, `[height, width, channels]`, channels last.
    Image {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Number of values of a pixel.
        channels: usize,
    },
}

impl Shape {
    /// Number of values of an example.
    pub fn len(self) -> usize {
        self.positions() * self.channels()
    }

    /// Returns true if an example has no values; no checked architecture has such a shape.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Number of pixels of an image; 1 for features.
    pub fn positions(self) -> usize {
        self.height() * self.width()
    }

    /// Number of values of a pixel; for a flat shape the number of features.
    pub fn channels(self) -> usize {
        match self {
            Self::Flat(features) => features,
            Self::Image { channels, .. } => channels,
        }
    }

    /// Height of an image in pixels; 1 for features.
    pub fn height(self) -> usize {
        match self {
            Self::Flat(_) => 1,
            Self::Image { height, .. } => height,
        }
    }

    /// Width of an image in pixels; 1 for features.
    pub fn width(self) -> usize {
        match self {
            Self::Flat(_) => 1,
            Self::Image { width, .. } => width,
        }
    }

    /// Refuses shapes without values and those with more than [`MAX_VALUES`].
    fn check(self) -> std::result::Result<Self, String> {
        let values = self.height().checked_mul(self.width()).and_then(|count| count.checked_mul(self.channels()));
        match values {
            Some(0) => Err("it has no values".into()),
            Some(values) if values <= MAX_VALUES => Ok(self),
            _ => Err(format!("an example would have more than {MAX_VALUES} values")),
        }
    }
}

impl fmt::Display for Shape {
    /// Formats the shape, such as `784` or `28×28×1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat(features) => f.pad(&features.to_string()),
            Self::Image { height, width, channels } => f.pad(&format!("{height}×{width}×{channels}")),
        }
    }
}

impl From<Shape> for Vec<usize> {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Flat(features) => vec![features],
            Shape::Image { height, width, channels } => vec![height, width, channels],
        }
    }
}

impl TryFrom<Vec<usize>> for Shape {
    type Error = String;

    fn try_from(sizes: Vec<usize>) -> std::result::Result<Self, String> {
        match sizes[..] {
            [features] => Self::Flat(features).check(),
            [height, width, channels] => Self::Image { height, width, channels }.check(),
            _ => Err(format!("{sizes:?} is not a shape: [features], or [height, width, channels]")),
        }
    }
}

/// A square window that slides over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height and width of the window.
    pub size: usize,
    /// Distance in pixels between two positions.
    pub stride: usize,
    /// Width of the border of zeros around the image, in pixels.
    pub padding: usize,
}

impl Window {
    /// Number of positions along a side of `side` pixels; `None` if the window is larger than the side.
    pub fn places(self, side: usize) -> Option<usize> {
        Some(side.checked_add(self.padding.checked_mul(2)?)?.checked_sub(self.size)? / self.stride + 1)
    }
}

/// One layer of an architecture. Files contain its text.
///
/// | text | layer |
/// |---|---|
/// | `linear:128` | linear layer with 128 outputs |
/// | `conv:16x5` | convolution with 16 channels, kernel 5×5, stride 1, padding 2, which keeps the size of the image; `conv:16x5s2p0` has stride 2 and no padding |
/// | `pool:2` | maximum of each 2×2 window, stride 2; `pool:3s2` has size 3 and stride 2 |
/// | `relu`, `sigmoid`, `tanh`, `gelu`, `leaky_relu` | an [`Activation`] |
/// | `dropout:0.25` | dropout of a quarter of the values in training |
/// | `batchnorm` | batch normalisation |
/// | `flatten` | an image becomes features; implied before `linear` |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layer {
    /// Linear layer: `outputs = [inputs, 1] · weights`.
    Linear {
        /// Number of outputs.
        outputs: usize,
    },
    /// Convolution (cross-correlation, as in PyTorch's `Conv2d`) with a bias for each channel.
    Conv2d {
        /// Number of output channels.
        channels: usize,
        /// Kernel size, stride and padding.
        window: Window,
    },
    /// Maximum of each window and channel. If several values tie, the first, row by row, takes the gradient.
    MaxPool2d {
        /// Window size and stride; the padding is 0.
        window: Window,
    },
    /// An element-wise activation.
    Activation(Activation),
    /// Dropout: in training, each value becomes 0 with probability `p`, and is multiplied by 1 / (1 − p) otherwise
    /// (Srivastava et al. 2014). Evaluation does not change values.
    Dropout {
        /// Probability of dropping a value, in 0..1.
        p: f32,
    },
    /// Batch normalisation of each channel over the examples and pixels of a batch (Ioffe and Szegedy 2015), as
    /// PyTorch's `BatchNorm1d` and `BatchNorm2d` with ε = 1e-5 and momentum 0.1. Evaluation uses running statistics.
    BatchNorm,
    /// Flattening of an image to features, row by row, channels last.
    Flatten,
}

impl fmt::Display for Layer {
    /// Formats the layer as text, without default values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear { outputs } => write!(f, "linear:{outputs}"),
            Self::Conv2d { channels, window: Window { size, stride, padding } } => {
                write!(f, "conv:{channels}x{size}")?;
                if *stride != 1 {
                    write!(f, "s{stride}")?;
                }
                if *padding != default_padding(*size) {
                    write!(f, "p{padding}")?;
                }
                Ok(())
            }
            Self::MaxPool2d { window: Window { size, stride, .. } } => {
                write!(f, "pool:{size}")?;
                if stride != size { write!(f, "s{stride}") } else { Ok(()) }
            }
            Self::Activation(activation) => f.write_str(activation.name()),
            Self::Dropout { p } => write!(f, "dropout:{p}"),
            Self::BatchNorm => f.write_str("batchnorm"),
            Self::Flatten => f.write_str("flatten"),
        }
    }
}

impl From<Layer> for String {
    fn from(layer: Layer) -> Self {
        layer.to_string()
    }
}

impl TryFrom<String> for Layer {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// Padding that keeps the size of an image if the kernel is odd and the stride 1.
fn default_padding(kernel: usize) -> usize {
    kernel.saturating_sub(1) / 2
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let number = |digits: &str, what: &str| -> std::result::Result<usize, String> {
            match digits.parse() {
                Ok(number) if number <= MAX_VALUES => Ok(number),
                _ => Err(format!("layer {text}: its {what} {digits:?} must be a whole number of at most {MAX_VALUES}")),
            }
        };
        // `5s2p0` is a size of 5, a stride of 2 and a padding of 0.
        let window = |digits: &str, stride: Option<usize>, padding: Option<usize>| {
            let (digits, padding) = match digits.split_once('p') {
                Some((digits, padding_text)) if padding.is_none() => (digits, Some(number(padding_text, "padding")?)),
                _ => (digits, padding),
            };
            let (digits, stride) = match digits.split_once('s') {
                Some((digits, stride_text)) => (digits, Some(number(stride_text, "stride")?)),
                None => (digits, stride),
            };
            let size = number(digits, "size")?;
            let padding = padding.unwrap_or(default_padding(size));
            Ok::<_, String>(Window { size, stride: stride.unwrap_or(size), padding })
        };
        let layer = match (name, value) {
            ("linear", Some(outputs)) => Self::Linear { outputs: number(outputs, "size")? },
            ("conv", Some(value)) => {
                let (channels, kernel) = value
                    .split_once('x')
                    .ok_or_else(|| format!("layer {text}: write conv:CHANNELSxKERNEL, for example conv:16x5"))?;
                Self::Conv2d { channels: number(channels, "channels")?, window: window(kernel, Some(1), None)? }
            }
            ("pool", Some(value)) => Self::MaxPool2d { window: window(value, None, Some(0))? },
            ("dropout", Some(p)) => match p.parse() {
                Ok(p) if (0.0..1.0).contains(&p) => Self::Dropout { p },
                _ => return Err(format!("layer {text}: the probability must be at least 0 and below 1")),
            },
            ("batchnorm", None) => Self::BatchNorm,
            ("flatten", None) => Self::Flatten,
            (name, None) if Activation::from_name(name).is_some() => {
                Self::Activation(Activation::from_name(name).unwrap_or_default())
            }
            _ => {
                let activations = Activation::ALL.map(Activation::name).join(", ");
                return Err(format!(
                    "layer {text:?} is unknown: the layers are linear:OUTPUTS, conv:CHANNELSxKERNEL, pool:SIZE, \
                     {activations}, dropout:P, batchnorm and flatten"
                ));
            }
        };
        Ok(layer)
    }
}

/// Parses layers such as `conv:16x5,relu,pool:2,linear:128,relu`.
///
/// # Errors
/// [`Error::Invalid`] naming the text that is not a layer.
pub fn parse_layers(text: &str) -> Result<Vec<Layer>> {
    text.split(',').map(|layer| layer.trim().parse().map_err(Error::Invalid)).collect()
}

/// Stored form of an architecture.
#[derive(Deserialize)]
struct Written {
    input: Shape,
    layers: Vec<Layer>,
}

/// The shape of an example and the layers of a model; every shape in between is inferred and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Architecture {
    input: Shape,
    layers: Vec<Layer>,
    /// Output shape of each layer.
    #[serde(skip_serializing)]
    shapes: Vec<Shape>,
}

impl TryFrom<Written> for Architecture {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        Self::new(written.input, written.layers).map_err(|error| error.to_string())
    }
}

impl Architecture {
    /// Builds an architecture: infers every shape, adds the [`Layer::Flatten`] implied by a linear layer after an
    /// image, and checks that the layers fit together and end in a linear one.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the layer that does not fit, by its number from 1 and its text.
    pub fn new(input: Shape, layers: impl IntoIterator<Item = Layer>) -> Result<Self> {
        let input = input.check().map_err(|problem| Error::Invalid(format!("input of shape {input}: {problem}")))?;
        let mut architecture = Self { input, layers: Vec::new(), shapes: Vec::new() };
        for (index, layer) in layers.into_iter().enumerate() {
            let name = format!("layer {}, {layer}", index + 1);
            let refuse = |problem: String| Error::Invalid(format!("{name}: {problem}"));
            if architecture.layers.len() >= MAX_LAYERS {
                return Err(refuse(format!("a model has at most {MAX_LAYERS} layers")));
            }
            if let (Layer::Linear { .. }, shape @ Shape::Image { .. }) = (layer, architecture.output()) {
                architecture.push(Layer::Flatten, Shape::Flat(shape.len()));
            }
            if layer == Layer::BatchNorm && architecture.is_flattened() {
                return Err(refuse("batch normalisation is of an image's channels: put it before flatten".into()));
            }
            let shape = output_shape(layer, architecture.output()).and_then(Shape::check).map_err(refuse)?;
            architecture.push(layer, shape);
        }
        match architecture.layers.last() {
            Some(Layer::Linear { .. }) => Ok(architecture),
            None => Err(Error::Invalid("a model needs at least one layer".into())),
            Some(layer) => {
                let number = architecture.layers.len();
                Err(Error::Invalid(format!("layer {number}, {layer}: the last layer of a model must be linear")))
            }
        }
    }

    /// Returns true if the current features are a flattened image that no linear layer has read yet.
    fn is_flattened(&self) -> bool {
        let mut behind = self.layers.iter().rev();
        behind.find(|layer| matches!(layer, Layer::Linear { .. } | Layer::Flatten)) == Some(&Layer::Flatten)
            && matches!(self.input, Shape::Image { .. })
    }

    /// Builds a stack of linear layers with sizes `[features, hidden…, outputs]` and an activation after each hidden
    /// one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for fewer than two sizes, a size of 0, or too many layers.
    pub fn dense(sizes: &[usize], activation: Activation) -> Result<Self> {
        let [features, hidden @ .., outputs] = sizes else {
            return Err(Error::Invalid(format!("layer sizes {sizes:?}: need at least two")));
        };
        if sizes.contains(&0) {
            return Err(Error::Invalid(format!("layer sizes {sizes:?}: none may be 0")));
        }
        let hidden = hidden.iter().flat_map(|&outputs| [Layer::Linear { outputs }, Layer::Activation(activation)]);
        Self::new(Shape::Flat(*features), hidden.chain([Layer::Linear { outputs: *outputs }]))
    }

    fn push(&mut self, layer: Layer, output: Shape) {
        self.layers.push(layer);
        self.shapes.push(output);
    }

    /// Shape of an example.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Shape of the output of the last layer.
    pub fn output(&self) -> Shape {
        self.shapes.last().copied().unwrap_or(self.input)
    }

    /// The layers, including implied ones; their indices are those of PyTorch's `nn.Sequential`.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Iterates over the layers with their input and output shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (Layer, Shape, Shape)> + '_ {
        let inputs = std::iter::once(&self.input).chain(&self.shapes);
        self.layers.iter().zip(inputs.zip(&self.shapes)).map(|(&layer, (&input, &output))| (layer, input, output))
    }

    /// Layer sizes `[features, hidden…, outputs]` and activation of a plain stack of linear layers with the same
    /// activation after each hidden one; `None` for any other architecture.
    pub fn as_dense(&self) -> Option<(Vec<usize>, Activation)> {
        let Shape::Flat(features) = self.input else { return None };
        let mut sizes = vec![features];
        let mut activation = None;
        for (index, layer) in self.layers.iter().enumerate() {
            match (index % 2, layer) {
                (0, &Layer::Linear { outputs }) => sizes.push(outputs),
                (1, &Layer::Activation(this)) if activation.is_none_or(|activation| activation == this) => {
                    activation = Some(this);
                }
                _ => return None,
            }
        }
        (self.layers.len() % 2 == 1).then(|| (sizes, activation.unwrap_or_default()))
    }
}

impl fmt::Display for Architecture {
    /// Formats the input shape and the layers, such as `28×28×1: conv:16x5,relu,flatten,linear:10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers: Vec<String> = self.layers.iter().map(Layer::to_string).collect();
        write!(f, "{}: {}", self.input, layers.join(","))
    }
}

/// Infers the output shape of a layer.
fn output_shape(layer: Layer, input: Shape) -> std::result::Result<Shape, String> {
    let slide = |window: Window, channels: usize, what: &str| {
        let Shape::Image { height, width, .. } = input else {
            return Err(format!("needs an image, and its input is {input} features in a row"));
        };
        if window.size == 0 || window.stride == 0 {
            return Err("its size and its stride must be 1 or more".into());
        }
        if window.padding >= window.size {
            return Err(format!("its padding must be smaller than its size, {}", window.size));
        }
        match (window.places(height), window.places(width)) {
            (Some(height), Some(width)) => Ok(Shape::Image { height, width, channels }),
            _ => Err(format!("its input is {input}, smaller than its {what} of {0}×{0}", window.size)),
        }
    };
    match layer {
        Layer::Linear { outputs: 0 } | Layer::Conv2d { channels: 0, .. } => Err("its size must be 1 or more".into()),
        Layer::Linear { outputs } => Ok(Shape::Flat(outputs)),
        Layer::Conv2d { channels, window } => slide(window, channels, "kernel"),
        Layer::MaxPool2d { window } => slide(window, input.channels(), "window"),
        Layer::Dropout { p } if !(0.0..1.0).contains(&p) => {
            Err("its probability must be at least 0 and below 1".into())
        }
        Layer::Activation(_) | Layer::Dropout { .. } | Layer::BatchNorm => Ok(input),
        Layer::Flatten => Ok(Shape::Flat(input.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGIT: Shape = Shape::Image { height: 28, width: 28, channels: 1 };

    fn architecture(input: Shape, layers: &str) -> Result<Architecture> {
        Architecture::new(input, parse_layers(layers)?)
    }

    #[test]
    fn shapes_are_inferred_and_flatten_is_implied() {
        let network = "conv:16x5,relu,pool:2,conv:32x3s2p0,relu,pool:3s1,dropout:0.25,linear:128,relu,linear:10";
        let network = architecture(DIGIT, network).unwrap();
        let shapes: Vec<String> = network.shapes().map(|(layer, _, output)| format!("{layer} {output}")).collect();
        assert_eq!(
            shapes,
            [
                "conv:16x5 28×28×16",
                "relu 28×28×16",
                "pool:2 14×14×16",
                "conv:32x3s2p0 6×6×32",
                "relu 6×6×32",
                "pool:3s1 4×4×32",
                "dropout:0.25 4×4×32",
                "flatten 512",
                "linear:128 128",
                "relu 128",
                "linear:10 10"
            ]
        );
        assert_eq!(network.as_dense(), None);
        let written = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<Architecture>(&written).unwrap(), network, "{written}");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_layer() {
        let tiny = Shape::Image { height: 1, width: 1, channels: 32 };
        for (input, layers, told) in [
            (
                tiny,
                "relu,tanh,pool:2,linear:10",
                "layer 3, pool:2: its input is 1×1×32, smaller than its window of 2×2",
            ),
            (DIGIT, "conv:8x31p0,linear:10", "layer 1, conv:8x31p0: its input is 28×28×1, smaller than its kernel"),
            (Shape::Flat(4), "conv:8x3,linear:3", "layer 1, conv:8x3: needs an image, and its input is 4 features"),
            (DIGIT, "conv:8x3,relu", "layer 2, relu: the last layer of a model must be linear"),
            (DIGIT, "flatten,batchnorm,linear:10", "layer 2, batchnorm: batch normalisation is of an image's channels"),
            (DIGIT, "linear:0", "layer 1, linear:0: its size must be 1 or more"),
            (DIGIT, "conv:8x3s0,linear:10", "layer 1, conv:8x3s0: its size and its stride must be 1 or more"),
            (DIGIT, "conv:8x3p3,linear:10", "its padding must be smaller than its size, 3"),
            (DIGIT, "linear:300000000", "its size \"300000000\" must be a whole number of at most 268435456"),
            (DIGIT, "conv:8", "write conv:CHANNELSxKERNEL"),
            (DIGIT, "dropout:1,linear:10", "must be at least 0 and below 1"),
            (DIGIT, "swish,linear:10", "layer \"swish\" is unknown"),
        ] {
            let error = architecture(input, layers).unwrap_err().to_string();
            assert!(error.contains(told), "{layers}: {error}");
        }
    }

    #[test]
    fn every_text_of_a_layer_is_read_as_it_is_written() {
        for text in ["linear:7", "conv:16x5", "conv:3x4p0", "conv:3x4s2p3", "pool:2", "pool:3s2", "dropout:0.1", "gelu"]
        {
            assert_eq!(text.parse::<Layer>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn stacks_of_linear_layers_are_told_from_others() {
        let sizes = [4, 3, 5, 2];
        let dense = Architecture::dense(&sizes, Activation::Tanh).unwrap();
        assert_eq!(dense.as_dense(), Some((sizes.to_vec(), Activation::Tanh)));
        assert_eq!(architecture(Shape::Flat(4), "linear:3,linear:2").unwrap().as_dense(), None);
        assert_eq!(architecture(Shape::Flat(4), "linear:3,relu,linear:3,tanh,linear:2").unwrap().as_dense(), None);
    }
}
