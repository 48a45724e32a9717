//! Backward to the weights of a linear layer or a convolution: fused with their update, or stored.

use super::super::matmul::Matmul;
use super::inputs::{Inputs, Source};
use super::update::{self, Epilogue};
use crate::error::Result;
use crate::gpu::device::{BufferLabel, Gpu};
use crate::gpu::kernel::{Access, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::{View, layout_constants};
use crate::optimizer::Optimizer;
use crate::shader::part;

/// Blocks of 4 × 4 numbers in the partial sums of a convolution's weight gradient, about.
const PARTIAL_BLOCKS: usize = 16_384;

/// The least of the depth, in blocks of 4 pixels, that a part takes.
const PART_DEPTH: usize = 64;

/// The program with an optimizer of this kind, whose settings are constants; without any it stores the gradient.
pub(super) fn program(source: Source, matmul: Matmul, optimizer: Option<&Optimizer>) -> Program {
    let mut parts = vec![part!("step"), part!("layout"), part!("weight_gradient"), update::part(optimizer)];
    parts.extend(source.parts());
    parts.extend(matmul.parts(false));
    Program::new("weight_gradient", &[update::suffix(optimizer), source.suffix()], "main", parts)
}

/// Partial sums of the gradient of weights, `[parts, inputs + 1, outputs]`. A clone has the same room.
#[derive(Clone)]
pub struct PartialSums {
    /// The sums, row-major, each part padded as a [`Matrix`] is.
    pub buffer: wgpu::Buffer,
    pub(super) parts: usize,
    /// Rows and columns of each part.
    pub(super) shape: [usize; 2],
}

impl PartialSums {
    /// Room for so many.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn new(gpu: &Gpu, weights: &Matrix, parts: usize) -> Result<Self> {
        let bytes = 64 * (parts * weights.rows.div_ceil(4) * weights.column_blocks()) as u64;
        let content = BufferLabel { name: "partial sums of a gradient", remedy: "smaller layers" };
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        Ok(Self { buffer: gpu.buffer(content, bytes, usage)?, parts, shape: [weights.rows, weights.columns] })
    }

    /// A matrix as the only part.
    pub fn of_matrix(matrix: &Matrix) -> Self {
        Self { buffer: matrix.buffer.clone(), parts: 1, shape: [matrix.rows, matrix.columns] }
    }

    /// Room for those of a convolution with so many places in a batch. The shape says how many parts there are, and never
    /// the device.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn of_conv2d(gpu: &Gpu, weights: &Matrix, places: usize) -> Result<Self> {
        let blocks = weights.rows.div_ceil(4) * weights.column_blocks();
        let most = (places / 4 / PART_DEPTH).max(2);
        Self::new(gpu, weights, (PARTIAL_BLOCKS / blocks).clamp(2, most))
    }
}

/// `d_weights = [inputs, 1]ᵀ · d_outputs`, `[inputs + 1, outputs]`, and what the epilogue makes of it.
pub fn weight_gradient<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: Inputs<'a>,
    d_outputs: impl Into<View<'a>>,
    epilogue: Epilogue<'a>,
) -> Kernel {
    let d_outputs = d_outputs.into();
    let (layout, [_, columns]) = (d_outputs.layout, epilogue.shape());
    let matmul = match inputs.source() {
        Source::Patches => gpu.matmul.for_sums_of_windows(),
        _ => gpu.matmul.for_columns(columns),
    };
    let column_blocks = columns.div_ceil(4);
    let mut constants = inputs.constants();
    constants.extend([
        ("OUTPUT_BLOCKS", column_blocks as f64),
        ("PARTS", epilogue.parts() as f64),
        ("D_OUTPUT_PIXELS", layout.shape.positions() as f64),
        ("D_OUTPUT_WIDTH", layout.shape.width() as f64),
    ]);
    constants.extend(layout_constants!("D_OUTPUT", layout));
    constants.extend(epilogue.constants());
    let mut bindings = inputs.bindings();
    bindings.push((4, Access::Read, d_outputs.buffer));
    bindings.extend(epilogue.bindings());
    let grid = match inputs.sliding().filter(|_| matmul == Matmul::SlidingSums) {
        Some(sliding) => {
            let (more, grid) = sliding.sums(column_blocks, epilogue.parts());
            constants.extend(more);
            grid
        }
        None => {
            constants.extend(matmul.constants(column_blocks, None));
            matmul.grid(inputs.blocks(), column_blocks, epilogue.parts())
        }
    };
    let program = program(inputs.source(), matmul, epilogue.optimizer());
    Kernel::new(gpu, &program, &constants, steps, &bindings, grid)
}
