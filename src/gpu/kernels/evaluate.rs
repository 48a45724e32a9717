//! Loss, prediction and number of right ones.

use super::loss::{LossKind, Targets};
use super::softmax;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, StepRecords};
use crate::gpu::matrix::Matrix;

/// Where predictions and the count of right ones go.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    /// The predicted class of each row, u32, from the step's first row on.
    pub predictions: &'a wgpu::Buffer,
    /// How many of them are right, one u32 that is added to.
    pub correct: &'a wgpu::Buffer,
}

/// Each row's loss, without label smoothing and class weights, and its predicted class, and how many of them are right,
/// added up; of real values the loss alone.
pub fn evaluate(
    gpu: &Gpu,
    steps: &StepRecords,
    outputs: &Matrix,
    targets: Targets<'_>,
    results: Results<'_>,
    kind: LossKind,
) -> Kernel {
    let mut bindings = targets.bindings();
    bindings.push((4, Access::ReadWrite, &outputs.buffer));
    if kind != LossKind::SquaredErrorOfValues {
        bindings.push((8, Access::ReadWrite, results.predictions));
        bindings.push((9, Access::ReadWrite, results.correct));
    }
    Kernel::new(gpu, &kind.evaluation(), &softmax::constants(outputs), steps, &bindings, softmax::row_grid())
}
