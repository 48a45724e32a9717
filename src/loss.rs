//! The losses that training minimises. Each is one entry: a file in `loss/` with its name, its formula in f64 with
//! error bounds, and the f32 loop that the CPU backend runs (softmax is in `cross_entropy`); and a WGSL part of a kernel
//! in `shaders/loss/`.

mod binary_cross_entropy;
mod cross_entropy;
mod huber;
mod mean_squared_error;
mod pointwise;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::data::{Examples, Targets};
use crate::error::{Error, Result};
use crate::reference::Bounded;
use crate::shader::Part;

#[doc(hidden)]
pub use binary_cross_entropy::BinaryCrossEntropy;
#[doc(hidden)]
pub use cross_entropy::CrossEntropy;
pub(crate) use cross_entropy::softmax_f32;
#[doc(hidden)]
pub use huber::Huber;
#[doc(hidden)]
pub use mean_squared_error::MeanSquaredError;
#[doc(hidden)]
pub use pointwise::Pointwise;

/// A loss, which also defines the meaning of the model's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// [`CrossEntropy`].
    #[default]
    #[serde(rename = "cross-entropy")]
    CrossEntropy,
    /// [`BinaryCrossEntropy`].
    #[serde(rename = "bce")]
    BinaryCrossEntropy,
    /// [`MeanSquaredError`].
    #[serde(rename = "mse")]
    MeanSquaredError,
    /// [`Huber`].
    #[serde(rename = "huber")]
    Huber,
}

/// Calls a generic function with the entry of a loss: `with_loss!(loss, Entry => f::<Entry>(x))`.
macro_rules! with_loss {
    ($loss:expr, $entry:ident => $body:expr) => {
        match $loss {
            $crate::loss::Loss::CrossEntropy => {
                type $entry = $crate::loss::CrossEntropy;
                $body
            }
            $crate::loss::Loss::BinaryCrossEntropy => {
                type $entry = $crate::loss::BinaryCrossEntropy;
                $body
            }
            $crate::loss::Loss::MeanSquaredError => {
                type $entry = $crate::loss::MeanSquaredError;
                $body
            }
            $crate::loss::Loss::Huber => {
                type $entry = $crate::loss::Huber;
                $body
            }
        }
    };
}
pub(crate) use with_loss;

/// Function that turns a model's outputs into predictions (the inverse link function of a generalised linear model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Link {
    /// Softmax: an output for each class, whose softmax are the probabilities of the classes.
    Softmax,
    /// Sigmoid: one output, whose sigmoid is the probability of class 1 of two.
    Sigmoid,
    /// Identity: the outputs are the predicted values or, for classes, are compared with one-hot targets, and the class
    /// with the largest output is the prediction.
    Identity,
}

/// A loss: its names, formulas, error bounds and WGSL parts.
#[doc(hidden)]
pub trait Entry {
    /// Name on the command line and in files.
    const NAME: &'static str;
    /// Description for the command-line help.
    const LABEL: &'static str;
    /// Function that turns the outputs into predictions.
    const LINK: Link;
    /// True if label smoothing applies; [`SHADER`](Self::SHADER) then has a constant `LABEL_SMOOTHING`.
    const SMOOTHS: bool = false;
    /// True if class weights apply; [`SHADER`](Self::SHADER) then has a binding `class_weights`.
    const WEIGHS: bool = false;
    /// WGSL part of a kernel: a function `train_row`, and unless there is a [`PLAIN_SHADER`](Self::PLAIN_SHADER),
    /// `loss_of_row`; for a [`Pointwise`] loss `error_loss` and `error_slope`.
    const SHADER: Part;
    /// WGSL part without label smoothing and class weights, if it differs.
    const PLAIN_SHADER: Option<Part> = None;

    /// The loss of an example and its gradient in f64, from outputs that are off by at most `errors`.
    fn row(objective: &Objective<'_>, outputs: &[f64], errors: &[f64], target: Target<'_>) -> RowLoss;

    /// Replaces the outputs of rows of a batch, `[rows, outputs]`, by the gradient of the batch's mean loss in f32, and
    /// returns what the rows contribute to that mean, times the number of rows in the batch. `target` returns the target of
    /// a row. Its loops compile to vector instructions.
    fn batch_f32<'a>(
        objective: &Objective<'_>,
        values: &mut [f32],
        outputs: usize,
        batch: BatchSize,
        target: impl Fn(usize) -> Target<'a> + Copy,
    ) -> f64;
}

/// Size of a whole batch, where the rows at hand may be a part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[doc(hidden)]
pub struct BatchSize {
    /// Number of rows.
    pub rows: usize,
    /// Sum of the weights of their labels; without class weights their number.
    pub weight: f64,
}

/// The loss of an example, times the weight of its label, with bounds on the errors of an f32 computation.
#[derive(Clone, Debug, Default)]
#[doc(hidden)]
pub struct RowLoss {
    /// The loss.
    pub loss: f64,
    /// Error bound of the value.
    pub error: f64,
    /// Gradient by the outputs.
    pub gradient: Bounded,
}

