//! Data sets: examples with features and targets, which are classes or real values.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use self::predict_inputs::Fit;
use crate::error::{Error, Result};
use crate::model::Shape;

#[cfg(not(target_arch = "wasm32"))]
mod catalog;
pub mod csv;
mod digits;
#[cfg(all(feature = "download", not(target_arch = "wasm32")))]
mod download;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod handwriting;
#[doc(hidden)]
pub mod idx;
mod idx_dir;
pub mod images;
pub mod npy;
#[doc(hidden)]
pub mod predict_inputs;
mod preprocessing;
mod scaling;
mod shapes;
mod source;
mod stored;
mod test_part;
mod zip;

#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use catalog::{DownloadLimits, Set, Store, cache_folder};
#[cfg(not(target_arch = "wasm32"))]
pub use catalog::{Progress, load};
pub use digits::digits;
#[doc(hidden)]
pub use preprocessing::{
    ArrayFormat, ArrayTargets, Column, Elements, Encoding, Form, ImageFormat, Preprocessing, Scale, TableFormat,
    TargetEncoding, in_own_units,
};
pub use preprocessing::{Color, Missing, TestPart};
#[doc(hidden)]
pub use shapes::Shapes;
#[doc(hidden)]
pub use source::{Kind, Measured, Part, load_again, load_idx, load_pictures, load_test};
pub(crate) use stored::Row;
pub use stored::Stored;

/// First bytes of gzipped files.
#[doc(hidden)]
pub const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Returns true if an error is the verdict of a decompressor on damaged data; all others are errors of the system.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Rows of the batches between the one that is read and the one that the system is asked for, about: as many as a disk answers at
/// once.
const ASKED_AHEAD: usize = 1024;

/// Upper limit of the number of classes in user data.
const MAX_CLASSES: usize = 1000;

/// Features of the examples, row-major: `[examples, features]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// One byte per feature, as in pixels; a model sees `byte / 255`, in 0..1.
    Bytes(Vec<u8>),
    /// Numbers, which a model sees unchanged: those of tables and of array files are standardised as they are read.
    Floats(Vec<f32>),
    /// Bytes or numbers that stay in a file which memory need not hold. Training reads them row by row.
    Stored(Stored),
}

/// Targets of the examples, which a model learns to predict.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Class labels, `[examples]`, each below [`Examples::outputs`].
    Classes(Vec<u32>),
    /// Real values, `[examples, outputs]`, row-major.
    Values(Vec<f32>),
}

impl From<Vec<u8>> for Features {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<f32>> for Features {
    fn from(values: Vec<f32>) -> Self {
        Self::Floats(values)
    }
}

impl From<Vec<u32>> for Targets {
    fn from(classes: Vec<u32>) -> Self {
        Self::Classes(classes)
    }
}

impl From<Vec<f32>> for Targets {
    fn from(values: Vec<f32>) -> Self {
        Self::Values(values)
    }
}

impl Targets {
    /// Copies the targets of some examples, in this order; `outputs` is the number of values per example.
    pub fn select(&self, examples: &[u32], outputs: usize) -> Self {
        match self {
            Self::Classes(labels) => Self::Classes(examples.iter().map(|&example| labels[example as usize]).collect()),
            Self::Values(values) => {
                let row = |&example: &u32| &values[example as usize * outputs..][..outputs];
                Self::Values(examples.iter().flat_map(row).copied().collect())
            }
        }
    }
}

impl Features {
    /// Number of features of all examples together.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Floats(values) => values.len(),
            Self::Stored(stored) => stored.len(),
        }
    }

    /// Returns true if each feature is a byte, which a model sees in 0..1.
    pub fn is_bytes(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::Floats(_) => false,
            Self::Stored(stored) => stored.is_bytes(),
        }
    }

    /// Reads features of a file into memory.
    #[doc(hidden)]
    pub fn into_memory(self) -> Self {
        let Self::Stored(stored) = &self else { return self };
        let (mut bytes, mut floats) = (Vec::new(), Vec::new());
        stored.for_each(|_, row| match row {
            Row::Bytes(row) => bytes.extend(row),
            Row::Floats(row) => floats.extend(row),
        });
        if stored.is_bytes() { Self::Bytes(bytes) } else { Self::Floats(floats) }
    }

    /// Returns true if there are no features.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Examples: features and targets. Clones share both.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// `[examples, features]`, row-major.
    pub inputs: Arc<Features>,
    /// A class label, or a row of values, for each example.
    pub targets: Arc<Targets>,
    /// Number of features of an example.
    pub features: usize,
    /// Number of classes, 2 or more; or number of real targets of an example, 1 or more.
    pub outputs: usize,
}

