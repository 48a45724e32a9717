//! The optimizers, SGD and AdamW, and the schedule of their learning rate.

mod schedule;

use serde::{Deserialize, Serialize};

pub use schedule::{Schedule, Warmup};

use crate::error::{Error, Result};
use crate::model::{Architecture, Parameters};

/// Stochastic gradient descent, with the semantics of PyTorch's `torch.optim.SGD` (dampening 0):
///
/// ```text
/// g = gradient + weight_decay · w
/// v = momentum · v + g                      v starts at 0
/// w = w − learning_rate · (g + momentum · v   if nesterov, else v)
/// ```
///
/// Weight decay applies to weights and biases alike, as it does there. Source: Sutskever et al. 2013,
/// "On the importance of initialization and momentum in deep learning".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// Share of the last update's direction that is kept, in 0..1; 0 is plain SGD.
    pub momentum: f32,
    /// Look ahead along the momentum.
    pub nesterov: bool,
    /// L2 penalty: each step also pulls every parameter towards 0 by this share of itself.
    pub weight_decay: f32,
}

impl Sgd {
    /// How many numbers it remembers for each parameter: 1 with momentum, the velocity, else none.
    pub fn moments(&self) -> usize {
        usize::from(self.momentum > 0.0)
    }
}

/// Adam with decoupled weight decay, with the semantics of PyTorch's `torch.optim.AdamW`:
///
/// ```text
/// m = beta1 · m + (1 − beta1) · gradient       m and v start at 0
/// v = beta2 · v + (1 − beta2) · gradient²
/// w = w − learning_rate · (weight_decay · w + m / (1 − beta1ᵗ) / (√(v / (1 − beta2ᵗ)) + epsilon))
/// ```
///
/// in its step `t`, from 1. Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Share of the mean gradient that is kept, in 0..1.
    pub beta1: f64,
    /// Share of the mean squared gradient that is kept, in 0..1.
    pub beta2: f64,
    /// What keeps the division finite.
    pub epsilon: f64,
    /// Each step also takes this share of the learning rate from every parameter.
    pub weight_decay: f32,
}

impl Default for AdamW {
    /// PyTorch's.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamW {
    /// What `m` and `√v` are multiplied with in step `step`, from 1: 1 / (1 − beta1ᵗ) and 1 / √(1 − beta2ᵗ).
    pub fn moment_scales(&self, step: u64) -> [f64; 2] {
        let rest = |beta: f64| 1.0 - beta.powf(step as f64);
        [1.0 / rest(self.beta1), 1.0 / rest(self.beta2).sqrt()]
    }
}

/// How gradients change the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
}

impl Optimizer {
    /// How many numbers it remembers for each parameter: at most 2.
    pub fn moments(&self) -> usize {
        match self {
            Self::Sgd(sgd) => sgd.moments(),
            Self::AdamW(_) => 2,
        }
    }

    /// What [`AdamW::moment_scales`] says; the others have no use for it.
    pub(crate) fn moment_scales(&self, step: u64) -> [f64; 2] {
        match self {
            Self::Sgd(_) => [1.0; 2],
            Self::AdamW(adamw) => adamw.moment_scales(step),
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Sgd::default().into()
    }
}

impl From<Sgd> for Optimizer {
    fn from(sgd: Sgd) -> Self {
        Self::Sgd(sgd)
    }
}

impl From<AdamW> for Optimizer {
    fn from(adamw: AdamW) -> Self {
        Self::AdamW(adamw)
    }
}

/// An optimizer as it is written down: flat, and without `optimizer` it is SGD, once the only one.
#[derive(Serialize, Deserialize)]
struct Settings {
    #[serde(default)]
    optimizer: Kind,
    weight_decay: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    momentum: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nesterov: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta2: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Sgd,
    AdamW,
}

impl From<Optimizer> for Settings {
    fn from(optimizer: Optimizer) -> Self {
        let none = Self {
            optimizer: Kind::Sgd,
            weight_decay: 0.0,
            momentum: None,
            nesterov: None,
            beta1: None,
            beta2: None,
            epsilon: None,
        };
        match optimizer {
            Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay }) => {
                Self { weight_decay, momentum: Some(momentum), nesterov: Some(nesterov), ..none }
            }
            Optimizer::AdamW(AdamW { beta1, beta2, epsilon, weight_decay }) => Self {
                optimizer: Kind::AdamW,
                weight_decay,
                beta1: Some(beta1),
                beta2: Some(beta2),
                epsilon: Some(epsilon),
                ..none
            },
        }
    }
}

impl TryFrom<Settings> for Optimizer {
    type Error = &'static str;

    fn try_from(settings: Settings) -> std::result::Result<Self, &'static str> {
        let Settings { optimizer, weight_decay, momentum, nesterov, beta1, beta2, epsilon } = settings;
        match (optimizer, momentum, nesterov, beta1, beta2, epsilon) {
            (Kind::Sgd, Some(momentum), Some(nesterov), None, None, None) => {
                Ok(Sgd { momentum, nesterov, weight_decay }.into())
            }
            (Kind::AdamW, None, None, Some(beta1), Some(beta2), Some(epsilon)) => {
                Ok(AdamW { beta1, beta2, epsilon, weight_decay }.into())
            }
            _ => {
                Err("an optimizer needs its own settings, and only those: momentum and nesterov for sgd, beta1, beta2 \
                      and epsilon for adamw")
            }
        }
    }
}

/// All that training changes. A backend that goes on from here takes the very same steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// The model as it is now.
    pub parameters: Parameters,
    /// What the optimizer remembers, [`Optimizer::moments`] times the shape of the parameters.
    pub moments: Vec<Parameters>,
    /// The model after the best epoch so far, where the trainer keeps it; backends leave this alone.
    pub best: Option<Parameters>,
    /// Updates since the start.
    pub updates: u64,
}

impl TrainingState {
    /// Checks that a model with this architecture, and an optimizer with so many moments, can go on from here.
    ///
    /// # Errors
    /// [`Error::Invalid`] with both architectures, or both numbers of moments.
    pub fn check(&self, architecture: &Architecture, moments: usize) -> Result<()> {
        for part in std::iter::once(&self.parameters).chain(&self.best) {
            part.check()?;
        }
        for part in std::iter::once(&self.parameters).chain(&self.moments).chain(&self.best) {
            part.check_layers()?;
            if part.architecture != *architecture {
                return Err(Error::Invalid(format!(
                    "a training state of the model {} does not fit the model {architecture}",
                    part.architecture
                )));
            }
        }
        if self.moments.len() != moments {
            return Err(Error::Invalid(format!(
                "a training state with {} moments does not fit an optimizer with {moments}",
                self.moments.len()
            )));
        }
        Ok(())
    }

    /// Names the first layer with a value that is infinite or not a number.
    pub fn non_finite(&self) -> Option<String> {
        let parts = std::iter::once(("weights", &self.parameters)).chain(self.moments.iter().map(|m| ("moments", m)));
        let statistics = self.parameters.statistics.iter().enumerate();
        parts
            .flat_map(|(what, part)| {
                part.layers.iter().enumerate().map(move |(index, layer)| (what, index, &layer.values))
            })
            .chain(statistics.flat_map(|(index, statistics)| {
                [&statistics.mean, &statistics.variance].map(|values| ("running statistics", index, values))
            }))
            .find(|(.., values)| !values.iter().all(|value| value.is_finite()))
            .map(|(what, index, _)| format!("{what} of layer {}", index + 1))
    }
}
