//! The loss and its gradient.

use super::softmax;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;

/// What the loss adds to a program that makes logits.
pub(super) const LOSS_FILES: [&str; 2] = [shader!("softmax"), shader!("cross_entropy")];

/// The labels, and where the loss of each row goes.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// Example numbers, as in [`Inputs::Examples`](super::Inputs::Examples).
    pub order: &'a wgpu::Buffer,
    /// The label of each example, `[examples]`, u32.
    pub labels: &'a wgpu::Buffer,
    /// The loss of each row, from the step's first row on.
    pub losses: &'a wgpu::Buffer,
}

impl<'a> Targets<'a> {
    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        vec![(2, Access::Read, self.order), (6, Access::Read, self.labels), (7, Access::ReadWrite, self.losses)]
    }
}

pub(super) fn program() -> Program {
    let files = [&softmax::FILES[..], &[shader!("order"), shader!("cross_entropy")]].concat();
    Program { name: "cross_entropy", entry: "cross_entropy", files }
}

/// Each row's loss, and its gradient in the place of the logits, `[batch, classes]`.
pub fn cross_entropy(gpu: &Gpu, steps: &StepRecords, logits: &Matrix, targets: Targets<'_>) -> Kernel {
    let mut bindings = targets.bindings();
    bindings.push((4, Access::ReadWrite, &logits.buffer));
    Kernel::new(gpu, &program(), &softmax::constants(logits), steps, &bindings, softmax::row_grid())
}
