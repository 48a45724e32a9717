//! Measures of a classifier's probabilities: calibration, and for two classes the curves and thresholds.

use serde::{Deserialize, Serialize};
use softstep::backend::Inference;
use softstep::data::Examples;
use softstep::metrics::{Ranking, ReliabilityBin, calibration_error, reliability};

use crate::run::error_analysis::{chunks, outputs};

/// Upper limit of the recorded points of a curve.
const POINTS: usize = 200;

/// Probabilities of the examples of a part.
#[derive(Debug)]
pub struct Probabilities {
    /// Probability of each example's predicted class.
    pub confidences: Vec<f32>,
    /// Probability of each example's second class; empty for more than two classes.
    pub of_second: Vec<f32>,
}

impl Probabilities {
    /// Computes the probabilities of all examples.
    pub async fn compute<B: Inference>(backend: &mut B, examples: &Examples) -> softstep::Result<Self> {
        let all: Vec<u32> = (0..examples.len() as u32).collect();
        let (mut confidences, mut of_second) = (Vec::with_capacity(all.len()), Vec::new());
        for chunk in chunks(examples, &all) {
            let (outputs, width) = outputs(backend, examples, chunk).await?;
            for row in outputs.chunks_exact(width) {
                confidences.push(row.iter().copied().fold(0.0, f32::max));
                if let [_, second] = row {
                    of_second.push(*second);
                }
            }
        }
        Ok(Self { confidences, of_second })
    }
}

/// Measures of the probabilities on a part, as `results.json` has them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error.
    pub error: f64,
    /// Bins of the reliability diagram, without empty ones.
    pub bins: Vec<ReliabilityBin>,
}

impl Calibration {
    /// Compares probabilities with labels; `None` without examples.
    pub fn new(probabilities: &Probabilities, labels: &[u32], predictions: &[u32]) -> Option<Self> {
        let correct: Vec<bool> = labels.iter().zip(predictions).map(|(label, predicted)| label == predicted).collect();
        let bins = reliability(&probabilities.confidences, &correct);
        Some(Self { error: calibration_error(&bins)?, bins })
    }
}

/// Measures of a classifier of two classes; the second is the positive one.
#[derive(Debug, Serialize, Deserialize)]
pub struct TwoClasses {
    /// Area under the ROC curve.
    pub roc_auc: f64,
    /// Average precision.
    pub average_precision: f64,
    /// Share of the second class in the test part.
    pub share: f64,
    /// Points of the ROC curve, `[false positive rate, true positive rate]`.
    pub roc: Vec<[f64; 2]>,
    /// Points of the precision-recall curve, `[recall, precision]`.
    pub precision_recall: Vec<[f64; 2]>,
    /// Threshold with the highest balanced accuracy.
    pub threshold: Threshold,
}

/// A threshold: the second class is predicted if its probability is above it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Threshold {
    /// The probability.
    pub probability: f64,
    /// Part that it was chosen on: `validation part` or the name of the measured part.
    pub chosen_on: String,
    /// Balanced accuracy on the measured part.
    pub balanced_accuracy: f64,
}

/// Name of the validation part in [`Threshold::chosen_on`].
pub const VALIDATION: &str = "validation part";

impl TwoClasses {
    /// Measures the probabilities of a part with this name. The threshold is `chosen`, or else the best one for this part.
    /// `None` if there are not two classes, or one has no example.
    pub fn new(probabilities: &Probabilities, labels: &[u32], part: &str, chosen: Option<f64>) -> Option<Self> {
        let ranking = Ranking::new(&probabilities.of_second, labels)?;
        let threshold = match chosen {
            Some(probability) => Threshold {
                probability,
                chosen_on: VALIDATION.into(),
                balanced_accuracy: ranking.balanced_accuracy_at(probability),
            },
            None => {
                let (probability, balanced_accuracy) = ranking.best_threshold();
                Threshold { probability, chosen_on: part.into(), balanced_accuracy }
            }
        };
        Some(Self {
            roc_auc: ranking.roc_auc(),
            average_precision: ranking.average_precision(),
            share: labels.iter().filter(|label| **label == 1).count() as f64 / labels.len() as f64,
            roc: thinned(ranking.roc()),
            precision_recall: thinned(ranking.precision_recall()),
            threshold,
        })
    }
}

/// The threshold that is best for these examples; `None` if there are not two classes, or one has no example.
pub fn best_threshold(probabilities: &Probabilities, labels: &[u32]) -> Option<f64> {
    Some(Ranking::new(&probabilities.of_second, labels)?.best_threshold().0)
}

/// Keeps at most [`POINTS`] points at regular intervals, the first and the last among them.
fn thinned(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let last = points.len() - 1;
    if last < POINTS {
        return points;
    }
    (0..POINTS).map(|at| points[at * last / (POINTS - 1)]).collect()
}
