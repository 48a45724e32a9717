//! Preprocessing of tables, images and arrays into features and targets. A model keeps its preprocessing, so that
//! predictions use the same.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::scaling::{self, TooFar};
use super::{Examples, MAX_CLASSES, Targets};
use crate::error::{Error, Result};

/// Problem of a scale that nothing can be standardised by.
const UNSOUND: &str = "a mean or deviation is not finite, or a deviation is not above 0";

/// Upper limit of the JSON of a [`Preprocessing`], which has to fit into a model file's header. Ten thousand columns
/// fit.
const MAX_BYTES: usize = 4 << 20;

/// The transformation of user data into features and targets. In JSON each kind is an object with its own fields.
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

/// The transformation of a table's rows into features and a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFormat {
    /// Columns of the features, in the order of the features.
    pub columns: Vec<Column>,
    /// Name of the target column.
    pub target: String,
    /// Encoding of the target.
    pub encoding: TargetEncoding,
    /// The test part: rows that the model was not trained on.
    pub test: TestPart,
    /// Number format of the target.
    #[serde(default, skip_serializing_if = "Form::is_number")]
    pub form: Form,
    /// Names of the columns, the target among them, whose numbers have commas or dots between thousands. In other columns
    /// a number such as `1,234` is refused, as the comma may be a decimal one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thousands: Vec<String>,
    /// Handling of missing values.
    #[serde(default, skip_serializing_if = "Missing::is_fill")]
    pub missing: Missing,
    /// Number of columns, if the table has no header; columns are then named by their positions, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
}

/// Handling of missing values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Fill: a missing number becomes the mean of the training rows, a missing text a category of its own.
    #[default]
    Fill,
    /// Leave out rows with missing values.
    Drop,
    /// Refuse tables with missing values.
    Refuse,
}

impl Missing {
    fn is_fill(&self) -> bool {
        *self == Self::Fill
    }
}

/// Format of the numbers, booleans or dates of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Numbers with a decimal point, optionally with thousands separated by commas, a currency sign or `%`.
    #[default]
    Number,
    /// Numbers with a decimal comma, optionally with thousands separated by points, a currency sign or `%`.
    DecimalComma,
    /// Booleans, case-insensitive: `true` is 1, `false` is 0.
    Boolean,
    /// Dates such as `2020-12-31`, as days since 1970-01-01 with the time of day as a fraction.
    YearMonthDay,
    /// Dates such as `31.12.2020`.
    DayMonthYear,
    /// Dates such as `12/31/2020`.
    MonthDayYear,
}

impl Form {
    /// Every format, in the order in which columns are tried.
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

/// The transformation of an image file into features and a class: pixels row by row from the top left as `byte / 255`,
/// for RGB images the red, green and blue of each pixel together, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFormat {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Channels of a pixel.
    pub color: Color,
    /// Class names: the names of the folders of images.
    pub classes: Vec<String>,
    /// The test part: images that the model was not trained on.
    pub test: TestPart,
}

/// Channels of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Luminance, in one channel.
    Grey,
    /// Three channels: red, green and blue.
    Rgb,
}

/// The content of a pair of arrays of features and targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrayFormat {
    /// Elements of the features.
    pub elements: Elements,
    /// Number of features of an example.
    pub features: usize,
    /// Kind of the targets.
    pub targets: ArrayTargets,
    /// Names of the classes, where the targets are texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Scales of features that are numbers: one for each feature, or one for all; none where they are used as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<Scale>,
    /// Scale of each target that is a real value; none where they are learned as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_scales: Vec<Scale>,
    /// The test part: examples that the model was not trained on.
    pub test: TestPart,
}

impl ArrayFormat {
    /// The format of arrays with these features and targets, used as they are.
    pub(super) fn of(examples: &Examples) -> Self {
        Self {
            elements: if examples.inputs.is_bytes() { Elements::Bytes } else { Elements::Numbers },
            features: examples.features,
            targets: match *examples.targets {
                Targets::Classes(_) => ArrayTargets::Classes(examples.outputs),
                Targets::Values(_) => ArrayTargets::Values(examples.outputs),
            },
            classes: Vec::new(),
            scales: Vec::new(),
            target_scales: Vec::new(),
            test: TestPart::default(),
        }
    }

    /// Standardises numbers that an array holds, one example after the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first number that is too far from those of training.
    pub fn standardise(&self, numbers: Vec<f32>) -> Result<Vec<f32>> {
        if self.scales.is_empty() {
            return Ok(numbers);
        }
        scaling::standardise(numbers, &self.scales).map_err(|TooFar { at, number, scale }| {
            let (example, feature) = (at / self.features, at % self.features);
            Error::Invalid(format!("feature {feature} of example {example}: {}", scale.too_far(number)))
        })
    }
}

