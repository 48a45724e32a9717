//! How the columns of a table become what a model sees: kept with the model, for those who predict with it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest a [`Preprocessing`] may be as JSON: a model file's header has to hold it.
const MAX_BYTES: usize = 256 << 10;

/// How a row of a table becomes features and a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// The columns that features are made of, in the order of the features.
    pub columns: Vec<Column>,
    /// The column that is to be learned.
    pub target: String,
    /// What becomes of it.
    pub encoding: TargetEncoding,
    /// Share of the rows that the model was not trained on, in 0..1; which ones, the seed of its run decides.
    pub test: f64,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// What becomes of it.
    pub encoding: Encoding,
}

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// Numbers become one feature, `(number - mean) / deviation`.
    Standardised(Scale),
    /// Texts become one feature each, which is 1 for its own text and else 0; a text that is none of them is all 0.
    OneHot(Vec<String>),
}

/// What becomes of the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetEncoding {
    /// Each of these texts is a class.
    Classes(Vec<String>),
    /// Numbers become `(number - mean) / deviation`.
    Standardised(Scale),
}

/// Mean and standard deviation of the training part; a deviation of 0 is given as 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, above 0.
    pub deviation: f64,
}

impl Scale {
    /// Of these numbers; `None` where they are too large, or there is none.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count;
        let deviation = if variance == 0.0 { 1.0 } else { variance.sqrt() };
        let scale = Self { mean, deviation };
        scale.is_sound().then_some(scale)
    }

    /// A number as the model sees it.
    pub fn apply(self, number: f64) -> f32 {
        ((number - self.mean) / self.deviation) as f32
    }

    fn is_sound(self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && self.deviation > 0.0
    }
}

impl Preprocessing {
    /// Features that a row becomes.
    pub fn features(&self) -> usize {
        let features = |column: &Column| match &column.encoding {
            Encoding::Standardised(_) => 1,
            Encoding::OneHot(texts) => texts.len(),
        };
        self.columns.iter().map(features).sum()
    }

    /// Classes, or 1 where the target is a number.
    pub fn outputs(&self) -> usize {
        self.class_names().map_or(1, <[String]>::len)
    }

    /// The names of the classes, where the target is one.
    pub fn class_names(&self) -> Option<&[String]> {
        match &self.encoding {
            TargetEncoding::Classes(names) => Some(names),
            TargetEncoding::Standardised(_) => None,
        }
    }

    /// The unit of errors of a target that is a number: what a difference of 1 is before standardisation.
    pub fn unit(&self) -> Option<f64> {
        match self.encoding {
            TargetEncoding::Classes(_) => None,
            TargetEncoding::Standardised(scale) => Some(scale.deviation),
        }
    }

    /// Checks that it can be applied and kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let scales = self.columns.iter().filter_map(|column| match column.encoding {
            Encoding::Standardised(scale) => Some(scale),
            Encoding::OneHot(_) => None,
        });
        let of_target = match self.encoding {
            TargetEncoding::Standardised(scale) => Some(scale),
            TargetEncoding::Classes(_) => None,
        };
        let bytes = serde_json::to_string(self).map_or(usize::MAX, |json| json.len());
        let problem = if !scales.chain(of_target).all(Scale::is_sound) {
            "a mean or deviation is not finite, or a deviation is not above 0".into()
        } else if !(0.0..1.0).contains(&self.test) {
            format!("a test share of {} is not in 0..1", self.test)
        } else if bytes > MAX_BYTES {
            format!("the names of its columns and categories take {bytes} bytes, and a model file holds {MAX_BYTES}")
        } else {
            return Ok(());
        };
        Err(Error::Invalid(problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_gives_mean_0_and_deviation_1_and_takes_a_constant_to_0() {
        let scale = Scale::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert_eq!(scale, Scale { mean: 3.0, deviation: 3.5f64.sqrt() });
        assert_eq!(scale.apply(3.0), 0.0);
        assert_eq!(Scale::of(&[7.0; 3]).unwrap().apply(7.0), 0.0);
        assert_eq!(Scale::of(&[7.0; 3]).unwrap().apply(9.0), 2.0);
        for numbers in [&[1e308, 1e308][..], &[f64::NAN], &[1e200, -1e200], &[]] {
            assert_eq!(Scale::of(numbers), None);
        }
    }
}
