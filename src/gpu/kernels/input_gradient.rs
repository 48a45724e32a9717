//! Backward to a layer's inputs.

use super::activation::{self, Hidden};
use super::matmul::Matmul;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;
use crate::model::Activation;

pub(super) fn program(matmul: Matmul, activation: Activation) -> Program {
    let name = match activation {
        Activation::Relu => "input_gradient",
        Activation::Sigmoid => "input_gradient_sigmoid",
        Activation::Tanh => "input_gradient_tanh",
        Activation::Gelu => "input_gradient_gelu",
    };
    let mut files = vec![shader!("step"), shader!("input_gradient")];
    files.extend(activation::files(activation));
    files.extend(matmul.files(false));
    Program { name, entry: "main", files }
}

/// `d_inputs = d_outputs · weightsᵀ · activation′`, `[batch, inputs]`; the `activations` are what `hidden` made.
pub fn input_gradient(
    gpu: &Gpu,
    steps: &StepRecords,
    d_outputs: &Matrix,
    weights: &Matrix,
    activations: &Matrix,
    hidden: Hidden<'_>,
    d_inputs: &Matrix,
) -> Kernel {
    let matmul = gpu.matmul.for_columns(d_inputs.columns);
    let constants = [
        ("INPUTS", d_inputs.columns as f64),
        ("INPUT_BLOCKS", activations.column_blocks() as f64),
        ("OUTPUT_BLOCKS", d_outputs.column_blocks() as f64),
    ];
    let bindings = [
        (1, Access::Read, &hidden.gradient_source(activations).buffer),
        (3, Access::Read, &weights.buffer),
        (4, Access::Read, &d_outputs.buffer),
        (5, Access::ReadWrite, &d_inputs.buffer),
    ];
    let grid = matmul.grid_of_batch(d_inputs.column_blocks());
    Kernel::new(gpu, &program(matmul, hidden.activation()), &constants, steps, &bindings, grid)
}
