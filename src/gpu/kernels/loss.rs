//! The losses and their gradients, in the program of each loss's entry in [`loss`](mod@crate::loss).

use super::softmax;
use crate::data;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Access, Binding, Kernel, Program, StepUniformBuffer};
use crate::gpu::matrix::Matrix;
use crate::loss::{Entry, Link, Loss, Objective, with_loss};
use crate::shader::{Part, part};

/// Targets of the examples, and the buffer for their losses.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// Example numbers, as in [`Inputs::Examples`](super::Inputs::Examples).
    pub order: &'a wgpu::Buffer,
    /// The label of each example, `[examples]`, u32; or its real values, `[examples, outputs]`, f32, rows padded to
    /// multiples of 4.
    pub labels: &'a wgpu::Buffer,
    /// The loss of each row, from the step's first row on; their mean is the loss of the batch.
    pub losses: &'a wgpu::Buffer,
}

impl<'a> Targets<'a> {
    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        vec![(2, Access::Read, self.order), (6, Access::Read, self.labels), (7, Access::ReadWrite, self.losses)]
    }
}

/// The shaders of a loss for one kind of targets and settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossKind {
    /// The loss.
    pub loss: Loss,
    /// True for the shader without label smoothing and class weights.
    pub is_plain: bool,
    /// True if the targets are real values.
    pub has_values: bool,
}

impl LossKind {
    /// The kind for an objective and targets.
    pub fn of(objective: &Objective<'_>, targets: &data::Targets) -> Self {
        let has_values = matches!(targets, data::Targets::Values(_)) && objective.loss.link() == Link::Identity;
        let is_plain = objective.is_plain() && plain_shader(objective.loss).is_some();
        Self { loss: objective.loss, is_plain, has_values }
    }

    /// Returns every kind.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Loss::ALL.into_iter().flat_map(|loss| {
            let is_plain = if plain_shader(loss).is_some() { &[true, false][..] } else { &[false] };
            let has_values = if loss.link() == Link::Identity { &[false, true][..] } else { &[false] };
            is_plain.iter().flat_map(move |&is_plain| {
                has_values.iter().map(move |&has_values| Self { loss, is_plain, has_values })
            })
        })
    }

    /// The shader of the loss itself.
    fn shader(self) -> Part {
        let shader = with_loss!(self.loss, E => E::SHADER);
        plain_shader(self.loss).filter(|_| self.is_plain).unwrap_or(shader)
    }

    /// Parts of a program that computes the loss of its outputs.
    fn parts(self) -> Vec<Part> {
        let mut parts = vec![self.shader()];
        match self.loss.link() {
            Link::Softmax => parts.push(part!("softmax")),
            Link::Sigmoid => {}
            Link::Identity => {
                parts.push(part!("loss/pointwise"));
                parts.push(if self.has_values { part!("loss/values") } else { part!("loss/one_hot") });
            }
        }
        parts
    }

    /// Parts of a program that computes the loss of its outputs and its gradient.
    pub(super) fn training_parts(self) -> Vec<Part> {
        [self.parts(), vec![part!("loss/rows")]].concat()
    }

    pub(crate) fn program(self) -> Program {
        let parts = [self.training_parts(), vec![part!("step"), part!("outputs"), part!("input/order")]].concat();
        Program::new(self.shader().stem(), &[self.suffix()], "train_rows", parts)
    }

    /// The program that computes loss and prediction, without label smoothing and class weights.
    pub(crate) fn evaluation(self) -> Program {
        let kind = Self { is_plain: plain_shader(self.loss).is_some(), ..self };
        let mut parts = [kind.parts(), vec![part!("step"), part!("outputs"), part!("input/order")]].concat();
        if self.has_values {
            parts.push(part!("evaluate_values"));
        } else {
            parts.push(part!("evaluate"));
            parts.extend((self.loss.link() != Link::Sigmoid).then_some(part!("loss/argmax")));
        }
        let entry = if self.has_values { "evaluate_values" } else { "evaluate" };
        Program::new("evaluate", &[kind.shader().stem(), kind.suffix()], entry, parts)
    }

    /// Names of the kind in a program that it is fused with.
    pub(super) fn suffixes(self) -> [&'static str; 2] {
        [self.shader().stem(), self.suffix()]
    }

    fn suffix(self) -> &'static str {
        if self.loss.link() == Link::Identity && !self.has_values { "of_classes" } else { "" }
    }
}

/// [`Entry::PLAIN_SHADER`] of a loss.
fn plain_shader(loss: Loss) -> Option<Part> {
    with_loss!(loss, E => E::PLAIN_SHADER)
}

/// A loss to compute in training.
#[derive(Clone, Copy)]
pub struct LossKernel<'a> {
    kind: LossKind,
    label_smoothing: f32,
    class_weights: &'a wgpu::Buffer,
}

impl<'a> LossKernel<'a> {
    /// The kernel of a kind. Label smoothing and class weights, f32, `[classes]` padded to a multiple of 4, count where
    /// the kind has them.
    pub fn new(kind: LossKind, label_smoothing: f32, class_weights: &'a wgpu::Buffer) -> Self {
        Self { kind, label_smoothing, class_weights }
    }

    pub(super) fn kind(self) -> LossKind {
        self.kind
    }

    pub(super) fn bindings(self) -> Vec<Binding<'a>> {
        let weighs = self.kind.loss.weighs() && !self.kind.is_plain;
        weighs.then_some((10, Access::Read, self.class_weights)).into_iter().collect()
    }

    pub(super) fn constants(self) -> Vec<(&'static str, f64)> {
        let smooths = self.kind.loss.smooths() && !self.kind.is_plain;
        smooths.then_some(("LABEL_SMOOTHING", f64::from(self.label_smoothing))).into_iter().collect()
    }
}

/// Loss of each row, and its gradient in the place of the outputs, `[batch, outputs]`.
pub fn loss(
    gpu: &Gpu,
    steps: &StepUniformBuffer,
    outputs: &Matrix,
    targets: Targets<'_>,
    kernel: LossKernel<'_>,
) -> Kernel {
    let mut bindings = targets.bindings();
    bindings.push((4, Access::ReadWrite, &outputs.buffer));
    bindings.extend(kernel.bindings());
    let mut constants = softmax::constants(outputs).to_vec();
    constants.extend(kernel.constants());
    Kernel::new(gpu, &kernel.kind().program(), &constants, steps, &bindings, softmax::row_grid())
}
