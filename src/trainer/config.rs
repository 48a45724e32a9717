//! The settings of a training run, and a position in it.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::Steps;
use crate::augmentation::{Augment, Augmentation};
use crate::backend::{Step, Training, check_shards};
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::loss::{ClassWeights, Loss, Objective, check_settings};
use crate::model::{Activation, Architecture, Layer, MAX_VALUES, Shape};
use crate::optimizer::{Optimizer, Schedule, Sgd, Warmup};

/// The settings that, with the data, determine a training run: the same settings and data give the same steps.
///
/// New settings may be added: start from the [`Default`], and change what is to differ.
///
/// ```
/// use softstep::TrainingConfig;
///
/// let config = TrainingConfig::default().hidden([128]).epochs(20).learning_rate(0.1);
/// assert_eq!(config.batch_size, 64);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingConfig {
    /// Sizes of the hidden layers; empty for softmax regression.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    #[serde(default)]
    pub activation: Activation,
    /// Every layer except the final linear one; replaces `hidden` and `activation`.
    #[serde(default)]
    pub layers: Option<Vec<Layer>>,
    /// Passes over the training examples.
    pub epochs: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// Base learning rate of the schedule; the peak rate of [`Schedule::OneCycle`].
    pub learning_rate: f32,
    /// The optimizer.
    #[serde(flatten)]
    pub optimizer: Optimizer,
    /// Upper limit of the global L2 norm of the gradients: [`Training::clip_norm`](crate::backend::Training).
    #[serde(default)]
    pub clip_norm: Option<f32>,
    /// Schedule of the learning rate over the run.
    pub schedule: Schedule,
    /// Linear warm-up before the schedule.
    #[serde(default)]
    pub warmup: Option<Warmup>,
    /// Random augmentation of the images of each batch.
    #[serde(default)]
    pub augment: Option<Augment>,
    /// Seed of the initial parameters, the shuffling, the choice of the validation part, dropout and augmentation.
    pub seed: u64,
    /// Share of the training examples that is held out for validation, in 0..1; see
    /// [`Examples::split`](crate::data::Examples::split).
    pub validation: f64,
    /// The loss.
    #[serde(default)]
    pub loss: Loss,
    /// Label smoothing of the cross-entropy: the share of each label that is spread evenly over all classes, in 0..1.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Class weights of the cross-entropies.
    #[serde(default)]
    pub class_weights: Option<ClassWeights>,
    /// Early stopping: the number of epochs without a lower validation loss after which the run ends.
    #[serde(default)]
    pub patience: Option<NonZeroUsize>,
    /// Choice of the parameters that the run ends with.
    #[serde(default)]
    pub keep: Keep,
    /// Number of shards of each batch, a power of two: gradients are summed over each, then in a binary tree. The
    /// [`ranks`](crate::ranks) of a run share them; their number is no setting, for the bits do not depend on it.
    #[serde(default = "one")]
    pub shards: usize,
}

fn one() -> usize {
    1
}

/// Choice of the parameters that a run ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The parameters after the last step.
    #[default]
    Last,
    /// The parameters after the epoch with the lowest validation loss; the first such epoch where several tie.
    Best,
}

impl Default for TrainingConfig {
    /// Settings that do well on digit-like data, with and without hidden layers.
    fn default() -> Self {
        Self {
            hidden: Vec::new(),
            activation: Activation::Relu,
            layers: None,
            epochs: 10,
            batch_size: 64,
            learning_rate: 0.15,
            optimizer: Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }.into(),
            clip_norm: None,
            schedule: Schedule::Cosine,
            warmup: None,
            augment: None,
            seed: 0,
            validation: 0.0,
            loss: Loss::default(),
            label_smoothing: 0.0,
            class_weights: None,
            patience: None,
            keep: Keep::Last,
            shards: 1,
        }
    }
}

