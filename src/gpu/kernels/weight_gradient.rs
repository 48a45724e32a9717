//! Backward to a layer's weights: fused with their update, or stored.

use super::gather::{Inputs, Source};
use super::matmul::Matmul;
use super::update;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;
use crate::optimizer::Optimizer;

/// The program with an optimizer of this kind, whose settings are constants; without any it stores the gradient.
pub(super) fn program(source: Source, matmul: Matmul, optimizer: Option<&Optimizer>) -> Program {
    let name = match (source, optimizer) {
        (Source::Gather, Some(Optimizer::Sgd(_))) => "weight_gradient_from_examples",
        (Source::Gather, Some(Optimizer::AdamW(_))) => "weight_gradient_adamw_from_examples",
        (Source::Gather, None) => "weight_gradient_stored_from_examples",
        (Source::Activations, Some(Optimizer::Sgd(_))) => "weight_gradient",
        (Source::Activations, Some(Optimizer::AdamW(_))) => "weight_gradient_adamw",
        (Source::Activations, None) => "weight_gradient_stored",
        (Source::GatherFloats, Some(Optimizer::Sgd(_))) => "weight_gradient_from_floats",
        (Source::GatherFloats, Some(Optimizer::AdamW(_))) => "weight_gradient_adamw_from_floats",
        (Source::GatherFloats, None) => "weight_gradient_stored_from_floats",
    };
    let file = optimizer.map_or(shader!("store_gradient"), update::file);
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
    let bindings = update::bindings(optimizer, weights, moments);
    kernel(gpu, steps, inputs, d_outputs, Some(optimizer), bindings)
}

/// `d_weights = [inputs, 1]ᵀ · d_outputs`, `[inputs + 1, outputs]`.
pub fn weight_gradient_stored(
    gpu: &Gpu,
    steps: &StepRecords,
    inputs: Inputs<'_>,
    d_outputs: &Matrix,
    d_weights: &Matrix,
) -> Kernel {
    kernel(gpu, steps, inputs, d_outputs, None, vec![(5, Access::ReadWrite, &d_weights.buffer)])
}

fn kernel(
    gpu: &Gpu,
    steps: &StepRecords,
    inputs: Inputs<'_>,
    d_outputs: &Matrix,
    optimizer: Option<&Optimizer>,
    results: Vec<Binding<'_>>,
) -> Kernel {
    let matmul = gpu.matmul.for_columns(d_outputs.columns);
    let mut constants =
        vec![("INPUT_BLOCKS", inputs.blocks() as f64), ("OUTPUT_BLOCKS", d_outputs.column_blocks() as f64)];
    constants.extend(optimizer.map(update::constants).unwrap_or_default());
    let mut bindings = inputs.bindings();
    bindings.push((4, Access::Read, &d_outputs.buffer));
    bindings.extend(results);
    let grid = matmul.grid(inputs.blocks(), d_outputs.column_blocks());
    Kernel::new(gpu, &program(inputs.source(), matmul, optimizer), &constants, steps, &bindings, grid)
}
