//! Row-wise softmax.

use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Grid, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::shader::{Part, part};

/// Parts of kernels that work on rows of logits.
const PARTS: [Part; 3] = [part!("step"), part!("outputs"), part!("softmax")];

pub(super) fn program() -> Program {
    Program::new("softmax", &[], "softmax", PARTS.to_vec())
}

/// Logits become probabilities in place, `[batch, classes]`.
pub fn softmax(gpu: &Gpu, steps: &StepUniformBuffer, logits: &Matrix) -> Kernel {
    let bindings = [(4, Access::ReadWrite, &logits.buffer)];
    Kernel::new(gpu, &program(), &constants(logits), steps, &bindings, row_grid())
}

pub(super) fn constants(logits: &Matrix) -> [(&'static str, f64); 2] {
    [("OUTPUTS", logits.columns as f64), ("OUTPUT_BLOCKS", logits.column_blocks() as f64)]
}

/// Returns the grid of one invocation for each row, in whole blocks of rows.
pub(super) fn row_grid() -> Grid {
    Box::new(|batch| [batch.next_multiple_of(4).div_ceil(64), 1, 1])
}
