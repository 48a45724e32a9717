//! Batch normalisation: the statistics of a batch, forward and backward.

use super::activation::{self, Hidden};
use super::element_wise::grid_of_batch;
use super::weight_gradient::PartialSums;
use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Grid, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::{Layout, View, layout_constants};
use crate::model::Activation;
use crate::reference::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};
use crate::shader::{Part, part};

/// The most parts of a sum over a batch.
const PARTS: usize = 256;

/// The least pixels of a part.
const PART_PIXELS: usize = 32;

pub(super) fn programs() -> Vec<Program> {
    let mut programs: Vec<Program> = STATISTICS.map(statistics_program).into();
    programs.push(sums_program());
    programs.extend(MOMENTS.map(moments_program));
    programs.push(weight_gradient_program());
    for activation in activation::all() {
        programs.extend(PASSES.map(|pass| program(pass, activation)));
    }
    programs
}

/// Parts of every program: the inputs.
const INPUTS: [Part; 4] = [part!("step"), part!("layout"), part!("element/pixels"), part!("batch_norm/inputs")];

const STATISTICS: [&str; 2] = ["batch_statistics_parts", "batch_statistics"];

fn statistics_program(name: &'static str) -> Program {
    let parts =
        [INPUTS.as_slice(), &[part!("batch_norm/parts"), part!("batch_norm/running"), part!("batch_statistics")]]
            .concat();
    Program::new(name, &[], name, parts)
}

fn sums_program() -> Program {
    let name = "batch_sums";
    Program::new(name, &[], name, [INPUTS.as_slice(), &[part!("batch_norm/parts"), part!("batch_sums")]].concat())
}

const MOMENTS: [&str; 2] = ["batch_mean", "batch_variance"];

fn moments_program(name: &'static str) -> Program {
    Program::new(
        name,
        &[],
        name,
        vec![
            part!("step"),
            part!("element/pixels"),
            part!("not_a_number"),
            part!("batch_norm/running"),
            part!("batch_moments"),
        ],
    )
}

fn weight_gradient_program() -> Program {
    let name = "batch_norm_weight_gradient";
    let own = [part!("batch_norm/normalized"), part!("batch_norm/parts"), part!("batch_norm_weight_gradient")];
    Program::new(name, &[], name, [INPUTS.as_slice(), &own].concat())
}

/// The passes over all values that an activation belongs to.
const PASSES: [&str; 2] = ["batch_norm", "batch_norm_input_gradient"];

fn program(pass: &'static str, activation: Option<Activation>) -> Program {
    let own = match pass == PASSES[0] {
        true => [part!("element/channels"), part!("batch_norm")],
        false => [part!("element/d_inputs"), part!("batch_norm_input_gradient")],
    };
    let mut parts = [INPUTS.as_slice(), &own, activation::parts(activation)].concat();
    parts.push(part!("batch_norm/normalized"));
    Program::new(pass, &[activation::suffix(activation)], pass, parts)
}

/// Room for the partial sums of a matrix `[2, channels]` over batches of so many pixels.
///
/// # Errors
/// Errors of the device.
pub fn channel_sums(gpu: &Gpu, channels: &Matrix, pixels: usize) -> Result<PartialSums> {
    PartialSums::new(gpu, channels, (pixels / PART_PIXELS).clamp(1, PARTS))
}

/// Mean and variance of each channel of a batch, `[2, channels]`, and the running ones, which take a part of them. The
/// two kernels belong behind each other.
pub fn batch_statistics<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: impl Into<View<'a>>,
    sums: &PartialSums,
    statistics: &Matrix,
    running: &Matrix,
) -> [Kernel; 2] {
    let inputs = inputs.into();
    let layout = inputs.layout;
    let mut constants = channel_constants(layout);
    constants.push(("PARTS", sums.parts as f64));
    constants.push(("MOMENTUM", BATCH_NORM_MOMENTUM));
    let [parts, joined] = STATISTICS.map(statistics_program);
    let bindings = [(1, Access::Read, inputs.buffer), (3, Access::ReadWrite, &sums.buffer)];
    let parts = Kernel::new(gpu, &parts, &constants, steps, &bindings, grid_of_parts(layout, sums.parts));
    let bindings = [
        (3, Access::ReadWrite, &sums.buffer),
        (4, Access::ReadWrite, &statistics.buffer),
        (5, Access::ReadWrite, &running.buffer),
    ];
    [parts, Kernel::new(gpu, &joined, &constants, steps, &bindings, grid_of_parts(layout, 1))]
}

/// Partial sums of each channel's distances from the means in `centers`, `[2, channels]`, and of their squares, for
/// [`sum_parts`](super::sum_parts()). The rows may be a shard.
pub fn batch_sums<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: impl Into<View<'a>>,
    centers: &Matrix,
    sums: &PartialSums,
) -> Kernel {
    let inputs = inputs.into();
    let mut constants = channel_constants(inputs.layout);
    constants.push(("PARTS", sums.parts as f64));
    let bindings =
        [(1, Access::Read, inputs.buffer), (2, Access::Read, &centers.buffer), (3, Access::ReadWrite, &sums.buffer)];
    Kernel::new(gpu, &sums_program(), &constants, steps, &bindings, grid_of_parts(inputs.layout, sums.parts))
}

