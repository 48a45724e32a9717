//! Stochastic gradient descent.

use super::{BoundedUpdate, Entry, Settings, check_weight_decay, must};
use crate::error::Result;
use crate::reference::{Bounded, EPSILON};
use crate::shader::{Part, part};

/// Stochastic gradient descent, with the semantics of PyTorch's `torch.optim.SGD` (dampening 0):
///
/// ```text
/// g = gradient + weight_decay · w
/// v = momentum · v + g                      v starts at 0
/// w = w − learning_rate · (g + momentum · v   if nesterov, else v)
/// ```
///
/// Weight decay applies to weights and biases alike, as in PyTorch. Source: Sutskever et al. 2013, "On the importance
/// of initialization and momentum in deep learning".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// Momentum factor, in 0..1; 0 is plain SGD.
    pub momentum: f32,
    /// Enables Nesterov momentum.
    pub nesterov: bool,
    /// L2 penalty: this multiple of each parameter is added to its gradient.
    pub weight_decay: f32,
}

impl Entry for Sgd {
    const NAME: &'static str = "sgd";
    const LABEL: &'static str = "stochastic gradient descent, with `momentum` and `nesterov`";
    const LEARNING_RATE: f32 = 0.15;
    const SETTINGS: &'static [&'static str] = &["momentum", "nesterov", "weight_decay"];
    const SHADER: Part = part!("optimizer/sgd");

    /// The velocity with momentum; otherwise none.
    fn moments(&self) -> usize {
        usize::from(self.momentum > 0.0)
    }

    fn check(&self) -> Result<()> {
        let Self { momentum, nesterov, weight_decay } = *self;
        must((0.0..1.0).contains(&momentum), "`momentum`", momentum, "at least 0 and below 1")?;
        must(!nesterov || momentum > 0.0, "`nesterov` with `momentum`", momentum, "a momentum above 0")?;
        check_weight_decay(weight_decay)
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        let Self { momentum, nesterov, weight_decay } = *self;
        vec![
            ("MOMENTUM", f64::from(momentum)),
            ("NESTEROV", f64::from(nesterov)),
            ("WEIGHT_DECAY", f64::from(weight_decay)),
        ]
    }

    fn settings(&self) -> Settings {
        let Self { momentum, nesterov, weight_decay } = *self;
        Settings { momentum: Some(momentum), nesterov: Some(nesterov), ..Settings::new(Self::NAME, weight_decay) }
    }

    fn from_settings(settings: &Settings) -> Option<Self> {
        let Settings { momentum, nesterov, weight_decay, .. } = *settings;
        Some(Self { momentum: momentum?, nesterov: nesterov?, weight_decay })
    }

    fn update(&self, _: u64, learning_rate: f64, values: &mut [f64], gradient: &[f64], [velocity, _]: [&mut [f64]; 2]) {
        assert_eq!([values.len(), velocity.len()], [gradient.len(); 2]);
        let (momentum, weight_decay) = (f64::from(self.momentum), f64::from(self.weight_decay));
        for ((w, g), v) in values.iter_mut().zip(gradient).zip(velocity) {
            let g = g + weight_decay * *w;
            *v = momentum * *v + g;
            *w -= learning_rate * if self.nesterov { g + momentum * *v } else { *v };
        }
    }

    #[inline(always)]
    fn update_f32(
        &self,
        _: u64,
        learning_rate: f32,
        values: &mut [f32],
        gradient: &[f32],
        [velocity, _]: [&mut [f32]; 2],
    ) {
        let Self { momentum, nesterov, weight_decay } = *self;
        for ((value, velocity), gradient) in values.iter_mut().zip(velocity).zip(gradient) {
            let gradient = *gradient + weight_decay * *value;
            *velocity = momentum * *velocity + gradient;
            let direction = if nesterov { gradient + momentum * *velocity } else { *velocity };
            *value -= learning_rate * direction;
        }
    }

    fn bounded_update(
        &self,
        _: u64,
        learning_rate: f64,
        gradient: &Bounded,
        old: &[f64],
        [velocity, _]: [Option<&[f64]>; 2],
    ) -> Option<BoundedUpdate> {
        let (momentum, decay) = (f64::from(self.momentum), f64::from(self.weight_decay));
        let mut update = BoundedUpdate::default();
        for (at, &old) in old.iter().enumerate() {
            let (g, g_error) = (gradient.values[at], gradient.errors[at]);
            let decayed = g + decay * old;
            let decayed_error = g_error + EPSILON * (g.abs() + 2.0 * (decay * old).abs());
            let (mut direction, mut error) = (decayed, decayed_error);
            if let Some(velocity) = velocity {
                let kept = momentum * velocity[at];
                direction = kept + decayed;
                error = decayed_error + EPSILON * (2.0 * kept.abs() + decayed.abs());
                update.gradient_errors.push(error);
                if self.nesterov {
                    let ahead = momentum * direction;
                    direction = decayed + ahead;
                    error = decayed_error + momentum * error + EPSILON * (2.0 * ahead.abs() + decayed.abs());
                }
            }
            let step = learning_rate * direction;
            let value_error = learning_rate * error + EPSILON * (old.abs() + 2.0 * step.abs());
            update.parameters.values.push(old - step);
            update.parameters.errors.push(value_error);
            if velocity.is_none() {
                update.gradient_errors.push(value_error / learning_rate);
            }
        }
        Some(update)
    }

    fn derived_gradient(
        &self,
        learning_rate: f64,
        [old, new]: [&[f64]; 2],
        velocity: Option<[&[f64]; 2]>,
    ) -> Option<Vec<f64>> {
        let (momentum, decay) = (f64::from(self.momentum), f64::from(self.weight_decay));
        Some(match velocity {
            None => old.iter().zip(new).map(|(old, new)| (old - new) / learning_rate - decay * old).collect(),
            Some([old_velocity, new_velocity]) => {
                let kept = old_velocity.iter().zip(old).map(|(velocity, value)| momentum * velocity + decay * value);
                new_velocity.iter().zip(kept).map(|(new, kept)| new - kept).collect()
            }
        })
    }
}
