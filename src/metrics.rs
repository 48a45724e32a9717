//! Quality of predictions, class by class.

use serde::{Deserialize, Serialize};

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

    /// Balanced accuracy: the mean recall of the classes that have examples; `None` without examples.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        mean(self.per_class().into_iter().filter_map(|class| class.recall))
    }

    /// Macro F1: the mean F1 of the classes that have examples or predictions, where a class that is never predicted has
    /// 0, as scikit-learn's; `None` without examples.
    pub fn macro_f1(&self) -> Option<f64> {
        let f1 = self.rows().enumerate().filter_map(|(class, row)| {
            let predicted: usize = self.rows().map(|row| row[class]).sum();
            let both = predicted + row.iter().sum::<usize>();
            (both > 0).then(|| 2.0 * row[class] as f64 / both as f64)
        });
        mean(f1)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Examples of two classes in the order of a score for the second class, from which every threshold's quality follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// One cut below each distinct score, the highest first; all examples above a cut are predicted to be of the second
    /// class.
    cuts: Vec<Cut>,
    /// Examples of the first and of the second class.
    examples: [usize; 2],
}

/// Examples above a threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Lowest score above the cut.
    score: f64,
    /// Examples of the first and of the second class above the cut.
    above: [usize; 2],
}

impl Ranking {
    /// Ranks examples by their scores for class 1; `labels` are 0 or 1. `None` if a class has no example, a label is
    /// another, a score is not a number, or the lengths differ.
    pub fn new(scores: &[f32], labels: &[u32]) -> Option<Self> {
        if scores.len() != labels.len() || scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut cuts: Vec<Cut> = Vec::new();
        let mut above = [0; 2];
        for example in order {
            *above.get_mut(labels[example] as usize)? += 1;
            let score = f64::from(scores[example]);
            match cuts.last_mut() {
                // Equal scores are on the same side of any threshold.
                Some(cut) if cut.score == score => cut.above = above,
                _ => cuts.push(Cut { score, above }),
            }
        }
        (above[0] > 0 && above[1] > 0).then_some(Self { cuts, examples: above })
    }

    /// Points `[false positive rate, true positive rate]` of the ROC curve, from `[0, 0]` to `[1, 1]`.
    pub fn roc(&self) -> Vec<[f64; 2]> {
        let rate = |cut: &Cut| [0, 1].map(|class| cut.above[class] as f64 / self.examples[class] as f64);
        std::iter::once([0.0, 0.0]).chain(self.cuts.iter().map(rate)).collect()
    }

    /// Area under the ROC curve: the share of pairs of both classes whose scores are in the right order, where equal
    /// scores count half.
    pub fn roc_auc(&self) -> f64 {
        self.roc().windows(2).map(|pair| (pair[1][0] - pair[0][0]) * (pair[0][1] + pair[1][1]) / 2.0).sum()
    }

    /// Points `[recall, precision]` of the precision-recall curve, from the highest threshold to the lowest.
    pub fn precision_recall(&self) -> Vec<[f64; 2]> {
        let point = |Cut { above: [wrong, right], .. }: &Cut| {
            [*right as f64 / self.examples[1] as f64, *right as f64 / (wrong + right) as f64]
        };
        self.cuts.iter().map(point).collect()
    }

    /// Average precision: the sum of the precisions at each threshold, weighted by the growth of the recall. Unlike a
    /// trapezoid it does not interpolate, which would flatter.
    pub fn average_precision(&self) -> f64 {
        let mut before = 0.0;
        let growth = |[recall, precision]: [f64; 2]| {
            let part = (recall - before) * precision;
            before = recall;
            part
        };
        self.precision_recall().into_iter().map(growth).sum()
    }

    /// The threshold with the highest balanced accuracy, and that accuracy: class 1 is predicted for scores above it. It
    /// lies halfway between two scores; of several equally good ones it is the highest.
    pub fn best_threshold(&self) -> (f64, f64) {
        let balanced = |[wrong, right]: [f64; 2]| (1.0 - wrong + right) / 2.0;
        // Above all scores nothing is predicted to be of class 1: right in half of the classes.
        let mut best = (self.cuts[0].score, 0.5);
        for (at, point) in self.roc().into_iter().skip(1).enumerate() {
            if balanced(point) > best.1 {
                let below = self.cuts.get(at + 1).map_or(self.cuts[at].score, |next| next.score);
                best = ((self.cuts[at].score + below) / 2.0, balanced(point));
            }
        }
        best
    }

    /// Balanced accuracy where class 1 is predicted for scores above a threshold.
    pub fn balanced_accuracy_at(&self, threshold: f64) -> f64 {
        let [wrong, right] =
            self.cuts.iter().take_while(|cut| cut.score > threshold).last().map_or([0, 0], |cut| cut.above);
        (1.0 - wrong as f64 / self.examples[0] as f64 + right as f64 / self.examples[1] as f64) / 2.0
    }
}