impl Examples {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no example or feature, fewer than two classes, no value to learn, a length that is
    /// not `examples * features`, a label out of range, or a number that is not finite.
    pub fn new(
        inputs: impl Into<Features>,
        targets: impl Into<Targets>,
        features: usize,
        outputs: usize,
    ) -> Result<Self> {
        let (inputs, targets) = (inputs.into(), targets.into());
        let invalid = |problem: String| Err(Error::Invalid(problem));
        let examples = match &targets {
            Targets::Classes(_) if outputs < 2 => {
                return invalid(format!("a classifier needs at least two classes: the data has {outputs}"));
            }
            Targets::Values(_) if outputs == 0 => return invalid("the data has nothing to learn: no target".into()),
            Targets::Classes(labels) => {
                if let Some(at) = labels.iter().position(|&label| label as usize >= outputs) {
                    return invalid(format!(
                        "label {} of example {at} is not below {outputs}, the number of classes",
                        labels[at]
                    ));
                }
                labels.len()
            }
            Targets::Values(values) => {
                if !values.len().is_multiple_of(outputs) {
                    return invalid(format!("{} targets are not {outputs} for each example", values.len()));
                }
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    return invalid(format!("target {} of example {} is {}", at % outputs, at / outputs, values[at]));
                }
                values.len() / outputs
            }
        };
        if examples == 0 || features == 0 {
            return invalid(format!("a data set needs examples and features: it has {examples} and {features}"));
        }
        if Some(inputs.len()) != examples.checked_mul(features) {
            return invalid(format!("{} features are not {features} for each of {examples} examples", inputs.len()));
        }
        if let Features::Floats(values) = &inputs
            && let Some(at) = values.iter().position(|value| !value.is_finite())
        {
            return invalid(format!("feature {} of example {} is {}", at % features, at / features, values[at]));
        }
        Ok(Self { inputs: inputs.into(), targets: targets.into(), features, outputs })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.inputs.len() / self.features
    }

    /// Returns true if there are no examples.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Features of one example as a model sees them, `[features]`; bytes are scaled in f64.
    pub fn input(&self, example: usize) -> impl Iterator<Item = f64> {
        let row = example * self.features..(example + 1) * self.features;
        let (bytes, values) = match &*self.inputs {
            Features::Bytes(bytes) => (Cow::Borrowed(&bytes[row]), Cow::Borrowed(&[][..])),
            Features::Floats(values) => (Cow::Borrowed(&[][..]), Cow::Borrowed(&values[row])),
            Features::Stored(stored) => match stored.row(example) {
                Row::Bytes(bytes) => (Cow::Owned(bytes), Cow::Borrowed(&[][..])),
                Row::Floats(values) => (Cow::Borrowed(&[][..]), Cow::Owned(values)),
            },
        };
        let value = move |at: usize| match bytes.get(at) {
            Some(&byte) => f64::from(byte) / 255.0,
            None => f64::from(values[at]),
        };
        (0..self.features).map(value)
    }

    /// Class labels, `[examples]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the targets are real values.
    pub fn labels(&self) -> Result<&[u32]> {
        match &*self.targets {
            Targets::Classes(labels) => Ok(labels),
            Targets::Values(_) => {
                Err(Error::Invalid("the data's targets are real values, where classes are needed".into()))
            }
        }
    }

    /// Variance of real targets, averaged over the outputs; `None` for classes.
    pub fn variance(&self) -> Option<f64> {
        let Targets::Values(values) = &*self.targets else { return None };
        let rows = (values.len() / self.outputs) as f64;
        let column = |output: usize| values[output..].iter().step_by(self.outputs).map(|&value| f64::from(value));
        let variance = |output| {
            // Rounding must not make equal values vary.
            if column(output).all(|value| value == f64::from(values[output])) {
                return 0.0;
            }
            let mean = column(output).sum::<f64>() / rows;
            column(output).map(|value| (value - mean).powi(2)).sum::<f64>() / rows
        };
        Some((0..self.outputs).map(variance).sum::<f64>() / self.outputs as f64)
    }

    /// Copies some examples, in this order.
    pub fn select(&self, examples: &[u32]) -> Self {
        let Self { features, outputs, .. } = *self;
        let rows = || examples.iter().map(|&example| example as usize * features..(example as usize + 1) * features);
        let inputs = match &*self.inputs {
            Features::Bytes(bytes) => Features::Bytes(rows().flat_map(|row| &bytes[row]).copied().collect()),
            Features::Floats(values) => Features::Floats(rows().flat_map(|row| &values[row]).copied().collect()),
            Features::Stored(stored) => {
                let (mut bytes, mut floats) = (Vec::new(), Vec::new());
                for &example in examples {
                    match stored.row(example as usize) {
                        Row::Bytes(row) => bytes.extend(row),
                        Row::Floats(row) => floats.extend(row),
                    }
                }
                if stored.is_bytes() { Features::Bytes(bytes) } else { Features::Floats(floats) }
            }
        };
        Self { inputs: inputs.into(), targets: self.targets.select(examples, outputs).into(), features, outputs }
    }

    /// Splits off a validation part of `round(share * len)` examples; returns the remaining examples and the validation
    /// part.
    ///
    /// The choice depends on the seed and the number of examples only, and both parts keep their order. Only the
    /// validation part is copied.
    ///
    /// # Errors
    /// [`Error::Invalid`] if either part would be empty.
    pub fn split(mut self, share: f64, seed: u64) -> Result<(Self, Self)> {
        let chosen = choose(self.len(), share, seed, SPLIT_STREAM).ok_or_else(|| {
            Error::Invalid(format!(
                "`validation` {share} of {} examples: there must be at least one to validate on and one left to train on",
                self.len()
            ))
        })?;
        let validation = self.take(&chosen);
        Ok((self, validation))
    }

    /// Copies the examples outside and inside a fold, of `folds` that have equal shares of each class; folds count from 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more folds than examples.
    pub(crate) fn fold(&self, fold: usize, folds: usize, seed: u64) -> Result<(Self, Self)> {
        if folds > self.len() {
            return Err(Error::Invalid(format!("{folds} folds of {} examples: each needs at least one", self.len())));
        }
        let of = folds_of(self.labels().ok(), self.len(), folds, seed);
        let (inside, outside): (Vec<u32>, Vec<u32>) =
            (0..self.len() as u32).partition(|&example| of[example as usize] == fold);
        Ok((self.select(&outside), self.select(&inside)))
    }

    /// Asks the system for the rows of a batch to come, if features stay in a file and reads of it wait for the disk. `rows` are
    /// those of the present batch in the order of the epoch, or this process's share of them, and `batch` how many a batch has.
    pub(crate) fn ask_ahead(&self, order: &[u32], rows: &Range<usize>, batch: usize) {
        if let Features::Stored(stored) = &*self.inputs {
            let distance = ASKED_AHEAD.div_ceil(batch) * batch;
            let [first, end] = [rows.start, rows.end].map(|row| (row + distance).min(order.len()));
            stored.ask_for(order[first..end].iter().map(|&row| row as usize));
        }
    }

    /// Checks that features which stay in a file could be read, up to now, as they were when it was opened.
    ///
    /// # Errors
    /// [`Error::Format`] with the file that was changed or cut off, or cannot be read.
    pub fn check_read(&self) -> Result<()> {
        match &*self.inputs {
            Features::Stored(stored) => stored.check(),
            Features::Bytes(_) | Features::Floats(_) => Ok(()),
        }
    }

    /// Classes without an example; empty if the targets are real values.
    pub fn missing_classes(&self) -> Vec<usize> {
        let Targets::Classes(labels) = &*self.targets else { return Vec::new() };
        let mut missing = vec![true; self.outputs];
        labels.iter().for_each(|&label| missing[label as usize] = false);
        (0..self.outputs).filter(|&class| missing[class]).collect()
    }

    /// Checks that the targets differ. `names` are the class names for the message, if there are any.
    fn check_learnable(&self, names: Option<&[String]>) -> std::result::Result<(), String> {
        match &*self.targets {
            Targets::Classes(labels) if labels.iter().all(|label| *label == labels[0]) => {
                let name =
                    names.map_or_else(|| labels[0].to_string(), |names| format!("{:?}", names[labels[0] as usize]));
                Err(format!("one class only, {name}, in its training part: there is nothing to tell apart"))
            }
            Targets::Values(values) if values.chunks(self.outputs).all(|row| *row == values[..self.outputs]) => {
                Err("the same target everywhere in its training part: there is nothing to learn".into())
            }
            _ => Ok(()),
        }
    }

    /// SHA-256 of features, targets and sizes, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.update(&mut hash);
        hexadecimal(&hash.finalize())
    }

    fn update(&self, hash: &mut Sha256) {
        for size in [self.len(), self.features, self.outputs] {
            hash.update((size as u64).to_le_bytes());
        }
        match &*self.inputs {
            Features::Bytes(bytes) => hash.update(bytes),
            Features::Floats(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
            Features::Stored(stored) => stored.for_each(|_, row| match row {
                Row::Bytes(bytes) => hash.update(bytes),
                Row::Floats(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
            }),
        }
        match &*self.targets {
            Targets::Classes(labels) => labels.iter().for_each(|label| hash.update(label.to_le_bytes())),
            Targets::Values(values) => {
                hash.update(b"values"); // distinguishes values from labels with the same bytes
                values.iter().for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
    }

    /// Appends examples with the same kinds of features and targets.
    fn and(mut self, other: Self) -> Self {
        if matches!((&*self.inputs, &*other.inputs), (Features::Stored(_), _) | (_, Features::Stored(_))) {
            self.inputs = Arc::new((*self.inputs).clone().into_memory());
            return self.and(Self { inputs: Arc::new((*other.inputs).clone().into_memory()), ..other });
        }
        match (Arc::make_mut(&mut self.inputs), &*other.inputs) {
            (Features::Bytes(bytes), Features::Bytes(more)) => bytes.extend(more),
            (Features::Floats(values), Features::Floats(more)) => values.extend(more),
            _ => unreachable!("one preprocessing makes one kind of features"),
        }
        match (Arc::make_mut(&mut self.targets), &*other.targets) {
            (Targets::Classes(labels), Targets::Classes(more)) => labels.extend(more),
            (Targets::Values(values), Targets::Values(more)) => values.extend(more),
            _ => unreachable!("and one kind of targets"),
        }
        self
    }

    /// Removes the chosen examples and returns them; both parts keep their order.
    fn take(&mut self, chosen: &[bool]) -> Self {
        let Self { features, outputs, .. } = *self;
        let inputs = match Arc::make_mut(&mut self.inputs) {
            Features::Bytes(bytes) => Features::Bytes(take_rows(bytes, features, chosen)),
            Features::Floats(values) => Features::Floats(take_rows(values, features, chosen)),
            Features::Stored(stored) => Features::Stored(stored.take(chosen)),
        };
        let targets = match Arc::make_mut(&mut self.targets) {
            Targets::Classes(labels) => Targets::Classes(take_rows(labels, 1, chosen)),
            Targets::Values(values) => Targets::Values(take_rows(values, outputs, chosen)),
        };
        Self { inputs: inputs.into(), targets: targets.into(), features, outputs }
    }
}

/// Stream of the random generator for validation splits, separate from everything else that a run's seed drives.
const SPLIT_STREAM: u64 = u64::MAX;
/// Stream for test parts that are split off the data.
const TEST_STREAM: u64 = u64::MAX - 1;

/// The examples that training really uses, of which `chosen` are those to test with: those that remain after
/// [`Examples::split`] has held out the share `validation` of the others.
fn training_rows(chosen: &[bool], validation: f64, seed: u64) -> Vec<bool> {
    let of_training = chosen.iter().filter(|chosen| !**chosen).count();
    // An impossible share is refused where the split is made.
    let held_out = choose(of_training, validation, seed, SPLIT_STREAM).unwrap_or(vec![false; of_training]);
    let mut held_out = held_out.into_iter();
    chosen.iter().map(|chosen| !chosen && held_out.next() == Some(false)).collect()
}

/// Chooses `round(share * len)` examples: true for each chosen one; `None` if none or all of them would be chosen.
fn choose(len: usize, share: f64, seed: u64, stream: u64) -> Option<Vec<bool>> {
    let wanted = (share * len as f64).round();
    if !(1.0..len as f64).contains(&wanted) {
        return None;
    }
    let mut missing = wanted as usize;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let choose = |example| {
        // Selection sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S): an example is taken with
        // probability missing / remaining.
        let taken = ((u128::from(random.next_u64()) * (len - example) as u128) >> 64) < missing as u128;
        missing -= usize::from(taken);
        taken
    };
    Some((0..len).map(choose).collect())
}

/// Chooses the test part of `file` by its share or fold: true for each of its examples; `None` for a separate test part.
/// `classes` are the labels of the examples, which folds are stratified by.
fn choose_test(
    file: &str,
    part: &TestPart,
    classes: Option<&[u32]>,
    len: usize,
    seed: u64,
) -> Result<Option<Vec<bool>>> {
    let refused = |problem| Error::Invalid(format!("{file}: `test` {part} of {len} examples: {problem}"));
    match *part {
        TestPart::Path(_) => Ok(None),
        TestPart::Share(share) => choose(len, share, seed, TEST_STREAM)
            .ok_or_else(|| refused("there must be at least one to test with and one left to train on"))
            .map(Some),
        TestPart::Fold { fold, folds } => {
            if folds > len {
                return Err(refused("each fold needs at least one"));
            }
            Ok(Some(folds_of(classes, len, folds, seed).into_iter().map(|of| of + 1 == fold).collect()))
        }
    }
}

/// Deals examples out to folds, from 0: their sizes, and those of their parts of each class, differ by at most one.
///
/// The folds depend on the seed and on which examples have the same class, not on the numbers of the classes.
fn folds_of(classes: Option<&[u32]>, len: usize, folds: usize, seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(TEST_STREAM);
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut random);
    if let Some(classes) = classes {
        let mut first = std::collections::BTreeMap::new();
        classes.iter().enumerate().for_each(|(at, &class)| {
            first.entry(class).or_insert(at);
        });
        order.sort_by_key(|&example| first[&classes[example]]);
    }
    let mut fold = vec![0; len];
    order.into_iter().enumerate().for_each(|(at, example)| fold[example] = at % folds);
    fold
}

/// Removes the chosen rows from `values`, `[rows, width]`, and returns them; both parts keep their order.
fn take_rows<T: Copy>(values: &mut Vec<T>, width: usize, chosen: &[bool]) -> Vec<T> {
    let count = chosen.iter().filter(|&&chosen| chosen).count();
    let mut taken = Vec::with_capacity(count * width);
    let mut kept = 0;
    for (row, &chosen) in chosen.iter().enumerate() {
        let row = row * width..(row + 1) * width;
        if chosen {
            taken.extend_from_slice(&values[row]);
        } else {
            values.copy_within(row, kept);
            kept += width;
        }
    }
    values.truncate(kept);
    taken
}

/// A data set: a training and a test part.
#[derive(Clone, Debug)]
pub struct Data {
    /// Name of the data set: `mnist`, `digits`, or the path that it was loaded from.
    pub name: String,
    /// The training part.
    pub train: Examples,
    /// The test part, which accuracy is measured on.
    pub test: Examples,
    /// Preprocessing of a table, images or arrays; `None` for other data.
    #[doc(hidden)]
    pub preprocessing: Option<Preprocessing>,
    /// Height and width in pixels, if the examples are images, row by row, with one or three bytes per pixel.
    pub image: Option<[usize; 2]>,
    /// Notices for the user about the loading, one line each.
    pub notices: Vec<String>,
    /// Reason why the target of a table is learned as classes or as a number, with the setting that changes it.
    pub target_rule: Option<String>,
    /// Data as they were read, for [`Data::refit`].
    #[doc(hidden)]
    pub loaded: Option<Loaded>,
    /// Origin of each test example; empty if only the order tells them apart.
    #[doc(hidden)]
    pub test_origins: Vec<Origin>,
}

/// User data as they were read, of which the training part may change.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub enum Loaded {
    /// A table.
    Table(Arc<csv::Loaded>),
    /// Arrays of numbers.
    Arrays(Arc<npy::Loaded>),
}

/// The place that an example was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Origin {
    /// File and line of a table's row, from 1.
    Line(Arc<str>, u64),
    /// Image file.
    File(PathBuf),
    /// Folder or archive of arrays, and index of the example in its array, from 0.
    Index(Arc<str>, usize),
}