impl TrainingConfig {
    /// Checks the range of every setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first setting out of range by its name.
    pub fn check(&self) -> Result<()> {
        let rules = [
            (
                self.hidden.len() < 1000,
                "`hidden` with",
                format!("{} layers", self.hidden.len()),
                "fewer than 1000 layers",
            ),
            (
                self.hidden.iter().all(|size| (1..=MAX_VALUES).contains(size)),
                "`hidden`",
                self.hidden.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                "sizes from 1 to 268435456",
            ),
            (self.epochs >= 1, "`epochs`", self.epochs.to_string(), "1 or more"),
            (self.batch_size >= 1, "`batch_size`", self.batch_size.to_string(), "1 or more"),
            (
                self.learning_rate > 0.0 && self.learning_rate.is_finite(),
                "`learning_rate`",
                self.learning_rate.to_string(),
                "above 0 and finite",
            ),
            (
                self.clip_norm.is_none_or(|norm| norm > 0.0 && norm.is_finite()),
                "`clip_norm`",
                self.clip_norm.unwrap_or_default().to_string(),
                "above 0 and finite",
            ),
            (
                (0.0..1.0).contains(&self.validation),
                "`validation`",
                self.validation.to_string(),
                "a share: at least 0 and below 1",
            ),
        ];
        if let Some((_, setting, value, rule)) = rules.into_iter().find(|(holds, ..)| !holds) {
            return Err(Error::Invalid(format!("{setting} {value}: must be {rule}")));
        }
        if let Some(Warmup::Share(share)) = self.warmup
            && !(0.0..1.0).contains(&share)
        {
            return Err(Error::Invalid(format!("`warmup` {share}: must be a number of steps, or a share below 1")));
        }
        check_shards(self.shards)?;
        self.augment.map_or(Ok(()), Augment::check)?;
        self.optimizer.check()?;
        check_settings(self.loss, self.label_smoothing, self.class_weights.is_some())?;
        self.class_weights.as_ref().map_or(Ok(()), ClassWeights::check)?;
        if self.validation == 0.0 {
            let without_validation = |setting| {
                Err(Error::Invalid(format!(
                    "{setting} needs a validation loss: hold out a share, as with `validation` 0.1"
                )))
            };
            if self.patience.is_some() {
                return without_validation("`patience`");
            }
            if self.keep == Keep::Best {
                return without_validation("`keep` best");
            }
        }
        Ok(())
    }

    /// Returns true if a run at `position` has finished: every epoch has run, or patience ran out at the end of an
    /// epoch.
    pub fn ended(&self, position: &Position) -> bool {
        let since_best = |patience: NonZeroUsize| {
            let best = position.best.map_or(0, |best| best.epoch);
            position.steps == 0 && position.epoch.saturating_sub(1) >= best.saturating_add(patience.get())
        };
        position.epoch > self.epochs || self.patience.is_some_and(since_best)
    }

    /// Number of training steps of a run on `examples` examples.
    pub fn steps(&self, examples: usize) -> usize {
        Steps::new(self, examples).count()
    }

    /// Epoch, from 1, and step with index `index`, from 0, of a run on `examples` examples.
    pub fn step_at(&self, index: usize, examples: usize) -> (usize, Step) {
        let steps = Steps::new(self, examples);
        (index / steps.per_epoch.max(1) + 1, steps.step(index))
    }

    /// Checks that a run on `examples` examples has at least one step after its warm-up.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the warm-up and the number of steps of the run.
    pub fn check_warmup(&self, examples: usize) -> Result<()> {
        let steps = self.steps(examples);
        match self.warmup {
            Some(warmup) if steps > 0 && warmup.steps(steps) >= steps => {
                Err(Error::Invalid(format!("`warmup` {warmup}: must be fewer than the {steps} steps of the run")))
            }
            _ => Ok(()),
        }
    }

    /// Learning rate of step `step` (from 0) of a run of `steps` steps.
    pub fn learning_rate_of(&self, step: usize, steps: usize) -> f32 {
        match self.warmup {
            Some(warmup) => warmup.learning_rate(self.schedule, self.learning_rate, step, steps),
            None => self.schedule.learning_rate(self.learning_rate, step, steps),
        }
    }

