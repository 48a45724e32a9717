//! The L2 norm of all gradients together, and what it takes to clip it.

use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Grid, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::shader::part;

/// The most workgroups of a pass over a gradient.
const WORKGROUPS: usize = 256;

/// Blocks of 4 numbers that keep a workgroup busy: 8 for each of its invocations.
const WORKGROUP_BLOCKS: usize = 512;

pub(super) fn programs() -> [Program; 2] {
    ["sum_of_squares", "clip_coefficient"].map(|name| Program::new(name, &[], name, vec![part!("gradient_norm")]))
}

/// The norm that gradients are clipped to, and what the device keeps of theirs.
pub struct Clipping {
    /// The most that the norm may be.
    pub max_norm: f32,
    /// Sums of squares, f32; 0 between two steps.
    pub sums: wgpu::Buffer,
    /// Factor that the gradients of this step are multiplied with, one f32.
    pub coefficient: wgpu::Buffer,
}

impl Clipping {
    /// Creates the buffers, with sums of 0.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn new(gpu: &Gpu, max_norm: f32) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let sums = gpu.buffer("the sums of squared gradients", 4 * WORKGROUPS as u64, usage)?;
        let coefficient = gpu.buffer("the clip coefficient", 4, usage)?;
        Ok(Self { max_norm, sums, coefficient })
    }

    /// Leaves gradients as they are.
    ///
    /// # Errors
    /// What the device reports.
    pub fn none(gpu: &Gpu) -> Result<Self> {
        let clipping = Self::new(gpu, f32::INFINITY)?;
        gpu.queue.write_buffer(&clipping.coefficient, 0, bytemuck::bytes_of(&1f32));
        Ok(clipping)
    }

    fn constants(&self) -> [(&'static str, f64); 1] {
        [("MAX_NORM", f64::from(self.max_norm))]
    }
}

/// Adds the squares of a gradient, `[inputs + 1, outputs]`, to the sums.
pub fn sum_of_squares(gpu: &Gpu, steps: &StepUniformBuffer, gradient: &Matrix, clipping: &Clipping) -> Kernel {
    let [program, _] = programs();
    let bindings = [(3, Access::Read, &gradient.buffer), (4, Access::ReadWrite, &clipping.sums)];
    Kernel::new(gpu, &program, &clipping.constants(), steps, &bindings, grid(gradient))
}

/// Computes the clip coefficient from the sums of all gradients, `min(1, max_norm / (norm + 1e-6))`, NaN where the norm
/// is not finite; sets the sums to 0.
pub fn clip_coefficient(gpu: &Gpu, steps: &StepUniformBuffer, clipping: &Clipping) -> Kernel {
    let [_, program] = programs();
    let bindings = [(4, Access::ReadWrite, &clipping.sums), (5, Access::ReadWrite, &clipping.coefficient)];
    Kernel::new(gpu, &program, &clipping.constants(), steps, &bindings, Box::new(|_| [1, 1, 1]))
}

/// Returns the grid of a pass over all blocks of a gradient, by workgroups that go round until there are no more.
pub(super) fn grid(gradient: &Matrix) -> Grid {
    let blocks = 4 * gradient.rows.div_ceil(4) * gradient.column_blocks();
    let workgroups = blocks.div_ceil(WORKGROUP_BLOCKS).clamp(1, WORKGROUPS) as u32;
    Box::new(move |_| [workgroups, 1, 1])
}