impl Origin {
    /// Formats the part that stays when the data move: a line, a picture's file with the folder of its class, an index.
    pub fn within_data(&self) -> String {
        match self {
            Self::Line(_, line) => line.to_string(),
            Self::File(path) => {
                let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
                Path::new(folder).join(path.file_name().unwrap_or_default()).display().to_string()
            }
            Self::Index(_, index) => index.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    /// Names the example as `softstep predict` does.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, line) => write!(formatter, "{file}:{line}"),
            Self::File(path) => path.display().fmt(formatter),
            Self::Index(name, index) => write!(formatter, "{name}[{index}]"),
        }
    }
}

/// Examples with their origins, and notices about their loading.
#[derive(Clone, Debug)]
struct Listed {
    examples: Examples,
    /// Origin of each example; empty if unknown.
    origins: Vec<Origin>,
    notices: Vec<String>,
}

impl Listed {
    /// Removes the chosen examples and returns them with their origins; both parts keep their order.
    fn take(&mut self, chosen: &[bool]) -> (Examples, Vec<Origin>) {
        let origins = std::mem::take(&mut self.origins).into_iter().zip(chosen);
        let (taken, kept): (Vec<_>, Vec<_>) = origins.partition(|(_, chosen)| **chosen);
        self.origins = kept.into_iter().map(|(origin, _)| origin).collect();
        (self.examples.take(chosen), taken.into_iter().map(|(origin, _)| origin).collect())
    }

