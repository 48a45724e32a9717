//! The losses that training minimises.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::data::{Examples, Targets};
use crate::error::{Error, Result};

/// A loss, which also defines the meaning of the model's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Cross-entropy for classes, with one output per class: outputs are logits, their softmax the probabilities p, and
    /// the loss of an example is −log p\[label\]. As PyTorch's `CrossEntropyLoss`.
    #[default]
    #[serde(rename = "cross-entropy")]
    CrossEntropy,
    /// Binary cross-entropy for two classes, with one output: its sigmoid is the probability p of class 1, and the loss
    /// of an example is −log p or −log (1 − p). As PyTorch's `BCEWithLogitsLoss`, computed from the logit: max(z, 0) −
    /// z·label + log(1 + exp(−|z|)).
    #[serde(rename = "bce")]
    BinaryCrossEntropy,
    /// Mean squared error for real values: the mean over the outputs of (output − target)². As PyTorch's `MSELoss`.
    /// Class labels become one-hot targets; the largest output is the prediction.
    #[serde(rename = "mse")]
    MeanSquaredError,
}

impl Loss {
    /// Name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross-entropy",
            Self::BinaryCrossEntropy => "bce",
            Self::MeanSquaredError => "mse",
        }
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
        if let (Self::BinaryCrossEntropy, Targets::Classes(labels)) = (self, &*examples.targets)
            && examples.outputs > 2
            && examples.outputs - examples.missing_classes().len() == 2
        {
            let labels: BTreeSet<u32> = labels.iter().copied().collect();
            let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
            return Err(Error::Invalid(format!(
                "`loss` bce: labels must be 0 and 1, and in this data they are {}",
                labels.join(" and ")
            )));
        }
        self.outputs_for(matches!(*examples.targets, Targets::Classes(_)), examples.outputs)
    }

    /// Number of outputs for data with `outputs` classes or, if `classes` is false, `outputs` real targets per example.
    pub(crate) fn outputs_for(self, classes: bool, outputs: usize) -> Result<usize> {
        let refuse = |reason: String| Err(Error::Invalid(format!("`loss` {}: {reason}", self.name())));
        match self {
            Self::CrossEntropy | Self::BinaryCrossEntropy if !classes => refuse(
                "it is for classes, and the targets of this data are real values: `loss` mse is for those".into(),
            ),
            Self::BinaryCrossEntropy if outputs != 2 => refuse(format!(
                "it tells two classes apart, and the data has {outputs}: `loss` cross-entropy is for those"
            )),
            Self::BinaryCrossEntropy => Ok(1),
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
    if label_smoothing > 0.0 && loss != Loss::CrossEntropy {
        return Err(Error::Invalid(format!(
            "`label_smoothing` {label_smoothing}: it goes with `loss` cross-entropy, not with `loss` {}",
            loss.name()
        )));
    }
    if class_weights && loss == Loss::MeanSquaredError {
        return Err(Error::Invalid("`class_weights`: they go with `loss` cross-entropy or bce, not with mse".into()));
    }
    Ok(())
}

/// Class weights: how much the examples of each class count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// Weights that make every class count the same, as scikit-learn's `class_weight="balanced"`.
    Balanced(Balanced),
    /// These weights, `[classes]`.
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
                "{part:?} is no weight: give \"balanced\", or a number above 0 for each class, as in 1,2.5"
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
                "`class_weights`: {} weights, and the data has {classes} classes",
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
