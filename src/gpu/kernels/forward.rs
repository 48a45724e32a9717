//! Forward through a linear layer or a convolution.

use super::super::matmul::Matmul;
use super::activation::{self, Hidden};
use super::inputs::{Inputs, Source};
use super::loss::{LossKernel, LossKind, Targets};
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::View;
use crate::model::Activation;
use crate::shader::part;

pub(super) fn program(source: Source, matmul: Matmul, activation: Option<Activation>) -> Program {
    let mut parts = vec![part!("step"), part!("layout"), part!("outputs"), part!("forward")];
    parts.extend(activation::parts(activation));
    parts.extend(source.parts());
    parts.extend(matmul.parts(false));
    Program::new("forward", &[activation::suffix(activation), source.suffix()], "main", parts)
}

pub(super) fn program_with_loss(source: Source, loss: LossKind) -> Program {
    let mut parts = vec![part!("step"), part!("layout"), part!("outputs"), part!("forward")];
    parts.extend(activation::parts(None));
    parts.extend(source.parts());
    if source == Source::Activations {
        parts.push(part!("input/order")); // for the targets; a gather brings it along
    }
    parts.extend(Matmul::Narrow.parts(true));
    parts.extend(loss.training_parts());
    let [loss, targets] = loss.suffixes();
    Program::new("forward_with", &[loss, targets, source.suffix()], "main", parts)
}

/// `outputs = activation([inputs, 1] · weights)`, `[batch, outputs]`; behind the outputs stands the constant 1 where they
/// have room for it.
pub fn forward<'a>(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    inputs: Inputs<'a>,
    weights: &'a Matrix,
    outputs: impl Into<View<'a>>,
    hidden: Option<Hidden<'a>>,
) -> Kernel {
    let matmul = match inputs.source() {
        Source::Patches => gpu.matmul.for_windows(),
        _ => gpu.matmul.for_columns(weights.columns),
    };
    let program = program(inputs.source(), matmul, hidden.map(Hidden::activation));
    let more: Vec<_> = hidden.and_then(Hidden::kept).into_iter().collect();
    kernel(gpu, steps, &program, matmul, (inputs, weights, outputs.into()), &more, &[])
}

/// The last layer fused with its [`loss`](super::loss()); `None` where the way to multiply matrices
/// cannot do that.
pub fn forward_with_loss(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
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
        kernel(gpu, steps, &program, matmul, (inputs, weights, outputs.into()), &bindings, &loss.constants())
    })
}

fn kernel(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    program: &Program,
    matmul: Matmul,
    (inputs, weights, outputs): (Inputs<'_>, &Matrix, View<'_>),
    more_bindings: &[Binding<'_>],
    more_constants: &[(&'static str, f64)],
) -> Kernel {
    let layout = outputs.layout;
    let pixels = layout.shape.positions();
    // A matrix of one more column than there are outputs has the 1 there.
    let ones = layout.ones_behind_channels() || (pixels == 1 && layout.shape.channels() > weights.columns);
    let mut constants = inputs.constants();
    constants.extend([
        ("OUTPUTS", weights.columns as f64),
        ("OUTPUT_BLOCKS", layout.example as f64),
        ("ONES", f64::from(ones)),
        ("OUTPUT_PIXELS", pixels as f64),
        ("OUTPUT_WIDTH", layout.shape.width() as f64),
        ("OUTPUT_FIRST", layout.first as f64),
        ("OUTPUT_ROW", layout.row as f64),
        ("OUTPUT_COLUMN", layout.column as f64),
    ]);
    constants.extend(more_constants);
    let mut bindings = inputs.bindings();
    bindings.push((3, Access::Read, &weights.buffer));
    bindings.push((4, Access::ReadWrite, outputs.buffer));
    bindings.extend(more_bindings);
    let grid = match inputs.sliding().filter(|_| matmul == Matmul::Sliding) {
        Some(sliding) => {
            constants.extend(sliding.constants(weights.column_blocks()));
            sliding.grid(weights.column_blocks())
        }
        None => {
            constants.extend(matmul.constants(weights.column_blocks(), Some(inputs.blocks())));
            matmul.grid_of_batch(pixels, weights.column_blocks())
        }
    };
    Kernel::new(gpu, program, &constants, steps, &bindings, grid)
}