    /// Appends other examples with the same kinds of features and targets.
    fn and(mut self, other: Self) -> Self {
        self.origins.extend(other.origins);
        self.notices.extend(other.notices);
        Self { examples: self.examples.and(other.examples), ..self }
    }
}

impl Data {
    /// Builds a data set of examples that were made in the program: a training part, and a test part that training does
    /// not use.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the parts differ in their features or targets, or there is nothing to learn.
    pub fn new(name: impl Into<String>, train: Examples, test: Examples) -> Result<Self> {
        let kind = |part: &Examples| {
            (part.inputs.is_bytes(), matches!(*part.targets, Targets::Classes(_)), part.features, part.outputs)
        };
        if kind(&train) != kind(&test) {
            return Err(Error::Invalid("the test part has other features or targets than the training part".into()));
        }
        train.check_learnable(None).map_err(Error::Invalid)?;
        let preprocessing = Some(Preprocessing::Arrays(ArrayFormat::of(&train)));
        Ok(Self { preprocessing, ..Self::of_parts(name, train, test) })
    }

    /// A training and a test part, unchecked, of which nothing more is known.
    #[doc(hidden)]
    pub fn of_parts(name: impl Into<String>, train: Examples, test: Examples) -> Self {
        Self {
            name: name.into(),
            train,
            test,
            preprocessing: None,
            image: None,
            notices: Vec::new(),
            target_rule: None,
            loaded: None,
            test_origins: Vec::new(),
        }
    }

