//! Backward to a layer's weights, fused with their update.

use super::gather::{Inputs, Source};
use super::matmul::Matmul;
use super::sgd;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;
use crate::optimizer::Sgd;

pub(super) fn program(source: Source, matmul: Matmul) -> Program {
    let name = match source {
        Source::Gather => "weight_gradient_from_examples",
        Source::GatherFloats => "weight_gradient_from_floats",
        Source::Activations => "weight_gradient",
    };
    let mut files = vec![shader!("step"), shader!("weight_gradient"), sgd::FILE];
    files.extend(source.files());
    files.extend(matmul.files(false));
    Program { name, entry: "main", files }
}

/// `weights = sgd(weights, [inputs, 1]ᵀ · d_outputs)`, `[inputs + 1, outputs]`; `velocity` has the same shape, or
/// any where there is no momentum.
pub fn weight_gradient(
    gpu: &Gpu,
    steps: &StepRecords,
    inputs: Inputs<'_>,
    d_outputs: &Matrix,
    weights: &Matrix,
    velocity: &Matrix,
    optimizer: &Sgd,
) -> Kernel {
    let matmul = gpu.matmul.for_columns(weights.columns);
    let mut constants =
        vec![("INPUT_BLOCKS", inputs.blocks() as f64), ("OUTPUT_BLOCKS", d_outputs.column_blocks() as f64)];
    constants.extend(sgd::constants(optimizer));
    let mut bindings = inputs.bindings();
    bindings.push((4, Access::Read, &d_outputs.buffer));
    bindings.push((5, Access::ReadWrite, &weights.buffer));
    bindings.push((6, Access::ReadWrite, &velocity.buffer));
    let grid = matmul.grid(inputs.blocks(), weights.column_blocks());
    Kernel::new(gpu, &program(inputs.source(), matmul), &constants, steps, &bindings, grid)
}
