//! Standardisation of the numbers of arrays: `(number - mean) / deviation`, with mean and deviation of the training rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stored::Row;
use super::{Features, Scale};
use crate::parallel::*;

/// The most features that have a scale each: those of more would not fit into a model file, and they share one.
const MAX_SCALES: usize = 1 << 15;
/// Numbers that are converted together, about.
const TOGETHER: usize = 1 << 14;

/// Computes the scales of features, `[rows, width]`, from the training rows; none for bytes. Each feature has its own; all
/// share one where they are no list (`is_list`), where they are too many, or where most of them span the whole range of
/// the numbers, as the pixels of pictures do: a pixel that is seldom lit must not become the largest feature.
pub(super) fn of_features(features: &Features, width: usize, training: &[bool], is_list: bool) -> Vec<Scale> {
    let mut statistics = Statistics::new(width);
    match features {
        Features::Bytes(_) => return Vec::new(),
        Features::Floats(values) => statistics.add_rows(values, training),
        Features::Stored(stored) if stored.is_bytes() => return Vec::new(),
        Features::Stored(stored) => stored.for_each(|row, values| {
            if let (Row::Floats(values), true) = (values, training[row]) {
                statistics.add(&values);
            }
        }),
    }
    if is_list && width <= MAX_SCALES && !statistics.span_one_range() {
        statistics.scales()
    } else {
        vec![statistics.common_scale()]
    }
}

/// Computes the scale of each target, `[rows, outputs]`, from the training rows.
pub(super) fn of_targets(values: &[f32], outputs: usize, training: &[bool]) -> Vec<Scale> {
    let mut statistics = Statistics::new(outputs);
    statistics.add_rows(values, training);
    statistics.scales()
}

/// Statistics of each feature over some rows. Source: Welford 1962, "Note on a method for calculating corrected sums of
/// squares and products".
struct Statistics {
    rows: f64,
    means: Vec<f64>,
    /// Sums of squared differences from the mean.
    squares: Vec<f64>,
    lowest: Vec<f32>,
    highest: Vec<f32>,
}

impl Statistics {
    fn new(width: usize) -> Self {
        Self {
            rows: 0.0,
            means: vec![0.0; width],
            squares: vec![0.0; width],
            lowest: vec![f32::INFINITY; width],
            highest: vec![f32::NEG_INFINITY; width],
        }
    }

    fn add_rows(&mut self, values: &[f32], chosen: &[bool]) {
        let rows = values.chunks_exact(self.means.len()).zip(chosen);
        rows.filter(|(_, chosen)| **chosen).for_each(|(row, _)| self.add(row));
    }

    fn add(&mut self, row: &[f32]) {
        self.rows += 1.0;
        let share = 1.0 / self.rows;
        let Self { means, squares, lowest, highest, .. } = self;
        let features = means.iter_mut().zip(squares).zip(lowest.iter_mut().zip(highest));
        for (&value, ((mean, squares), (lowest, highest))) in row.iter().zip(features) {
            let difference = f64::from(value) - *mean;
            // A constant is its own mean, to the bit.
            *mean += difference * share;
            *squares += difference * (f64::from(value) - *mean);
            *lowest = lowest.min(value);
            *highest = highest.max(value);
        }
    }

    /// Returns true if more than half of the features that vary span the range of all numbers.
    fn span_one_range(&self) -> bool {
        let least = self.lowest.iter().copied().fold(f32::INFINITY, f32::min);
        let most = self.highest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let count = |holds: &dyn Fn(f32, f32) -> bool| {
            self.lowest.iter().zip(&self.highest).filter(|(lowest, highest)| holds(**lowest, **highest)).count()
        };
        2 * count(&|lowest, highest| lowest == least && highest == most) > count(&|lowest, highest| lowest < highest)
    }

    fn scales(&self) -> Vec<Scale> {
        let scale = |(&mean, &squares): (&f64, &f64)| scale_of(mean, squares / self.rows);
        self.means.iter().zip(&self.squares).map(scale).collect()
    }

    /// The scale of the numbers of all features together.
    fn common_scale(&self) -> Scale {
        let count = self.means.len() as f64;
        let mean = self.means.iter().sum::<f64>() / count;
        let apart = self.means.iter().map(|of_feature| (of_feature - mean) * (of_feature - mean)).sum::<f64>() / count;
        let within = self.squares.iter().sum::<f64>() / (self.rows * count);
        scale_of(mean, within + apart)
    }
}

