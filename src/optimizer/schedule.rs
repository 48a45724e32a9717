//! Learning-rate schedules and warm-up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Learning-rate schedule of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same rate at every step.
    #[default]
    Constant,
    /// Half a cosine from the full rate at the first step towards 0 after the last
    /// (Loshchilov and Hutter 2016, "SGDR", without restarts).
    Cosine,
    /// Divided by 10 after each third of the run.
    Step,
    /// Half a cosine up from 1/25 of the rate to the full rate over the first 30 % of the steps, and half a cosine down to
    /// 1/250,000 of it at the last step (Smith and Topin 2018, "Super-convergence"), as PyTorch's
    /// `OneCycleLR(max_lr=rate, total_steps=steps, cycle_momentum=False)`:
    ///
    /// ```text
    /// peak = 0.3 · steps − 1
    /// rate(step) = anneal(1/25, 1, step / peak)                            up to the peak
    ///            = anneal(1, 1/25 · 1e-4, (step − peak) / (steps − 1 − peak))   behind it
    /// anneal(from, to, x) = to + (from − to) / 2 · (1 + cos(π x))
    /// ```
    OneCycle,
}

impl Schedule {
    /// Learning rate of step `step` (from 0) of `steps`, for a base rate of `base`.
    pub fn learning_rate(self, base: f32, step: usize, steps: usize) -> f32 {
        let done = step as f64 / steps.max(1) as f64;
        let factor = match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Step => [1.0, 0.1, 0.01][((3.0 * done) as usize).min(2)],
            Self::OneCycle => one_cycle(step as f64, steps.max(1) as f64),
        };
        (f64::from(base) * factor) as f32
    }
}

/// Factor of the one-cycle schedule for step `step`, from 0.
fn one_cycle(step: f64, steps: f64) -> f64 {
    const START: f64 = 1.0 / 25.0;
    const END: f64 = START / 1e4;
    let peak = 0.3 * steps - 1.0;
    let anneal = |from: f64, to: f64, done: f64| to + 0.5 * (from - to) * (1.0 + (std::f64::consts::PI * done).cos());
    if step <= peak { anneal(START, 1.0, step / peak) } else { anneal(1.0, END, (step - peak) / (steps - 1.0 - peak)) }
}

/// A linear warm-up before the schedule: the rate rises by the same amount in each warm-up step, from 0 before the
/// first one to the schedule's first rate in the step after the last one. The schedule spans the rest of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Warmup {
    /// A number of steps.
    Steps(usize),
    /// A share of the run's steps, in 0..1.
    Share(f64),
}

impl Warmup {
    /// Number of warm-up steps in a run of `steps` steps.
    pub fn steps(self, steps: usize) -> usize {
        match self {
            Self::Steps(warmup) => warmup,
            Self::Share(share) => (share * steps as f64) as usize,
        }
    }

    /// Learning rate of step `step` (from 0) of `steps`, with this warm-up before `schedule`.
    pub fn learning_rate(self, schedule: Schedule, base: f32, step: usize, steps: usize) -> f32 {
        let warmup = self.steps(steps);
        let rest = steps.saturating_sub(warmup);
        match step.checked_sub(warmup) {
            Some(step) => schedule.learning_rate(base, step, rest),
            None => {
                let share = (step + 1) as f64 / (warmup as f64 + 1.0);
                (f64::from(schedule.learning_rate(base, 0, rest)) * share) as f32
            }
        }
    }
}

impl FromStr for Warmup {
    type Err = String;

    /// Parses a whole number of steps, or a share below 1.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(steps) = text.parse() {
            return Ok(Self::Steps(steps));
        }
        match text.parse() {
            Ok(share) if (0.0..1.0).contains(&share) => Ok(Self::Share(share)),
            _ => {
                Err("a warm-up is a whole number of steps, such as 100, or a share of the run below 1, such as 0.05"
                    .into())
            }
        }
    }
}

impl fmt::Display for Warmup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Share(share) => write!(f, "{share}"),
        }
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

    #[test]
    fn one_cycle_has_the_rates_of_pytorch() {
        // torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=N, cycle_momentum=False)
        for (steps, rates) in ONE_CYCLE {
            for (step, &rate) in rates.iter().enumerate() {
                let ours = f64::from(Schedule::OneCycle.learning_rate(0.1, step, steps));
                assert!((ours - rate).abs() < 1e-8, "step {step} of {steps}: {ours} is not {rate}");
            }
        }
        assert_eq!(Schedule::OneCycle.learning_rate(0.1, 29, 100), 0.1);
        assert!(Schedule::OneCycle.learning_rate(0.1, 0, 0).is_finite(), "where a warm-up has all steps");
    }

    const ONE_CYCLE: [(usize, &[f64]); 3] = [
        (
            20,
            &[
                0.0040000000,
                0.0131671843,
                0.0371671843,
                0.0668328157,
                0.0908328157,
                0.1000000000,
                0.0987464006,
                0.0950484632,
                0.0890916178,
                0.0811745654,
                0.0716943002,
                0.0611262022,
                0.0500002000,
                0.0388741978,
                0.0283060998,
                0.0188258346,
                0.0109087822,
                0.0049519368,
                0.0012539994,
                0.0000004000,
            ],
        ),
        (7, &[0.0040000000, 0.0980556627, 0.0919044376, 0.0672683836, 0.0357738776, 0.0099296792, 0.0000004000]),
        (2, &[0.0811745654, 0.0000004000]),
    ];

    #[test]
    fn a_warm_up_rises_evenly_to_the_first_rate_of_the_schedule_which_has_the_rest() {
        let rate = |warmup: Warmup, step| warmup.learning_rate(Schedule::Cosine, 0.5, step, 100);
        let warmup = Warmup::Steps(4);
        assert_eq!([0, 1, 2, 3, 4].map(|step| rate(warmup, step)), [0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(rate(warmup, 40), Schedule::Cosine.learning_rate(0.5, 36, 96));
        assert_eq!(rate(Warmup::Share(0.04), 40), rate(warmup, 40));
        assert_eq!(rate(Warmup::Steps(0), 40), Schedule::Cosine.learning_rate(0.5, 40, 100));
    }

    #[test]
    fn warm_ups_are_steps_or_shares() {
        for (text, warmup) in [("100", Warmup::Steps(100)), ("0", Warmup::Steps(0)), ("0.05", Warmup::Share(0.05))] {
            assert_eq!(text.parse(), Ok(warmup));
            let written = serde_json::to_string(&warmup).unwrap();
            assert_eq!(written, warmup.to_string());
            assert_eq!(serde_json::from_str::<Warmup>(&written).unwrap(), warmup);
        }
        for text in ["1.5", "-1", "1.0", "nan", "x", ""] {
            assert!(text.parse::<Warmup>().is_err(), "{text}");
        }
    }
}
