//! The optimizers, each one entry: a file in `optimizer/` with everything that is known of it, and its part of a kernel
//! in `shaders/optimizer/`; and the schedule of the learning rate.

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

/// How gradients change the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Evolved sign momentum.
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

    /// The optimizer of these settings by name; `None` where its own are not there.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        match settings.optimizer.as_str() {
            Sgd::NAME => Sgd::from_settings(settings).map(Self::Sgd),
            AdamW::NAME => AdamW::from_settings(settings).map(Self::AdamW),
            Lion::NAME => Lion::from_settings(settings).map(Self::Lion),
            _ => None,
        }
    }
}

/// Everything that is known of an optimizer.
pub trait Entry: Sized {
    /// Its name on the command line and in files.
    const NAME: &'static str;
    /// What it is, for help.
    const LABEL: &'static str;
    /// The learning rate to start from where nothing is known of the data.
    const LEARNING_RATE: f32;
    /// The names of its settings on the command line, with `_`, and in files.
    const SETTINGS: &'static [&'static str];
    /// Its part of a kernel: a WGSL function `update`.
    const SHADER: Part;

    /// How many numbers it remembers for each parameter: at most 2.
    fn moments(&self) -> usize;

    /// Checks the range of each setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first out of range, by its flag of `softstep train`.
    fn check(&self) -> Result<()>;

    /// What a device multiplies its moments with in step `step`, from 1.
    fn moment_scales(&self, step: u64) -> [f64; 2] {
        let _ = step;
        [1.0; 2]
    }

    /// The constants of its [`SHADER`](Self::SHADER).
    fn constants(&self) -> Vec<(&'static str, f64)>;

    /// Its settings as they are written down.
    fn settings(&self) -> Settings;

    /// The optimizer with these settings; `None` where one is missing.
    fn from_settings(settings: &Settings) -> Option<Self>;

    /// One update in f64, the `step`-th, from 1; all slices are shaped alike.
    fn update(&self, step: u64, learning_rate: f64, values: &mut [f64], gradient: &[f64], moments: [&mut [f64]; 2]);

    /// The same in f32, as a loop that compiles to vector instructions; moments that it does not have are empty.
    fn update_f32(&self, step: u64, learning_rate: f32, values: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2]);

    /// What a gradient makes of a layer's `old` values and moments, with bounds of the errors of f32; `None` where its
    /// moments are missing.
    fn bounded_update(
        &self,
        step: u64,
        learning_rate: f64,
        gradient: &Bounded,
        old: &[f64],
        moments: [Option<&[f64]>; 2],
    ) -> Option<BoundedUpdate>;

    /// The gradient that changed a layer's values, or its first moment where there is one, from `[old, new]` to what they
    /// are now.
    fn derived_gradient(
        &self,
        learning_rate: f64,
        values: [&[f64]; 2],
        first_moment: Option<[&[f64]; 2]>,
    ) -> Option<Vec<f64>>;
}

/// What an update makes of a layer, and how far a device that computes it in f32 may be off.
#[derive(Debug, Default)]
pub struct BoundedUpdate {
    /// The new values.
    pub parameters: Bounded,
    /// How far [`Entry::derived_gradient`] may be off.
    pub gradient_errors: Vec<f64>,
    /// The new second moment, where there is one.
    pub second_moment: Option<Bounded>,
}

impl Optimizer {
    /// Its name on the command line and in files.
    pub fn name(&self) -> &'static str {
        fn name<E: Entry>(_: &E) -> &'static str {
            E::NAME
        }
        with_optimizer!(self, entry => name(entry))
    }

    /// What it is, for help.
    pub fn label(&self) -> &'static str {
        fn label<E: Entry>(_: &E) -> &'static str {
            E::LABEL
        }
        with_optimizer!(self, entry => label(entry))
    }

    /// The learning rate to start from where nothing is known of the data.
    pub fn learning_rate(&self) -> f32 {
        fn rate<E: Entry>(_: &E) -> f32 {
            E::LEARNING_RATE
        }
        with_optimizer!(self, entry => rate(entry))
    }

    /// The names of its settings on the command line, with `_`, and in files.
    pub fn setting_names(&self) -> &'static [&'static str] {
        fn settings<E: Entry>(_: &E) -> &'static [&'static str] {
            E::SETTINGS
        }
        with_optimizer!(self, entry => settings(entry))
    }

    /// Its part of a kernel.
    pub(crate) fn shader(&self) -> Part {
        fn shader<E: Entry>(_: &E) -> Part {
            E::SHADER
        }
        with_optimizer!(self, entry => shader(entry))
    }

    /// The constants of its part of a kernel.
    pub(crate) fn constants(&self) -> Vec<(&'static str, f64)> {
        with_optimizer!(self, entry => entry.constants())
    }

    /// How many numbers it remembers for each parameter: at most 2.
    pub fn moments(&self) -> usize {
        with_optimizer!(self, entry => entry.moments())
    }

    /// Checks the range of each setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first out of range, by its flag of `softstep train`.
    pub fn check(&self) -> Result<()> {
        with_optimizer!(self, entry => entry.check())
    }

    /// What a device multiplies the moments with in step `step`, from 1.
    pub fn moment_scales(&self, step: u64) -> [f64; 2] {
        with_optimizer!(self, entry => Entry::moment_scales(entry, step))
    }
}

/// Refuses a setting by its flag where a rule does not hold.
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

/// An optimizer as it is written down: flat, and without `optimizer` it is SGD, once the only one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Its name.
    #[serde(default = "sgd")]
    pub optimizer: String,
    /// As in every optimizer.
    pub weight_decay: f32,
    /// Of those that have it, as the following.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f32>,
    /// Nesterov's momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Share of the mean gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// Another share of it, or of its square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// What keeps a division finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
}

fn sgd() -> String {
    Sgd::NAME.into()
}

impl Settings {
    /// Of an optimizer with this name and weight decay, and no other settings.
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
        // And nothing that is another's.
        optimizer.filter(|&optimizer| Settings::from(optimizer) == settings).ok_or_else(|| {
            let all = Self::all().map(|other| format!("{} for {}", other.setting_names().join(", "), other.name()));
            format!("an optimizer needs its own settings, and only those: {}", all.join("; "))
        })
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
