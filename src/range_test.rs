//! Search for a learning rate: the range test, and trials of smaller rates.

use crate::backend::{Backend, Step};
use crate::error::Result;
use crate::trainer::{TrainingConfig, epoch_order};

/// First and last learning rate of a range test; the rates form a geometric sequence.
const FIRST: f64 = 1e-5;
const LAST: f64 = 10.0;
/// Number of steps of a range test: 20 per factor of ten.
const STEPS: usize = 121;
/// Decay of the running mean of the losses, per step.
const KEPT: f64 = 0.8;
/// Factor by which the running mean may exceed its minimum before the test ends.
const RISE: f64 = 2.0;
/// Share of the total fall of the running mean at which the test reads off a rate: there a run starts to be fast.
const FALLEN: f64 = 0.75;
/// Divisor of that rate, for the rate to train with.
const MARGIN: f64 = 2.0;
/// Number of steps of a trial.
const TRIAL: usize = 100;
/// Number of trials, each at a tenth of the rate before, until the search is abandoned.
const TRIALS: usize = 40;

/// Result of a range test.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeTest {
    /// Pairs `[learning rate, loss]`, one for each step; the last loss may be infinite or not a number.
    pub curve: Vec<[f32; 2]>,
    /// Learning rate to train with.
    pub learning_rate: f32,
}

/// Runs a learning-rate range test (Smith 2017, "Cyclical learning rates for training neural networks"): about a
/// hundred steps at rates from 0.00001 to 10, until the loss rises. The rate to train with is half the rate at which
/// the running mean of the losses has completed three quarters of its fall: at the end of the fall units die, or the
/// loss is about to rise.
///
/// Afterwards the backend has the state that it had before.
///
/// # Errors
/// Errors of the backend.
pub async fn range_test<B: Backend>(backend: &mut B, config: &TrainingConfig, examples: usize) -> Result<RangeTest> {
    let growth = (LAST / FIRST).powf(1.0 / (STEPS - 1) as f64);
    let rates: Vec<f32> = (0..STEPS).map(|step| (FIRST * growth.powi(step as i32)) as f32).collect();
    let ended = |losses: &[f32]| {
        let means = running_means(losses);
        let lowest = means.iter().copied().fold(f64::INFINITY, f64::min);
        means.last().is_some_and(|&mean| rises(mean, lowest))
    };
    let losses = losses_at(backend, config, examples, &rates, ended).await?;
    let means = running_means(&losses);
    let first = means.first().copied().unwrap_or_default();
    let lowest = means.iter().copied().filter(|mean| mean.is_finite()).fold(first, f64::min);
    let fallen = means.iter().position(|&mean| mean <= first - FALLEN * (first - lowest)).unwrap_or_default();
    let learning_rate = format!("{:.1e}", f64::from(rates[fallen]) / MARGIN).parse().unwrap_or(rates[fallen]);
    Ok(RangeTest { curve: rates.into_iter().zip(losses).map(|(rate, loss)| [rate, loss]).collect(), learning_rate })
}

/// Finds the first of a tenth, a hundredth and so on of the run's rate at which a hundred steps reduce the loss, or a
/// tenth of that rate if it reduces the loss further; `None` if no rate does. Afterwards the backend has the state that
/// it had before.
///
/// # Errors
/// Errors of the backend.
pub async fn smaller_rate<B: Backend>(
    backend: &mut B,
    config: &TrainingConfig,
    examples: usize,
) -> Result<Option<f32>> {
    let mut rate = f64::from(config.learning_rate);
    // The first rate that reduced the loss, with the running mean at its end.
    let mut first: Option<(f32, f64)> = None;
    for _ in 0..TRIALS {
        rate /= 10.0;
        let tried: f32 = format!("{rate:.1e}").parse().unwrap_or(rate as f32);
        if tried == 0.0 {
            break;
        }
        let rises = |losses: &[f32]| losses.iter().any(|&loss| rises(loss.into(), losses[0].into()));
        let losses = losses_at(backend, config, examples, &[tried; TRIAL], rises).await?;
        let means = running_means(&losses);
        let falls = !rises(&losses) && means.last() < means.first();
        let end = means.last().copied().unwrap_or(f64::INFINITY);
        match first {
            None if falls => first = Some((tried, end)),
            None => {}
            // A tenth of a rate that barely reduces the loss is often better.
            Some((_, before)) if falls && end < before => return Ok(Some(tried)),
            Some((rate, _)) => return Ok(Some(rate)),
        }
    }
    Ok(first.map(|(rate, _)| rate))
}

