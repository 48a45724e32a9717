//! softstep trains softmax classifiers on any GPU, with hand-written WGSL kernels on wgpu.

pub mod backend;
pub mod cpu;
pub mod data;
pub mod error;
pub mod gpu;
pub mod metrics;
pub mod model;
pub mod model_file;
pub mod optimizer;
pub mod trainer;

pub use error::{Error, Result};
