//! The difference of a computed number from its expected value, with the tolerance of the difference.

/// The element of a tensor that deviates most from its expected value, relative to its tolerance.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Name of the tensor.
    pub tensor: String,
    /// Row and column of the element.
    pub at: [usize; 2],
    /// Computed value.
    pub actual: f64,
    /// Expected value.
    pub expected: f64,
    /// Tolerance of the difference.
    pub tolerance: f64,
}

impl Deviation {
    /// Finds the worst element of a tensor, `[rows, columns]`; `None` if the tensor is empty.
    pub fn worst(
        tensor: &str,
        columns: usize,
        actual: &[f64],
        expected: &[f64],
        tolerance: impl Fn(usize) -> f64,
    ) -> Option<Self> {
        assert_eq!(actual.len(), expected.len());
        let excess = |index: usize| excess(actual[index], expected[index], tolerance(index));
        let index = (0..actual.len()).max_by(|&a, &b| excess(a).total_cmp(&excess(b)))?;
        Some(Self {
            tensor: tensor.to_owned(),
            at: [index / columns, index % columns],
            actual: actual[index],
            expected: expected[index],
            tolerance: tolerance(index),
        })
    }

    /// Returns true if the difference is within the tolerance.
    pub fn is_within_tolerance(&self) -> bool {
        self.excess() <= 1.0
    }

    /// Difference divided by the tolerance; infinite if a value is NaN.
    pub fn excess(&self) -> f64 {
        excess(self.actual, self.expected, self.tolerance)
    }
}

fn excess(actual: f64, expected: f64, tolerance: f64) -> f64 {
    let excess = (actual - expected).abs() / tolerance;
    if actual == expected {
        0.0
    } else if excess.is_nan() {
        f64::INFINITY
    } else {
        excess
    }
}

impl std::fmt::Display for Deviation {
    /// Formats the deviation, such as `gradient of layer 0 [3, 17]: 0.25 is not 0.24, off by 1.0e-2 where 1.0e-6 is
    /// allowed`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tensor, at: [row, column], actual, expected, tolerance } = self;
        let relation = if self.is_within_tolerance() { "for" } else { "is not" };
        let off = (actual - expected).abs();
        write!(
            f,
            "{tensor} [{row}, {column}]: {actual:.6e} {relation} {expected:.6e}, off by {off:.1e} where {tolerance:.1e} is allowed"
        )
    }
}
