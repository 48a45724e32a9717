//! Error analysis: results of a model on its test part, example by example, as far as a report shows them.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use softstep::backend::{Evaluation, Inference};
use softstep::data::{Data, Encoding, Examples, Features, Preprocessing, TableFormat, Targets, in_own_units};
use softstep::loss::{Link, Loss};
use softstep::metrics::Confusion;
use softstep::reference::attribution;

use crate::format::{number, rounded};
use crate::html::{self, picture};
use crate::quality;
use crate::run::files::{hexadecimal, null_is_nan};
use crate::run::importance::{self, Importance, importances};
use crate::run::probabilities::{Calibration, Probabilities, TwoClasses, best_threshold};

/// Upper limits of the recorded mistakes, for pictures and for rows of a table.
const PICTURES: usize = 24;
const ROWS: usize = 12;
/// Upper limits of the recorded columns of a row and outputs of a model.
const COLUMNS: usize = 24;
const OUTPUTS: usize = 4;
/// Upper limit of the classes of a confusion matrix.
const MAX_CLASSES: usize = 1000;
/// Upper limit of the real values recorded for the plot.
const SAMPLE: usize = 800;
/// Upper limit of the numbers uploaded to the device at a time.
const CHUNK: usize = 1 << 22;
/// Upper limit of the recorded squared errors of real values, and of the examples whose correctness is recorded.
const ERRORS: usize = 20_000;
const CORRECT: usize = 1 << 20;
/// Upper limits of the columns whose importance is recorded, and of the numbers that are evaluated for that.
const IMPORTANT: usize = 10;
const IMPORTANCE_NUMBERS: usize = 1 << 23;

/// Results of a model on its test part.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorAnalysis {
    /// Epoch of the parameters.
    pub epoch: usize,
    /// Number of test examples.
    pub examples: usize,
    /// Mean loss.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Share of correct predictions, for classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean recall of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_accuracy: Option<f64>,
    /// Mean F1 of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Coefficient of determination R², for real values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r_squared: Option<f64>,
    /// Root mean squared error of real values, in the units of the target; of several targets in their deviations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// Results for each of several real values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<OfTarget>,
    /// Number of classes; 0 for real values.
    #[serde(default)]
    pub classes: usize,
    /// Non-zero cells of the confusion matrix, as `[label, prediction, examples]`.
    #[serde(default)]
    pub confusion: Vec<[usize; 3]>,
    /// Real values for the plot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Sample>,
    /// The worst mistakes, the worst first; `None` if they were not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mistakes: Option<Vec<Mistake>>,
    /// Calibration of the probabilities, for classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Curves and threshold, for two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_classes: Option<TwoClasses>,
    /// The most important columns of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<Vec<Importance>>,
    /// Results of every example, for paired tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<Paired>,
}

/// Results for one of several real values.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct OfTarget {
    /// Coefficient of determination R²; `None` where the target does not vary.
    pub r_squared: Option<f64>,
    /// Root mean squared error in the unit of the target.
    #[serde(deserialize_with = "null_is_nan")]
    pub rmse: f64,
}

impl OfTarget {
    /// Measures each target of the test part, if it has several.
    pub async fn of_several<B: Inference>(backend: &mut B, data: &Data) -> softstep::Result<Vec<Self>> {
        let test = &data.test;
        let Targets::Values(values) = &*test.targets else { return Ok(Vec::new()) };
        if test.outputs < 2 {
            return Ok(Vec::new());
        }
        let own = |values: &[f32]| in_own_units(data.preprocessing.as_ref(), values);
        let rows = || values.chunks_exact(test.outputs);
        let count = test.len() as f64;
        let mut means = vec![0.0; test.outputs];
        for row in rows() {
            means.iter_mut().zip(own(row)).for_each(|(mean, actual)| *mean += actual / count);
        }
        let (mut errors, mut variances) = (vec![0.0; test.outputs], vec![0.0; test.outputs]);
        let all: Vec<u32> = (0..test.len() as u32).collect();
        for chunk in chunks(test, &all) {
            let (outputs, width) = outputs(backend, test, chunk).await?;
            let actual = rows().skip(chunk[0] as usize);
            for (predicted, actual) in outputs.chunks_exact(width).zip(actual) {
                for (at, (predicted, actual)) in own(predicted).into_iter().zip(own(actual)).enumerate() {
                    errors[at] += (predicted - actual).powi(2) / count;
                    variances[at] += (actual - means[at]).powi(2) / count;
                }
            }
        }
        let of_target = |(error, variance): (f64, f64)| Self {
            r_squared: (variance > 0.0).then(|| 1.0 - error / variance),
            rmse: error.sqrt(),
        };
        Ok(errors.into_iter().zip(variances).map(of_target).collect())
    }
}

