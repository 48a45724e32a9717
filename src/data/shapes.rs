//! Shapes of the training pictures of each class, in short: they tell a picture that looks like none of them.
//!
//! A picture is described by its edges: the gradient at each pixel counts for the directions near its own, in the cells
//! near the pixel, as in the histograms of N. Dalal and B. Triggs (2005). The descriptions of a class are taken for
//! normally distributed: with a mean, a few directions of large variance, and one variance in all others, as M. Tipping
//! and C. Bishop (1999) do. A picture is unfamiliar if it is farther from every class than nearly all training pictures
//! that were set aside to measure that.

use serde::{Deserialize, Serialize};

use super::{Examples, Features};
use crate::parallel::*;

/// Cells along each side of a picture.
const CELLS: usize = 4;
/// Directions of edges, as vectors of length 1.
const EDGES: [[f32; 2]; 8] = {
    const D: f32 = std::f32::consts::FRAC_1_SQRT_2;
    [[1.0, 0.0], [D, D], [0.0, 1.0], [-D, D], [-1.0, 0.0], [-D, -D], [0.0, -1.0], [D, -D]]
};
/// Length of a description.
const LENGTH: usize = CELLS * CELLS * EDGES.len();
/// Directions of large variance of a class.
const DIRECTIONS: usize = 15;
/// Steps of the power method for each of them; a direction that is only nearly found is as good.
const STEPS: usize = 40;
/// Most training pictures of a class that are looked at, and fewest that say anything about it.
const EXAMPLES: std::ops::RangeInclusive<usize> = 60..=1500;
/// Every so manieth of them is set aside.
const SET_ASIDE: usize = 3;
/// Share of the pictures set aside that is unfamiliar.
const UNFAMILIAR: f64 = 0.02;
/// Most classes: their shapes take 8 KB each in a model file.
const MOST_CLASSES: usize = 64;
/// Least variance, lest equal pictures divide by 0.
const LEAST_VARIANCE: f64 = 1e-6;

/// Distribution of the shapes of each class in the training pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shapes {
    /// Distance from the nearest class beyond which a picture is unfamiliar.
    farthest: f64,
    classes: Vec<Class>,
}

/// Distribution of the descriptions of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Class {
    mean: Row,
    /// Directions of large variance; their lengths are what such a deviation counts less.
    directions: Vec<Row>,
    /// Variance in every other direction.
    variance: f64,
    /// Sum of the logarithms of all variances.
    log_volume: f64,
}

/// Numbers in the form of small integers and their unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    unit: f32,
    values: Vec<i8>,
}

impl Row {
    fn of(values: &[f64]) -> Self {
        let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let unit = (largest / 127.0) as f32;
        let small = |value: &f64| if unit > 0.0 { (value / f64::from(unit)).round() as i8 } else { 0 };
        Self { unit, values: values.iter().map(small).collect() }
    }

    fn is_sound(&self) -> bool {
        self.values.len() == LENGTH && self.unit.is_finite()
    }

    /// The numbers.
    fn numbers(&self) -> impl Iterator<Item = f32> {
        self.values.iter().map(|&value| self.unit * f32::from(value))
    }
}

