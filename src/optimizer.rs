//! The optimizers and the learning-rate schedules. Each optimizer is one entry: a file in `optimizer/` with its
//! settings, its formula in f64 with error bounds, and the f32 loop that the CPU backend runs; and a WGSL part of a
//! kernel in `shaders/optimizer/`.

mod adamw;
mod lion;
mod schedule;
mod sgd;

use serde::{Deserialize, Serialize};

pub use adamw::AdamW;
pub use lion::Lion;
pub use schedule::{Schedule, Warmup};
pub use sgd::Sgd;

use crate::error::{Error, Result};
use crate::model::{Architecture, Parameters};
use crate::reference::Bounded;
use crate::shader::Part;

/// The update rule of the parameters, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Lion, "evolved sign momentum".
    Lion(Lion),
}

/// Evaluates an expression with the entry of an optimizer: `with_optimizer!(optimizer, entry => entry.moments())`.
macro_rules! with_optimizer {
    ($optimizer:expr, $entry:ident => $body:expr) => {
        match $optimizer {
            $crate::optimizer::Optimizer::Sgd($entry) => $body,
            $crate::optimizer::Optimizer::AdamW($entry) => $body,
            $crate::optimizer::Optimizer::Lion($entry) => $body,
        }
    };
}
pub(crate) use with_optimizer;

impl Optimizer {
    /// Every optimizer, with its default settings.
    pub fn all() -> [Self; 3] {
        [Sgd::default().into(), AdamW::default().into(), Lion::default().into()]
    }

    /// The optimizer with this [`name`](Self::name), and its default settings.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|optimizer| optimizer.name() == name)
    }

    /// Builds the optimizer that `settings` name; `None` if the name is unknown or one of its settings is missing.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        match settings.optimizer.as_str() {
            Sgd::NAME => Sgd::from_settings(settings).map(Self::Sgd),
            AdamW::NAME => AdamW::from_settings(settings).map(Self::AdamW),
            Lion::NAME => Lion::from_settings(settings).map(Self::Lion),
            _ => None,
        }
    }
}

/// An optimizer: its settings, formulas, error bounds and WGSL part.
#[doc(hidden)]
pub trait Entry: Sized {
    /// Name on the command line and in files.
    const NAME: &'static str;
    /// Description for the command-line help.
    const LABEL: &'static str;
    /// Default learning rate for unknown data.
    const LEARNING_RATE: f32;
    /// Names of the settings.
    const SETTINGS: &'static [&'static str];
    /// WGSL part of a kernel: a function `update`.
    const SHADER: Part;

    /// Number of moments, the values kept for each parameter: at most 2.
    fn moments(&self) -> usize;

    /// Checks the range of each setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first setting out of range by its name.
    fn check(&self) -> Result<()>;

    /// Factors that a device multiplies the moments by in step `step`, from 1.
    fn moment_scales(&self, step: u64) -> [f64; 2] {
        let _ = step;
        [1.0; 2]
    }

    /// Override constants of [`SHADER`](Self::SHADER).
    fn constants(&self) -> Vec<(&'static str, f64)>;

    /// The settings in the form in which they are stored.
    fn settings(&self) -> Settings;

    /// Builds the optimizer from stored settings; `None` if one is missing.
    fn from_settings(settings: &Settings) -> Option<Self>;

    /// Performs update number `step`, from 1, in f64; all slices have the same length.
    fn update(&self, step: u64, learning_rate: f64, values: &mut [f64], gradient: &[f64], moments: [&mut [f64]; 2]);

    /// Performs the update in f32, as a loop that compiles to vector instructions; slices of moments that the optimizer
    /// lacks are empty.
    fn update_f32(&self, step: u64, learning_rate: f32, values: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2]);

    /// Computes the update of a layer from its `old` values and moments, with bounds on the errors of an f32
    /// computation; `None` if the moments are missing.
    fn bounded_update(
        &self,
        step: u64,
        learning_rate: f64,
        gradient: &Bounded,
        old: &[f64],
        moments: [Option<&[f64]>; 2],
    ) -> Option<BoundedUpdate>;

    /// Recovers the gradient from the change, `[old, new]`, of a layer's values, or of its first moment if there is
    /// one.
    fn derived_gradient(
        &self,
        learning_rate: f64,
        values: [&[f64]; 2],
        first_moment: Option<[&[f64]; 2]>,
    ) -> Option<Vec<f64>>;
}

/// The update of a layer, with bounds on the errors of an f32 computation.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct BoundedUpdate {
    /// The new parameters.
    pub parameters: Bounded,
    /// Error bounds of [`Entry::derived_gradient`].
    pub gradient_errors: Vec<f64>,
    /// The new second moment, if there is one.
    pub second_moment: Option<Bounded>,
}

