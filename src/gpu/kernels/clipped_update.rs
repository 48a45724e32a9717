//! The update of a layer by its clipped gradient.

use super::gradient_norm::{Clipping, grid};
use super::update;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::optimizer::Optimizer;
use crate::shader::part;

/// The program with an optimizer of this kind; its settings are constants.
pub(super) fn program(optimizer: &Optimizer) -> Program {
    let parts = vec![part!("step"), part!("clipped_update"), update::part(Some(optimizer))];
    Program::new("clipped", &[update::suffix(Some(optimizer))], "clipped_update", parts)
}

/// `weights = update(weights, coefficient · gradient)`, `[inputs + 1, outputs]`; `moments` as for
/// [`weight_gradient`](super::weight_gradient()).
pub fn clipped_update(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    gradient: &Matrix,
    clipping: &Clipping,
    weights: &Matrix,
    moments: [&Matrix; 2],
    optimizer: &Optimizer,
) -> Kernel {
    let mut bindings = update::bindings(optimizer, weights, moments);
    bindings.push((3, Access::Read, &gradient.buffer));
    bindings.push((4, Access::Read, &clipping.coefficient));
    Kernel::new(gpu, &program(optimizer), &update::constants(optimizer), steps, &bindings, grid(gradient))
}
