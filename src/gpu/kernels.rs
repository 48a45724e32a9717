//! The kernels, each under the name of its file in `shaders/`.

mod activation;
mod adamw;
mod clipped_update;
mod evaluate;
mod forward;
mod gather;
mod gradient_norm;
mod input_gradient;
mod loss;
mod matmul;
mod sgd;
mod softmax;
mod update;
mod weight_gradient;

pub use activation::Hidden;
pub use clipped_update::clipped_update;
pub use evaluate::{Results, evaluate};
pub use forward::{forward, forward_with_loss};
pub use gather::Inputs;
pub use gradient_norm::{Clipping, clip_coefficient, sum_of_squares};
pub use input_gradient::input_gradient;
pub use loss::{LossKernel, LossKind, Targets, loss};
pub use matmul::Matmul;
pub use softmax::softmax;
pub use weight_gradient::{weight_gradient, weight_gradient_stored};

use super::kernel::Program;
use crate::model::Activation;
use crate::optimizer::{AdamW, Optimizer, Sgd};

/// Every program that softstep can run on a device, in every variant.
pub fn programs() -> Vec<Program> {
    let optimizers: [Optimizer; 2] = [Sgd::default().into(), AdamW::default().into()];
    let mut programs = vec![softmax::program()];
    programs.extend(gradient_norm::programs());
    programs.extend(optimizers.each_ref().map(clipped_update::program));
    for matmul in Matmul::ALL {
        for activation in Activation::ALL {
            programs.push(input_gradient::program(matmul, activation));
            for source in gather::Source::ALL {
                programs.push(forward::program(source, matmul, activation));
            }
        }
        for source in gather::Source::ALL {
            programs.push(weight_gradient::program(source, matmul, None));
            for optimizer in &optimizers {
                programs.push(weight_gradient::program(source, matmul, Some(optimizer)));
            }
        }
    }
    for loss in LossKind::ALL {
        programs.extend([loss.program(), loss.evaluation()]);
        programs.extend(gather::Source::ALL.map(|source| forward::program_with_loss(source, loss)));
    }
    programs
}
