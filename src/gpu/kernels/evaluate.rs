//! Loss, prediction and number of right ones.

use super::cross_entropy::Targets;
use super::softmax;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;

/// Where predictions and the count of right ones go.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    /// The most probable class of each row, u32, from the step's first row on.
    pub predictions: &'a wgpu::Buffer,
    /// How many of them are right, one u32 that is added to.
    pub correct: &'a wgpu::Buffer,
}

pub(super) fn program() -> Program {
    let files = [&softmax::FILES[..], &[shader!("order"), shader!("evaluate")]].concat();
    Program { name: "evaluate", entry: "evaluate", files }
}

/// Each row's loss and most probable class, and how many of them are right, added up.
pub fn evaluate(gpu: &Gpu, steps: &StepRecords, logits: &Matrix, targets: Targets<'_>, results: Results<'_>) -> Kernel {
    let mut bindings = targets.bindings();
    bindings.push((4, Access::ReadWrite, &logits.buffer));
    bindings.push((8, Access::ReadWrite, results.predictions));
    bindings.push((9, Access::ReadWrite, results.correct));
    Kernel::new(gpu, &program(), &softmax::constants(logits), steps, &bindings, softmax::row_grid())
}
