//! Forward through a layer.

use super::activation::{self, Hidden};
use super::gather::{Inputs, Source};
use super::loss::{LossKernel, LossKind, Targets};
use super::matmul::Matmul;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;
use crate::model::Activation;

pub(super) fn program(source: Source, matmul: Matmul, activation: Activation) -> Program {
    let name = match (source, activation) {
        (Source::Gather, Activation::Relu) => "forward_from_examples",
        (Source::Gather, Activation::Sigmoid) => "forward_sigmoid_from_examples",
        (Source::Gather, Activation::Tanh) => "forward_tanh_from_examples",
        (Source::Gather, Activation::Gelu) => "forward_gelu_from_examples",
        (Source::Activations, Activation::Relu) => "forward",
        (Source::Activations, Activation::Sigmoid) => "forward_sigmoid",
        (Source::Activations, Activation::Tanh) => "forward_tanh",
        (Source::Activations, Activation::Gelu) => "forward_gelu",
        (Source::GatherFloats, Activation::Relu) => "forward_from_floats",
        (Source::GatherFloats, Activation::Sigmoid) => "forward_sigmoid_from_floats",
        (Source::GatherFloats, Activation::Tanh) => "forward_tanh_from_floats",
        (Source::GatherFloats, Activation::Gelu) => "forward_gelu_from_floats",
    };
    let mut files = vec![shader!("step"), shader!("outputs"), shader!("forward")];
    files.extend(activation::files(activation));
    files.extend(source.files());
    files.extend(matmul.files(false));
    Program { name, entry: "main", files }
}

pub(super) fn program_with_loss(source: Source, loss: LossKind) -> Program {
    let mut files = vec![shader!("step"), shader!("outputs"), shader!("forward")];
    files.extend(activation::files(Activation::Relu)); // of a hidden layer, which the last one is not
    files.extend(source.files());
    if source == Source::Activations {
        files.push(shader!("order")); // for the targets; a gather brings it along
    }
    files.extend(Matmul::Narrow.files(true));
    files.extend(loss.files());
    Program { name: loss.fused_name(source), entry: "main", files }
}

/// `outputs = activation([inputs, 1] · weights)`, `[batch, outputs]`; with the constant 1 as last column if `hidden`,
/// without either otherwise.
pub fn forward(
    gpu: &Gpu,
    steps: &StepRecords,
    inputs: Inputs<'_>,
    weights: &Matrix,
    outputs: &Matrix,
    hidden: Option<Hidden<'_>>,
) -> Kernel {
    let matmul = gpu.matmul.for_columns(weights.columns);
    let program = program(inputs.source(), matmul, hidden.map_or(Activation::Relu, Hidden::activation));
    let more: Vec<_> = hidden.and_then(Hidden::kept).into_iter().collect();
    kernel(gpu, steps, &program, matmul, (inputs, weights, outputs, hidden.is_some()), &more, &[])
}

/// The last layer fused with its [`loss`](super::loss()); `None` where the way to multiply matrices
/// cannot do that.
pub fn forward_with_loss(
    gpu: &Gpu,
    steps: &StepRecords,
    inputs: Inputs<'_>,
    weights: &Matrix,
    outputs: &Matrix,
    targets: Targets<'_>,
    loss: LossKernel<'_>,
) -> Option<Kernel> {
    let matmul = gpu.matmul.for_columns(weights.columns);
    let mut bindings = targets.bindings();
    if inputs.source() != Source::Activations {
        bindings.retain(|&(binding, ..)| binding != 2); // the order: a gather brings it along
    }
    bindings.extend(loss.bindings());
    (matmul == Matmul::Narrow).then(|| {
        let program = program_with_loss(inputs.source(), loss.kind());
        kernel(gpu, steps, &program, matmul, (inputs, weights, outputs, false), &bindings, &loss.constants())
    })
}

fn kernel(
    gpu: &Gpu,
    steps: &StepRecords,
    program: &Program,
    matmul: Matmul,
    (inputs, weights, outputs, hidden): (Inputs<'_>, &Matrix, &Matrix, bool),
    more_bindings: &[Binding<'_>],
    more_constants: &[(&'static str, f64)],
) -> Kernel {
    let mut constants = vec![
        ("INPUT_BLOCKS", inputs.blocks() as f64),
        ("OUTPUTS", weights.columns as f64),
        ("OUTPUT_BLOCKS", outputs.column_blocks() as f64),
        ("HIDDEN", f64::from(hidden)),
    ];
    constants.extend(more_constants);
    let mut bindings = inputs.bindings();
    bindings.push((3, Access::Read, &weights.buffer));
    bindings.push((4, Access::ReadWrite, &outputs.buffer));
    bindings.extend(more_bindings);
    Kernel::new(gpu, program, &constants, steps, &bindings, matmul.grid_of_batch(weights.column_blocks()))
}
