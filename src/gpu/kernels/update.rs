//! The updates of the weights, which other kernels end in: the parts in `shaders/optimizer/`.

use super::weight_gradient::PartialSums;
use crate::gpu::kernel::{Access, Binding};
use crate::gpu::matrix::Matrix;
use crate::optimizer::Optimizer;
use crate::shader::{Part, part};

/// The update by an optimizer of this kind; without any the gradient is stored.
pub(super) fn part(optimizer: Option<&Optimizer>) -> Part {
    optimizer.map_or(part!("optimizer/store_gradient"), Optimizer::shader)
}

/// The optimizer's part of a program's name.
pub(super) fn suffix(optimizer: Option<&Optimizer>) -> &'static str {
    optimizer.map_or("stored", Optimizer::name)
}

/// The settings of the optimizer.
pub(super) fn constants(optimizer: &Optimizer) -> Vec<(&'static str, f64)> {
    optimizer.constants()
}

/// `moments` are shaped like the weights; those that the optimizer lacks may have any shape.
pub(super) fn bindings<'a>(optimizer: &Optimizer, weights: &'a Matrix, moments: [&'a Matrix; 2]) -> Vec<Binding<'a>> {
    let mut bindings = vec![(5, Access::ReadWrite, &weights.buffer), (6, Access::ReadWrite, &moments[0].buffer)];
    if optimizer.moments() > 1 {
        bindings.push((7, Access::ReadWrite, &moments[1].buffer));
    }
    bindings
}

/// Use of the gradient of weights, `[inputs + 1, outputs]`, at the end of the kernel that computes it.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// Updates the weights.
    Update {
        /// The weights.
        weights: &'a Matrix,
        /// The optimizer's moments, shaped like the weights; those that it lacks may have any shape.
        moments: [&'a Matrix; 2],
        /// The optimizer.
        optimizer: &'a Optimizer,
    },
    /// Stores the gradient.
    Store(&'a Matrix),
    /// Stores partial sums of the gradient, for [`sum_parts`](super::sum_parts()).
    Parts(&'a PartialSums),
}

impl<'a> Epilogue<'a> {
    pub(super) fn optimizer(self) -> Option<&'a Optimizer> {
        match self {
            Self::Update { optimizer, .. } => Some(optimizer),
            Self::Store(_) | Self::Parts(_) => None,
        }
    }

    pub(super) fn constants(self) -> Vec<(&'static str, f64)> {
        self.optimizer().map(constants).unwrap_or_default()
    }

    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        match self {
            Self::Update { weights, moments, optimizer } => bindings(optimizer, weights, moments),
            Self::Store(gradient) => vec![(5, Access::ReadWrite, &gradient.buffer)],
            Self::Parts(sums) => vec![(5, Access::ReadWrite, &sums.buffer)],
        }
    }

    /// Number of parts that the gradient is summed in.
    pub(super) fn parts(self) -> usize {
        match self {
            Self::Update { .. } | Self::Store(_) => 1,
            Self::Parts(sums) => sums.parts,
        }
    }

    /// Rows and columns of the gradient.
    pub(super) fn shape(self) -> [usize; 2] {
        match self {
            Self::Update { weights: matrix, .. } | Self::Store(matrix) => [matrix.rows, matrix.columns],
            Self::Parts(sums) => sums.shape,
        }
    }
}