/// Results of every test example, in order, which a paired test of two runs compares.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// SHA-256 of what tells the test part from others.
    pub part: String,
    /// The results.
    #[serde(flatten)]
    pub results: PairedResults,
}

/// Results of examples.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedResults {
    /// Correctness in hexadecimal: four examples a digit, the first in the highest bit, 1 if it is predicted correctly.
    Correct(String),
    /// Squared errors of real values, in the square of the target's unit.
    SquaredErrors(Vec<f32>),
}

impl Paired {
    /// Records which predictions are correct; `None` for too many.
    fn of_classes(data: &Data, labels: &[u32], predictions: &[u32]) -> Option<Self> {
        if labels.len() > CORRECT {
            return None;
        }
        let correct: Vec<bool> = labels.iter().zip(predictions).map(|(label, predicted)| label == predicted).collect();
        let digit = |four: &[bool]| {
            let bits = four.iter().zip([8, 4, 2, 1]).map(|(correct, bit)| u32::from(*correct) * bit);
            char::from_digit(bits.sum(), 16)
        };
        let results = PairedResults::Correct(correct.chunks(4).filter_map(digit).collect());
        Some(Self { part: part_id(data), results })
    }
}

impl PairedResults {
    /// Returns which of so many predictions are correct; `None` if these are no such results.
    pub fn correct(&self, examples: usize) -> Option<Vec<bool>> {
        let Self::Correct(digits) = self else { return None };
        let digits = digits.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<u32>>>()?;
        if digits.len() != examples.div_ceil(4) {
            return None;
        }
        Some(digits.into_iter().flat_map(|digit| [8, 4, 2, 1].map(|bit| digit & bit != 0)).take(examples).collect())
    }
}

/// SHA-256 of the origins of the test examples, or else of their content, and of their classes: runs with the same were
/// measured on the same examples. Features of a table follow the training part, which may differ between runs.
fn part_id(data: &Data) -> String {
    let mut hash = Sha256::new();
    match data.test_origins.as_slice() {
        [] => hash.update(data.test.sha256()),
        origins => origins.iter().for_each(|origin| hash.update(format!("{}\n", origin.within_data()))),
    }
    if let Targets::Classes(labels) = &*data.test.targets {
        labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
    }
    hexadecimal(&hash.finalize())
}

/// A regular sample of the test part's real values, in the units of the target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Interval of the sample, in examples.
    pub every: usize,
    /// Pairs `[actual, predicted]`.
    pub pairs: Vec<[f64; 2]>,
}

/// An example that the model predicts wrongly.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mistake {
    /// Index of the example in the test part, from 0.
    pub example: usize,
    /// The wrong prediction.
    #[serde(flatten)]
    pub wrong: Wrong,
    /// The example itself.
    pub input: Input,
    /// Attribution of the prediction to the pixels of a picture, a PNG in a `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
}

/// A wrong prediction.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wrong {
    /// A wrong class.
    Class {
        /// The correct class.
        label: usize,
        /// The predicted class.
        predicted: usize,
        /// Classes with their outputs, usually probabilities: the largest ones and that of the label.
        outputs: Vec<(usize, f32)>,
    },
    /// An inaccurate number.
    Value {
        /// The actual value.
        #[serde(deserialize_with = "null_is_nan")]
        actual: f64,
        /// The predicted value.
        #[serde(deserialize_with = "null_is_nan")]
        predicted: f64,
    },
}

/// Display form of an example.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A PNG in a `data:` URL.
    Picture(String),
    /// Names and values of columns; long rows are truncated.
    Row(Vec<(String, String)>),
}