    /// Weight of each class for training on these examples, `[classes]`; empty if all are 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the number of weights is not the number of classes, or the targets are not classes.
    pub fn class_weights_of(&self, train: &Examples) -> Result<Vec<f32>> {
        self.class_weights.as_ref().map_or(Ok(Vec::new()), |weights| weights.of(train))
    }

    /// Checks these settings against the training examples, of shape `input`, and resolves what depends on them.
    /// `class_weights` are those of [`class_weights_of`](Self::class_weights_of).
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting that is out of range or does not apply to the examples.
    pub fn training<'a>(&self, train: &'a Examples, class_weights: &'a [f32], input: Shape) -> Result<Training<'a>> {
        self.check()?;
        self.check_warmup(train.len())?;
        let objective = Objective { loss: self.loss, label_smoothing: self.label_smoothing, class_weights };
        objective.check(train)?;
        Ok(Training {
            examples: train,
            batch_size: self.batch_size.min(train.len()),
            optimizer: self.optimizer,
            clip_norm: self.clip_norm,
            objective,
            seed: self.seed,
            augmentation: self.augment.map(|augment| Augmentation::new(augment, input)).transpose()?,
            shards: self.shards,
        })
    }

    /// Builds the model of these settings for examples of shape `input`: the configured layers, then a linear layer
    /// with `outputs` outputs.
    ///
    /// The input is flattened if no layer needs images.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the layer that does not fit.
    pub fn architecture(&self, input: Shape, outputs: usize) -> Result<Architecture> {
        let last = Layer::Linear { outputs };
        let Some(layers) = &self.layers else {
            let hidden = self.hidden.iter();
            let hidden = hidden.flat_map(|&outputs| [Layer::Linear { outputs }, Layer::Activation(self.activation)]);
            return Architecture::new(Shape::Flat(input.len()), hidden.chain([last]));
        };
        let needs_image = |layer: &Layer| matches!(layer, Layer::Conv2d { .. } | Layer::MaxPool2d { .. });
        let input = if layers.iter().any(needs_image) { input } else { Shape::Flat(input.len()) };
        Architecture::new(input, layers.iter().copied().chain([last]))
            .map_err(|error| Error::Invalid(format!("`layers`: {error}")))
    }
}

/// Methods of [`TrainingConfig`] that set the field of their name.
macro_rules! setters {
    ($($field:ident: $type:ty),*; $($into:ident: $target:ty),*) => {
        impl TrainingConfig {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](#structfield.", stringify!($field), ").")]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
            $(
                #[doc = concat!("Sets [`", stringify!($into), "`](#structfield.", stringify!($into), ").")]
                pub fn $into(mut self, $into: impl Into<$target>) -> Self {
                    self.$into = $into.into();
                    self
                }
            )*
        }
    };
}

setters! {
    activation: Activation, epochs: usize, batch_size: usize, learning_rate: f32, clip_norm: Option<f32>,
    schedule: Schedule, seed: u64, validation: f64, loss: Loss, label_smoothing: f32, keep: Keep,
    shards: usize;
    hidden: Vec<usize>, layers: Option<Vec<Layer>>, optimizer: Optimizer, warmup: Option<Warmup>,
    augment: Option<Augment>, class_weights: Option<ClassWeights>, patience: Option<NonZeroUsize>
}

/// Progress of a run between two steps.
///
/// Together with the seed, a position determines the rest of the run: each epoch's shuffling draws from its own stream
/// of the seed, and the learning rate follows from the step. There is no other random state to save.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The current epoch, from 1; after the end of the run, one more than the last epoch.
    pub epoch: usize,
    /// Completed steps of the current epoch. If all of them are complete, the epoch is trained but not evaluated yet.
    pub steps: usize,
    /// Sum over the completed steps of this epoch of mean loss times batch size.
    pub loss_sum: f64,
    /// The best epoch so far, if the settings need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// The epoch with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Validation loss after the epoch.
    pub loss: f64,
}

impl Position {
    /// The position before the first step.
    pub const START: Self = Self { epoch: 1, steps: 0, loss_sum: 0.0, best: None };

