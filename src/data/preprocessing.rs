//! How tables, images and arrays become what a model sees: kept with the model, for those who predict with it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::MAX_CLASSES;
use crate::error::{Error, Result};

/// The longest a [`Preprocessing`] may be as JSON: a model file's header has to hold it. Some ten thousand columns are not
/// longer.
const MAX_BYTES: usize = 4 << 20;

/// How people's own data become features and targets. In JSON each kind is an object with fields of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Preprocessing {
    /// Rows of a table.
    Table(TableFormat),
    /// Image files.
    Images(ImageFormat),
    /// NumPy arrays.
    Arrays(ArrayFormat),
}

/// How a row of a table becomes features and a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFormat {
    /// The columns that features are made of, in the order of the features.
    pub columns: Vec<Column>,
    /// The column that is to be learned.
    pub target: String,
    /// What becomes of it.
    pub encoding: TargetEncoding,
    /// The rows that the model was not trained on.
    pub test: TestPart,
    /// The form of the target's numbers.
    #[serde(default, skip_serializing_if = "Form::is_number")]
    pub form: Form,
    /// What becomes of missing values.
    #[serde(default, skip_serializing_if = "Missing::is_fill")]
    pub missing: Missing,
    /// Number of columns, where the first line names none and they are called by their places, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
}

/// What becomes of missing values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The mean of the training rows takes the place of a number, and a text has a category of its own.
    #[default]
    Fill,
    /// Rows that have one are left out.
    Drop,
    /// They are an error.
    Refuse,
}

impl Missing {
    fn is_fill(&self) -> bool {
        *self == Self::Fill
    }
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// With a decimal point, if need be with commas between thousands, a currency or `%`.
    #[default]
    Number,
    /// With a decimal comma, if need be with points between thousands, a currency or `%`.
    DecimalComma,
    /// `true` is 1 and `false` 0, in any case.
    Boolean,
    /// Dates, as days since 1970-01-01 with the time as a fraction: `2020-12-31`.
    YearMonthDay,
    /// Dates: `31.12.2020`.
    DayMonthYear,
    /// Dates: `12/31/2020`.
    MonthDayYear,
}

impl Form {
    /// Every form, in the order in which they are tried.
    pub(super) const ALL: [Self; 6] =
        [Self::Number, Self::DecimalComma, Self::Boolean, Self::YearMonthDay, Self::DayMonthYear, Self::MonthDayYear];

    /// Returns true for dates.
    pub fn is_date(self) -> bool {
        matches!(self, Self::YearMonthDay | Self::DayMonthYear | Self::MonthDayYear)
    }

    fn is_number(&self) -> bool {
        *self == Self::Number
    }
}

/// How an image file becomes features and a class: pixels row by row from the top left, `byte / 255`, of an RGB image
/// red, green and blue of each pixel together, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFormat {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What there is of each pixel.
    pub color: Color,
    /// The classes: names of the folders that the images are in.
    pub classes: Vec<String>,
    /// The images that the model was not trained on.
    pub test: TestPart,
}

/// What there is of each pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Its lightness.
    Grey,
    /// Red, green and blue.
    Rgb,
}

/// What arrays hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrayFormat {
    /// What features are made of.
    pub elements: Elements,
    /// Features of an example.
    pub features: usize,
    /// What the targets are.
    pub targets: ArrayTargets,
    /// The names of the classes, where the targets are texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The examples that the model was not trained on.
    pub test: TestPart,
}

/// The elements of an array of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Elements {
    /// Bytes; a model sees `byte / 255`.
    Bytes,
    /// Numbers that a model sees as they are.
    Numbers,
}

/// The targets of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrayTargets {
    /// Classes, and how many.
    Classes(usize),
    /// Real values as they are, and how many an example has.
    Values(usize),
}

/// What a model is tested with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TestPart {
    /// This share of the examples, in 0..1; which ones, the seed of the run decides.
    Share(f64),
    /// A file or folder of its own.
    Path(String),
}

impl Default for TestPart {
    /// A fifth.
    fn default() -> Self {
        Self::Share(0.2)
    }
}

impl fmt::Display for TestPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(formatter),
            Self::Path(path) => path.fmt(formatter),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// What becomes of it.
    pub encoding: Encoding,
    /// The form of its numbers.
    #[serde(default, skip_serializing_if = "Form::is_number")]
    pub form: Form,
    /// Whether a second feature of a column of numbers is 1 where the value is missing, and else 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marks_gaps: bool,
}