impl ErrorAnalysis {
    /// Results that follow from the evaluation alone, with a confusion matrix of at most [`MAX_CLASSES`] classes.
    pub fn new(epoch: usize, data: &Data, evaluation: &Evaluation) -> Self {
        let mut confusion = Vec::new();
        let mut classes = 0;
        let (mut balanced_accuracy, mut macro_f1, mut paired) = (None, None, None);
        if let Targets::Classes(labels) = &*data.test.targets
            && data.test.outputs <= MAX_CLASSES
            && let Ok(counted) = Confusion::new(labels, &evaluation.predictions, data.test.outputs)
        {
            classes = counted.classes;
            (balanced_accuracy, macro_f1) = (counted.balanced_accuracy(), counted.macro_f1());
            paired = Paired::of_classes(data, labels, &evaluation.predictions);
            let cells = counted.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
            confusion = cells.map(|(cell, &count)| [cell / classes, cell % classes, count]).collect();
        }
        Self {
            epoch,
            examples: data.test.len(),
            loss: evaluation.loss,
            accuracy: evaluation.accuracy(),
            balanced_accuracy,
            macro_f1,
            r_squared: evaluation.r_squared,
            rmse: quality::rmse(data, evaluation),
            targets: Vec::new(),
            classes,
            confusion,
            values: None,
            mistakes: None,
            calibration: None,
            two_classes: None,
            importance: None,
            paired,
        }
    }

    /// Records calibration, and for two classes curves and threshold, which is chosen on the validation part if there is
    /// one. `backend` has the evaluated parameters, which were trained with `loss`.
    pub async fn measure<B: Inference>(
        &mut self,
        backend: &mut B,
        data: &Data,
        validation: Option<&Examples>,
        evaluation: &Evaluation,
        loss: Loss,
    ) -> softstep::Result<()> {
        let Targets::Classes(labels) = &*data.test.targets else { return Ok(()) };
        if loss.link() == Link::Identity {
            return Ok(());
        }
        let probabilities = Probabilities::compute(backend, &data.test).await?;
        self.calibration = Calibration::new(&probabilities, labels, &evaluation.predictions);
        if data.test.outputs == 2 {
            let chosen = match validation.map(|examples| (examples, &*examples.targets)) {
                Some((examples, Targets::Classes(labels))) => {
                    best_threshold(&Probabilities::compute(backend, examples).await?, labels)
                }
                _ => None,
            };
            self.two_classes = TwoClasses::new(&probabilities, labels, "test part", chosen);
        }
        Ok(())
    }

    /// Records what the predictions of the recorded mistakes look at, if they are pictures.
    pub async fn attribute<B: Inference>(&mut self, backend: &mut B, data: &Data, loss: Loss) -> softstep::Result<()> {
        let Some(image) = data.image else { return Ok(()) };
        let Some(mistakes) = self.mistakes.as_mut().filter(|mistakes| !mistakes.is_empty()) else { return Ok(()) };
        let parameters = backend.parameters().await?;
        for mistake in mistakes {
            let inputs: Vec<f64> = data.test.input(mistake.example).collect();
            let Some(attribution) = attribution(&parameters, loss.link(), &inputs) else { continue };
            let of_pixels = of_pixels(&attribution, image);
            let largest = of_pixels.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            mistake.attribution = picture::diverging(&of_pixels, image, largest).ok();
        }
        Ok(())
    }

    /// Records the importance of the columns of a table that is not too large.
    pub async fn weigh<B: Inference>(&mut self, backend: &mut B, data: &Data, seed: u64) -> softstep::Result<()> {
        let Some(format) = importance::table(data) else { return Ok(()) };
        if data.test.inputs.len().saturating_mul(format.columns.len()) > IMPORTANCE_NUMBERS {
            return Ok(());
        }
        let mut all = importances(backend, format, &data.test, seed).await?;
        all.truncate(IMPORTANT);
        self.importance = Some(all);
        Ok(())
    }

