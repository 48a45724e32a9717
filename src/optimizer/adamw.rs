//! Adam with decoupled weight decay.

use super::{BoundedUpdate, Entry, Settings, beta_constants, check_betas, check_weight_decay, must};
use crate::error::Result;
use crate::reference::{Bounded, EPSILON};
use crate::shader::{Part, part};

/// Adam with decoupled weight decay, with the semantics of PyTorch's `torch.optim.AdamW`:
///
/// ```text
/// m = beta1 · m + (1 − beta1) · gradient       m and v start at 0
/// v = beta2 · v + (1 − beta2) · gradient²
/// w = w − learning_rate · (weight_decay · w + m / (1 − beta1ᵗ) / (√(v / (1 − beta2ᵗ)) + epsilon))
/// ```
///
/// where `t` counts steps from 1. Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay rate of the mean gradient, in 0..1.
    pub beta1: f64,
    /// Decay rate of the mean squared gradient, in 0..1.
    pub beta2: f64,
    /// Term added to the denominator for numerical stability.
    pub epsilon: f64,
    /// Decoupled weight decay: each step also subtracts this share, times the learning rate, of every parameter.
    pub weight_decay: f32,
}

impl Default for AdamW {
    /// PyTorch's default settings.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamW {
    /// Bias corrections of `m` and `√v` in step `step`, from 1: 1 / (1 − beta1ᵗ) and 1 / √(1 − beta2ᵗ).
    pub fn moment_scales(&self, step: u64) -> [f64; 2] {
        let rest = |beta: f64| 1.0 - beta.powf(step as f64);
        [1.0 / rest(self.beta1), 1.0 / rest(self.beta2).sqrt()]
    }
}

impl Entry for AdamW {
    const NAME: &'static str = "adamw";
    const LABEL: &'static str = "Adam with decoupled weight decay, with `beta1`, `beta2` and `epsilon`";
    const LEARNING_RATE: f32 = 0.001;
    const SETTINGS: &'static [&'static str] = &["beta1", "beta2", "epsilon", "weight_decay"];
    const SHADER: Part = part!("optimizer/adamw");

    /// Two: the mean gradient and the mean squared gradient.
    fn moments(&self) -> usize {
        2
    }

    fn check(&self) -> Result<()> {
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        check_betas([beta1, beta2])?;
        // The range in which epsilon keeps its effect in f32.
        must((1e-30..=1.0).contains(&epsilon), "`epsilon`", epsilon, "at least 1e-30 and at most 1")?;
        check_weight_decay(weight_decay)
    }

    fn moment_scales(&self, step: u64) -> [f64; 2] {
        self.moment_scales(step)
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        let mut constants = beta_constants([self.beta1, self.beta2]);
        constants.extend([("EPSILON", self.epsilon), ("WEIGHT_DECAY", f64::from(self.weight_decay))]);
        constants
    }

    fn settings(&self) -> Settings {
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        Settings {
            beta1: Some(beta1),
            beta2: Some(beta2),
            epsilon: Some(epsilon),
            ..Settings::new(Self::NAME, weight_decay)
        }
    }

    fn from_settings(settings: &Settings) -> Option<Self> {
        let Settings { beta1, beta2, epsilon, weight_decay, .. } = *settings;
        Some(Self { beta1: beta1?, beta2: beta2?, epsilon: epsilon?, weight_decay })
    }

    fn update(
        &self,
        step: u64,
        learning_rate: f64,
        values: &mut [f64],
        gradient: &[f64],
        [first, second]: [&mut [f64]; 2],
    ) {
        assert_eq!([values.len(), first.len(), second.len()], [gradient.len(); 3]);
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        let [first_scale, second_scale] = self.moment_scales(step);
        for (((w, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let direction = first_scale * *m / (second_scale * v.sqrt() + epsilon);
            *w -= learning_rate * (f64::from(weight_decay) * *w + direction);
        }
    }

    #[inline(always)]
    fn update_f32(
        &self,
        step: u64,
        learning_rate: f32,
        values: &mut [f32],
        gradient: &[f32],
        [first, second]: [&mut [f32]; 2],
    ) {
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        let [first_scale, second_scale] = self.moment_scales(step).map(|scale| scale as f32);
        let (rest1, rest2, epsilon) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, epsilon as f32);
        let (beta1, beta2) = (beta1 as f32, beta2 as f32);
        let moments = first.iter_mut().zip(second);
        for ((value, (first, second)), gradient) in values.iter_mut().zip(moments).zip(gradient) {
            *first = beta1 * *first + rest1 * *gradient;
            *second = beta2 * *second + rest2 * (*gradient * *gradient);
            let direction = first_scale * *first / (second_scale * second.sqrt() + epsilon);
            *value -= learning_rate * (weight_decay * *value + direction);
        }
    }

    fn bounded_update(
        &self,
        step: u64,
        learning_rate: f64,
        gradient: &Bounded,
        old: &[f64],
        moments: [Option<&[f64]>; 2],
    ) -> Option<BoundedUpdate> {
        let [Some(first), Some(second)] = moments else { return None };
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        let [first_scale, second_scale] = self.moment_scales(step);
        let mut update = BoundedUpdate::default();
        let mut second_moment = Bounded::default();
        for (at, &old) in old.iter().enumerate() {
            let (g, g_error) = (gradient.values[at], gradient.errors[at]);
            let (kept1, kept2) = (beta1 * first[at], beta2 * second[at]);
            let root = |g: f64| second_scale * (kept2 + (1.0 - beta2) * g * g).sqrt() + epsilon;
            let direction = |g: f64| first_scale * (kept1 + (1.0 - beta1) * g) / root(g);
            let expected = direction(g);
            let first_error = EPSILON * (2.0 * kept1.abs() + 3.0 * ((1.0 - beta1) * g).abs());
            update.gradient_errors.push(g_error + first_error / (1.0 - beta1));

            let square = (1.0 - beta2) * g * g;
            second_moment.values.push(kept2 + square);
            let square_error = (1.0 - beta2) * (2.0 * g.abs() + g_error) * g_error;
            second_moment.errors.push(square_error + EPSILON * (2.0 * kept2 + 4.0 * square));

            // As a function of the gradient, the direction rises and falls at most once, so its values at the ends of
            // the error interval show how far it moves.
            let swing = (direction(g - g_error) - expected).abs().max((direction(g + g_error) - expected).abs());
            let least_root = root(if g.abs() > g_error { g.abs() - g_error } else { 0.0 });
            let error = 2.0 * swing + 2.0 * first_scale * first_error / least_root + 16.0 * EPSILON * expected.abs();
            let decay = f64::from(weight_decay) * old;
            let value_error = learning_rate * (error + 2.0 * EPSILON * decay.abs());
            let value = old - learning_rate * (decay + expected);
            update.parameters.errors.push(value_error + EPSILON * (old.abs() + 2.0 * (old - value).abs()));
            update.parameters.values.push(value);
        }
        Some(BoundedUpdate { second_moment: Some(second_moment), ..update })
    }

    fn derived_gradient(&self, _: f64, _: [&[f64]; 2], first: Option<[&[f64]; 2]>) -> Option<Vec<f64>> {
        let [old, new] = first?;
        Some(old.iter().zip(new).map(|(old, new)| (new - self.beta1 * old) / (1.0 - self.beta1)).collect())
    }
}