impl Column {
    /// Features that it becomes.
    pub fn features(&self) -> usize {
        match &self.encoding {
            Encoding::Standardised(_) => 1 + usize::from(self.marks_gaps),
            Encoding::OneHot(texts) => texts.len(),
        }
    }
}

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// Numbers become one feature, `(number - mean) / deviation`; a missing one 0.
    Standardised(Scale),
    /// Texts become one feature each, which is 1 for its own text and else 0; a text that is none of them is all 0. The
    /// empty text stands for a missing one.
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
    /// Of these numbers; `None` where they are too far apart, one is not finite, or there is none.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let (first, rest) = numbers.split_first()?;
        if rest.iter().all(|number| number == first) {
            // Rounded, their mean need not be one of them.
            return Some(Self { mean: *first, deviation: 1.0 }).filter(|scale| scale.is_sound());
        }
        let count = numbers.len() as f64;
        // A mean is in the range of floats where a sum, or squares, need not be.
        let mean = match numbers.iter().sum::<f64>() / count {
            mean if mean.is_finite() => mean,
            _ => numbers.iter().map(|number| number / count).sum(),
        };
        let variance = numbers.iter().map(|number| (number - mean) * (number - mean)).sum::<f64>() / count;
        let deviation = match variance {
            1e-200..1e300 => variance.sqrt(),
            _ => numbers.iter().fold(0.0f64, |norm, number| norm.hypot((number - mean) / count.sqrt())),
        };
        let scale = Self { mean, deviation: deviation.max(f64::MIN_POSITIVE) };
        scale.is_sound().then_some(scale)
    }

    /// A number as the model sees it.
    pub fn apply(self, number: f64) -> f32 {
        ((number - self.mean) / self.deviation) as f32
    }

    /// The number that the model sees so.
    pub fn undo(self, value: f32) -> f64 {
        f64::from(value) * self.deviation + self.mean
    }

    fn is_sound(self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && self.deviation > 0.0
    }
}

impl TableFormat {
    /// Features that a row becomes.
    pub fn features(&self) -> usize {
        self.columns.iter().map(Column::features).sum()
    }

    /// Classes, or 1 where the target is a number.
    pub fn outputs(&self) -> usize {
        match &self.encoding {
            TargetEncoding::Classes(names) => names.len(),
            TargetEncoding::Standardised(_) => 1,
        }
    }

    fn problem(&self) -> Option<String> {
        let scales = self.columns.iter().filter_map(|column| match column.encoding {
            Encoding::Standardised(scale) => Some(scale),
            Encoding::OneHot(_) => None,
        });
        let of_target = match self.encoding {
            TargetEncoding::Standardised(scale) => Some(scale),
            TargetEncoding::Classes(_) => None,
        };
        if !scales.chain(of_target).all(Scale::is_sound) {
            return Some("a mean or deviation is not finite, or a deviation is not above 0".into());
        }
        let marks_texts = |column: &Column| column.marks_gaps && matches!(column.encoding, Encoding::OneHot(_));
        self.columns.iter().any(marks_texts).then(|| "a column of texts marks missing numbers".into())
    }
}

impl ImageFormat {
    /// The longest side that an image may be brought to.
    pub const MAX_SIDE: u32 = 4096;

    /// Features that an image becomes.
    pub fn features(&self) -> usize {
        let of_pixel = match self.color {
            Color::Grey => 1,
            Color::Rgb => 3,
        };
        self.width as usize * self.height as usize * of_pixel
    }

    fn problem(&self) -> Option<String> {
        let Self { width, height, classes, .. } = self;
        let (sides, count) = (1..=Self::MAX_SIDE, classes.len());
        if !sides.contains(width) || !sides.contains(height) {
            return Some(format!("images of {width}x{height} pixels: a side must be 1 to {}", Self::MAX_SIDE));
        }
        if count > MAX_CLASSES {
            return Some(format!("{count} classes, and {MAX_CLASSES} are the limit"));
        }
        let distinct: BTreeSet<_> = classes.iter().collect();
        (distinct.len() < count).then(|| "two classes have the same name".into())
    }
}

impl ArrayFormat {
    fn problem(&self) -> Option<String> {
        let names = self.classes.len();
        let distinct: BTreeSet<_> = self.classes.iter().collect();
        match self.targets {
            _ if distinct.len() < names => Some("two classes have the same name".into()),
            ArrayTargets::Classes(count) if names == 0 || names == count => None,
            ArrayTargets::Values(_) if names == 0 => None,
            _ => Some(format!("{names} names of classes do not fit its targets")),
        }
    }
}

impl Preprocessing {
    /// Features of an example.
    pub fn features(&self) -> usize {
        match self {
            Self::Table(table) => table.features(),
            Self::Images(images) => images.features(),
            Self::Arrays(arrays) => arrays.features,
        }
    }