/// Elements of an array of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Elements {
    /// Bytes; a model sees `byte / 255`.
    Bytes,
    /// Numbers; a model sees them standardised by [`ArrayFormat::scales`].
    Numbers,
}

/// Targets of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrayTargets {
    /// Class labels, with the number of classes.
    Classes(usize),
    /// Real values, standardised by [`ArrayFormat::target_scales`], with the number of values per example.
    Values(usize),
}

/// The source of the test part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TestPart {
    /// A share of the examples, in 0..1, chosen by the seed of the run.
    Share(f64),
    /// A separate file or folder.
    Path(String),
    /// One of several parts of equal size, with equal shares of the classes, that the seed of the run makes.
    Fold {
        /// Number of the fold, from 1.
        fold: usize,
        /// Number of folds, 2 or more.
        folds: usize,
    },
}

impl Default for TestPart {
    /// A share of 0.2.
    fn default() -> Self {
        Self::Share(0.2)
    }
}

impl fmt::Display for TestPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(formatter),
            Self::Path(path) => path.fmt(formatter),
            Self::Fold { fold, folds } => write!(formatter, "fold={fold}/{folds}"),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name in the header.
    pub name: String,
    /// Encoding of the values.
    pub encoding: Encoding,
    /// Number format of the values.
    #[serde(default, skip_serializing_if = "Form::is_number")]
    pub form: Form,
    /// Adds a second feature to a column of numbers, which is 1 for missing values and 0 for others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marks_gaps: bool,
}

impl Column {
    /// Number of features of the column.
    pub fn features(&self) -> usize {
        match &self.encoding {
            Encoding::Standardised(_) => 1 + usize::from(self.marks_gaps),
            Encoding::OneHot(texts) => texts.len(),
        }
    }
}

/// Encoding of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// Standardised number: one feature, `(number - mean) / deviation`; 0 for a missing number.
    Standardised(Scale),
    /// One-hot text: one feature for each of these texts, 1 if the value is that text and 0 otherwise; any other text
    /// is all 0. The empty text stands for a missing value.
    OneHot(Vec<String>),
}

/// Encoding of the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetEncoding {
    /// Class labels: one class for each of these texts.
    Classes(Vec<String>),
    /// Standardised number, `(number - mean) / deviation`.
    Standardised(Scale),
}

/// Mean and standard deviation of the training part; a deviation of 0 is stored as 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, above 0.
    pub deviation: f64,
}

impl Scale {
    /// Computes the scale of these numbers; `None` if there are none, if one is not finite, or if they are too far
    /// apart.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let (first, rest) = numbers.split_first()?;
        if rest.iter().all(|number| number == first) {
            // The computed mean of equal numbers may differ from them by rounding.
            return Some(Self { mean: *first, deviation: 1.0 }).filter(|scale| scale.is_sound());
        }
        let count = numbers.len() as f64;
        // The mean stays in the range of f64 even where the sum or the squares overflow.
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

    /// Standardises a number.
    pub fn apply(self, number: f64) -> f32 {
        ((number - self.mean) / self.deviation) as f32
    }

    /// Inverts [`apply`](Self::apply).
    pub fn undo(self, value: f32) -> f64 {
        f64::from(value) * self.deviation + self.mean
    }

    /// Says that a number is too far from the training rows to be standardised.
    pub(super) fn too_far(self, number: impl fmt::LowerExp) -> String {
        let Self { mean, deviation } = self;
        format!(
            "{number:e} is too far from the training rows, of mean {mean:.3e} and deviation {deviation:.3e}: correct it or \
             remove the row"
        )
    }

    fn is_sound(self) -> bool {
        self.mean.is_finite() && self.deviation.is_finite() && self.deviation > 0.0
    }
}

impl TableFormat {
    /// Number of features of a row.
    pub fn features(&self) -> usize {
        self.columns.iter().map(Column::features).sum()
    }

    /// Number of classes, or 1 for a numeric target.
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
            return Some(UNSOUND.into());
        }
        let marks_texts = |column: &Column| column.marks_gaps && matches!(column.encoding, Encoding::OneHot(_));
        self.columns.iter().any(marks_texts).then(|| "a column of texts marks missing numbers".into())
    }
}

impl ImageFormat {
    /// Longest side that images may be resized to.
    pub const MAX_SIDE: u32 = 4096;

    /// Number of features of an image.
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
        has_twins(classes).then(|| "two classes have the same name".into())
    }
}

/// Returns true if two names are the same.
fn has_twins(names: &[String]) -> bool {
    let mut distinct = BTreeSet::new();
    !names.iter().all(|name| distinct.insert(name))
}