    /// Shape of an example: that of the image, if it is one.
    pub fn shape(&self) -> Shape {
        let features = self.train.features;
        match self.image {
            Some([height, width]) if height * width > 0 && features.is_multiple_of(height * width) => {
                Shape::Image { height, width, channels: features / (height * width) }
            }
            _ => Shape::Flat(features),
        }
    }

    /// Recomputes the means, deviations and categories of a table, or the means and deviations of arrays, from the examples
    /// that training really uses: those that remain after [`Examples::split`] has held out the share `validation`. Other
    /// data, and data that were loaded for an existing model, are unchanged. Releases the memory that what was loaded was
    /// kept in for this purpose.
    ///
    /// # Errors
    /// [`Error::Format`] if a value is too far from the training examples.
    pub fn refit(&mut self, validation: f64, seed: u64) -> Result<()> {
        match self.loaded.take().filter(|_| validation > 0.0) {
            Some(Loaded::Table(table)) => {
                let (train, test, format, notices) = table.refit(validation, seed)?;
                (self.train, self.test, self.notices) = (train, test, notices);
                self.preprocessing = Some(Preprocessing::Table(format));
            }
            Some(Loaded::Arrays(arrays)) => {
                let (train, test, format) = arrays.refit(validation, seed)?;
                (self.train, self.test) = (train, test);
                self.preprocessing = Some(Preprocessing::Arrays(format));
            }
            None => {}
        }
        Ok(())
    }

