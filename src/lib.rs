//! softstep trains softmax classifiers on any GPU, with hand-written WGSL kernels on wgpu.

pub mod backend;
pub mod cpu;
pub mod data;
pub mod error;
pub mod gpu;
pub mod model;
pub mod optimizer;

pub use error::{Error, Result};