impl Class {
    fn of(descriptions: &[Vec<f32>]) -> Self {
        let count = descriptions.len() as f64;
        let mut mean = vec![0.0; LENGTH];
        for description in descriptions {
            mean.iter_mut().zip(description).for_each(|(mean, &value)| *mean += f64::from(value) / count);
        }
        let mut covariance = vec![0.0; LENGTH * LENGTH];
        for description in descriptions {
            let deviation: Vec<f64> =
                description.iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean).collect();
            for (at, row) in covariance.chunks_exact_mut(LENGTH).enumerate() {
                let of_row = deviation[at] / count;
                row[at..].iter_mut().zip(&deviation[at..]).for_each(|(sum, of_column)| *sum += of_row * of_column);
            }
        }
        // Its other half is the same.
        for (row, column) in (0..LENGTH).flat_map(|row| (0..row).map(move |column| (row, column))) {
            covariance[row * LENGTH + column] = covariance[column * LENGTH + row];
        }
        let trace = |covariance: &[f64]| covariance.iter().step_by(LENGTH + 1).sum::<f64>();
        let mut large = Vec::new();
        for _ in 0..DIRECTIONS {
            let (direction, variance) = largest_direction(&covariance);
            for (row, of_row) in covariance.chunks_exact_mut(LENGTH).zip(&direction) {
                row.iter_mut().zip(&direction).for_each(|(sum, of_column)| *sum -= variance * of_row * of_column);
            }
            large.push((direction, variance.max(LEAST_VARIANCE)));
        }
        let variance = (trace(&covariance) / (LENGTH - DIRECTIONS) as f64).max(LEAST_VARIANCE);
        let counts_less = |&(_, large): &(Vec<f64>, f64)| (1.0 / variance - 1.0 / large).max(0.0).sqrt();
        let scaled =
            |large: &(Vec<f64>, f64)| -> Vec<f64> { large.0.iter().map(|value| value * counts_less(large)).collect() };
        let directions = large.iter().map(|large| Row::of(&scaled(large))).collect();
        let log_volume =
            large.iter().map(|(_, variance)| variance.ln()).sum::<f64>() + (LENGTH - DIRECTIONS) as f64 * variance.ln();
        Self { mean: Row::of(&mean), directions, variance, log_volume }
    }

    /// Minus twice the logarithm of the density of a description, but for a constant.
    fn distance(&self, description: &[f32]) -> f64 {
        let deviation: Vec<f32> =
            description.iter().zip(self.mean.numbers()).map(|(value, mean)| value - mean).collect();
        let along = |row: &Row| -> f32 { row.numbers().zip(&deviation).map(|(value, of)| value * of).sum() };
        let squares: f32 = deviation.iter().map(|value| value * value).sum();
        let less: f64 = self.directions.iter().map(|row| f64::from(along(row)).powi(2)).sum();
        f64::from(squares) / self.variance - less + self.log_volume
    }

    fn is_sound(&self) -> bool {
        let are_rows_sound = self.mean.is_sound() && self.directions.iter().all(Row::is_sound);
        let are_numbers_sound = self.variance.is_finite() && self.variance > 0.0 && self.log_volume.is_finite();
        are_rows_sound && are_numbers_sound && self.directions.len() <= DIRECTIONS
    }
}

/// Finds the direction of the largest variance, and that variance, by the power method.
fn largest_direction(covariance: &[f64]) -> (Vec<f64>, f64) {
    let diagonal = |at: &usize| covariance[at * (LENGTH + 1)];
    let start = (0..LENGTH).max_by(|a, b| diagonal(a).total_cmp(&diagonal(b))).unwrap_or_default();
    let mut direction = vec![0.0; LENGTH];
    direction[start] = 1.0;
    let mut variance = 0.0;
    for _ in 0..STEPS {
        // A sum of rows is that of columns, and sooner done.
        let mut product = vec![0.0; LENGTH];
        for (row, of_row) in covariance.chunks_exact(LENGTH).zip(&direction) {
            product.iter_mut().zip(row).for_each(|(sum, value)| *sum += of_row * value);
        }
        variance = product.iter().map(|value: &f64| value * value).sum::<f64>().sqrt();
        if variance < LEAST_VARIANCE {
            break;
        }
        direction = product.into_iter().map(|value| value / variance).collect();
    }
    (direction, variance)
}

