//! Stochastic gradient descent and the schedule of its learning rate.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Activation, Parameters};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// All that training changes. A backend that goes on from here takes the very same steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// The model as it is now.
    pub parameters: Parameters,
    /// What the optimizer remembers, [`Sgd::moments`] times the shape of the parameters.
    pub moments: Vec<Parameters>,
}

impl TrainingState {
    /// Checks that a model with these layer sizes and activation, and an optimizer with so many moments, can go on from
    /// here.
    ///
    /// # Errors
    /// [`Error::Invalid`] with both layer sizes, both activations, or both numbers of moments.
    pub fn check(&self, sizes: &[usize], activation: Activation, moments: usize) -> Result<()> {
        for part in std::iter::once(&self.parameters).chain(&self.moments) {
            part.check()?;
            if part.sizes() != sizes {
                return Err(Error::Invalid(format!(
                    "a training state with layer sizes {:?} does not fit a model with {sizes:?}",
                    part.sizes()
                )));
            }
        }
        if self.parameters.activation != activation {
            return Err(Error::Invalid(format!(
                "a training state with activation {} does not fit a model with {activation}",
                self.parameters.activation
            )));
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
        parts
            .flat_map(|(what, part)| part.layers.iter().enumerate().map(move |(index, layer)| (what, index, layer)))
            .find(|(.., layer)| !layer.values.iter().all(|value| value.is_finite()))
            .map(|(what, index, _)| format!("{what} of layer {}", index + 1))
    }
}

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same at every step.
    #[default]
    Constant,
    /// Half a cosine from the full rate at the first step towards 0 after the last
    /// (Loshchilov and Hutter 2016, "SGDR", without restarts).
    Cosine,
    /// Divided by 10 after each third of the run.
    Step,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `steps`, where the run's is `base`.
    pub fn learning_rate(self, base: f32, step: usize, steps: usize) -> f32 {
        let done = step as f64 / steps.max(1) as f64;
        let factor = match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Step => [1.0, 0.1, 0.01][((3.0 * done) as usize).min(2)],
        };
        (f64::from(base) * factor) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_start_at_the_base_rate_and_fall_as_documented() {
        let rate = |schedule: Schedule, step| schedule.learning_rate(0.5, step, 90);
        assert_eq!([0, 45, 89].map(|step| rate(Schedule::Constant, step)), [0.5; 3]);
        assert_eq!([0, 45].map(|step| rate(Schedule::Cosine, step)), [0.5, 0.25]);
        assert!(rate(Schedule::Cosine, 89) < 0.001);
        assert_eq!(
            [0, 29, 30, 59, 60, 89].map(|step| rate(Schedule::Step, step)),
            [0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
        );
    }
}
