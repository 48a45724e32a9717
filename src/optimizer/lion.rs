//! Lion, "evolved sign momentum".

use super::{BoundedUpdate, Entry, Settings, beta_constants, check_betas, check_weight_decay};
use crate::error::Result;
use crate::reference::{Bounded, EPSILON};
use crate::shader::{Part, part};

/// Lion, "evolved sign momentum", whose step has the same size for every parameter:
///
/// ```text
/// w = w − learning_rate · (weight_decay · w + sign(beta1 · m + (1 − beta1) · gradient))
/// m = beta2 · m + (1 − beta2) · gradient       m starts at 0
/// ```
///
/// Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms". Suitable learning rates are a third to a
/// tenth of AdamW's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Weight of the mean gradient in the direction of the step, in 0..1.
    pub beta1: f64,
    /// Decay rate of the mean gradient, in 0..1.
    pub beta2: f64,
    /// Decoupled weight decay: each step also subtracts this share, times the learning rate, of every parameter.
    pub weight_decay: f32,
}

impl Default for Lion {
    /// The paper's settings, without weight decay.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

/// Sign of a number: 1, 0 or −1. NaN propagates.
#[inline(always)]
fn sign<T: Copy + PartialOrd + Default + From<i8>>(x: T) -> T {
    let zero = T::default();
    if x > zero {
        T::from(1)
    } else if x < zero {
        T::from(-1)
    } else {
        x
    }
}

impl Entry for Lion {
    const NAME: &'static str = "lion";
    const LABEL: &'static str = "steps of one size by the sign of the mean gradient, with `beta1` and `beta2`";
    const LEARNING_RATE: f32 = 0.0001;
    const SETTINGS: &'static [&'static str] = &["beta1", "beta2", "weight_decay"];
    const SHADER: Part = part!("optimizer/lion");

    /// The mean gradient alone.
    fn moments(&self) -> usize {
        1
    }

    fn check(&self) -> Result<()> {
        let Self { beta1, beta2, weight_decay } = *self;
        check_betas([beta1, beta2])?;
        check_weight_decay(weight_decay)
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        let mut constants = beta_constants([self.beta1, self.beta2]);
        constants.push(("WEIGHT_DECAY", f64::from(self.weight_decay)));
        constants
    }

    fn settings(&self) -> Settings {
        let Self { beta1, beta2, weight_decay } = *self;
        Settings { beta1: Some(beta1), beta2: Some(beta2), ..Settings::new(Self::NAME, weight_decay) }
    }

    fn from_settings(settings: &Settings) -> Option<Self> {
        let Settings { beta1, beta2, weight_decay, .. } = *settings;
        Some(Self { beta1: beta1?, beta2: beta2?, weight_decay })
    }

    fn update(&self, _: u64, learning_rate: f64, values: &mut [f64], gradient: &[f64], [moment, _]: [&mut [f64]; 2]) {
        assert_eq!([values.len(), moment.len()], [gradient.len(); 2]);
        let Self { beta1, beta2, weight_decay } = *self;
        for ((w, g), m) in values.iter_mut().zip(gradient).zip(moment) {
            let direction = sign(beta1 * *m + (1.0 - beta1) * g);
            *m = beta2 * *m + (1.0 - beta2) * g;
            *w -= learning_rate * (f64::from(weight_decay) * *w + direction);
        }
    }

    #[inline(always)]
    fn update_f32(
        &self,
        _: u64,
        learning_rate: f32,
        values: &mut [f32],
        gradient: &[f32],
        [moment, _]: [&mut [f32]; 2],
    ) {
        let Self { beta1, beta2, weight_decay } = *self;
        let (rest1, rest2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let (beta1, beta2) = (beta1 as f32, beta2 as f32);
        for ((value, moment), gradient) in values.iter_mut().zip(moment).zip(gradient) {
            let direction = sign(beta1 * *moment + rest1 * *gradient);
            *moment = beta2 * *moment + rest2 * *gradient;
            *value -= learning_rate * (weight_decay * *value + direction);
        }
    }

    fn bounded_update(
        &self,
        _: u64,
        learning_rate: f64,
        gradient: &Bounded,
        old: &[f64],
        [moment, _]: [Option<&[f64]>; 2],
    ) -> Option<BoundedUpdate> {
        let moment = moment?;
        let Self { beta1, beta2, weight_decay } = *self;
        let mut update = BoundedUpdate::default();
        for (at, &old) in old.iter().enumerate() {
            let (g, g_error) = (gradient.values[at], gradient.errors[at]);
            // Error bound of `beta · m + (1 − beta) · g`.
            let error = |beta: f64| {
                (1.0 - beta) * g_error
                    + EPSILON * (2.0 * (beta * moment[at]).abs() + 3.0 * ((1.0 - beta) * g).abs())
                    + f64::from(f32::MIN_POSITIVE)
            };
            update.gradient_errors.push(error(beta2) / (1.0 - beta2));
            let sum = beta1 * moment[at] + (1.0 - beta1) * g;
            // If the sum is nearer to 0 than its error, a device may step in the other direction.
            let direction_error = if sum.abs() > error(beta1) { 0.0 } else { 2.0 };
            let decay = f64::from(weight_decay) * old;
            let value = old - learning_rate * (decay + sign(sum));
            let value_error = learning_rate * (direction_error + 4.0 * EPSILON * (1.0 + decay.abs()));
            update.parameters.errors.push(value_error + EPSILON * (old.abs() + 2.0 * (old - value).abs()));
            update.parameters.values.push(value);
        }
        Some(update)
    }

    fn derived_gradient(&self, _: f64, _: [&[f64]; 2], moment: Option<[&[f64]; 2]>) -> Option<Vec<f64>> {
        let [old, new] = moment?;
        Some(old.iter().zip(new).map(|(old, new)| (new - self.beta2 * old) / (1.0 - self.beta2)).collect())
    }
}