impl ArrayFormat {
    fn problem(&self) -> Option<String> {
        if !self.scales.iter().chain(&self.target_scales).all(|scale| scale.is_sound()) {
            return Some(UNSOUND.into());
        }
        let (scales, of_targets) = (self.scales.len(), self.target_scales.len());
        let features_fit = match self.elements {
            Elements::Bytes => scales == 0,
            Elements::Numbers => [0, 1, self.features].contains(&scales),
        };
        let targets_fit = match self.targets {
            ArrayTargets::Classes(_) => of_targets == 0,
            ArrayTargets::Values(count) => [0, count].contains(&of_targets),
        };
        if !features_fit || !targets_fit {
            return Some(format!("{scales} scales of features and {of_targets} of targets do not fit its arrays"));
        }
        let names = self.classes.len();
        match self.targets {
            _ if has_twins(&self.classes) => Some("two classes have the same name".into()),
            ArrayTargets::Classes(count) if names == 0 || names == count => None,
            ArrayTargets::Values(_) if names == 0 => None,
            _ => Some(format!("{names} names of classes do not fit its targets")),
        }
    }
}

impl Preprocessing {
    /// Number of features of an example.
    pub fn features(&self) -> usize {
        match self {
            Self::Table(table) => table.features(),
            Self::Images(images) => images.features(),
            Self::Arrays(arrays) => arrays.features,
        }
    }

    /// Number of classes, or of real targets of an example.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Table(table) => table.outputs(),
            Self::Images(images) => images.classes.len(),
            Self::Arrays(ArrayFormat {
                targets: ArrayTargets::Classes(count) | ArrayTargets::Values(count), ..
            }) => *count,
        }
    }

    /// Height and width in pixels, if the examples are images.
    pub fn image(&self) -> Option<[usize; 2]> {
        match self {
            Self::Images(ImageFormat { width, height, .. }) => Some([*height as usize, *width as usize]),
            Self::Table(_) | Self::Arrays(_) => None,
        }
    }

    /// Name of the target column, if the data is a table.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Table(table) => Some(&table.target),
            Self::Images(_) | Self::Arrays(_) => None,
        }
    }

    /// Returns true if the targets are classes.
    pub fn has_classes(&self) -> bool {
        match self {
            Self::Table(table) => matches!(table.encoding, TargetEncoding::Classes(_)),
            Self::Images(_) => true,
            Self::Arrays(arrays) => matches!(arrays.targets, ArrayTargets::Classes(_)),
        }
    }

    /// Class names, if there are any.
    pub fn class_names(&self) -> Option<&[String]> {
        match self {
            Self::Table(TableFormat { encoding: TargetEncoding::Classes(names), .. }) => Some(names),
            Self::Images(images) => Some(&images.classes),
            Self::Arrays(arrays) if !arrays.classes.is_empty() => Some(&arrays.classes),
            Self::Table(_) | Self::Arrays(_) => None,
        }
    }

    /// Scale of each standardised target; none where targets are classes or learned as they are.
    pub fn target_scales(&self) -> &[Scale] {
        match self {
            Self::Table(TableFormat { encoding: TargetEncoding::Standardised(scale), .. }) => {
                std::slice::from_ref(scale)
            }
            Self::Arrays(arrays) => &arrays.target_scales,
            Self::Table(_) | Self::Images(_) => &[],
        }
    }

    /// Unit of an error over all targets: that of the only target; of several, whose units may differ, 1, the deviation by
    /// which each is standardised.
    pub fn error_unit(&self) -> f64 {
        match self.target_scales() {
            [one] => one.deviation,
            _ => 1.0,
        }
    }

    /// The source of the test part.
    pub fn test(&self) -> &TestPart {
        match self {
            Self::Table(table) => &table.test,
            Self::Images(images) => &images.test,
            Self::Arrays(arrays) => &arrays.test,
        }
    }

    /// Replaces the place of the test part.
    pub fn with_test(mut self, part: TestPart) -> Self {
        match &mut self {
            Self::Table(table) => table.test = part,
            Self::Images(images) => images.test = part,
            Self::Arrays(arrays) => arrays.test = part,
        }
        self
    }

    /// Checks that the preprocessing can be applied and stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] describing the problem.
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
            (None, &TestPart::Fold { fold, folds }) if folds < 2 || !(1..=folds).contains(&fold) => {
                format!("there is no fold {fold} of {folds}")
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

/// Converts the targets of an example, or the outputs of a model for it, to their own units.
pub fn in_own_units(preprocessing: Option<&Preprocessing>, targets: &[f32]) -> Vec<f64> {
    let scales = preprocessing.map_or(&[][..], Preprocessing::target_scales);
    let value = |(at, &target): (usize, &f32)| scales.get(at).map_or(f64::from(target), |scale| scale.undo(target));
    targets.iter().enumerate().map(value).collect()
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
        // The rounded mean of many 0.1 differs from 0.1.
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
        // Their deviation underflows, but must not become a zero divisor.
        let numbers: Vec<f64> = (0..200).map(|index| if index == 0 { 5e-324 } else { 0.0 }).collect();
        assert!(Scale::of(&numbers).unwrap().apply(5e-324).is_finite());
    }
}
