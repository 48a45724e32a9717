//! The updates of the weights, which other kernels end in: `sgd.wgsl` and `adamw.wgsl`.

use super::{adamw, sgd};
use crate::gpu::kernel::{Access, Binding};
use crate::gpu::matrix::Matrix;
use crate::optimizer::Optimizer;
use crate::shader::{Part, part};

/// The update by an optimizer of this kind; without any the gradient is stored.
pub(super) fn part(optimizer: Option<&Optimizer>) -> Part {
    match optimizer {
        Some(Optimizer::Sgd(_)) => sgd::PART,
        Some(Optimizer::AdamW(_)) => adamw::PART,
        None => part!("optimizer/store_gradient"),
    }
}

/// The optimizer's part of a program's name.
pub(super) fn suffix(optimizer: Option<&Optimizer>) -> &'static str {
    match optimizer {
        Some(Optimizer::Sgd(_)) => "sgd",
        Some(Optimizer::AdamW(_)) => "adamw",
        None => "stored",
    }
}

pub(super) fn constants(optimizer: &Optimizer) -> Vec<(&'static str, f64)> {
    match optimizer {
        Optimizer::Sgd(sgd) => sgd::constants(sgd).to_vec(),
        Optimizer::AdamW(adamw) => adamw::constants(adamw).to_vec(),
    }
}

/// `moments` are shaped like the weights, or anyhow where the optimizer has fewer.
pub(super) fn bindings<'a>(optimizer: &Optimizer, weights: &'a Matrix, moments: [&'a Matrix; 2]) -> Vec<Binding<'a>> {
    let mut bindings = vec![(5, Access::ReadWrite, &weights.buffer), (6, Access::ReadWrite, &moments[0].buffer)];
    if let Optimizer::AdamW(_) = optimizer {
        bindings.push((7, Access::ReadWrite, &moments[1].buffer));
    }
    bindings
}