/// Kernels of the statistics of a batch in shards, as [`batch_statistics`] computes them of a whole one, from sums over all
/// shards, `[2, channels]`: the means from the [`batch_sums`] around the running means, and then means, variances and running
/// statistics from those around the means.
pub fn batch_moments(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: Layout,
    sums: &Matrix,
    statistics: &Matrix,
    running: &Matrix,
) -> [Kernel; 2] {
    let mut constants = pixel_constants(inputs);
    constants.push(("MOMENTUM", BATCH_NORM_MOMENTUM));
    let bindings = [
        (3, Access::Read, &sums.buffer),
        (4, Access::ReadWrite, &statistics.buffer),
        (5, Access::ReadWrite, &running.buffer),
    ];
    MOMENTS
        .map(moments_program)
        .map(|program| Kernel::new(gpu, &program, &constants, steps, &bindings, grid_of_parts(inputs, 1)))
}

/// `outputs = activation(scale · (inputs − mean) / √(variance + ε) + shift)`, with these means and variances,
/// `[2, channels]`.
pub fn batch_norm<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: impl Into<View<'a>>,
    statistics: &Matrix,
    weights: &Matrix,
    hidden: Option<Hidden<'_>>,
    outputs: impl Into<View<'a>>,
) -> Kernel {
    let (inputs, outputs) = (inputs.into(), outputs.into());
    let shape = inputs.layout.shape;
    let mut constants = normalized_constants(inputs.layout);
    constants.push(("CHANNELS", shape.channels() as f64));
    constants.push(("ONES", f64::from(outputs.layout.ones_behind_channels())));
    constants.extend(layout_constants!("OUTPUT", outputs.layout));
    let mut bindings = vec![
        (1, Access::Read, inputs.buffer),
        (2, Access::Read, &statistics.buffer),
        (3, Access::Read, &weights.buffer),
        (4, Access::ReadWrite, outputs.buffer),
    ];
    bindings.extend(hidden.and_then(Hidden::kept));
    let program = program(PASSES[0], hidden.map(Hidden::activation));
    let blocks = shape.positions() * inputs.layout.channel_blocks();
    Kernel::new(gpu, &program, &constants, steps, &bindings, grid_of_batch(blocks))
}

/// Partial sums of the gradient by scales and shifts, `[2, channels]`, for [`sum_parts`](super::sum_parts()).
pub fn batch_norm_weight_gradient<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: impl Into<View<'a>>,
    statistics: &Matrix,
    d_outputs: impl Into<View<'a>>,
    sums: &PartialSums,
) -> Kernel {
    let (inputs, d_outputs) = (inputs.into(), d_outputs.into());
    let mut constants = normalized_constants(inputs.layout);
    constants.push(("PARTS", sums.parts as f64));
    constants.extend(layout_constants!("D_OUTPUT", d_outputs.layout));
    let bindings = [
        (1, Access::Read, inputs.buffer),
        (2, Access::Read, &statistics.buffer),
        (3, Access::Read, d_outputs.buffer),
        (4, Access::ReadWrite, &sums.buffer),
    ];
    Kernel::new(gpu, &weight_gradient_program(), &constants, steps, &bindings, grid_of_parts(inputs.layout, sums.parts))
}

/// Backward to the inputs, with the gradient by scales and shifts, `d_weights`, and on through the activation that the
/// inputs come from, `hidden`.
#[expect(clippy::too_many_arguments, reason = "what a kernel reads and writes, one by one")]
pub fn batch_norm_input_gradient<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    d_outputs: impl Into<View<'a>>,
    inputs: impl Into<View<'a>>,
    statistics: &Matrix,
    weights: &Matrix,
    d_weights: &Matrix,
    hidden: Option<Hidden<'a>>,
    d_inputs: impl Into<View<'a>>,
) -> Kernel {
    let (d_outputs, inputs, d_inputs) = (d_outputs.into(), inputs.into(), d_inputs.into());
    let activations = activation::source(hidden, inputs);
    let mut constants = normalized_constants(inputs.layout);
    constants.extend(layout_constants!("D_OUTPUT", d_outputs.layout));
    constants.extend(layout_constants!("ACTIVATION", activations.layout));
    constants.extend(layout_constants!("D_INPUT", d_inputs.layout));
    let bindings = [
        (1, Access::Read, inputs.buffer),
        (2, Access::Read, &statistics.buffer),
        (3, Access::Read, d_outputs.buffer),
        (4, Access::ReadWrite, d_inputs.buffer),
        (5, Access::Read, activations.buffer),
        (6, Access::Read, &weights.buffer),
        (7, Access::Read, &d_weights.buffer),
    ];
    let program = program(PASSES[1], hidden.map(Hidden::activation));
    let blocks = inputs.layout.shape.positions() * inputs.layout.channel_blocks();
    Kernel::new(gpu, &program, &constants, steps, &bindings, grid_of_batch(blocks))
}

fn pixel_constants(layout: Layout) -> Vec<(&'static str, f64)> {
    vec![
        ("CHANNEL_BLOCKS", layout.channel_blocks() as f64),
        ("PIXELS", layout.shape.positions() as f64),
        ("WIDTH", layout.shape.width() as f64),
    ]
}

fn channel_constants(layout: Layout) -> Vec<(&'static str, f64)> {
    let mut constants = pixel_constants(layout);
    constants.extend(layout_constants!("INPUT", layout));
    constants
}

fn normalized_constants(layout: Layout) -> Vec<(&'static str, f64)> {
    let mut constants = channel_constants(layout);
    constants.push(("EPSILON", BATCH_NORM_EPSILON));
    constants
}

/// An invocation for each part and four channels.
fn grid_of_parts(layout: Layout, parts: usize) -> Grid {
    let workgroups = (layout.channel_blocks() * parts).div_ceil(64) as u32;
    Box::new(move |_| [workgroups, 1, 1])
}