    /// Takes numbers of arrays as they are instead of standardising them: for weights that were trained on them elsewhere.
    ///
    /// # Errors
    /// [`Error::Format`] if a file of theirs was changed.
    #[doc(hidden)]
    pub fn use_arrays_as_they_are(&mut self) -> Result<()> {
        if let Some(Loaded::Arrays(arrays)) = &self.loaded {
            let (train, test, format) = arrays.as_they_are()?;
            (self.train, self.test) = (train, test);
            self.preprocessing = Some(Preprocessing::Arrays(format));
            self.loaded = None;
        }
        Ok(())
    }

    /// Moves the share `validation` of the training examples, chosen by `seed`, into a part of their own; `None` if the
    /// share is 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] if either part would be empty.
    #[doc(hidden)]
    pub fn hold_out(mut self, validation: f64, seed: u64) -> Result<(Self, Option<Examples>)> {
        let mut held_out = None;
        if validation > 0.0 {
            let (train, rest) = self.train.split(validation, seed)?;
            (self.train, held_out) = (train, Some(rest));
        }
        Ok((self, held_out))
    }

    /// SHA-256 of the training examples, by which a model knows its test part again; `None` for sets with a fixed test
    /// part.
    #[doc(hidden)]
    pub fn train_sha256(&self) -> Option<String> {
        self.preprocessing.is_some().then(|| self.train.sha256())
    }

