//! The activations that kernels end in, part of [`forward`](super::forward()) and others, and with their gradients of
//! [`input_gradient`](super::input_gradient()) and others. What an activation is says its entry in
//! [`model::activation`](mod@crate::model::activation).

use crate::gpu::kernel::{Access, Binding};
use crate::gpu::matrix::Matrix;
use crate::gpu::tensor::View;
use crate::model::Activation;
use crate::shader::{Part, part};

/// The activation of a node's results, with what its gradient needs beside its outputs.
#[derive(Clone, Copy)]
pub struct Hidden<'a> {
    activation: Activation,
    /// Pre-activations that forward keeps, shaped like the outputs; unused where the activation's derivative does not
    /// need them.
    kept: &'a Matrix,
}

impl<'a> Hidden<'a> {
    /// The activation of a node that keeps its pre-activations here, if it has to.
    pub fn new(activation: Activation, pre_activations: &'a Matrix) -> Self {
        Self { activation, kept: pre_activations }
    }

    /// Returns the activation.
    pub fn activation(self) -> Activation {
        self.activation
    }

    /// Returns the tensor that the derivative is computed from, where `outputs` are the node's outputs.
    pub(super) fn gradient_source(self, outputs: View<'a>) -> View<'a> {
        if self.activation.keeps_input() { outputs.of(&self.kept.buffer) } else { outputs }
    }

    /// Returns the binding of the kept pre-activations.
    pub(super) fn kept(self) -> Option<Binding<'a>> {
        self.activation.keeps_input().then_some((10, Access::ReadWrite, &self.kept.buffer))
    }
}

/// Returns every activation, and none.
pub(super) fn all() -> impl Iterator<Item = Option<Activation>> {
    Activation::ALL.map(Some).into_iter().chain([None])
}

pub(super) fn parts(activation: Option<Activation>) -> &'static [Part] {
    const NONE: &[Part] = &[part!("activation/none")];
    activation.map_or(NONE, Activation::shaders)
}

/// The activation's part of a program's name.
pub(super) fn suffix(activation: Option<Activation>) -> &'static str {
    activation.map_or("", Activation::name)
}

/// The values that the gradient of an activation is computed from, where the outputs are these; any where there is none.
pub(super) fn source<'a>(hidden: Option<Hidden<'a>>, outputs: View<'a>) -> View<'a> {
    hidden.map_or(outputs, |hidden| hidden.gradient_source(outputs))
}
