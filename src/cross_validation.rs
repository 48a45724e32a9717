//! Cross-validation of settings on the training examples.

use crate::any_backend::Device;
use crate::data::{Data, Examples, Targets};
use crate::error::{Error, Result};
use crate::trained::Prediction;
use crate::trainer::{Keep, TrainingConfig};
use crate::training::train;

/// Number of folds.
pub const FOLDS: usize = 8;

/// Trains with these settings on the examples outside a fold, 0 to [`FOLDS`] − 1, on the CPU, and returns an error for each
/// example of the fold, `None` for a run that diverges. For classes the error is the Brier score: the squared distance of the
/// probabilities from the one-hot label. It tells settings apart by fewer examples than the share of right classes does, and
/// a confident mistake costs at most 2. For real targets it is the squared error divided by the variance of all targets.
///
/// # Errors
/// Settings that do not fit the examples.
pub async fn errors(config: &TrainingConfig, examples: &Examples, fold: usize) -> Result<Option<Vec<f64>>> {
    let (rest, held_out) = examples.fold(fold, FOLDS, config.seed)?;
    let data = Data::new("fold", rest, held_out.clone())?;
    let config = TrainingConfig { validation: 0.0, keep: Keep::Last, ..config.clone() };
    let run = match train(&Device::cpu(), &data, &config, |_| ()).await {
        Ok(run) => run,
        Err(Error::NonFiniteLoss { .. } | Error::NonFiniteTestLoss { .. } | Error::NonFiniteState { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let predictions = run.model.predict((*held_out.inputs).clone())?;
    let squared = |output: f64, target: f64| (output - target).powi(2);
    let errors = match &*held_out.targets {
        Targets::Classes(labels) => {
            let brier = |(label, prediction): (&u32, &Prediction)| -> f64 {
                let one_hot = |class: usize| f64::from(class == *label as usize);
                prediction.outputs.iter().enumerate().map(|(class, &p)| squared(p, one_hot(class))).sum()
            };
            labels.iter().zip(&predictions).map(brier).collect()
        }
        Targets::Values(values) => {
            let variance = examples.variance().unwrap_or_default().max(f64::MIN_POSITIVE) * examples.outputs as f64;
            let error = |(targets, prediction): (&[f32], &Prediction)| {
                let pairs = prediction.outputs.iter().zip(targets);
                pairs.map(|(&output, &target)| squared(output, target.into())).sum::<f64>() / variance
            };
            values.chunks(examples.outputs).zip(&predictions).map(error).collect()
        }
    };
    Ok(Some(errors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Loss;
    use crate::optimizer::AdamW;

    fn mean(errors: &[f64]) -> f64 {
        errors.iter().sum::<f64>() / errors.len() as f64
    }

    #[test]
    fn folds_are_scored_by_what_training_never_saw() {
        // The class is the sign of the first feature, the value its double.
        let features: Vec<f32> = (0..160).map(|at| ((at * 37 % 160) as f32 - 79.5) / 46.0).collect();
        let classes: Vec<u32> = features.iter().map(|&feature| u32::from(feature > 0.0)).collect();
        let values: Vec<f32> = features.iter().map(|feature| 2.0 * feature).collect();
        let of_classes = Examples::new(features.clone(), classes, 1, 2).unwrap();
        let of_values = Examples::new(features.clone(), values, 1, 1).unwrap();
        let config = TrainingConfig::default().optimizer(AdamW::default()).learning_rate(0.03).epochs(60);
        let all = |config: &TrainingConfig, examples: &Examples| -> Option<Vec<f64>> {
            let folds = (0..FOLDS).map(|fold| pollster::block_on(errors(config, examples, fold)).unwrap());
            Some(folds.collect::<Option<Vec<_>>>()?.concat())
        };
        for loss in [Loss::CrossEntropy, Loss::BinaryCrossEntropy, Loss::MeanSquaredError] {
            let of_labels = all(&config.clone().loss(loss), &of_classes).unwrap();
            assert_eq!(of_labels.len(), 160);
            // Always saying one half would have an error of 0.5.
            assert!(mean(&of_labels) < 0.3, "{loss:?}: {}", mean(&of_labels));
        }
        let config = config.loss(Loss::MeanSquaredError);
        let of_lines = mean(&all(&config, &of_values).unwrap());
        assert!((0.0..0.05).contains(&of_lines), "{of_lines}");
        // Values that the feature does not tell are guessed, with an error of at least their variance.
        let noise: Vec<f32> = (0..160).map(|at| ((at * 7919) % 13) as f32 - 6.0).collect();
        let of_noise = Examples::new(features, noise, 1, 1).unwrap();
        assert!(mean(&all(&config, &of_noise).unwrap()) > 0.9);
        assert_eq!(all(&config.learning_rate(1e30), &of_values), None);
    }
}
