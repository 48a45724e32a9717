//! The inputs of a layer: gathered from the data set, or the activations of the layer before.

use crate::gpu::kernel::{Access, Binding, shader};
use crate::gpu::matrix::Matrix;

/// Where a layer's inputs come from.
#[derive(Clone, Copy)]
pub enum Inputs<'a> {
    /// A data set of bytes, in its order.
    Examples {
        /// `[examples, features + 1]` bytes, the last of each row 255, rows padded to words with 0.
        examples: &'a wgpu::Buffer,
        /// Example numbers; each batch starts at a multiple of 4 and is padded to one with valid numbers.
        order: &'a wgpu::Buffer,
        /// Features of an example, without the constant 1.
        features: usize,
    },
    /// A data set of floats, in its order.
    FloatExamples {
        /// `[examples, features + 1]` f32, the last of each row 1, rows padded to blocks of 4 with 0.
        examples: &'a wgpu::Buffer,
        /// As of [`Examples`](Self::Examples).
        order: &'a wgpu::Buffer,
        /// Features of an example, without the constant 1.
        features: usize,
    },
    /// The layer before: `[batch, inputs + 1]`.
    Activations(&'a Matrix),
}

/// The kind of [`Inputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Gather,
    GatherFloats,
    Activations,
}

impl Source {
    pub(super) const ALL: [Self; 3] = [Self::Gather, Self::GatherFloats, Self::Activations];

    pub(super) fn files(self) -> Vec<&'static str> {
        match self {
            Self::Gather => vec![shader!("order"), shader!("gather")],
            Self::GatherFloats => vec![shader!("order"), shader!("gather_floats")],
            Self::Activations => vec![shader!("activations")],
        }
    }
}

impl<'a> Inputs<'a> {
    pub(super) fn source(self) -> Source {
        match self {
            Self::Examples { .. } => Source::Gather,
            Self::FloatExamples { .. } => Source::GatherFloats,
            Self::Activations(_) => Source::Activations,
        }
    }

    pub(super) fn blocks(self) -> usize {
        match self {
            Self::Examples { features, .. } | Self::FloatExamples { features, .. } => (features + 1).div_ceil(4),
            Self::Activations(matrix) => matrix.column_blocks(),
        }
    }

    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        match self {
            Self::Examples { examples, order, .. } | Self::FloatExamples { examples, order, .. } => {
                vec![(1, Access::Read, examples), (2, Access::Read, order)]
            }
            Self::Activations(matrix) => vec![(1, Access::Read, &matrix.buffer)],
        }
    }
}
