//! The model: an architecture and its parameters on the host.

#[doc(hidden)]
pub mod activation;
mod architecture;
mod parameters;
mod preset;

pub use activation::Activation;
#[doc(hidden)]
pub use architecture::MAX_LAYERS;
pub(crate) use architecture::MAX_VALUES;
pub use architecture::{Architecture, Layer, Shape, Window, parse_layers};
#[doc(hidden)]
pub use parameters::check_fit;
pub use parameters::{Parameters, Statistics, Weights};
pub use preset::Preset;