/// Target of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
#[doc(hidden)]
pub enum Target<'a> {
    /// A class.
    Class(u32),
    /// A value for each output.
    Values(&'a [f32]),
}

impl Target<'_> {
    /// The class; 0 for values.
    #[inline(always)]
    pub fn class(self) -> u32 {
        match self {
            Self::Class(label) => label,
            Self::Values(_) => 0,
        }
    }

    /// The value that an output is compared with: for a class, 1 at its output and 0 elsewhere.
    #[inline(always)]
    pub fn value(self, output: usize) -> f32 {
        match self {
            Self::Class(label) => f32::from(u8::from(label as usize == output)),
            Self::Values(values) => values[output],
        }
    }
}

impl Targets {
    /// Target of an example, of `outputs` values if they are real.
    #[inline(always)]
    pub fn target(&self, example: usize, outputs: usize) -> Target<'_> {
        match self {
            Self::Classes(labels) => Target::Class(labels[example]),
            Self::Values(values) => Target::Values(&values[example * outputs..][..outputs]),
        }
    }
}

impl Loss {
    /// Every loss.
    pub const ALL: [Self; 4] = [Self::CrossEntropy, Self::BinaryCrossEntropy, Self::MeanSquaredError, Self::Huber];

    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        with_loss!(self, E => <E as Entry>::NAME)
    }

    /// The loss with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|loss| loss.name() == name)
    }

    /// Description for the command-line help.
    pub fn label(self) -> &'static str {
        with_loss!(self, E => <E as Entry>::LABEL)
    }

    /// Function that turns the outputs into predictions.
    pub fn link(self) -> Link {
        with_loss!(self, E => <E as Entry>::LINK)
    }

    /// Returns [`Entry::SMOOTHS`].
    pub(crate) fn smooths(self) -> bool {
        with_loss!(self, E => <E as Entry>::SMOOTHS)
    }

    /// Returns [`Entry::WEIGHS`].
    pub(crate) fn weighs(self) -> bool {
        with_loss!(self, E => <E as Entry>::WEIGHS)
    }

    /// The default loss for the targets of these examples.
    pub fn default_for(examples: &Examples) -> Self {
        match *examples.targets {
            Targets::Classes(_) => Self::CrossEntropy,
            Targets::Values(_) => Self::MeanSquaredError,
        }
    }

    /// Number of outputs of a model that learns these examples.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the loss does not apply to the targets.
    pub fn outputs(self, examples: &Examples) -> Result<usize> {
        if let (Link::Sigmoid, Targets::Classes(labels)) = (self.link(), &*examples.targets)
            && examples.outputs > 2
            && examples.outputs - examples.missing_classes().len() == 2
        {
            let mut distinct = BTreeSet::new();
            distinct.extend(labels);
            let labels: Vec<String> = distinct.iter().map(u32::to_string).collect();
            return Err(Error::Invalid(format!(
                "`loss` {}: labels must be 0 and 1, and in this data they are {}",
                self.name(),
                labels.join(" and ")
            )));
        }
        self.outputs_for(matches!(*examples.targets, Targets::Classes(_)), examples.outputs)
    }

    /// Number of outputs for data with `outputs` classes or, if `classes` is false, `outputs` real targets per example.
    pub(crate) fn outputs_for(self, classes: bool, outputs: usize) -> Result<usize> {
        let refuse = |reason: String| Err(Error::Invalid(format!("`loss` {}: {reason}", self.name())));
        match self.link() {
            Link::Softmax | Link::Sigmoid if !classes => refuse(
                "it is for classes, and the targets of this data are real values: `loss` mse is for those".into(),
            ),
            Link::Sigmoid if outputs != 2 => refuse(format!(
                "it tells two classes apart, and the data has {outputs}: `loss` cross-entropy is for those"
            )),
            Link::Sigmoid => Ok(1),
            _ => Ok(outputs),
        }
    }
}

/// A loss with its settings: the objective that training minimises. Evaluation uses the loss without the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objective<'a> {
    /// The loss.
    pub loss: Loss,
    /// Label smoothing of the cross-entropy: the share of each label that is spread evenly over all classes, in 0..1
    /// (Szegedy et al. 2015, "Rethinking the inception architecture"), as PyTorch's
    /// `CrossEntropyLoss(label_smoothing=…)`.
    pub label_smoothing: f32,
    /// Class weights of the cross-entropies, `[classes]`; empty if all are 1. The loss of a batch is the mean weighted
    /// by the weights of its labels, as PyTorch's `CrossEntropyLoss(weight=…)`.
    pub class_weights: &'a [f32],
}

