//! The kernels, each under the name of its file in `shaders/`.

mod activation;
mod adamw;
mod evaluate;
mod forward;
mod gather;
mod input_gradient;
mod loss;
mod matmul;
mod sgd;
mod softmax;
mod weight_gradient;

pub use activation::Hidden;
pub use evaluate::{Results, evaluate};
pub use forward::{forward, forward_with_loss};
pub use gather::Inputs;
pub use input_gradient::input_gradient;
pub use loss::{LossKernel, LossKind, Targets, loss};
pub use matmul::Matmul;
pub use softmax::softmax;
pub use weight_gradient::weight_gradient;

use super::kernel::Program;
use crate::model::Activation;
use crate::optimizer::{AdamW, Sgd};

/// Every program that softstep can run on a device, in every variant.
pub fn programs() -> Vec<Program> {
    let mut programs = vec![softmax::program()];
    for matmul in Matmul::ALL {
        for activation in Activation::ALL {
            programs.push(input_gradient::program(matmul, activation));
            for source in gather::Source::ALL {
                programs.push(forward::program(source, matmul, activation));
            }
        }
        for source in gather::Source::ALL {
            for optimizer in [Sgd::default().into(), AdamW::default().into()] {
                programs.push(weight_gradient::program(source, matmul, &optimizer));
            }
        }
    }
    for loss in LossKind::ALL {
        programs.extend([loss.program(), loss.evaluation()]);
        programs.extend(gather::Source::ALL.map(|source| forward::program_with_loss(source, loss)));
    }
    programs
}