impl Optimizer {
    /// Name on the command line and in files.
    pub fn name(&self) -> &'static str {
        fn name<E: Entry>(_: &E) -> &'static str {
            E::NAME
        }
        with_optimizer!(self, entry => name(entry))
    }

    /// Description for the command-line help.
    pub fn label(&self) -> &'static str {
        fn label<E: Entry>(_: &E) -> &'static str {
            E::LABEL
        }
        with_optimizer!(self, entry => label(entry))
    }

    /// Default learning rate for unknown data.
    pub fn learning_rate(&self) -> f32 {
        fn rate<E: Entry>(_: &E) -> f32 {
            E::LEARNING_RATE
        }
        with_optimizer!(self, entry => rate(entry))
    }

    /// Names of the settings.
    pub fn setting_names(&self) -> &'static [&'static str] {
        fn settings<E: Entry>(_: &E) -> &'static [&'static str] {
            E::SETTINGS
        }
        with_optimizer!(self, entry => settings(entry))
    }

    /// WGSL part of a kernel.
    pub(crate) fn shader(&self) -> Part {
        fn shader<E: Entry>(_: &E) -> Part {
            E::SHADER
        }
        with_optimizer!(self, entry => shader(entry))
    }

    /// Override constants of the WGSL part.
    pub(crate) fn constants(&self) -> Vec<(&'static str, f64)> {
        with_optimizer!(self, entry => entry.constants())
    }

    /// Number of moments, the values kept for each parameter: at most 2.
    pub fn moments(&self) -> usize {
        with_optimizer!(self, entry => entry.moments())
    }

    /// Checks the range of each setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first setting out of range by its name.
    pub fn check(&self) -> Result<()> {
        with_optimizer!(self, entry => entry.check())
    }

    /// Factors that a device multiplies the moments by in step `step`, from 1.
    pub fn moment_scales(&self, step: u64) -> [f64; 2] {
        with_optimizer!(self, entry => Entry::moment_scales(entry, step))
    }
}

/// Checks the decay rates of an optimizer's moments.
fn check_betas([beta1, beta2]: [f64; 2]) -> Result<()> {
    must((0.0..1.0).contains(&beta1), "`beta1`", beta1, "at least 0 and below 1")?;
    must((0.0..1.0).contains(&beta2), "`beta2`", beta2, "at least 0 and below 1")
}

/// Checks a weight decay.
fn check_weight_decay(weight_decay: f32) -> Result<()> {
    must(weight_decay >= 0.0 && weight_decay.is_finite(), "`weight_decay`", weight_decay, "at least 0 and finite")
}

/// Override constants of the decay rates of an optimizer's moments, with 1 − beta computed in f64.
fn beta_constants([beta1, beta2]: [f64; 2]) -> Vec<(&'static str, f64)> {
    vec![("BETA1", beta1), ("BETA2", beta2), ("REST1", 1.0 - beta1), ("REST2", 1.0 - beta2)]
}

/// Returns [`Error::Invalid`] with flag, value and rule unless `holds`.
pub(crate) fn must(holds: bool, flag: &str, value: impl std::fmt::Display, rule: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Invalid(format!("{flag} {value}: must be {rule}"))) }
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

impl From<Lion> for Optimizer {
    fn from(lion: Lion) -> Self {
        Self::Lion(lion)
    }
}

/// Stored form of an optimizer: flat fields. Without `optimizer` it is SGD, which was once the only one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Settings {
    /// Name of the optimizer.
    #[serde(default = "sgd")]
    pub optimizer: String,
    /// Weight decay, which every optimizer has.
    pub weight_decay: f32,
    /// Momentum factor; like the following settings, `None` for an optimizer without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f32>,
    /// Nesterov momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Share of the mean gradient: its decay rate in AdamW, its weight in the direction in Lion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// Decay rate of the mean squared gradient in AdamW, of the mean gradient in Lion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// Term added to a denominator for numerical stability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
}

fn sgd() -> String {
    Sgd::NAME.into()
}

impl Settings {
    /// Settings with this name and weight decay, and no others.
    fn new(optimizer: &str, weight_decay: f32) -> Self {
        Self { optimizer: optimizer.into(), weight_decay, ..Self::default() }
    }
}

impl From<Optimizer> for Settings {
    fn from(optimizer: Optimizer) -> Self {
        with_optimizer!(&optimizer, entry => entry.settings())
    }
}

impl TryFrom<Settings> for Optimizer {
    type Error = String;

    fn try_from(settings: Settings) -> std::result::Result<Self, String> {
        let optimizer = Self::from_settings(&settings);
        // Settings of another optimizer are refused.
        optimizer.filter(|&optimizer| Settings::from(optimizer) == settings).ok_or_else(|| {
            let all = Self::all().map(|other| format!("{} for {}", other.setting_names().join(", "), other.name()));
            format!("an optimizer needs its own settings, and only those: {}", all.join("; "))
        })
    }
}

/// Everything that training changes. A backend that resumes from a state takes exactly the same steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// The current model.
    pub parameters: Parameters,
    /// The optimizer's moments: [`Optimizer::moments`] tensors for each tensor of parameters.
    pub moments: Vec<Parameters>,
    /// The model after the best epoch so far, if the trainer keeps it; backends do not touch it.
    pub best: Option<Parameters>,
    /// Number of updates since the start.
    pub updates: u64,
}

impl TrainingState {
    /// Checks that a model with this architecture and an optimizer with this number of moments can resume from the
    /// state.
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

    /// Describes the first layer with a value that is infinite or not a number.
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
