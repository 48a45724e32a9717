//! The losses and their gradients: `cross_entropy.wgsl`, `weighted_cross_entropy.wgsl`, `binary_cross_entropy.wgsl` and
//! `mean_squared_error.wgsl`.

use super::gather::Source;
use super::softmax;
use crate::data;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepRecords, shader};
use crate::gpu::matrix::Matrix;
use crate::loss::{Loss, Objective};

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
    pub(super) fn files(self) -> Vec<&'static str> {
        match self {
            Self::CrossEntropy => vec![shader!("softmax"), shader!("cross_entropy")],
            Self::WeightedCrossEntropy => vec![shader!("softmax"), shader!("weighted_cross_entropy")],
            Self::BinaryCrossEntropy => vec![shader!("binary_cross_entropy")],
            Self::SquaredErrorOfClasses => vec![shader!("mean_squared_error"), shader!("one_hot")],
            Self::SquaredErrorOfValues => vec![shader!("mean_squared_error"), shader!("values")],
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
        Program {
            name,
            entry,
            files: [self.files(), vec![shader!("step"), shader!("outputs"), shader!("order")]].concat(),
        }
    }

    /// Loss and prediction. Label smoothing and class weights belong to training alone.
    pub(crate) fn evaluation(self) -> Program {
        let (name, entry, files) = match self {
            Self::CrossEntropy | Self::WeightedCrossEntropy => {
                let files = [Self::CrossEntropy.files(), vec![shader!("argmax"), shader!("evaluate")]].concat();
                ("evaluate", "evaluate", files)
            }
            Self::BinaryCrossEntropy => {
                ("evaluate_binary", "evaluate", [self.files(), vec![shader!("evaluate")]].concat())
            }
            Self::SquaredErrorOfClasses => {
                let files = [self.files(), vec![shader!("argmax"), shader!("evaluate")]].concat();
                ("evaluate_squared_error", "evaluate", files)
            }
            Self::SquaredErrorOfValues => {
                ("evaluate_values", "evaluate_values", [self.files(), vec![shader!("evaluate_values")]].concat())
            }
        };
        Program { name, entry, files: [files, vec![shader!("step"), shader!("outputs"), shader!("order")]].concat() }
    }

    /// The name of a forward program that the loss is fused with.
    pub(super) fn fused_name(self, source: Source) -> &'static str {
        let [activations, examples, floats] = match self {
            Self::CrossEntropy => {
                ["forward_with_loss", "forward_with_loss_from_examples", "forward_with_loss_from_floats"]
            }
            Self::WeightedCrossEntropy => [
                "forward_with_loss_weighted",
                "forward_with_loss_weighted_from_examples",
                "forward_with_loss_weighted_from_floats",
            ],
            Self::BinaryCrossEntropy => [
                "forward_with_loss_binary",
                "forward_with_loss_binary_from_examples",
                "forward_with_loss_binary_from_floats",
            ],
            Self::SquaredErrorOfClasses => [
                "forward_with_loss_squared_of_classes",
                "forward_with_loss_squared_of_classes_from_examples",
                "forward_with_loss_squared_of_classes_from_floats",
            ],
            Self::SquaredErrorOfValues => [
                "forward_with_loss_squared",
                "forward_with_loss_squared_from_examples",
                "forward_with_loss_squared_from_floats",
            ],
        };
        match source {
            Source::Activations => activations,
            Source::Gather => examples,
            Source::GatherFloats => floats,
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
