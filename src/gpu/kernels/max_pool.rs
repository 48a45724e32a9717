//! Max-pooling, forward and backward.

use super::activation::{self, Hidden};
use super::element_wise::grid_of_batch;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepUniformBuffer};
use crate::gpu::tensor::{View, layout_constants};
use crate::model::{Activation, Window};
use crate::shader::{Part, part};

/// Parts of both programs.
const PARTS: [Part; 5] =
    [part!("step"), part!("layout"), part!("element/pixels"), part!("not_a_number"), part!("pool/largest")];

pub(super) fn program() -> Program {
    let parts = [PARTS.as_slice(), &[part!("max_pool")]].concat();
    Program::new("max_pool", &[], "max_pool", parts)
}

/// The program of windows that overlap, or of those that do not.
pub(super) fn program_backward(activation: Option<Activation>, overlap: bool) -> Program {
    let entry = if overlap { "max_pool_backward" } else { "max_pool_backward_apart" };
    let backward = [part!("element/d_inputs"), part!("max_pool_backward")];
    let parts = [&PARTS, backward.as_slice(), activation::parts(activation)].concat();
    Program::new("max_pool_backward", &[activation::suffix(activation)], entry, parts)
}

/// The maximum of each window and channel.
pub fn max_pool<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: impl Into<View<'a>>,
    window: Window,
    outputs: impl Into<View<'a>>,
) -> Kernel {
    let (inputs, outputs) = (inputs.into(), outputs.into());
    let bindings = [(1, Access::Read, inputs.buffer), (4, Access::ReadWrite, outputs.buffer)];
    let blocks = outputs.layout.shape.positions() * outputs.layout.channel_blocks();
    let constants = constants(inputs, window, outputs);
    Kernel::new(gpu, &program(), &constants, steps, &bindings, grid_of_batch(blocks))
}

/// The gradient of each window goes to the first of its largest inputs, and on through the activation that they come
/// from, `hidden`.
pub fn max_pool_backward<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    d_outputs: impl Into<View<'a>>,
    inputs: impl Into<View<'a>>,
    window: Window,
    hidden: Option<Hidden<'a>>,
    d_inputs: impl Into<View<'a>>,
) -> Kernel {
    let (d_outputs, inputs, d_inputs) = (d_outputs.into(), inputs.into(), d_inputs.into());
    let activations = activation::source(hidden, inputs);
    let bindings = [
        (1, Access::Read, inputs.buffer),
        (3, Access::Read, d_outputs.buffer),
        (4, Access::ReadWrite, d_inputs.buffer),
        (5, Access::Read, activations.buffer),
    ];
    let mut constants = constants(inputs, window, d_outputs);
    constants.extend(layout_constants!("ACTIVATION", activations.layout));
    constants.extend(layout_constants!("D_INPUT", d_inputs.layout));
    let outputs_of_activation = activations.buffer == inputs.buffer;
    constants.push(("OUTPUTS_OF_ACTIVATION", f64::from(outputs_of_activation)));
    let overlap = window.size > window.stride;
    let cell = if overlap { 1 } else { window.stride };
    let [rows, columns] = [inputs.layout.shape.height(), inputs.layout.shape.width()].map(|side| side.div_ceil(cell));
    let blocks = rows * columns * inputs.layout.channel_blocks();
    let program = program_backward(hidden.map(Hidden::activation), overlap);
    Kernel::new(gpu, &program, &constants, steps, &bindings, grid_of_batch(blocks))
}

fn constants(inputs: View<'_>, window: Window, outputs: View<'_>) -> Vec<(&'static str, f64)> {
    let (shape, places) = (inputs.layout.shape, outputs.layout.shape);
    let mut constants = vec![
        ("CHANNEL_BLOCKS", inputs.layout.channel_blocks() as f64),
        ("SIZE", window.size as f64),
        ("STRIDE", window.stride as f64),
        ("PLACES_Y", places.height() as f64),
        ("PLACES_X", places.width() as f64),
        ("PIXELS", shape.positions() as f64),
        ("WIDTH", shape.width() as f64),
    ];
    constants.extend(layout_constants!("INPUT", inputs.layout));
    constants.extend(layout_constants!("OUTPUT", outputs.layout));
    constants
}
