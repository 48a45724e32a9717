//! The updates of the weights, which other kernels end in: the parts in `shaders/optimizer/`.

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

/// `moments` are shaped like the weights, or anyhow where the optimizer has fewer.
pub(super) fn bindings<'a>(optimizer: &Optimizer, weights: &'a Matrix, moments: [&'a Matrix; 2]) -> Vec<Binding<'a>> {
    let mut bindings = vec![(5, Access::ReadWrite, &weights.buffer), (6, Access::ReadWrite, &moments[0].buffer)];
    if optimizer.moments() > 1 {
        bindings.push((7, Access::ReadWrite, &moments[1].buffer));
    }
    bindings
}