/// The scale of a mean and a variance; the deviation of constants is 1.
fn scale_of(mean: f64, variance: f64) -> Scale {
    Scale { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
}

/// A number that is too far from the training rows to be standardised.
pub(super) struct TooFar {
    /// Position of the number.
    pub at: usize,
    /// The number.
    pub number: f32,
    /// Scale of its feature.
    pub scale: Scale,
}

/// Standardises features by one scale for all of them or one for each; without scales they stay as they are.
pub(super) fn scaled(features: Features, scales: &[Scale]) -> Result<Features, TooFar> {
    if scales.is_empty() {
        return Ok(features);
    }
    match features {
        Features::Bytes(_) => Ok(features),
        Features::Floats(values) => standardise(values, scales).map(Features::Floats),
        Features::Stored(stored) => {
            let scaled = stored.with_scales(Arc::from(scales));
            match scaled.too_far() {
                None => Ok(Features::Stored(scaled)),
                Some(too_far) => Err(too_far),
            }
        }
    }
}

/// Standardises numbers by one scale for all of them or one for each feature.
pub(super) fn standardise(mut values: Vec<f32>, scales: &[Scale]) -> Result<Vec<f32>, TooFar> {
    let first_far = AtomicUsize::new(usize::MAX);
    let together = TOGETHER.div_ceil(scales.len()) * scales.len();
    values.par_chunks_mut(together).enumerate().for_each(|(chunk, values)| {
        let apply = |(at, (value, scale)): (usize, (&mut f32, &Scale))| match scale.apply(f64::from(*value)) {
            scaled if scaled.is_finite() => *value = scaled,
            _ => {
                first_far.fetch_min(chunk * together + at, Ordering::Relaxed);
            }
        };
        match scales {
            [one] => values.iter_mut().map(|value| (value, one)).enumerate().for_each(apply),
            each => values.iter_mut().zip(each.iter().cycle()).enumerate().for_each(apply),
        }
    });
    match first_far.into_inner() {
        usize::MAX => Ok(values),
        at => Err(TooFar { at, number: values[at], scale: scales[at % scales.len()] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of numbers in units of their own: a large one far from 0, a tiny one, a constant.
    fn table(rows: usize) -> Vec<f32> {
        let row = |row: usize| {
            let number = (row * 37 % 101) as f32;
            [1e6 + number, 1e-20 * (number - 70.0), 0.1]
        };
        (0..rows).flat_map(row).collect()
    }

    /// Pictures of bright strokes on black: pixels in the corners are seldom lit, and one never.
    fn pictures(count: usize) -> Vec<f32> {
        let pixel = |at: usize| match (at / 9, at % 9) {
            (_, 8) => 0.0,
            (picture, 7) => f32::from(u8::from(picture == 3)) / 255.0,
            (picture, pixel) => ((picture * 5 + pixel * 3) % 7) as f32 / 6.0,
        };
        (0..count * 9).map(pixel).collect()
    }

    #[test]
    fn scales_are_those_of_the_columns_of_a_table() {
        let values = table(200);
        let training: Vec<bool> = (0..200).map(|row| row % 5 != 2).collect();
        let scales = of_features(&Features::Floats(values.clone()), 3, &training, true);
        assert_eq!((scales.len(), &scales), (3, &of_targets(&values, 3, &training)));
        for (column, scale) in scales.iter().enumerate() {
            let of_column =
                values.chunks(3).zip(&training).filter(|(_, chosen)| **chosen).map(|(row, _)| row[column].into());
            let expected = Scale::of(&of_column.collect::<Vec<f64>>()).unwrap();
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-11 * b.abs().max(scale.deviation);
            assert!(
                near(scale.mean, expected.mean) && near(scale.deviation, expected.deviation),
                "{scale:?} {expected:?}"
            );
        }
        assert_eq!(scales[2], Scale { mean: f64::from(0.1f32), deviation: 1.0 });
        let Ok(Features::Floats(scaled)) = scaled(Features::Floats(values), &scales) else { panic!("too far") };
        assert!(scaled.iter().skip(2).step_by(3).all(|&value| value == 0.0), "a constant");
        assert!(scaled.iter().all(|value| value.abs() < 3.0));
    }

    #[test]
    fn pictures_and_series_keep_the_proportions_of_their_features() {
        let of = |values: Vec<f32>, width: usize, is_list| {
            let rows = values.len() / width;
            of_features(&Features::Floats(values), width, &vec![true; rows], is_list)
        };
        assert_eq!(of(table(100), 3, true).len(), 3);
        let [scale] = of(table(100), 3, false)[..] else { panic!("several scales") };
        let all = Scale::of(&table(100).into_iter().map(f64::from).collect::<Vec<_>>()).unwrap();
        assert!(
            (scale.mean - all.mean).abs() <= 1e-9 * all.mean && (scale.deviation / all.deviation - 1.0).abs() <= 1e-12
        );
        // Most pixels go from black to white, even in a list.
        assert_eq!(of(pictures(100), 9, true).len(), 1);
        // Two of three that share a range are most, and one of two is not.
        assert_eq!(of(vec![0.0, 0.0, 0.2, 1.0, 1.0, 0.3], 3, true).len(), 1);
        assert_eq!(of(vec![0.0, 0.2, 1.0, 0.3], 2, true).len(), 2);
        assert_eq!(of(vec![0.5; 2 * (MAX_SCALES + 1)], MAX_SCALES + 1, true).len(), 1);
        let bytes = Features::Bytes(vec![1, 2, 3]);
        assert!(of_features(&bytes, 1, &[true; 3], true).is_empty());
    }

    #[test]
    fn the_first_number_that_is_too_far_is_told() {
        let scales = [Scale { mean: 1.0, deviation: 2.0 }, Scale { mean: 0.0, deviation: 1e-3 }];
        let mut values = vec![0.5; 100_000];
        assert_eq!(standardise(values.clone(), &scales[..1]).ok().unwrap(), vec![-0.25; 100_000]);
        (values[70_001], values[90_003]) = (-1e36, 1e37);
        let Err(TooFar { at, number, scale }) = standardise(values.clone(), &scales) else { panic!("{values:?}") };
        assert_eq!((at, number, scale), (70_001, -1e36, scales[1]));
        values[70_001] = 0.25;
        values[90_003] = 0.5;
        let scaled = standardise(values, &scales).ok().unwrap();
        assert_eq!((scaled[70_000], scaled[70_001], scaled[90_003]), (-0.25, 250.0, 500.0));
    }
}
