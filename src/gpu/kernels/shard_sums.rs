//! Sums of the gradients of a batch's shards.

use super::gradient_norm::grid;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::shader::part;

pub(super) fn programs() -> [Program; 3] {
    ["clear_sum", "keep_sum", "add_sum"].map(|name| Program::new(name, &[], name, vec![part!("shard_sums")]))
}

/// `sum = 0`, `[inputs + 1, outputs]`.
pub fn clear_sum(gpu: &Gpu, steps: &StepUniformBuffer, sum: &Matrix) -> Kernel {
    let [program, _, _] = programs();
    Kernel::new(gpu, &program, &[], steps, &[(3, Access::ReadWrite, &sum.buffer)], grid(sum))
}

/// `kept = sum`, for a matrix of the same shape.
pub fn keep_sum(gpu: &Gpu, steps: &StepUniformBuffer, sum: &Matrix, kept: &Matrix) -> Kernel {
    let [_, program, _] = programs();
    Kernel::new(gpu, &program, &[], steps, &bindings(sum, kept), grid(sum))
}

/// `sum = kept + sum`.
pub fn add_sum(gpu: &Gpu, steps: &StepUniformBuffer, sum: &Matrix, kept: &Matrix) -> Kernel {
    let [_, _, program] = programs();
    Kernel::new(gpu, &program, &[], steps, &bindings(sum, kept), grid(sum))
}

fn bindings<'a>(sum: &'a Matrix, kept: &'a Matrix) -> [(u32, Access, &'a wgpu::Buffer); 2] {
    [(3, Access::ReadWrite, &sum.buffer), (4, Access::ReadWrite, &kept.buffer)]
}
