//! The model: an architecture and its parameters on the host.

pub mod activation;
mod architecture;
mod parameters;
mod preset;

pub use activation::Activation;
pub(crate) use architecture::MAX_VALUES;
pub use architecture::{Architecture, Layer, MAX_LAYERS, Shape, Window, parse_layers};
pub use parameters::{Parameters, Statistics, Weights, check_fit};
pub use preset::Preset;