/// Examples whose predicted class has a probability in one range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of examples.
    pub examples: usize,
    /// Mean probability of their predicted classes.
    pub confidence: f64,
    /// Share of correct predictions among them.
    pub accuracy: f64,
}

/// Groups predictions by the probabilities of the predicted classes in ten ranges of equal width, the lowest first; empty
/// ranges are left out. Both slices have one element for each example.
pub fn reliability(confidences: &[f32], correct: &[bool]) -> Vec<ReliabilityBin> {
    const BINS: usize = 10;
    let mut sums = [(0usize, 0.0f64, 0usize); BINS];
    for (&confidence, &correct) in confidences.iter().zip(correct) {
        let confidence = f64::from(confidence);
        // The ranges contain their upper ends: 0.5 belongs to the fifth.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        sums[bin] = (sums[bin].0 + 1, sums[bin].1 + confidence, sums[bin].2 + usize::from(correct));
    }
    let bin = |(examples, confidence, correct): (usize, f64, usize)| ReliabilityBin {
        examples,
        confidence: confidence / examples as f64,
        accuracy: correct as f64 / examples as f64,
    };
    sums.into_iter().filter(|sums| sums.0 > 0).map(bin).collect()
}

/// Expected calibration error: the mean distance between probability and share of correct predictions, over the examples
/// of the [`reliability`] bins; `None` without examples. Source: Guo et al. 2017, "On calibration of modern neural
/// networks".
pub fn calibration_error(bins: &[ReliabilityBin]) -> Option<f64> {
    let examples: usize = bins.iter().map(|bin| bin.examples).sum();
    let error = |bin: &ReliabilityBin| bin.examples as f64 * (bin.accuracy - bin.confidence).abs();
    (examples > 0).then(|| bins.iter().map(error).sum::<f64>() / examples as f64)
}

