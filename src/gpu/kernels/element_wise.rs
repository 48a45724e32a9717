//! Dropout, and activations that no product precedes: forward and backward.

use super::activation::{self, Hidden};
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Grid, Kernel, Program, StepUniformBuffer};
use crate::gpu::tensor::{View, layout_constants};
use crate::model::Activation;
use crate::random::dropout_threshold;
use crate::shader::part;

/// The most workgroups of a pass over values; they go round until there are no more.
const WORKGROUPS: usize = 16_384;

/// Dropout by one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a value becomes 0.
    pub p: f32,
    /// Number of the layer, from 1: its stream of random numbers.
    pub layer: usize,
}

pub(super) fn programs() -> impl Iterator<Item = Program> {
    let forward = Activation::ALL.map(|activation| program(false, Some(activation), false));
    let backward = [false, true].into_iter().flat_map(|drops| activation::all().map(move |a| program(drops, a, true)));
    forward.into_iter().chain([program(true, None, false)]).chain(backward)
}

fn program(drops: bool, activation: Option<Activation>, is_backward: bool) -> Program {
    let mut parts =
        vec![part!("step"), part!("layout"), part!("element/pixels"), part!("element/channels"), part!("element/read")];
    match is_backward {
        true => parts.extend([part!("element/d_inputs"), part!("element_wise_backward")]),
        false => parts.push(part!("element_wise")),
    }
    match drops {
        true => parts.extend([part!("random"), part!("element/dropout")]),
        false => parts.push(part!("element/no_dropout")),
    }
    parts.extend(activation::parts(activation));
    let entry = if is_backward { "element_wise_backward" } else { "element_wise" };
    let base = match (drops, is_backward) {
        (true, false) => "dropout",
        (true, true) => "dropout_backward",
        (false, false) => "activate",
        (false, true) => "activate_backward",
    };
    Program::new(base, &[activation::suffix(activation)], entry, parts)
}

/// `outputs = activation(dropout(inputs))`, `[batch, shape]`.
pub fn element_wise<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: impl Into<View<'a>>,
    dropout: Option<Dropout>,
    hidden: Option<Hidden<'a>>,
    outputs: impl Into<View<'a>>,
) -> Kernel {
    let (inputs, outputs) = (inputs.into(), outputs.into());
    kernel(gpu, steps, [inputs, outputs, inputs], dropout, hidden, false)
}

/// `d_inputs = dropout(d_outputs) · activation′`, `[batch, shape]`; the `activations` are what `hidden` made, the inputs
/// of the node.
pub fn element_wise_backward<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    d_outputs: impl Into<View<'a>>,
    dropout: Option<Dropout>,
    activations: impl Into<View<'a>>,
    hidden: Option<Hidden<'a>>,
    d_inputs: impl Into<View<'a>>,
) -> Kernel {
    let views = [d_outputs.into(), d_inputs.into(), activation::source(hidden, activations.into())];
    kernel(gpu, steps, views, dropout, hidden, true)
}

fn kernel(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    [from, to, activations]: [View<'_>; 3],
    dropout: Option<Dropout>,
    hidden: Option<Hidden<'_>>,
    is_backward: bool,
) -> Kernel {
    let shape = from.layout.shape;
    let blocks = from.layout.channel_blocks() * shape.positions();
    let mut constants = vec![
        ("CHANNELS", shape.channels() as f64),
        ("CHANNEL_BLOCKS", from.layout.channel_blocks() as f64),
        ("PIXELS", shape.positions() as f64),
        ("WIDTH", shape.width() as f64),
        ("ONES", f64::from(!is_backward && to.layout.ones_behind_channels())),
    ];
    constants.extend(layout_constants!("FROM", from.layout));
    if is_backward {
        constants.extend(layout_constants!("D_INPUT", to.layout));
        constants.extend(layout_constants!("ACTIVATION", activations.layout));
    } else {
        constants.extend(layout_constants!("OUTPUT", to.layout));
    }
    if let Some(Dropout { p, layer }) = dropout {
        constants.push(("STREAM", layer as f64));
        constants.push(("THRESHOLD", f64::from(dropout_threshold(p))));
        constants.push(("SCALE", 1.0 / (1.0 - f64::from(p))));
    }
    let mut bindings = vec![(1, Access::Read, from.buffer), (4, Access::ReadWrite, to.buffer)];
    if is_backward {
        bindings.push((5, Access::Read, activations.buffer));
    }
    // Back through it, the activation is only read.
    bindings.extend(hidden.and_then(Hidden::kept).filter(|_| !is_backward));
    let program = program(dropout.is_some(), hidden.map(Hidden::activation), is_backward);
    Kernel::new(gpu, &program, &constants, steps, &bindings, grid_of_batch(blocks))
}

/// Returns the grid of a pass over so many blocks of each example, in whole blocks of 4 examples.
pub(super) fn grid_of_batch(blocks: usize) -> Grid {
    grid_of_blocks(move |batch| batch.next_multiple_of(4) * blocks)
}

/// Returns the grid of a pass over so many blocks.
pub(super) fn grid_of_blocks(blocks: impl Fn(usize) -> usize + 'static) -> Grid {
    Box::new(move |batch| [blocks(batch as usize).div_ceil(64).clamp(1, WORKGROUPS) as u32, 1, 1])
}
