//! The activations of hidden layers, part of [`forward`](super::forward()) and, with their gradients, of
//! [`input_gradient`](super::input_gradient()).

use crate::gpu::kernel::{Access, Binding, shader};
use crate::gpu::matrix::Matrix;
use crate::model::Activation;

/// The activation of a hidden layer, with what its gradient needs beside its outputs.
#[derive(Clone, Copy)]
pub enum Hidden<'a> {
    /// [`Activation::Relu`].
    Relu,
    /// [`Activation::Sigmoid`].
    Sigmoid,
    /// [`Activation::Tanh`].
    Tanh,
    /// [`Activation::Gelu`].
    Gelu {
        /// Where forward keeps the sums that it activates; shaped like the layer's outputs.
        pre_activations: &'a Matrix,
    },
}

impl<'a> Hidden<'a> {
    /// The activation of a layer that keeps its sums here, if it has to.
    pub fn new(activation: Activation, pre_activations: &'a Matrix) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::Tanh => Self::Tanh,
            Activation::Gelu => Self::Gelu { pre_activations },
        }
    }

    /// Which one.
    pub fn activation(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::Sigmoid => Activation::Sigmoid,
            Self::Tanh => Activation::Tanh,
            Self::Gelu { .. } => Activation::Gelu,
        }
    }

    /// What its gradient is computed from, where these are the layer's outputs.
    pub(super) fn gradient_source(self, outputs: &'a Matrix) -> &'a Matrix {
        match self {
            Self::Gelu { pre_activations } => pre_activations,
            Self::Relu | Self::Sigmoid | Self::Tanh => outputs,
        }
    }

    /// What forward keeps.
    pub(super) fn kept(self) -> Option<Binding<'a>> {
        match self {
            Self::Gelu { pre_activations } => Some((10, Access::ReadWrite, &pre_activations.buffer)),
            Self::Relu | Self::Sigmoid | Self::Tanh => None,
        }
    }
}

pub(super) fn files(activation: Activation) -> Vec<&'static str> {
    match activation {
        Activation::Relu => vec![shader!("relu")],
        Activation::Sigmoid => vec![shader!("logistic"), shader!("sigmoid")],
        Activation::Tanh => vec![shader!("logistic"), shader!("tanh")],
        Activation::Gelu => vec![shader!("logistic"), shader!("gelu")],
    }
}