/// Two-sided p-value of McNemar's exact test of two classifiers on the same examples, from the number that only the first
/// and that only the second predicts correctly. Source: McNemar 1947, "Note on the sampling error of the difference
/// between correlated proportions or percentages".
pub fn mcnemar(only_first: usize, only_second: usize) -> f64 {
    let (fewer, all) = (only_first.min(only_second), only_first + only_second);
    // Logarithms, because the terms of the binomial distribution underflow.
    let mut term = -(all as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for count in 1..=fewer {
        term += ((all - count + 1) as f64 / count as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Least number of differences for the normal approximation of [`wilcoxon`].
const LEAST_DIFFERENCES: usize = 20;

/// Two-sided p-value of Wilcoxon's signed-rank test that paired differences are symmetric around 0, by the normal
/// approximation with a correction for ties; differences of 0 are left out. `None` if fewer than 20 remain, or one is not
/// a number. Source: Wilcoxon 1945, "Individual comparisons by ranking methods".
pub fn wilcoxon(differences: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    if sorted.len() < LEAST_DIFFERENCES || sorted.iter().any(|difference| difference.is_nan()) {
        return None;
    }
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let (mut positive, mut ties, mut before) = (0.0, 0.0, 0);
    for group in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let size = group.len() as f64;
        // Equal magnitudes share the mean of their ranks.
        let rank = before as f64 + (size + 1.0) / 2.0;
        positive += rank * group.iter().filter(|difference| **difference > 0.0).count() as f64;
        ties += size * size * size - size;
        before += group.len();
    }
    let count = sorted.len() as f64;
    let variance = count * (count + 1.0) * (2.0 * count + 1.0) / 24.0 - ties / 48.0;
    let z = (positive - count * (count + 1.0) / 4.0) / variance.sqrt();
    Some(erfc(z.abs() / std::f64::consts::SQRT_2))
}

/// Complementary error function for x ≥ 0, within 1.2e-7 relative. Source: Press et al., "Numerical Recipes", `erfcc`.
fn erfc(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let exponent = COEFFICIENTS.iter().fold(0.0, |sum, coefficient| sum * t + coefficient);
    t * (exponent - x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value} instead of {expected}");
    }

    #[test]
    fn balanced_accuracy_and_macro_f1_are_means_over_classes() {
        // The counts of the test below: recalls 2/3, 1/2, 0; F1 2/3, 1/2, 0, 0.
        let confusion = Confusion::new(&[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 3, 0], 4).unwrap();
        near(confusion.balanced_accuracy().unwrap(), (2.0 / 3.0 + 0.5) / 3.0, 1e-15);
        near(confusion.macro_f1().unwrap(), (2.0 / 3.0 + 0.5) / 4.0, 1e-15);
        let none = Confusion { classes: 2, counts: vec![0; 4] };
        assert_eq!((none.balanced_accuracy(), none.macro_f1()), (None, None));
    }

    #[test]
    fn areas_match_a_count_by_hand_also_with_equal_scores() {
        // The example of scikit-learn's roc_auc_score: 3 of 4 pairs are in the right order; the precisions are 1 and 2/3.
        let ranking = Ranking::new(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]).unwrap();
        near(ranking.roc_auc(), 0.75, 1e-15);
        near(ranking.average_precision(), 0.5 + 0.5 * 2.0 / 3.0, 1e-15);
        assert_eq!(ranking.roc(), [[0.0, 0.0], [0.0, 0.5], [0.5, 0.5], [0.5, 1.0], [1.0, 1.0]]);
        // 0.5 stands on both sides: of 6 pairs 3 are right and 2 are equal.
        let ranking = Ranking::new(&[0.9, 0.5, 0.5, 0.5, 0.2], &[1, 1, 0, 0, 0]).unwrap();
        near(ranking.roc_auc(), (4.0 + 0.5 * 2.0) / 6.0, 1e-15);
        near(ranking.average_precision(), 0.5 + 0.5 * 0.5, 1e-15);
        let equal = Ranking::new(&[0.5; 4], &[0, 1, 0, 1]).unwrap();
        assert_eq!((equal.roc_auc(), equal.average_precision()), (0.5, 0.5));
        assert_eq!(Ranking::new(&[0.5, 0.6], &[1, 1]), None);
        assert_eq!(Ranking::new(&[0.5, f32::NAN], &[0, 1]), None);
        assert_eq!(Ranking::new(&[0.5, 0.6], &[0, 2]), None);
    }

    #[test]
    fn the_best_threshold_lies_between_the_scores() {
        let ranking = Ranking::new(&[0.125, 0.25, 0.5, 0.375], &[0, 0, 1, 1]).unwrap();
        assert_eq!(ranking.best_threshold(), (0.3125, 1.0));
        assert_eq!(ranking.balanced_accuracy_at(0.3125), 1.0);
        assert_eq!(ranking.balanced_accuracy_at(0.4), 0.75);
        assert_eq!(ranking.balanced_accuracy_at(0.5), 0.5);
        // Worse than guessing at every threshold.
        let wrong = Ranking::new(&[0.75, 0.25], &[0, 1]).unwrap();
        assert_eq!(wrong.best_threshold().1, 0.5);
    }

    #[test]
    fn calibration_compares_probabilities_with_shares() {
        let bins = reliability(&[0.75, 0.75, 1.0, 0.5, 0.1], &[true, false, true, false, false]);
        let sizes: Vec<usize> = bins.iter().map(|bin| bin.examples).collect();
        assert_eq!(sizes, [1, 1, 2, 1]);
        assert_eq!((bins[2].confidence, bins[2].accuracy), (0.75, 0.5));
        near(calibration_error(&bins).unwrap(), (0.1 + 0.5 + 2.0 * 0.25 + 0.0) / 5.0, 1e-8);
        assert_eq!(calibration_error(&[]), None);
        assert_eq!(reliability(&[0.5, 0.55], &[true, true]).len(), 2);
    }

    #[test]
    fn mcnemars_test_matches_the_binomial_distribution() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(3, 3), 1.0);
        near(mcnemar(0, 5), 2.0 / 32.0, 1e-15);
        near(mcnemar(0, 6), 2.0 / 64.0, 1e-15);
        near(mcnemar(8, 1), 2.0 * (1.0 + 9.0) / 512.0, 1e-15);
        // scipy.stats.binomtest(4000, 8200).pvalue
        near(mcnemar(4000, 4200), 0.027_972_423_571, 1e-11);
    }

    #[test]
    fn wilcoxons_test_matches_ranks_by_hand_and_scipy() {
        // 1, 2, … 20, of which the four smallest are negative: W+ = 210 - 10, variance 20 · 21 · 41 / 24.
        let differences: Vec<f64> = (1..=20).map(|at| if at <= 4 { -f64::from(at) } else { f64::from(at) }).collect();
        let z = (200.0 - 105.0) / (20.0 * 21.0 * 41.0 / 24.0f64).sqrt();
        near(wilcoxon(&differences).unwrap(), erfc(z / std::f64::consts::SQRT_2), 1e-12);
        // Equal magnitudes, half of each sign, and zeros that do not count: no difference at all.
        let ties: Vec<f64> = (0..44).map(|at| [1.0, -1.0, 0.0, 1.0, -1.0][at % 5]).collect();
        assert!(wilcoxon(&ties).unwrap() > 0.8);
        // All alike: ranks 10.5 each; variance 717.5 - (8000 - 20) / 48 = 551.25.
        near(wilcoxon(&[2.0; 20]).unwrap(), erfc(105.0 / 551.25f64.sqrt() / std::f64::consts::SQRT_2), 1e-12);
        assert_eq!(wilcoxon(&[1.0; 19]), None);
        for (x, expected) in [(0.0, 1.0), (0.5, 0.479_500_122_186_953_5), (2.0, 0.004_677_734_981_047_266)] {
            near(erfc(x) / expected, 1.0, 1.2e-7);
        }
    }

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
