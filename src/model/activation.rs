//! Element-wise activations. Each is one entry: a file in `activation/` with its formulas, error bounds and names, and
//! a WGSL part of a kernel in `shaders/`.

mod gelu;
mod leaky_relu;
mod relu;
mod sigmoid;
mod tanh;

use serde::{Deserialize, Serialize};

use crate::shader::Part;

pub use gelu::Gelu;
pub use leaky_relu::LeakyRelu;
pub use relu::Relu;
pub use sigmoid::Sigmoid;
pub use tanh::Tanh;

/// An element-wise activation. NaN propagates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// [`Relu`].
    #[default]
    Relu,
    /// [`Sigmoid`].
    Sigmoid,
    /// [`Tanh`].
    Tanh,
    /// [`Gelu`].
    Gelu,
    /// [`LeakyRelu`].
    LeakyRelu,
}

/// Calls a generic function with the entry of an activation: `with_entry!(activation, Entry => f::<Entry>(x))`.
macro_rules! with_entry {
    ($activation:expr, $entry:ident => $body:expr) => {
        match $activation {
            $crate::model::Activation::Relu => {
                type $entry = $crate::model::activation::Relu;
                $body
            }
            $crate::model::Activation::Sigmoid => {
                type $entry = $crate::model::activation::Sigmoid;
                $body
            }
            $crate::model::Activation::Tanh => {
                type $entry = $crate::model::activation::Tanh;
                $body
            }
            $crate::model::Activation::Gelu => {
                type $entry = $crate::model::activation::Gelu;
                $body
            }
            $crate::model::Activation::LeakyRelu => {
                type $entry = $crate::model::activation::LeakyRelu;
                $body
            }
        }
    };
}
pub(crate) use with_entry;

/// An activation: its names, formulas, error bounds and WGSL parts.
pub trait Entry {
    /// Name on the command line and in files.
    const NAME: &'static str;
    /// Name for readers.
    const LABEL: &'static str;
    /// True if the derivative is computed from the input, the pre-activation, which the forward pass then keeps; false
    /// if from the output.
    const KEEPS_INPUT: bool;
    /// True if the activation is about 0 for negative inputs; weights before it then start with twice the variance (He
    /// et al. 2015).
    const RECTIFIES: bool;
    /// WGSL parts of a kernel: the functions `activate` and `activate_backward`, and the parts they need.
    const SHADERS: &'static [Part];

    /// The activation in f64.
    fn value(z: f64) -> f64;

    /// The derivative in f64.
    fn derivative(z: f64) -> f64;

    /// The activation in f32; a loop over it compiles to vector instructions.
    fn value_f32(z: f32) -> f32;

    /// Gradient of the input from the gradient of the output, in f32. `kept` is the input if [`Self::KEEPS_INPUT`],
    /// otherwise the output.
    fn gradient_f32(d_output: f32, kept: f32) -> f32;

    /// Error bound of [`value`](Self::value) computed in f32 from an input that is off by at most `error`.
    fn value_error(z: f64, error: f64) -> f64;

    /// Error bound of [`derivative`](Self::derivative) computed in f32 from an input that is off by at most `error`.
    fn derivative_error(z: f64, error: f64) -> f64;
}

/// Rounding unit of f32, 2⁻²³.
const EPSILON: f64 = f32::EPSILON as f64;

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 5] = [Self::Relu, Self::Sigmoid, Self::Tanh, Self::Gelu, Self::LeakyRelu];

    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        with_entry!(self, E => E::NAME)
    }

    /// The activation with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|activation| activation.name() == name)
    }

    /// Returns [`Entry::KEEPS_INPUT`].
    pub fn keeps_input(self) -> bool {
        with_entry!(self, E => E::KEEPS_INPUT)
    }

    /// Returns [`Entry::SHADERS`].
    pub fn shaders(self) -> &'static [Part] {
        with_entry!(self, E => E::SHADERS)
    }

    /// Returns [`Entry::RECTIFIES`].
    pub fn rectifies(self) -> bool {
        with_entry!(self, E => E::RECTIFIES)
    }
}

impl std::fmt::Display for Activation {
    /// Formats the name for readers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(with_entry!(*self, E => E::LABEL))
    }
}

/// Logistic function, 1 / (1 + e^−x).
fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
