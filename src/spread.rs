//! The spread of a figure over several runs: mean, standard deviation, and the interval that the mean lies in.

use serde::Serialize;

/// Share of the interval of a mean.
const SHARE: f64 = 0.95;

/// The spread of a figure over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Number of runs.
    pub runs: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, with runs − 1; `None` for one run.
    pub sd: Option<f64>,
    /// Lowest value.
    pub lowest: f64,
    /// Highest value.
    pub highest: f64,
    /// 95 % interval of the mean, by Student's t; `None` for one run.
    pub interval: Option<[f64; 2]>,
}

impl Spread {
    /// Summarises the finite values; `None` if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let runs = values.len();
        let mean = values.iter().sum::<f64>() / runs as f64;
        let lowest = values.iter().copied().min_by(f64::total_cmp)?;
        let highest = values.iter().copied().max_by(f64::total_cmp)?;
        // Rounding may put the mean of equal values outside.
        let mean = mean.clamp(lowest, highest);
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let sd = (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt());
        let interval = sd.map(|sd| {
            let half = t_quantile(runs - 1) * sd / (runs as f64).sqrt();
            [mean - half, mean + half]
        });
        Some(Self { runs, mean, sd, lowest, highest, interval })
    }

    /// Limits the interval of the mean to the values that the figure can have.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { interval: self.interval.map(|ends| ends.map(|end| end.clamp(low, high))), ..self }
    }
}

/// The number that Student's t with so many degrees of freedom lies within, on both sides of 0, with a probability of
/// 95 %.
fn t_quantile(degrees: usize) -> f64 {
    // The probability falls short of 0.95 for 1.95 at any degree; for 12.71 and one degree it is 0.95.
    let (mut low, mut high) = (1.9, 13.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if probability_within(middle, degrees) < SHARE { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The probability that |t| is at most `t`: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn probability_within(t: f64, degrees: usize) -> f64 {
    let angle = (t / (degrees as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = !degrees.is_multiple_of(2);
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = if degrees == 1 { 0.0 } else { term };
    let first = if is_odd { 3 } else { 2 };
    for power in (first..degrees.saturating_sub(1)).step_by(2) {
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
        sum += term;
    }
    if is_odd { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_of_t_are_those_of_the_tables() {
        for (degrees, quantile) in
            [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (999, 1.9623)]
        {
            assert!((t_quantile(degrees) - quantile).abs() < 5e-5, "{degrees}: {}", t_quantile(degrees));
        }
    }

    #[test]
    fn a_spread_is_that_of_its_values() {
        let spread = Spread::of([2.0, 4.0, 9.0, f64::NAN]).unwrap();
        assert_eq!((spread.runs, spread.mean, spread.lowest, spread.highest), (3, 5.0, 2.0, 9.0));
        assert!((spread.sd.unwrap() - 13f64.sqrt()).abs() < 1e-12, "{spread:?}");
        let [low, high] = spread.interval.unwrap();
        assert!((high - 5.0 - 4.302_65 * (13f64 / 3.0).sqrt()).abs() < 1e-4 && (low + high - 10.0).abs() < 1e-12);
        assert_eq!(spread.within(0.0, 10.0).interval, Some([0.0, 10.0]), "{spread:?}");
        assert_eq!(Spread::of([0.1; 1]).unwrap().interval, None);
        let same = Spread::of([0.1; 7]).unwrap();
        assert_eq!((same.mean, same.sd), (0.1, Some(0.0)));
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
