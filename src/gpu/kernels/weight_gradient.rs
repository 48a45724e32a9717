//! Backward to a layer's weights, fused with their update.

use super::adamw;
use super::gather::{Inputs, Source};
use super::matmul::Matmul;
use super::sgd;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;
use crate::optimizer::Optimizer;

/// The program with an optimizer of this kind; its settings are constants.
pub(super) fn program(source: Source, matmul: Matmul, optimizer: &Optimizer) -> Program {
    let (name, file) = match (source, optimizer) {
        (Source::Gather, Optimizer::Sgd(_)) => ("weight_gradient_from_examples", sgd::FILE),
        (Source::Gather, Optimizer::AdamW(_)) => ("weight_gradient_adamw_from_examples", adamw::FILE),
        (Source::Activations, Optimizer::Sgd(_)) => ("weight_gradient", sgd::FILE),
        (Source::Activations, Optimizer::AdamW(_)) => ("weight_gradient_adamw", adamw::FILE),
        (Source::GatherFloats, Optimizer::Sgd(_)) => ("weight_gradient_from_floats", sgd::FILE),
        (Source::GatherFloats, Optimizer::AdamW(_)) => ("weight_gradient_adamw_from_floats", adamw::FILE),
    };
    let mut files = vec![shader!("step"), shader!("weight_gradient"), file];
    files.extend(source.files());
    files.extend(matmul.files(false));
    Program { name, entry: "main", files }
}

/// `weights = update(weights, [inputs, 1]ᵀ · d_outputs)`, `[inputs + 1, outputs]`; `moments` have the same shape, or any
/// where the optimizer has fewer.
pub fn weight_gradient(
    gpu: &Gpu,
    steps: &StepRecords,
    inputs: Inputs<'_>,
    d_outputs: &Matrix,
    weights: &Matrix,
    moments: [&Matrix; 2],
    optimizer: &Optimizer,
) -> Kernel {
    let matmul = gpu.matmul.for_columns(weights.columns);
    let mut constants =
        vec![("INPUT_BLOCKS", inputs.blocks() as f64), ("OUTPUT_BLOCKS", d_outputs.column_blocks() as f64)];
    let mut bindings = inputs.bindings();
    bindings.push((4, Access::Read, &d_outputs.buffer));
    bindings.push((5, Access::ReadWrite, &weights.buffer));
    bindings.push((6, Access::ReadWrite, &moments[0].buffer));
    match optimizer {
        Optimizer::Sgd(sgd) => constants.extend(sgd::constants(sgd)),
        Optimizer::AdamW(adamw) => {
            constants.extend(adamw::constants(adamw));
            bindings.push((7, Access::ReadWrite, &moments[1].buffer));
        }
    }
    let grid = matmul.grid(inputs.blocks(), weights.column_blocks());
    Kernel::new(gpu, &program(inputs.source(), matmul, optimizer), &constants, steps, &bindings, grid)
}
