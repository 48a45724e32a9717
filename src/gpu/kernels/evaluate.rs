//! Evaluation: loss, prediction and the number of correct ones; of real targets the squared error.

use super::loss::{LossKind, Targets};
use super::softmax;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, StepUniformBuffer};
use crate::gpu::matrix::Matrix;

/// Buffers for the results of an evaluation.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    /// The predicted class of each row, u32, from the step's first row on; of real targets the mean squared error of the
    /// row's outputs, f32.
    pub predictions: &'a wgpu::Buffer,
    /// The number of correct predictions, one u32 that is added to.
    pub correct: &'a wgpu::Buffer,
}

/// Loss of each row, without label smoothing and class weights; its predicted class, and the number of correct ones, added
/// up, or the squared error of real targets.
pub fn evaluate(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    outputs: &Matrix,
    targets: Targets<'_>,
    results: Results<'_>,
    kind: LossKind,
) -> Kernel {
    let mut bindings = targets.bindings();
    bindings.push((4, Access::ReadWrite, &outputs.buffer));
    bindings.push((8, Access::ReadWrite, results.predictions));
    if !kind.has_values {
        bindings.push((9, Access::ReadWrite, results.correct));
    }
    Kernel::new(gpu, &kind.evaluation(), &softmax::constants(outputs), steps, &bindings, softmax::row_grid())
}
