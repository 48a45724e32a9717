//! The gradient of weights from its partial sums, and the update by it.

use super::element_wise::grid_of_blocks;
use super::update::{self, Epilogue};
use super::weight_gradient::PartialSums;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepUniformBuffer};
use crate::gpu::tensor::WeightRows;
use crate::optimizer::Optimizer;
use crate::shader::part;

/// The program with an optimizer of this kind; without any it stores the gradient.
pub(super) fn program(optimizer: Option<&Optimizer>) -> Program {
    let parts = vec![part!("step"), part!("sum_parts"), update::part(optimizer)];
    Program::new("sum_parts", &[update::suffix(optimizer)], "sum_parts", parts)
}

/// `d_weights = Σ parts`, `[inputs + 1, outputs]`, on the rows that are weights, and what the epilogue makes of it.
pub fn sum_parts(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    parts: &PartialSums,
    rows: WeightRows,
    epilogue: Epilogue<'_>,
) -> Kernel {
    let [height, columns] = epilogue.shape();
    let mut constants = vec![
        ("PARTS", parts.parts as f64),
        ("GROUP", rows.group as f64),
        ("GROUP_STRIDE", rows.stride as f64),
        ("BIAS", rows.bias() as f64),
        ("OUTPUT_BLOCKS", columns.div_ceil(4) as f64),
    ];
    constants.extend(epilogue.constants());
    let mut bindings = epilogue.bindings();
    bindings.push((3, Access::Read, &parts.buffer));
    let blocks = 4 * height.div_ceil(4) * columns.div_ceil(4);
    let program = program(epilogue.optimizer());
    Kernel::new(gpu, &program, &constants, steps, &bindings, grid_of_blocks(move |_| blocks))
}
