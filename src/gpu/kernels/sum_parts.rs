//! The gradient of weights from its partial sums, and the update by it.

use super::element_wise::grid_of_blocks;
use super::update;
use super::weight_gradient::PartialSums;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepRecords};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::WeightRows;
use crate::optimizer::Optimizer;
use crate::shader::part;

/// The program with an optimizer of this kind; without any it stores the gradient.
pub(super) fn program(optimizer: Option<&Optimizer>) -> Program {
    let parts = vec![part!("step"), part!("sum_parts"), update::part(optimizer)];
    Program::new("sum_parts", &[update::suffix(optimizer)], "sum_parts", parts)
}

/// `weights = update(weights, Σ parts)`, `[inputs + 1, outputs]`, on the rows that are weights; `moments` as for
/// [`weight_gradient`](super::weight_gradient()).
pub fn sum_parts(
    gpu: &Gpu,
    steps: &StepRecords,
    parts: &PartialSums,
    rows: WeightRows,
    weights: &Matrix,
    moments: [&Matrix; 2],
    optimizer: &Optimizer,
) -> Kernel {
    let bindings = update::bindings(optimizer, weights, moments);
    kernel(gpu, steps, parts, (rows, weights), Some(optimizer), bindings)
}

/// `d_weights = Σ parts`.
pub fn sum_parts_stored(
    gpu: &Gpu,
    steps: &StepRecords,
    parts: &PartialSums,
    rows: WeightRows,
    d_weights: &Matrix,
) -> Kernel {
    kernel(gpu, steps, parts, (rows, d_weights), None, vec![(5, Access::ReadWrite, &d_weights.buffer)])
}

fn kernel<'a>(
    gpu: &Gpu,
    steps: &StepRecords,
    parts: &'a PartialSums,
    (rows, weights): (WeightRows, &Matrix),
    optimizer: Option<&Optimizer>,
    mut bindings: Vec<Binding<'a>>,
) -> Kernel {
    let mut constants = vec![
        ("PARTS", parts.parts as f64),
        ("GROUP", rows.group as f64),
        ("GROUP_STRIDE", rows.stride as f64),
        ("BIAS", rows.bias() as f64),
        ("OUTPUT_BLOCKS", weights.column_blocks() as f64),
    ];
    constants.extend(optimizer.map(update::constants).unwrap_or_default());
    bindings.push((3, Access::Read, &parts.buffer));
    let blocks = 4 * weights.rows.div_ceil(4) * weights.column_blocks();
    Kernel::new(gpu, &program(optimizer), &constants, steps, &bindings, grid_of_blocks(move |_| blocks))
}