    /// Classes, or real values of an example.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Table(table) => table.outputs(),
            Self::Images(images) => images.classes.len(),
            Self::Arrays(ArrayFormat {
                targets: ArrayTargets::Classes(count) | ArrayTargets::Values(count), ..
            }) => *count,
        }
    }

    /// Rows and columns of pixels, where an example is an image.
    pub fn image(&self) -> Option<[usize; 2]> {
        match self {
            Self::Images(ImageFormat { width, height, .. }) => Some([*height as usize, *width as usize]),
            Self::Table(_) | Self::Arrays(_) => None,
        }
    }

    /// The column that is learned, where it is a table.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Table(table) => Some(&table.target),
            Self::Images(_) | Self::Arrays(_) => None,
        }
    }

    /// Whether the targets are classes.
    pub fn has_classes(&self) -> bool {
        match self {
            Self::Table(table) => matches!(table.encoding, TargetEncoding::Classes(_)),
            Self::Images(_) => true,
            Self::Arrays(arrays) => matches!(arrays.targets, ArrayTargets::Classes(_)),
        }
    }

    /// The names of the classes, where they have any.
    pub fn class_names(&self) -> Option<&[String]> {
        match self {
            Self::Table(TableFormat { encoding: TargetEncoding::Classes(names), .. }) => Some(names),
            Self::Images(images) => Some(&images.classes),
            Self::Arrays(arrays) if !arrays.classes.is_empty() => Some(&arrays.classes),
            Self::Table(_) | Self::Arrays(_) => None,
        }
    }

    /// Mean and deviation of a target that a model sees standardised.
    pub fn target_scale(&self) -> Option<Scale> {
        match self {
            Self::Table(TableFormat { encoding: TargetEncoding::Standardised(scale), .. }) => Some(*scale),
            Self::Table(_) | Self::Images(_) | Self::Arrays(_) => None,
        }
    }

    /// What the model was tested with.
    pub fn test(&self) -> &TestPart {
        match self {
            Self::Table(table) => &table.test,
            Self::Images(images) => &images.test,
            Self::Arrays(arrays) => &arrays.test,
        }
    }

    /// Checks that it can be applied and kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let problem = match self {
            Self::Table(table) => table.problem(),
            Self::Images(images) => images.problem(),
            Self::Arrays(arrays) => arrays.problem(),
        };
        let bytes = serde_json::to_string(self).map_or(usize::MAX, |json| json.len());
        let problem = match (problem, self.test()) {
            (Some(problem), _) => problem,
            (None, TestPart::Share(share)) if !(0.0..1.0).contains(share) => {
                format!("a test share of {share} is not in 0..1")
            }
            _ if bytes > MAX_BYTES => {
                format!(
                    "its names of columns, categories and classes take {bytes} bytes, and a model file holds {MAX_BYTES}"
                )
            }
            _ => return Ok(()),
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
        assert_eq!(scale.mean, 3.0);
        assert!((scale.deviation - 3.5f64.sqrt()).abs() <= 1e-15, "{scale:?}");
        assert_eq!(scale.apply(3.0), 0.0);
        // The mean of the second, rounded, is another number.
        for constant in [7.0, 0.1, 1e308, 5e-324, -0.0] {
            let scale = Scale::of(&[constant; 200]).unwrap();
            assert_eq!((scale.apply(constant), scale.deviation), (0.0, 1.0), "{constant}");
        }
        assert_eq!(Scale::of(&[7.0; 3]).unwrap().apply(9.0), 2.0);
        for numbers in [&[1.7e308, 1.7e308, -1.7e308, f64::INFINITY][..], &[f64::NAN], &[1.0, f64::NAN], &[]] {
            assert_eq!(Scale::of(numbers), None);
        }
    }

    #[test]
    fn a_scale_has_no_size_of_numbers_that_it_is_not_for() {
        for size in [1e-300, 1e-170, 1.0, 1e170, 1e308] {
            let scale = Scale::of(&[size, -size, size, -size]).unwrap();
            assert!((scale.deviation / size - 1.0).abs() <= 1e-14 && scale.mean.abs() <= 1e-14 * size, "{scale:?}");
            assert!((scale.apply(size) - 1.0).abs() <= 1e-6, "{scale:?}");
        }
        // What is left of their difference is too small even for that, and still no zero to divide by.
        let numbers: Vec<f64> = (0..200).map(|index| if index == 0 { 5e-324 } else { 0.0 }).collect();
        assert!(Scale::of(&numbers).unwrap().apply(5e-324).is_finite());
    }
}
