//! Error analysis: results of a model on its test part, example by example, as far as a report shows them.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use softstep::backend::{Backend, Evaluation};
use softstep::data::{Data, Encoding, Examples, Features, Preprocessing, TableFormat, Targets};
use softstep::metrics::Confusion;

use crate::format::{number, rounded};
use crate::html::{self, picture};
use crate::quality;
use crate::run::files::null_is_nan;

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
    /// Coefficient of determination R², for real values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r_squared: Option<f64>,
    /// Root mean squared error of real values, in the units of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
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
        if let Targets::Classes(labels) = &*data.test.targets
            && data.test.outputs <= MAX_CLASSES
            && let Ok(counted) = Confusion::new(labels, &evaluation.predictions, data.test.outputs)
        {
            classes = counted.classes;
            let cells = counted.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
            confusion = cells.map(|(cell, &count)| [cell / classes, cell % classes, count]).collect();
        }
        Self {
            epoch,
            examples: data.test.len(),
            loss: evaluation.loss,
            accuracy: evaluation.accuracy(),
            r_squared: evaluation.r_squared,
            rmse: quality::rmse(data, evaluation),
            classes,
            confusion,
            values: None,
            mistakes: None,
        }
    }

    /// Records the examples that `evaluation`, of this backend's parameters, predicts wrongly.
    pub async fn examine<B: Backend>(
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
                            worst
                                .push((gap, Mistake { example: example as usize, wrong, input: input(data, example) }));
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
                    Mistake { example: example as usize, wrong, input: input(data, example) }
                };
                self.mistakes = Some(worst.iter().take(ROWS).map(mistake).collect());
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
            Targets::Values(_) => {}
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
        let pictures = self.mistakes.iter().flatten().filter_map(|mistake| match &mistake.input {
            Input::Picture(address) => Some(address),
            Input::Row(_) => None,
        });
        if pictures.into_iter().any(|address| !address.starts_with("data:image/png;base64,")) {
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
pub async fn outputs<B: Backend>(
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
fn own_unit(preprocessing: Option<&Preprocessing>, value: f32) -> f64 {
    preprocessing.and_then(Preprocessing::target_scale).map_or(f64::from(value), |scale| scale.undo(value))
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