    /// Shapes of the classes in the training part, if models of such data read pictures as digits of MNIST's size. Digits
    /// that somebody draws look like MNIST's, but not like the bundled ones of 8×8, of which 85 % of them would be
    /// unfamiliar.
    #[doc(hidden)]
    pub fn shapes(&self) -> Option<Shapes> {
        let fit = Fit::default_for(self.preprocessing.as_ref(), self.image, &self.name);
        (fit == Fit::Digits && self.image == Some([28, 28])).then(|| Shapes::of(&self.train)).flatten()
    }

    /// SHA-256 of both parts, without the name, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        [&self.train, &self.test].into_iter().for_each(|part| part.update(&mut hash));
        hexadecimal(&hash.finalize())
    }
}

/// Formats bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example i has the features [i, 255 - i].
    fn numbered(len: u8) -> Examples {
        let inputs = (0..len).flat_map(|index| [index, 255 - index]).collect();
        let labels: Vec<u32> = (0..len).map(|index| u32::from(index % 3)).collect();
        Examples::new(Features::Bytes(inputs), labels, 2, 3).unwrap()
    }

    /// Example i has the float features [i, 255 - i] and the targets [i, -i].
    fn numbered_floats(len: u8) -> Examples {
        let pairs = |second: fn(f32) -> f32| {
            (0..len).map(f32::from).flat_map(|index| [index, second(index)]).collect::<Vec<f32>>()
        };
        Examples::new(pairs(|index| 255.0 - index), pairs(|index| -index), 2, 2).unwrap()
    }

    /// The numbers i of examples that `numbered` or `numbered_floats` made.
    fn numbers(examples: &Examples) -> Vec<usize> {
        let scale = if matches!(*examples.inputs, Features::Bytes(_)) { 255.0 } else { 1.0 };
        (0..examples.len()).map(|example| (examples.input(example).next().unwrap() * scale).round() as usize).collect()
    }

    #[test]
    fn a_split_shares_out_every_example_once_and_keeps_order() {
        for all in [numbered(100), numbered_floats(100)] {
            let (train, validation) = all.clone().split(0.25, 3).unwrap();
            assert_eq!((train.len(), validation.len()), (75, 25));
            let mut seen = [0; 100];
            for part in [&train, &validation] {
                assert_eq!((part.features, part.outputs, part.inputs.len()), (2, all.outputs, 2 * part.len()));
                assert!(numbers(part).is_sorted());
                for (example, original) in numbers(part).into_iter().enumerate() {
                    assert!(part.input(example).eq(all.input(original)));
                    match (&*part.targets, &*all.targets) {
                        (Targets::Classes(part), Targets::Classes(all)) => assert_eq!(part[example], all[original]),
                        (Targets::Values(part), Targets::Values(_)) => {
                            assert_eq!(part[2 * example..][..2], [original as f32, -(original as f32)]);
                        }
                        _ => panic!("other targets"),
                    }
                    seen[original] += 1;
                }
            }
            assert_eq!(seen, [1; 100]);
        }
    }

    #[test]
    fn a_split_depends_on_its_seed_alone_and_favours_no_example() {
        assert_eq!(numbered(100).split(0.1, 5).unwrap(), numbered(100).split(0.1, 5).unwrap());
        assert_ne!(numbered(100).split(0.1, 5).unwrap(), numbered(100).split(0.1, 6).unwrap());
        let mut chosen = [0; 20];
        for seed in 0..4000 {
            let (_, validation) = numbered(20).split(0.25, seed).unwrap();
            numbers(&validation).into_iter().for_each(|index| chosen[index] += 1);
        }
        // Each example is chosen 1000 times on average, with a standard deviation of 27.
        assert!(chosen.iter().all(|count| (1000i32 - count).abs() <= 140), "{chosen:?}");
    }

    #[test]
    fn folds_are_of_equal_size_with_equal_shares_of_the_classes_whatever_their_numbers() {
        let classes: Vec<u32> =
            (0..103).map(|example| u32::from(example % 7 == 0) + u32::from(example % 50 == 0)).collect();
        let folds = folds_of(Some(&classes), 103, 4, 5);
        let sizes = |of: &dyn Fn(usize) -> bool| {
            let mut sizes = [0; 4];
            (0..103).filter(|&example| of(example)).for_each(|example| sizes[folds[example]] += 1);
            sizes.iter().max().unwrap() - sizes.iter().min().unwrap()
        };
        assert!(sizes(&|_| true) <= 1);
        (0..3).for_each(|class| assert!(sizes(&|example| classes[example] == class) <= 1, "{class}"));
        let others: Vec<u32> = classes.iter().map(|class| 9 - class).collect();
        assert_eq!(folds_of(Some(&others), 103, 4, 5), folds);
        assert_ne!(folds_of(Some(&classes), 103, 4, 6), folds);
        let part =
            |fold| choose_test("f", &TestPart::Fold { fold, folds: 4 }, Some(&classes), 103, 5).unwrap().unwrap();
        for example in 0..103 {
            assert_eq!((1..=4).filter(|&fold| part(fold)[example]).count(), 1);
        }
        let refused = choose_test("f", &TestPart::Fold { fold: 1, folds: 104 }, None, 103, 5).unwrap_err().to_string();
        assert!(refused.contains("`test` fold=1/104 of 103 examples"), "{refused}");
    }

    #[test]
    fn a_split_that_leaves_a_part_empty_is_refused() {
        for share in [0.0, 0.01, 0.96, 1.0, 1.5, -0.5, f64::NAN, f64::INFINITY] {
            let error = numbered(10).split(share, 0).unwrap_err().to_string();
            assert!(error.contains(&format!("`validation` {share}")), "{error}");
        }
        assert_eq!(numbered(2).split(0.5, 0).unwrap().1.len(), 1);
    }

    #[test]
    fn examples_whose_parts_do_not_fit_are_refused() {
        let refused = [
            (vec![], vec![], 1, 2),
            (vec![], vec![0], 0, 2),
            (vec![1, 2, 3], vec![0, 1], 2, 2),
            (vec![1, 2], vec![0, 2], 1, 2),
            (vec![1], vec![0], 1, 1),
            (vec![1], vec![0, 1], usize::MAX, 2),
        ];
        for (inputs, labels, features, classes) in refused {
            assert!(Examples::new(Features::Bytes(inputs), Targets::Classes(labels), features, classes).is_err());
        }
        let refused = [
            (vec![], vec![], 1, 1),
            (vec![0.5], vec![], 1, 0),
            (vec![0.5, f32::NAN], vec![1.0, 2.0], 1, 1),
            (vec![0.5, 0.5], vec![1.0, f32::INFINITY], 1, 1),
            (vec![0.5, 0.5], vec![1.0, 2.0, 3.0], 1, 2),
            (vec![0.5, 0.5], vec![1.0], 1, 1),
        ];
        for (inputs, values, features, outputs) in refused {
            assert!(Examples::new(Features::Floats(inputs), Targets::Values(values), features, outputs).is_err());
        }
    }

    #[test]
    fn the_hash_of_a_data_set_tells_every_part_of_it() {
        let data = |train: &Examples| Data::of_parts("test", train.clone(), numbered(3));
        // This hash must not change: runs and models identify their data by it.
        let known = "452ffbf22104e4bbf6f385470c6445eaf3415876ca13ea4479facba3a807f7c6";
        assert_eq!(data(&numbered(10)).sha256(), known);
        let values = |first: f32| Examples::new(vec![first, 1.0], vec![first, 1.0], 1, 1).unwrap();
        let labels = |first| Examples::new(vec![0.0, 1.0], vec![first, 1], 1, 2).unwrap();
        let hashes = [values(0.0), values(0.5), labels(0), labels(1)].map(|examples| data(&examples).sha256());
        let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len(), "{hashes:?}");
    }
}