impl Shapes {
    /// Describes the classes of grey square pictures; `None` where they are something else, or too few of a class.
    pub fn of(examples: &Examples) -> Option<Self> {
        let (Features::Bytes(bytes), Ok(labels)) = (&*examples.inputs, examples.labels()) else { return None };
        let side = examples.features.isqrt();
        if side * side != examples.features || side < CELLS || examples.outputs > MOST_CLASSES {
            return None;
        }
        let of_class = |class: usize| {
            let all: Vec<usize> = (0..labels.len()).filter(|&at| labels[at] as usize == class).collect();
            if all.len() < *EXAMPLES.start() {
                return None;
            }
            // Evenly spaced, as they may be in some order.
            let count = all.len().min(*EXAMPLES.end());
            let (mut kept, mut set_aside) = (Vec::new(), Vec::new());
            for number in 0..count {
                let at = all[number * all.len() / count] * examples.features;
                let description = description(&bytes[at..at + examples.features], side);
                let part = if number % SET_ASIDE == 0 { &mut set_aside } else { &mut kept };
                part.push(description);
            }
            Some((Class::of(&kept), set_aside))
        };
        let of_classes = (0..examples.outputs).into_par_iter().map(of_class).collect::<Option<Vec<_>>>()?;
        let (classes, set_aside): (Vec<Class>, Vec<Vec<Vec<f32>>>) = of_classes.into_iter().unzip();
        let mut shapes = Self { farthest: 0.0, classes };
        let distance = |description: &Vec<f32>| shapes.distance(description);
        let mut distances: Vec<f64> = set_aside.concat().par_iter().map(distance).collect();
        distances.sort_by(f64::total_cmp);
        let unfamiliar = (UNFAMILIAR * distances.len() as f64).round() as usize;
        shapes.farthest = *distances.get(distances.len().checked_sub(unfamiliar + 1)?)?;
        Some(shapes)
    }

    /// Returns true if a picture of the size of the training pictures looks like those of some class.
    pub fn is_familiar(&self, pixels: &[u8]) -> bool {
        self.distance(&description(pixels, pixels.len().isqrt())) <= self.farthest
    }

    fn distance(&self, description: &[f32]) -> f64 {
        self.classes.iter().map(|class| class.distance(description)).fold(f64::INFINITY, f64::min)
    }

    /// Returns what is wrong with shapes that were read from a file.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let is_sound = (1..=MOST_CLASSES).contains(&self.classes.len())
            && self.farthest.is_finite()
            && self.classes.iter().all(Class::is_sound);
        if is_sound { Ok(()) } else { Err("its shapes of classes are not sound".into()) }
    }
}

