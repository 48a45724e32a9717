//! The losses and their gradients: `cross_entropy.wgsl`, `weighted_cross_entropy.wgsl`, `binary_cross_entropy.wgsl` and
//! `mean_squared_error.wgsl`.

use super::softmax;
use crate::data;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepRecords};
use crate::gpu::matrix::Matrix;
use crate::loss::{Loss, Objective};
use crate::shader::{Part, part};

/// What the outputs of a model should be, and where the loss of each row goes.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// Example numbers, as in [`Inputs::Examples`](super::Inputs::Examples).
    pub order: &'a wgpu::Buffer,
    /// The label of each example, `[examples]`, u32; for [`LossKernel::SquaredErrorOfValues`] its values, `[examples,
    /// outputs]`, f32, rows padded to multiples of 4.
    pub labels: &'a wgpu::Buffer,
    /// The loss of each row, from the step's first row on; their mean is that of the batch.
    pub losses: &'a wgpu::Buffer,
}

impl<'a> Targets<'a> {
    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        vec![(2, Access::Read, self.order), (6, Access::Read, self.labels), (7, Access::ReadWrite, self.losses)]
    }
}

/// The ways to compute a loss. Class weights are f32, `[classes]`, padded to a multiple of 4.
#[derive(Clone, Copy)]
pub enum LossKernel<'a> {
    /// Softmax and cross-entropy.
    CrossEntropy,
    /// The same with label smoothing and class weights.
    WeightedCrossEntropy {
        /// Share of a label that all classes get alike.
        label_smoothing: f32,
        /// The weight of each class.
        class_weights: &'a wgpu::Buffer,
    },
    /// The sigmoid of one output, and cross-entropy.
    BinaryCrossEntropy {
        /// The weights of the two classes.
        class_weights: &'a wgpu::Buffer,
    },
    /// Mean squared error, against one-hot labels.
    SquaredErrorOfClasses,
    /// Mean squared error, against real values.
    SquaredErrorOfValues,
}

/// The kind of a [`LossKernel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// [`LossKernel::CrossEntropy`]
    CrossEntropy,
    /// [`LossKernel::WeightedCrossEntropy`]
    WeightedCrossEntropy,
    /// [`LossKernel::BinaryCrossEntropy`]
    BinaryCrossEntropy,
    /// [`LossKernel::SquaredErrorOfClasses`]
    SquaredErrorOfClasses,
    /// [`LossKernel::SquaredErrorOfValues`]
    SquaredErrorOfValues,
}

