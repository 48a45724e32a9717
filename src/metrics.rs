//! Quality of predictions, class by class.

use serde::Serialize;

use crate::error::{Error, Result};

/// Confusion matrix: how often each class was predicted for each label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// Number of classes.
    pub classes: usize,
    /// Counts, `[classes, classes]`, row-major: the row is the label, the column the prediction.
    pub counts: Vec<usize>,
}

/// Metrics of one class of a [`Confusion`]. A ratio that would divide by zero is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// The class.
    pub class: usize,
    /// Share of the predictions of this class that are correct; `None` if the class was never predicted.
    pub precision: Option<f64>,
    /// Share of the examples of this class that were predicted correctly; `None` if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall; `None` if one of them is, 0 if both are 0.
    pub f1: Option<f64>,
    /// Number of examples of this class.
    pub support: usize,
}

/// Gives the Wilson score interval of a share, 95 %, from how many of so many examples are right; `None` of no examples.
/// Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
pub fn interval(correct: usize, examples: usize) -> Option<[f64; 2]> {
    /// The 97.5th percentile of the standard normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    if examples == 0 {
        return None;
    }
    let (share, count) = (correct as f64 / examples as f64, examples as f64);
    let denominator = 1.0 + Z * Z / count;
    let centre = (share + Z * Z / (2.0 * count)) / denominator;
    let half = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt() / denominator;
    // The share lies within; rounding may say otherwise where all or none are right.
    Some([(centre - half).clamp(0.0, share), (centre + half).clamp(share, 1.0)])
}

impl Confusion {
    /// Counts predictions against labels, `[examples]` each.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the lengths differ or a class is not below `classes`.
    pub fn new(labels: &[u32], predictions: &[u32], classes: usize) -> Result<Self> {
        if labels.len() != predictions.len() {
            return Err(Error::Invalid(format!("{} predictions for {} labels", predictions.len(), labels.len())));
        }
        let mut counts = vec![0; classes * classes];
        for (&label, &prediction) in labels.iter().zip(predictions) {
            let (label, prediction) = (label as usize, prediction as usize);
            if label.max(prediction) >= classes {
                return Err(Error::Invalid(format!(
                    "class {} is not below {classes}, the number of classes",
                    label.max(prediction)
                )));
            }
            counts[label * classes + prediction] += 1;
        }
        Ok(Self { classes, counts })
    }

    /// Rows of the matrix, one for each label: `[classes]` counts of the predictions.
    pub fn rows(&self) -> impl Iterator<Item = &[usize]> {
        self.counts.chunks(self.classes.max(1))
    }

    /// Precision, recall, F1 and support of every class.
    pub fn per_class(&self) -> Vec<ClassMetrics> {
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        self.rows()
            .enumerate()
            .map(|(class, row)| {
                let right = row[class];
                let support = row.iter().sum();
                let predicted = self.rows().map(|row| row[class]).sum();
                let (precision, recall) = (share(right, predicted), share(right, support));
                let f1 = precision.and(recall).and_then(|_| share(2 * right, predicted + support));
                ClassMetrics { class, precision, recall, f1, support }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_match_a_count_by_hand() {
        // Class 2 is never predicted, class 3 has no example.
        let confusion = Confusion::new(&[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 3, 0], 4).unwrap();
        assert_eq!(confusion.counts, [2, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        let class = |class, precision, recall, f1, support| ClassMetrics { class, precision, recall, f1, support };
        assert_eq!(
            confusion.per_class(),
            [
                class(0, Some(2.0 / 3.0), Some(2.0 / 3.0), Some(2.0 / 3.0), 3),
                class(1, Some(0.5), Some(0.5), Some(0.5), 2),
                class(2, None, Some(0.0), None, 1),
                class(3, Some(0.0), None, None, 0),
            ]
        );
    }

    #[test]
    fn a_class_always_mistaken_has_an_f1_of_0() {
        let confusion = Confusion::new(&[0, 1], &[1, 0], 2).unwrap();
        assert!(confusion.per_class().iter().all(|class| class.f1 == Some(0.0)));
    }

    #[test]
    fn classes_out_of_range_and_missing_predictions_are_refused() {
        assert!(Confusion::new(&[0, 1], &[0], 2).is_err());
        assert!(Confusion::new(&[0, 2], &[0, 0], 2).is_err());
        assert!(Confusion::new(&[0, 0], &[0, 9], 2).is_err());
    }
}