impl Objective<'_> {
    /// Weight of an example with this label.
    pub fn weight(&self, label: u32) -> f32 {
        self.class_weights.get(label as usize).copied().unwrap_or(1.0)
    }

    /// Class weights as a list of `classes` numbers.
    pub(crate) fn weights(&self, classes: usize) -> Vec<f32> {
        if self.class_weights.is_empty() { vec![1.0; classes] } else { self.class_weights.to_vec() }
    }

    /// Size of a batch of `rows` rows with these targets.
    pub(crate) fn batch_size<'a>(&self, rows: usize, target: impl Fn(usize) -> Target<'a>) -> BatchSize {
        let weight = match self.class_weights {
            [] => rows as f64,
            _ => (0..rows).map(|row| f64::from(self.weight(target(row).class()))).sum(),
        };
        BatchSize { rows, weight }
    }

    /// Returns true without label smoothing and class weights.
    pub(crate) fn is_plain(&self) -> bool {
        self.label_smoothing == 0.0 && self.class_weights.is_empty()
    }

    /// Checks that a model can be trained on these examples with this objective.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting that does not apply.
    pub fn check(&self, examples: &Examples) -> Result<()> {
        let Self { loss, label_smoothing, class_weights } = *self;
        loss.outputs(examples)?;
        check_settings(loss, label_smoothing, !class_weights.is_empty())?;
        if !class_weights.is_empty() && class_weights.len() != examples.outputs {
            return Err(Error::Invalid(format!(
                "`class_weights`: {} weights, and the data has {} classes",
                class_weights.len(),
                examples.outputs
            )));
        }
        Ok(())
    }
}

/// Checks that a loss supports these settings.
pub(crate) fn check_settings(loss: Loss, label_smoothing: f32, class_weights: bool) -> Result<()> {
    if !(0.0..1.0).contains(&label_smoothing) {
        return Err(Error::Invalid(format!("`label_smoothing` {label_smoothing}: must be at least 0 and below 1")));
    }
    if label_smoothing > 0.0 && !loss.smooths() {
        return Err(Error::Invalid(format!(
            "`label_smoothing` {label_smoothing}: it goes with `loss` cross-entropy, not with `loss` {}",
            loss.name()
        )));
    }
    if class_weights && !loss.weighs() {
        let name = loss.name();
        return Err(Error::Invalid(format!(
            "`class_weights`: they go with `loss` cross-entropy or bce, not with {name}"
        )));
    }
    Ok(())
}

/// Class weights: how much the examples of each class count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// Weights that make every class count the same, as scikit-learn's `class_weight="balanced"`.
    Balanced(Balanced),
    /// One weight for each class, `[classes]`.
    Each(Vec<f32>),
}

/// The text `balanced`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balanced {
    /// Weight of a class: examples / (classes · examples of the class).
    #[serde(rename = "balanced")]
    Balanced,
}

impl std::str::FromStr for ClassWeights {
    type Err = String;

    /// Parses `balanced`, or numbers separated by commas.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "balanced" {
            return Ok(Self::Balanced(Balanced::Balanced));
        }
        let weight = |part: &str| match part.trim().parse::<f32>() {
            Ok(weight) if weight > 0.0 && weight.is_finite() => Ok(weight),
            _ => Err(format!(
                "{part:?} is not a weight: give \"balanced\", or a number above 0 for each class, as in 1,2.5"
            )),
        };
        text.split(',').map(weight).collect::<std::result::Result<_, _>>().map(Self::Each)
    }
}

impl ClassWeights {
    /// Weight of each class, `[classes]`, for training on these examples.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the number of weights is not the number of classes, or the targets are not classes.
    pub fn of(&self, examples: &Examples) -> Result<Vec<f32>> {
        let (Targets::Classes(labels), classes) = (&*examples.targets, examples.outputs) else {
            return Err(Error::Invalid(
                "`class_weights`: the targets of this data are real values, not classes".into(),
            ));
        };
        match self {
            Self::Balanced(_) => {
                let mut counts = vec![0usize; classes];
                labels.iter().for_each(|&label| counts[label as usize] += 1);
                let weight = |&count: &usize| match count {
                    0 => 0.0, // no example has this class
                    count => (labels.len() as f64 / (classes as f64 * count as f64)) as f32,
                };
                Ok(counts.iter().map(weight).collect())
            }
            Self::Each(weights) if weights.len() == classes => Ok(weights.clone()),
            Self::Each(weights) => Err(Error::Invalid(format!(
                "`class_weights`: {} weights, and the data has {classes} classes: give one for each, or balanced",
                weights.len()
            ))),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Each(weights) if !weights.iter().all(|weight| *weight > 0.0 && weight.is_finite()) => {
                Err(Error::Invalid(format!("`class_weights` {weights:?}: each must be above 0 and finite")))
            }
            _ => Ok(()),
        }
    }
}

/// Probabilities of two classes from the logits of one output: `[examples] -> [examples, 2]`.
pub(crate) fn of_two_classes(logits: &[f32]) -> Vec<f32> {
    let sigmoid = |z: f32| 1.0 / (1.0 + (-z).exp());
    logits.iter().flat_map(|&z| [sigmoid(-z), sigmoid(z)]).collect()
}
/// Weight of each training example: that of its class. Empty if there are no class weights.
///
/// # Errors
/// [`Error::Invalid`] for real targets with class weights.
#[doc(hidden)]
pub fn example_weights(train: &Examples, class_weights: &[f32]) -> Result<Vec<f32>> {
    if class_weights.is_empty() {
        return Ok(Vec::new());
    }
    Ok(train.labels()?.iter().map(|&label| class_weights[label as usize]).collect())
}