impl LossKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::CrossEntropy,
        Self::WeightedCrossEntropy,
        Self::BinaryCrossEntropy,
        Self::SquaredErrorOfClasses,
        Self::SquaredErrorOfValues,
    ];

    /// The kind for an objective and targets.
    pub fn of(objective: &Objective<'_>, targets: &data::Targets) -> Self {
        match (objective.loss, targets) {
            (Loss::CrossEntropy, _) if objective.is_plain() => Self::CrossEntropy,
            (Loss::CrossEntropy, _) => Self::WeightedCrossEntropy,
            (Loss::BinaryCrossEntropy, _) => Self::BinaryCrossEntropy,
            (Loss::MeanSquaredError, data::Targets::Classes(_)) => Self::SquaredErrorOfClasses,
            (Loss::MeanSquaredError, data::Targets::Values(_)) => Self::SquaredErrorOfValues,
        }
    }

    /// What the loss adds to a program that makes outputs.
    pub(super) fn parts(self) -> Vec<Part> {
        match self {
            Self::CrossEntropy => vec![part!("softmax"), part!("loss/cross_entropy")],
            Self::WeightedCrossEntropy => vec![part!("softmax"), part!("loss/weighted_cross_entropy")],
            Self::BinaryCrossEntropy => vec![part!("loss/binary_cross_entropy")],
            Self::SquaredErrorOfClasses => vec![part!("loss/mean_squared_error"), part!("loss/one_hot")],
            Self::SquaredErrorOfValues => vec![part!("loss/mean_squared_error"), part!("loss/values")],
        }
    }

    pub(crate) fn program(self) -> Program {
        let (name, entry) = match self {
            Self::CrossEntropy => ("cross_entropy", "cross_entropy"),
            Self::WeightedCrossEntropy => ("weighted_cross_entropy", "weighted_cross_entropy"),
            Self::BinaryCrossEntropy => ("binary_cross_entropy", "binary_cross_entropy"),
            Self::SquaredErrorOfClasses => ("mean_squared_error_of_classes", "mean_squared_error"),
            Self::SquaredErrorOfValues => ("mean_squared_error", "mean_squared_error"),
        };
        Program::new(
            name,
            &[],
            entry,
            [self.parts(), vec![part!("step"), part!("outputs"), part!("input/order")]].concat(),
        )
    }

    /// Loss and prediction. Label smoothing and class weights belong to training alone.
    pub(crate) fn evaluation(self) -> Program {
        let (suffix, entry, parts) = match self {
            Self::CrossEntropy | Self::WeightedCrossEntropy => {
                let parts = [Self::CrossEntropy.parts(), vec![part!("loss/argmax"), part!("evaluate")]].concat();
                ("", "evaluate", parts)
            }
            Self::BinaryCrossEntropy => ("binary", "evaluate", [self.parts(), vec![part!("evaluate")]].concat()),
            Self::SquaredErrorOfClasses => {
                let parts = [self.parts(), vec![part!("loss/argmax"), part!("evaluate")]].concat();
                ("squared_error", "evaluate", parts)
            }
            Self::SquaredErrorOfValues => {
                ("values", "evaluate_values", [self.parts(), vec![part!("evaluate_values")]].concat())
            }
        };
        let parts = [parts, vec![part!("step"), part!("outputs"), part!("input/order")]].concat();
        Program::new("evaluate", &[suffix], entry, parts)
    }

    /// Its part of the name of a forward program that the loss is fused with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::CrossEntropy => "",
            Self::WeightedCrossEntropy => "weighted",
            Self::BinaryCrossEntropy => "binary",
            Self::SquaredErrorOfClasses => "squared_of_classes",
            Self::SquaredErrorOfValues => "squared",
        }
    }
}

impl<'a> LossKernel<'a> {
    /// The kernel of this kind; label smoothing and class weights where it takes them.
    pub fn new(kind: LossKind, label_smoothing: f32, class_weights: &'a wgpu::Buffer) -> Self {
        match kind {
            LossKind::CrossEntropy => Self::CrossEntropy,
            LossKind::WeightedCrossEntropy => Self::WeightedCrossEntropy { label_smoothing, class_weights },
            LossKind::BinaryCrossEntropy => Self::BinaryCrossEntropy { class_weights },
            LossKind::SquaredErrorOfClasses => Self::SquaredErrorOfClasses,
            LossKind::SquaredErrorOfValues => Self::SquaredErrorOfValues,
        }
    }

    pub(super) fn kind(self) -> LossKind {
        match self {
            Self::CrossEntropy => LossKind::CrossEntropy,
            Self::WeightedCrossEntropy { .. } => LossKind::WeightedCrossEntropy,
            Self::BinaryCrossEntropy { .. } => LossKind::BinaryCrossEntropy,
            Self::SquaredErrorOfClasses => LossKind::SquaredErrorOfClasses,
            Self::SquaredErrorOfValues => LossKind::SquaredErrorOfValues,
        }
    }

    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        match self {
            Self::WeightedCrossEntropy { class_weights, .. } | Self::BinaryCrossEntropy { class_weights } => {
                vec![(10, Access::Read, class_weights)]
            }
            _ => vec![],
        }
    }

    pub(super) fn constants(self) -> Vec<(&'static str, f64)> {
        match self {
            Self::WeightedCrossEntropy { label_smoothing, .. } => {
                vec![("LABEL_SMOOTHING", f64::from(label_smoothing))]
            }
            _ => vec![],
        }
    }
}

/// Each row's loss, and its gradient in the place of the outputs, `[batch, outputs]`.
pub fn loss(gpu: &Gpu, steps: &StepRecords, outputs: &Matrix, targets: Targets<'_>, kernel: LossKernel<'_>) -> Kernel {
    let mut bindings = targets.bindings();
    bindings.push((4, Access::ReadWrite, &outputs.buffer));
    bindings.extend(kernel.bindings());
    let mut constants = softmax::constants(outputs).to_vec();
    constants.extend(kernel.constants());
    Kernel::new(gpu, &kernel.kind().program(), &constants, steps, &bindings, softmax::row_grid())
}