/// Describes a square picture by its edges.
fn description(pixels: &[u8], side: usize) -> Vec<f32> {
    // The two cells nearest to a pixel along a side, with their shares of it; outside there are none.
    let cells = |at: usize| -> Vec<(usize, f32)> {
        let place = (at as f32 + 0.5) * CELLS as f32 / side as f32 - 0.5;
        let share = place - place.floor();
        let both = [(place.floor() as isize, 1.0 - share), (place.floor() as isize + 1, share)].into_iter();
        let inside = |(cell, share)| usize::try_from(cell).ok().filter(|&cell| cell < CELLS).map(|cell| (cell, share));
        both.filter_map(inside).collect()
    };
    let cells: Vec<Vec<(usize, f32)>> = (0..side).map(cells).collect();
    // Beyond the border there is no ink.
    let value = |x: Option<usize>, y: Option<usize>| match (x, y) {
        (Some(x), Some(y)) if x < side && y < side => f32::from(pixels[y * side + x]),
        _ => 0.0,
    };
    let mut edges = vec![0.0f32; LENGTH];
    for (x, y) in (0..side).flat_map(|y| (0..side).map(move |x| (x, y))) {
        let along_x = value(Some(x + 1), Some(y)) - value(x.checked_sub(1), Some(y));
        let along_y = value(Some(x), Some(y + 1)) - value(Some(x), y.checked_sub(1));
        let gradient = [along_x, along_y];
        let squares = gradient[0] * gradient[0] + gradient[1] * gradient[1];
        if squares == 0.0 {
            continue;
        }
        for (direction, [of_x, of_y]) in EDGES.into_iter().enumerate() {
            // The length of the gradient times the fourth power of the cosine.
            let along = (of_x * gradient[0] + of_y * gradient[1]).max(0.0);
            if along == 0.0 {
                continue;
            }
            let strength = along.powi(4) / (squares * squares.sqrt());
            for (row, of_row) in &cells[y] {
                for (column, of_column) in &cells[x] {
                    edges[(row * CELLS + column) * EDGES.len() + direction] += of_row * of_column * strength;
                }
            }
        }
    }
    // Roots, so that no long edge outweighs all others, and the same length for every pen.
    let sum = edges.iter().sum::<f32>();
    edges.iter().map(|edge| if sum > 0.0 { (edge / sum).sqrt() } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 28;

    /// A picture of straight strokes between points in 0 to 1, moved a little by a seed.
    fn picture(strokes: &[[[f32; 2]; 2]], seed: usize) -> Vec<u8> {
        let mut pixels = vec![0u8; SIDE * SIDE];
        let moved = |[x, y]: [f32; 2], end: usize| {
            let by = |along: usize| ((seed * (7 + 4 * end + along)) % 11) as f32 / 110.0 - 0.05;
            [4.0 + 19.0 * (x + by(0)), 4.0 + 19.0 * (y + by(1))]
        };
        for (number, [from, to]) in strokes.iter().enumerate() {
            let (from, to) = (moved(*from, 2 * number), moved(*to, 2 * number + 1));
            for step in 0..=60 {
                let share = step as f32 / 60.0;
                let [x, y] = [0, 1].map(|along| from[along] + (to[along] - from[along]) * share);
                for (column, row) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    pixels[(y as usize + row) * SIDE + x as usize + column] = 255;
                }
            }
        }
        pixels
    }

    const SEVEN: &[[[f32; 2]; 2]] = &[[[0.1, 0.0], [0.8, 0.0]], [[0.8, 0.0], [0.3, 1.0]]];
    const FOUR: &[[[f32; 2]; 2]] = &[[[0.5, 0.0], [0.1, 0.6]], [[0.1, 0.6], [0.9, 0.6]], [[0.6, 0.3], [0.6, 1.0]]];
    const H: &[[[f32; 2]; 2]] = &[[[0.1, 0.0], [0.1, 1.0]], [[0.1, 0.5], [0.8, 0.5]], [[0.8, 0.0], [0.8, 1.0]]];

    fn of_both(count: usize) -> Option<Shapes> {
        let pixels = (0..2 * count).flat_map(|at| picture([SEVEN, FOUR][at % 2], at)).collect::<Vec<u8>>();
        let labels = (0..2 * count).map(|at| at as u32 % 2).collect::<Vec<u32>>();
        Shapes::of(&Examples::new(pixels, labels, SIDE * SIDE, 2).unwrap())
    }

    #[test]
    fn what_looks_like_no_class_is_unfamiliar() {
        let shapes = of_both(400).unwrap();
        let familiar = |strokes| (1000..1200).filter(|&seed| shapes.is_familiar(&picture(strokes, seed))).count();
        assert!(familiar(SEVEN) >= 190 && familiar(FOUR) >= 190, "{} {}", familiar(SEVEN), familiar(FOUR));
        assert_eq!(familiar(H), 0);
        assert!(!shapes.is_familiar(&[0; SIDE * SIDE]), "blank");
        assert_eq!(of_both(400).unwrap(), shapes, "the same examples have the same shapes");
    }

    #[test]
    fn few_examples_and_other_features_have_no_shapes() {
        assert!(of_both(59).is_none() && of_both(60).is_some());
        let examples = |features: Features, width| Examples::new(features, vec![0, 1], width, 2).unwrap();
        assert!(Shapes::of(&examples(vec![0u8; 2 * 6].into(), 6)).is_none());
        assert!(Shapes::of(&examples(Features::Floats(vec![0.0; 2 * 64]), 64)).is_none());
    }

    #[test]
    fn shapes_come_back_from_their_text_and_others_are_refused() {
        let shapes = of_both(60).unwrap();
        assert_eq!(serde_json::from_str::<Shapes>(&serde_json::to_string(&shapes).unwrap()).unwrap(), shapes);
        assert!(shapes.check().is_ok());
        let changes: [fn(&mut Shapes); 5] = [
            |shapes| shapes.classes.clear(),
            |shapes| shapes.classes[1].variance = 0.0,
            |shapes| shapes.classes[0].mean.values.truncate(1),
            |shapes| shapes.classes[0].directions[2].values.push(1),
            |shapes| shapes.classes[0].directions = vec![shapes.classes[0].mean.clone(); DIRECTIONS + 1],
        ];
        for change in changes {
            let mut changed = shapes.clone();
            change(&mut changed);
            assert!(changed.check().is_err());
        }
    }
}
