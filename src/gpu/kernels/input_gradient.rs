//! Backward to the inputs of a linear layer or a convolution.

use super::super::matmul::Matmul;
use super::activation::{self, Hidden};
use super::inputs::window_constants;
use super::matmul::Sliding;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::{Layout, View, layout_constants};
use crate::model::{Activation, Window};
use crate::shader::part;

pub(super) fn program(matmul: Matmul, activation: Option<Activation>) -> Program {
    let mut parts = vec![part!("step"), part!("layout"), part!("input_gradient")];
    parts.extend(activation::parts(activation));
    parts.extend(matmul.parts(false));
    Program::new("input_gradient", &[activation::suffix(activation)], "main", parts)
}

/// `d_inputs = d_outputs · weightsᵀ · activation′`, `[batch, inputs]`; the `activations` are what `hidden` made.
pub fn input_gradient<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    d_outputs: impl Into<View<'a>>,
    weights: &'a Matrix,
    activations: impl Into<View<'a>>,
    hidden: impl Into<Option<Hidden<'a>>>,
    d_inputs: impl Into<View<'a>>,
) -> Kernel {
    kernel(gpu, steps, d_outputs.into(), weights, (activations.into(), hidden.into()), d_inputs.into(), None)
}

/// Computes the gradient by the inputs of a convolution with this window; `d_outputs` has the layout
/// [`Layout::gradient`].
#[expect(clippy::too_many_arguments, reason = "what a kernel reads and writes, one by one")]
pub fn conv2d_input_gradient<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    d_outputs: impl Into<View<'a>>,
    weights: &'a Matrix,
    activations: impl Into<View<'a>>,
    hidden: Option<Hidden<'a>>,
    d_inputs: impl Into<View<'a>>,
    window: Window,
) -> Kernel {
    kernel(gpu, steps, d_outputs.into(), weights, (activations.into(), hidden), d_inputs.into(), Some(window))
}

fn kernel(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    d_outputs: View<'_>,
    weights: &Matrix,
    (activations, hidden): (View<'_>, Option<Hidden<'_>>),
    d_inputs: View<'_>,
    window: Option<Window>,
) -> Kernel {
    let (shape, layout) = (d_inputs.layout.shape, d_outputs.layout);
    let blocks = d_inputs.layout.channel_blocks();
    // A row of A is an example; of a convolution a pixel. What lies around d_outputs is where the windows start that would
    // cover its first pixel.
    let (pixels, width, windows) = match window {
        None => (1, 1, layout),
        Some(window) => {
            let (row, column) = (layout.row / window.stride, layout.column / window.stride);
            (shape.positions(), shape.width(), Layout { first: 0, row, column, ..layout })
        }
    };
    let columns = 4 * blocks * (shape.positions() / pixels);
    let matmul = match window {
        Some(_) => gpu.matmul.for_windows(),
        None => gpu.matmul.for_columns(if shape.positions() == 1 { shape.channels() } else { columns }),
    };
    let mut constants = window_constants([pixels, width], windows);
    constants.extend([
        ("INPUTS", shape.channels() as f64),
        ("INPUT_BLOCKS", activations.layout.example as f64),
        ("OUTPUT_BLOCKS", weights.column_blocks() as f64),
        ("KERNEL", window.map_or(1, |window| window.size) as f64),
        ("IMAGE_PIXELS", shape.positions() as f64),
        ("IMAGE_WIDTH", shape.width() as f64),
        ("IMAGE_BLOCKS", blocks as f64),
    ]);
    constants.extend(layout_constants!("INPUT", activations.layout).into_iter().skip(1)); // INPUT_BLOCKS says it
    constants.extend(layout_constants!("D_INPUT", d_inputs.layout));
    let bindings = [
        (1, Access::Read, activation::source(hidden, activations).buffer),
        (3, Access::Read, &weights.buffer),
        (4, Access::Read, d_outputs.buffer),
        (5, Access::ReadWrite, d_inputs.buffer),
    ];
    let grid = match window.filter(|_| matmul == Matmul::Sliding) {
        Some(Window { size, .. }) => {
            let sliding = Sliding {
                height: shape.height(),
                width,
                column: windows.column,
                rows: size,
                taps: size,
                tap_blocks: weights.column_blocks(),
                row_step: windows.row,
                tap_step: windows.column,
            };
            constants.extend(sliding.constants(columns / 4));
            sliding.grid(columns / 4)
        }
        None => {
            let taps = window.map_or(1, |window| window.size * window.size);
            constants.extend(matmul.constants(columns / 4, Some(taps * weights.column_blocks())));
            matmul.grid_of_batch(pixels, columns / 4)
        }
    };
    Kernel::new(gpu, &program(matmul, hidden.map(Hidden::activation)), &constants, steps, &bindings, grid)
}
