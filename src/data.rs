//! Data sets: examples with one-byte features and a class each.

use crate::error::{Error, Result};

/// Labelled examples.
///
/// A feature is a byte; what a model sees is `byte / 255`, in 0..1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples {
    /// `[examples, features]`, row-major.
    pub inputs: Vec<u8>,
    /// `[examples]`, each in `0..classes`.
    pub labels: Vec<u32>,
    /// Features of an example.
    pub features: usize,
    /// Number of classes, 2 or more.
    pub classes: usize,
}

impl Examples {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no example or feature, fewer than two classes, a length that is not
    /// `examples * features`, or a label out of range.
    pub fn new(inputs: Vec<u8>, labels: Vec<u32>, features: usize, classes: usize) -> Result<Self> {
        let invalid = |problem: String| Err(Error::Invalid(problem));
        if labels.is_empty() || features == 0 {
            return invalid(format!("a data set needs examples and features: it has {} and {features}", labels.len()));
        }
        if classes < 2 {
            return invalid(format!("a classifier needs at least two classes: the data has {classes}"));
        }
        if Some(inputs.len()) != labels.len().checked_mul(features) {
            return invalid(format!("{} bytes are not {} examples of {features} features", inputs.len(), labels.len()));
        }
        if let Some(at) = labels.iter().position(|&label| label as usize >= classes) {
            return invalid(format!(
                "label {} of example {at} is not below {classes}, the number of classes",
                labels[at]
            ));
        }
        Ok(Self { inputs, labels, features, classes })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The features of one example, `[features]`.
    pub fn input(&self, example: usize) -> &[u8] {
        &self.inputs[example * self.features..][..self.features]
    }
}

/// A data set in its two parts.
#[derive(Clone, Debug)]
pub struct Data {
    /// Its name: `mnist`, `digits`, or the folder it came from.
    pub name: String,
    /// What to train on.
    pub train: Examples,
    /// What accuracy is measured on.
    pub test: Examples,
}
