//! The kernels, each under the name of its file in `shaders/`.

mod activation;
mod batch_norm;
mod clipped_update;
mod element_wise;
mod evaluate;
mod forward;
mod gather_images;
mod gradient_norm;
mod input_gradient;
mod inputs;
mod loss;
mod matmul;
mod max_pool;
mod shard_sums;
mod softmax;
mod sum_parts;
mod update;
mod weight_gradient;

pub use super::matmul::Matmul;
pub use activation::Hidden;
pub use batch_norm::{
    batch_moments, batch_norm, batch_norm_input_gradient, batch_norm_weight_gradient, batch_statistics, batch_sums,
    channel_sums,
};
pub use clipped_update::clipped_update;
pub use element_wise::{Dropout, element_wise, element_wise_backward};
pub use evaluate::{Results, evaluate};
pub use forward::{forward, forward_with_loss};
pub use gather_images::gather_images;
pub use gradient_norm::{Clipping, clip_coefficient, sum_of_squares};
pub use input_gradient::{conv2d_input_gradient, input_gradient};
pub use inputs::Inputs;
pub use loss::{LossKernel, LossKind, Targets, loss};
pub use max_pool::{max_pool, max_pool_backward};
pub use shard_sums::{add_sum, clear_sum, keep_sum};
pub use softmax::softmax;
pub use sum_parts::sum_parts;
pub use update::Epilogue;
pub use weight_gradient::{PartialSums, weight_gradient};

use super::kernel::Program;
use crate::optimizer::Optimizer;
use inputs::Source;

/// Every program that softstep can run on a device, in every variant; programs of one name differ in their way to
/// multiply matrices.
pub fn programs() -> Vec<Program> {
    let optimizers = Optimizer::all();
    let updates = || optimizers.iter().map(Some).chain([None]);
    let mut programs = vec![softmax::program(), max_pool::program()];
    programs.extend(gradient_norm::programs());
    programs.extend(shard_sums::programs());
    programs.extend(optimizers.each_ref().map(clipped_update::program));
    programs.extend(updates().map(sum_parts::program));
    programs.extend(gather_images::programs());
    programs.extend(element_wise::programs());
    programs.extend(batch_norm::programs());
    for overlap in [false, true] {
        programs.extend(activation::all().map(|activation| max_pool::program_backward(activation, overlap)));
    }
    for matmul in [Matmul::Plain, Matmul::Workgroup, Matmul::Subgroup, Matmul::Narrow] {
        for activation in activation::all() {
            programs.push(input_gradient::program(matmul, activation));
            programs.extend(Source::LINEAR.map(|source| forward::program(source, matmul, activation)));
        }
        for source in Source::LINEAR {
            programs.extend(updates().map(|update| weight_gradient::program(source, matmul, update)));
        }
    }
    programs.extend(activation::all().map(|activation| input_gradient::program(Matmul::Sliding, activation)));
    for matmul in [Matmul::Plain, Matmul::Workgroup, Matmul::Sliding] {
        programs.extend(activation::all().map(|activation| forward::program(Source::Patches, matmul, activation)));
    }
    for matmul in [Matmul::Plain, Matmul::Workgroup, Matmul::SlidingSums] {
        programs.push(weight_gradient::program(Source::Patches, matmul, None));
    }
    for loss in LossKind::all() {
        programs.extend([loss.program(), loss.evaluation()]);
        programs.extend(Source::LINEAR.map(|source| forward::program_with_loss(source, loss)));
    }
    programs
}