/// Returns true if a loss is far above `lowest`, or not finite.
fn rises(loss: f64, lowest: f64) -> bool {
    !(loss.is_finite() && loss <= RISE * lowest)
}

/// Exponentially weighted running means of the losses.
fn running_means(losses: &[f32]) -> Vec<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&loss: &f32| {
        (sum, weight) = (KEPT * sum + f64::from(loss), KEPT * weight + 1.0);
        sum / weight
    };
    losses.iter().map(mean).collect()
}

/// Losses of steps at these rates, until `ended` returns true for the losses so far. Afterwards the backend has the
/// state that it had before.
async fn losses_at<B: Backend>(
    backend: &mut B,
    config: &TrainingConfig,
    examples: usize,
    rates: &[f32],
    ended: impl Fn(&[f32]) -> bool,
) -> Result<Vec<f32>> {
    let start = backend.state().await?;
    let batch_size = config.batch_size.min(examples).max(1);
    let steps_per_epoch = examples.div_ceil(batch_size);
    let mut losses = Vec::new();
    for (index, &learning_rate) in rates.iter().enumerate() {
        let in_epoch = index % steps_per_epoch;
        if in_epoch == 0 {
            backend.begin_epoch(&epoch_order(config.seed, index / steps_per_epoch + 1, examples))?;
        }
        let first = in_epoch * batch_size;
        let step = Step { first, batch: batch_size.min(examples - first), learning_rate };
        backend.step(step, &mut losses).await?;
        if !losses.is_empty() && ended(&losses) {
            break;
        }
    }
    backend.flush(&mut losses).await?;
    backend.restore(&start)?;
    Ok(losses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Training;
    use crate::cpu::CpuBackend;
    use crate::data::digits;

    use crate::model::Parameters;

    fn on_digits<T>(rate: f32, hidden: &[usize], test: impl AsyncFnOnce(&mut CpuBackend, &TrainingConfig) -> T) -> T {
        let train = digits().unwrap().train;
        let config = TrainingConfig { hidden: hidden.to_vec(), learning_rate: rate, ..TrainingConfig::default() };
        let training = Training { optimizer: config.optimizer, ..Training::new(&train, config.batch_size) };
        let parameters = Parameters::new(&[&[64], hidden, &[10]].concat(), 0).unwrap();
        let mut backend = CpuBackend::new(&parameters, &training).unwrap();
        pollster::block_on(async {
            let before = backend.state().await.unwrap();
            let result = test(&mut backend, &config).await;
            assert_eq!(backend.state().await.unwrap(), before, "the backend stands elsewhere");
            result
        })
    }

    #[test]
    fn a_range_test_ends_where_the_loss_rises_and_takes_a_rate_that_learns() {
        for hidden in [&[][..], &[64]] {
            let test =
                on_digits(0.15, hidden, async |backend, config| range_test(backend, config, 1438).await.unwrap());
            assert!((0.01..=1.0).contains(&test.learning_rate), "{test:?}");
            assert!(test.curve.is_sorted_by(|a, b| a[0] < b[0]) && test.curve[0][0] == 1e-5);
            let lowest = test.curve.iter().map(|point| point[1]).fold(f32::INFINITY, f32::min);
            assert!(lowest < 0.5 * test.curve[0][1], "{test:?}");
        }
    }

    #[test]
    fn a_rate_is_advised_only_after_a_trial() {
        let advised = |rate| on_digits(rate, &[64], async |backend, config| smaller_rate(backend, config, 1438).await);
        let rate = advised(1e6).unwrap().unwrap();
        assert!((0.001..=1.0).contains(&rate), "{rate}");
        // At a rate so small that no parameter changes, nothing is learned.
        assert_eq!(advised(1e-30).unwrap(), None);
    }
}