    /// Records the examples that `evaluation`, of this backend's parameters, predicts wrongly.
    pub async fn examine<B: Inference>(
        &mut self,
        backend: &mut B,
        data: &Data,
        evaluation: &Evaluation,
    ) -> softstep::Result<()> {
        let test = &data.test;
        match &*test.targets {
            Targets::Classes(labels) => {
                let wrong =
                    (0..).zip(labels.iter().zip(&evaluation.predictions)).filter(|(_, (label, taken))| label != taken);
                let wrong: Vec<u32> = wrong.map(|(example, _)| example).collect();
                let most = if data.image.is_some() { PICTURES } else { ROWS };
                // Difference between the outputs of the wrong and the correct class, with the mistake.
                let mut worst: Vec<(f32, Mistake)> = Vec::new();
                for chunk in chunks(test, &wrong) {
                    let (outputs, width) = outputs(backend, test, chunk).await?;
                    for (&example, outputs) in chunk.iter().zip(outputs.chunks_exact(width)) {
                        let label = labels[example as usize] as usize;
                        let predicted = evaluation.predictions[example as usize] as usize;
                        let output = |class: usize| outputs.get(class).copied().unwrap_or(f32::NEG_INFINITY);
                        let gap = output(predicted) - output(label);
                        if worst.len() < most || gap > worst[worst.len() - 1].0 {
                            let wrong = Wrong::Class { label, predicted, outputs: largest(outputs, label) };
                            let input = input(data, example);
                            worst.push((gap, Mistake { example: example as usize, wrong, input, attribution: None }));
                            // The sort is stable, so the first of several equal mistakes stays.
                            worst.sort_by(|(a, _), (b, _)| b.total_cmp(a));
                            worst.truncate(most);
                        }
                    }
                }
                self.mistakes = Some(worst.into_iter().map(|(_, mistake)| mistake).collect());
            }
            Targets::Values(values) if test.outputs == 1 => {
                let unit = |value: f32| own_unit(data.preprocessing.as_ref(), value);
                let all: Vec<u32> = (0..test.len() as u32).collect();
                let mut pairs = Vec::with_capacity(test.len());
                for chunk in chunks(test, &all) {
                    let (outputs, _) = outputs(backend, test, chunk).await?;
                    let actual = chunk.iter().map(|&example| values[example as usize]);
                    pairs.extend(actual.zip(outputs).map(|(actual, predicted)| [unit(actual), unit(predicted)]));
                }
                let error = |example: &u32| {
                    let [actual, predicted] = pairs[*example as usize];
                    (actual - predicted).abs()
                };
                let mut worst = all;
                worst.sort_by(|a, b| error(b).total_cmp(&error(a)));
                let mistake = |&example: &u32| {
                    let [actual, predicted] = pairs[example as usize];
                    let wrong = Wrong::Value { actual, predicted };
                    Mistake { example: example as usize, wrong, input: input(data, example), attribution: None }
                };
                self.mistakes = Some(worst.iter().take(ROWS).map(mistake).collect());
                let squared = |[actual, predicted]: &[f64; 2]| (actual - predicted).powi(2) as f32;
                let errors: Vec<f32> = pairs.iter().map(squared).collect();
                if errors.len() <= ERRORS && errors.iter().all(|error| error.is_finite()) {
                    let results = PairedResults::SquaredErrors(errors);
                    self.paired = Some(Paired { part: part_id(data), results });
                }
                let every = pairs.len().div_ceil(SAMPLE);
                self.values = Some(Sample {
                    every,
                    pairs: pairs
                        .into_iter()
                        .step_by(every)
                        .filter(|pair| pair[0].is_finite() && pair[1].is_finite())
                        .collect(),
                });
            }
            Targets::Values(_) => self.targets = OfTarget::of_several(backend, data).await?,
        }
        Ok(())
    }

    /// The confusion matrix, if there is one.
    pub fn confusion(&self) -> Option<Confusion> {
        if self.confusion.is_empty() {
            return None;
        }
        let mut counts = vec![0; self.classes * self.classes];
        for &[label, prediction, count] in &self.confusion {
            counts[label * self.classes + prediction] += count;
        }
        Some(Confusion { classes: self.classes, counts })
    }

    /// Checks that the values read from a file are consistent.
    pub fn check(&self) -> Result<()> {
        if self.classes > MAX_CLASSES {
            bail!("it speaks of {} classes", self.classes);
        }
        if let Some(cell) = self.confusion.iter().find(|cell| cell[0].max(cell[1]) >= self.classes) {
            bail!("its confusion matrix of {} classes has the cell {cell:?}", self.classes);
        }
        let total = self.confusion.iter().try_fold(0usize, |total, cell| total.checked_add(cell[2]));
        if total.is_none_or(|total| total > self.examples) {
            bail!("its confusion matrix counts more examples than there are");
        }
        let of_mistakes = || self.mistakes.iter().flatten();
        let pictures = of_mistakes().filter_map(|mistake| match &mistake.input {
            Input::Picture(address) => Some(address),
            Input::Row(_) => None,
        });
        let attributions = of_mistakes().filter_map(|mistake| mistake.attribution.as_ref());
        if pictures.chain(attributions).any(|address| !address.starts_with("data:image/png;base64,")) {
            bail!("one of its pictures is none");
        }
        Ok(())
    }
}

/// Splits the examples into chunks that fit the device.
pub fn chunks<'a>(test: &Examples, examples: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
    examples.chunks((CHUNK / test.features).clamp(1, 8192))
}