    /// Number of steps since the start of a run on `examples` examples.
    pub fn step(&self, config: &TrainingConfig, examples: usize) -> usize {
        Steps::new(config, examples).before(self.epoch).saturating_add(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::AdamW;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let sgd = |momentum, nesterov, weight_decay| Sgd { momentum, nesterov, weight_decay }.into();
        let adamw = |beta1, beta2, epsilon| AdamW { beta1, beta2, epsilon, weight_decay: 0.0 }.into();
        let good = TrainingConfig::default();
        good.check().unwrap();
        for (setting, config) in [
            ("`hidden`", TrainingConfig { hidden: vec![8, 0], ..good.clone() }),
            ("`epochs`", TrainingConfig { epochs: 0, ..good.clone() }),
            ("`batch_size`", TrainingConfig { batch_size: 0, ..good.clone() }),
            ("`learning_rate`", TrainingConfig { learning_rate: 0.0, ..good.clone() }),
            ("`learning_rate`", TrainingConfig { learning_rate: f32::NAN, ..good.clone() }),
            ("`learning_rate`", TrainingConfig { learning_rate: f32::INFINITY, ..good.clone() }),
            ("`momentum`", TrainingConfig { optimizer: sgd(1.0, false, 0.0), ..good.clone() }),
            ("`momentum`", TrainingConfig { optimizer: sgd(f32::NAN, false, 0.0), ..good.clone() }),
            ("`nesterov`", TrainingConfig { optimizer: sgd(0.0, true, 0.0), ..good.clone() }),
            ("`weight_decay`", TrainingConfig { optimizer: sgd(0.9, true, -1.0), ..good.clone() }),
            ("`beta1`", TrainingConfig { optimizer: adamw(1.0, 0.9, 1e-8), ..good.clone() }),
            ("`beta2`", TrainingConfig { optimizer: adamw(0.9, f64::NAN, 1e-8), ..good.clone() }),
            ("`epsilon`", TrainingConfig { optimizer: adamw(0.9, 0.9, 0.0), ..good.clone() }),
            ("`clip_norm` 0:", TrainingConfig { clip_norm: Some(0.0), ..good.clone() }),
            ("`clip_norm` -1:", TrainingConfig { clip_norm: Some(-1.0), ..good.clone() }),
            ("`clip_norm` NaN:", TrainingConfig { clip_norm: Some(f32::NAN), ..good.clone() }),
            ("`clip_norm` inf:", TrainingConfig { clip_norm: Some(f32::INFINITY), ..good.clone() }),
            ("`validation`", TrainingConfig { validation: 1.0, ..good.clone() }),
            ("`label_smoothing`", TrainingConfig { label_smoothing: 1.0, ..good.clone() }),
            (
                "`label_smoothing`",
                TrainingConfig { label_smoothing: 0.1, loss: Loss::BinaryCrossEntropy, ..good.clone() },
            ),
            (
                "`class_weights`",
                TrainingConfig { class_weights: Some(ClassWeights::Each(vec![1.0, 0.0])), ..good.clone() },
            ),
            (
                "`class_weights`",
                TrainingConfig { class_weights: "balanced".parse().ok(), loss: Loss::MeanSquaredError, ..good.clone() },
            ),
            ("`warmup` 1.5:", TrainingConfig { warmup: Some(Warmup::Share(1.5)), ..good.clone() }),
            (
                "`augment` scale=1:",
                TrainingConfig { augment: Some(Augment { scale: 1.0, ..Augment::default() }), ..good.clone() },
            ),
            ("`shards` 0:", TrainingConfig { shards: 0, ..good.clone() }),
            ("`shards` 6:", TrainingConfig { shards: 6, ..good.clone() }),
            ("`patience`", TrainingConfig { patience: NonZeroUsize::new(3), ..good.clone() }),
            ("`keep` best", TrainingConfig { keep: Keep::Best, ..good.clone() }),
        ] {
            let message = config.check().unwrap_err().to_string();
            assert!(message.starts_with(setting), "{message}");
        }
    }
}