/// Outputs of the model for these examples, `[examples, width]`, and the width.
pub async fn outputs<B: Inference>(
    backend: &mut B,
    test: &Examples,
    examples: &[u32],
) -> softstep::Result<(Vec<f32>, usize)> {
    let set = backend.upload(&test.select(examples))?;
    let outputs = backend.probabilities(&set).await?;
    let width = (outputs.len() / examples.len()).max(1);
    Ok((outputs, width))
}

/// The largest outputs with their classes, including that of the label.
fn largest(outputs: &[f32], label: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> =
        outputs.iter().copied().enumerate().filter(|(_, output)| output.is_finite()).collect();
    all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let of_label = all.iter().position(|&(class, _)| class == label);
    let last = of_label.filter(|&at| at >= OUTPUTS).map(|at| all[at]);
    all.truncate(OUTPUTS - usize::from(last.is_some()));
    all.extend(last);
    all
}

/// Converts a target to the units of its column.
pub fn own_unit(preprocessing: Option<&Preprocessing>, value: f32) -> f64 {
    in_own_units(preprocessing, &[value])[0]
}

/// Sums the attribution of the channels of each pixel.
pub fn of_pixels(attribution: &[f64], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let channels = (attribution.len() / (rows * columns).max(1)).max(1);
    attribution.chunks(channels).map(|pixel| pixel.iter().sum::<f64>() as f32).collect()
}

/// Display form of a test example.
fn input(data: &Data, example: u32) -> Input {
    look_of(data, &data.test, example)
}

/// Returns the display form of an example of a part of the data.
pub fn look_of(data: &Data, test: &Examples, example: u32) -> Input {
    let Data { preprocessing, image, .. } = data;
    let one = test.select(&[example]);
    match (&*one.inputs, image, preprocessing) {
        (Features::Bytes(bytes), Some(image), _) => {
            let picture = if test.features == image[0] * image[1] { picture::grey } else { picture::rgb };
            match picture(bytes, *image) {
                Ok(address) => Input::Picture(address),
                Err(_) => Input::Row(Vec::new()),
            }
        }
        (Features::Floats(values), _, Some(Preprocessing::Table(preprocessing))) => {
            Input::Row(columns(values, preprocessing))
        }
        (Features::Floats(values), _, Some(Preprocessing::Arrays(arrays))) if !arrays.scales.is_empty() => {
            let scales = arrays.scales.iter().cycle();
            numbered(values.iter().zip(scales).map(|(&value, scale)| scale.undo(value)))
        }
        (Features::Bytes(bytes), ..) => numbered(bytes.iter().map(|&byte| f64::from(byte))),
        (Features::Floats(values), ..) => numbered(values.iter().map(|&value| f64::from(value))),
        // What is selected is in memory.
        (Features::Stored(_), ..) => Input::Row(Vec::new()),
    }
}

fn numbered(values: impl Iterator<Item = f64>) -> Input {
    Input::Row(
        values
            .take(COLUMNS)
            .enumerate()
            .map(|(at, value)| (at.to_string(), number(value, 6).replace(',', "")))
            .collect(),
    )
}

/// Text of a missing value in a row.
const MISSING: &str = "(missing)";

/// Recovers the columns of a table from the features.
fn columns(features: &[f32], preprocessing: &TableFormat) -> Vec<(String, String)> {
    let mut features = features.iter();
    let mut columns = Vec::new();
    for column in preprocessing.columns.iter().take(COLUMNS) {
        let text = match &column.encoding {
            Encoding::Standardised(scale) => {
                let number = f64::from(*features.next().unwrap_or(&0.0)) * scale.deviation + scale.mean;
                if column.marks_gaps && features.next() == Some(&1.0) {
                    columns.push((html::name(&column.name), MISSING.into()));
                    continue;
                }
                // The number of digits that f32 preserves.
                rounded(number, 10f64.powi(number.abs().max(scale.deviation).log10().ceil() as i32 - 6))
                    .replace(',', "")
            }
            Encoding::OneHot(texts) => {
                let hot: Vec<bool> = features.by_ref().take(texts.len()).map(|&value| value > 0.5).collect();
                let text = texts.iter().zip(hot).find(|(_, hot)| *hot).map(|(text, _)| match &**text {
                    "" => MISSING.into(),
                    text => html::name(text),
                });
                text.unwrap_or_else(|| "(another)".into())
            }
        };
        columns.push((html::name(&column.name), text));
    }
    columns
}
