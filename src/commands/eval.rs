//! `softstep eval`: a trained model on a test set.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use softstep::backend::{DeviceInfo, Evaluation, Inference};
use softstep::data::predict_inputs::{Fit, Reading};
use softstep::data::{self, Data, Kind, Measured, Part, Preprocessing, Targets};
use softstep::loss::{Link, Loss};
use softstep::metrics::{Confusion, interval};
use softstep::model::check_fit;

use super::predict::{self, FitChoice};
use crate::device;
use crate::format::{UNDEFINED, count, counted, figure, interval_text, no_formula, percent, significant};
use crate::loading::{self, MAX_PATH};
use crate::options::{DataArgs, DeviceArgs};
use crate::quality::{error_text, guess_text, most_frequent, r_squared_text, rmse, rmse_of_mean};
use crate::run::error_analysis::{OfTarget, chunks, outputs, own_unit};
use crate::run::files::write_named;
use crate::run::importance::{self, Importance, importances};
use crate::run::model::{self, Model};
use crate::run::probabilities::{Calibration, Probabilities, Threshold, TwoClasses, VALIDATION};
use crate::run::results::Results;
use crate::terminal::{self, DeviceLine, device_line, field, line, print, print_event, printable, right, table};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep eval --model runs/mlp              on the data of the run
  softstep eval --model runs/mlp --data mnist
  softstep eval --model model.safetensors --data digits --json
  softstep eval --model runs/mnist --data pictures/    with a folder for each class: 0, 1, … 9
  softstep eval --model runs/mlp --mistakes wrong.csv
  softstep eval --model runs/plants --importance

Measures the model on the data's own test part; or, if these are the data that it was trained on, on the share that was set \
aside; or on all examples of other data. --all measures it on all examples in any case, including the training examples.

--json prints one JSON object: part (\"test part\" or \"all examples\"), loss, accuracy, correct, examples, per_class \
(precision, recall, f1, support; null where undefined) and confusion, whose rows are labels and whose columns are \
predictions; balanced_accuracy (the mean recall of the classes) and macro_f1 (their mean F1), calibration_error (null for \
mse and huber); for two classes, the second of which is the positive one, roc_auc, average_precision and threshold \
(probability, chosen_on, balanced_accuracy). If the targets are real values, it holds part, loss, r_squared, examples and \
rmse, the root mean squared error in the target's own units; of several targets in deviations, and targets has r_squared and \
rmse of each in its own. --importance adds importance: column, loss (how much accuracy \
or r_squared falls on average when the column is shuffled) and deviation.

--mistakes writes a line for each wrongly predicted example, the one that the model was most sure of first: input (the image \
file, the line of a table, or the index), label, predicted, and the probability of the predicted class. For real values it \
writes every example, the largest error first: input, actual, predicted, error.";

/// Options of `softstep eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The model: a model.safetensors, or a run folder that holds one
    #[arg(long, value_name = "FILE|FOLDER")]
    pub model: PathBuf,
    /// Data to measure the model on, as for `softstep train` [default: the data of its run]
    #[arg(long, value_name = "SET|FOLDER|FILE")]
    pub data: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Fit of the pictures of a folder to a model that was trained on IDX files, as for `softstep predict`
    #[arg(long, value_enum)]
    pub fit: Option<FitChoice>,
    /// Use every example of a table, of images or of arrays, not only those that the model was not trained on
    #[arg(long)]
    pub all: bool,
    /// Write the wrong predictions to this CSV file; for real values all predictions, the largest error first
    #[arg(long, value_name = "FILE")]
    pub mistakes: Option<PathBuf>,
    /// Measure how much each column of a table matters: how much worse predictions get when it is shuffled
    #[arg(long)]
    pub importance: bool,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// Evaluates the model on the data's test part, or on all of them.
pub async fn run(args: &EvalArgs) -> Result<()> {
    let model = model::read_model(&args.model)?;
    let measured = load(&model, args.data.as_deref(), args.data_dir.as_deref(), args.fit, args.all, !args.json)?;
    let Measured { data, part, notice } = measured;
    let Model { path: file, parameters, loss, seed, .. } = model;
    let columns = importance::table(&data);
    if args.importance && columns.is_none() {
        bail!("--importance is for models of tables, and {} was trained on {}", file.display(), data.name);
    }
    if let Some(notice) = notice {
        terminal::notice(&notice);
    }
    terminal::notices(&data.notices);
    let (features, outputs) = (parameters.features(), parameters.outputs());
    check_fit(features, outputs, loss, &data.test).with_context(|| {
        format!("{} does not fit {}: choose the --data it was trained on", file.display(), data.name)
    })?;
    let device = device::open_device(&args.device).await?;
    let mut backend = device.for_inference(&parameters, loss).await?;
    let test = backend.upload(&data.test)?;
    let evaluation = backend.evaluate(&test).await?;
    let info = backend.info().clone();
    let confusion = match &*data.test.targets {
        Targets::Classes(labels) => Some(Confusion::new(labels, &evaluation.predictions, outputs.max(2))?),
        Targets::Values(_) => None,
    };
    if let Some(out) = &args.mistakes {
        let table = mistakes(&mut backend, &data, &evaluation, loss).await?;
        write_named("--mistakes", out, "input,", &table)?;
    }
    let (mut calibration, mut two_classes) = (None, None);
    if let (Targets::Classes(labels), true) = (&*data.test.targets, loss.link() != Link::Identity) {
        let probabilities = Probabilities::compute(&mut backend, &data.test).await?;
        calibration = Calibration::new(&probabilities, labels, &evaluation.predictions);
        let chosen = threshold_of_run(&args.model);
        two_classes = TwoClasses::new(&probabilities, labels, part.name(), chosen);
    }
    let targets = OfTarget::of_several(&mut backend, &data).await?;
    let importance = match columns.filter(|_| args.importance) {
        Some(format) => Some(importances(&mut backend, format, &data.test, seed).await?),
        None => None,
    };
    let evaluated = Evaluated {
        file: &file,
        data: &data,
        part,
        info: &info,
        loss,
        evaluation,
        confusion,
        calibration,
        two_classes,
        targets,
        importance,
    };
    print_evaluation(&evaluated, args.json)?;
    match &args.mistakes {
        Some(out) if !args.json => terminal::written("mistakes", out),
        _ => Ok(()),
    }
}

/// The threshold that a run chose on its validation part, if it did.
fn threshold_of_run(model: &Path) -> Option<f64> {
    let folder = if model.is_dir() { model } else { model.parent()? };
    let results = Results::read(folder).ok()??;
    let threshold = results.test?.two_classes?.threshold;
    (threshold.chosen_on == VALIDATION).then_some(threshold.probability)
}

/// Encodes the wrong predictions as CSV, the most confident first; of real values all, the largest error first.
async fn mistakes<B: Inference>(backend: &mut B, data: &Data, evaluation: &Evaluation, loss: Loss) -> Result<Vec<u8>> {
    let test = &data.test;
    let mut table = csv::Writer::from_writer(Vec::new());
    let place = |example: u32| match data.test_origins.get(example as usize) {
        Some(origin) => no_formula(&origin.to_string()),
        None => no_formula(&format!("{}[{example}]", data.name)),
    };
    match &*test.targets {
        Targets::Classes(labels) => {
            let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
            let name = |class: u32| names.map_or_else(|| class.to_string(), |names| no_formula(&names[class as usize]));
            let predictions = &evaluation.predictions;
            let wrong: Vec<u32> = (0..test.len() as u32)
                .filter(|&example| labels[example as usize] != predictions[example as usize])
                .collect();
            let mut rows = Vec::with_capacity(wrong.len());
            for chunk in chunks(test, &wrong) {
                let (outputs, width) = outputs(backend, test, chunk).await?;
                let output = |(&example, row): (&u32, &[f32])| {
                    (row.get(predictions[example as usize] as usize).copied().unwrap_or(f32::NAN), example)
                };
                rows.extend(chunk.iter().zip(outputs.chunks_exact(width)).map(output));
            }
            rows.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            let measure = if loss.link() == Link::Identity { "output" } else { "probability" };
            table.write_record(["input", "label", "predicted", measure])?;
            for (output, example) in rows {
                let [label, predicted] = [labels, predictions].map(|classes| name(classes[example as usize]));
                table.write_record([place(example), label, predicted, output.to_string()])?;
            }
        }
        Targets::Values(values) if test.outputs == 1 => {
            let unit = |value: f32| own_unit(data.preprocessing.as_ref(), value);
            let all: Vec<u32> = (0..test.len() as u32).collect();
            let mut rows = Vec::with_capacity(all.len());
            for chunk in chunks(test, &all) {
                let (outputs, _) = outputs(backend, test, chunk).await?;
                let row = |(&example, output)| (unit(values[example as usize]), unit(output), example);
                rows.extend(chunk.iter().zip(outputs).map(row));
            }
            rows.sort_by(|a, b| (b.1 - b.0).abs().total_cmp(&(a.1 - a.0).abs()));
            table.write_record(["input", "actual", "predicted", "error"])?;
            for (actual, predicted, example) in rows {
                let numbers = [actual, predicted, predicted - actual].map(|number| number.to_string());
                table.write_record(std::iter::once(place(example)).chain(numbers))?;
            }
        }
        Targets::Values(_) => {
            bail!("--mistakes is for models of classes or of one value, and this one has {}", test.outputs)
        }
    }
    Ok(table.into_inner()?)
}

/// Loads what a model is measured on: the test part of its own data or of `spec`, or all of it; with `progress`, shows
/// downloads.
pub fn load(
    model: &Model,
    spec: Option<&str>,
    data_dir: Option<&Path>,
    fit: Option<FitChoice>,
    all: bool,
    progress: bool,
) -> Result<Measured> {
    let Model { path: file, seed, preprocessing, data: name, train_sha256, .. } = model;
    let own = spec.is_none();
    let spec = spec.unwrap_or(name);
    if own && spec.len() > MAX_PATH {
        bail!("{}: the recorded name of its data is longer than any path: name the data with --data", file.display());
    }
    let where_data_are =
        || format!("{} was trained on {}: name the data with --data", file.display(), terminal::printable(spec));
    let is_of_pictures = preprocessing.is_none() && Kind::of(spec) == Kind::Images;
    if fit.is_some() && !is_of_pictures {
        bail!("--fit is for folders of pictures and models of IDX files, and --data {spec} is read as in training");
    }
    match preprocessing {
        Some(preprocessing) => {
            let measured = data::load_test(spec, preprocessing, *seed, train_sha256.as_deref(), all);
            if own { measured.with_context(where_data_are) } else { Ok(measured?) }
        }
        None if is_of_pictures && model.image.is_some() => {
            let fit = match predict::fit(fit, model) {
                Fit::Digits => Fit::Digit,
                fit => fit,
            };
            let reading = Reading {
                features: model.parameters.features(),
                image: model.image,
                preprocessing: None,
                fit,
                shapes: None,
                strict: false,
            };
            Ok(data::load_pictures(spec, &reading, model.parameters.outputs().max(2))?)
        }
        None if Kind::of(spec) != Kind::Idx => bail!(
            "--data {spec} is {}, and {} was trained on {}: choose the --data it was trained on",
            Kind::of(spec).name(),
            file.display(),
            Kind::Idx.name()
        ),
        None if all => bail!("--all is for tables, images and arrays, but --data {spec} is not one of these"),
        None => {
            let set = DataArgs { data: spec.into(), data_dir: data_dir.map(Path::to_path_buf) };
            let data = loading::load_set_or_idx(&set, progress);
            let data = if own { data.with_context(where_data_are)? } else { data? };
            Ok(Measured { data, part: Part::Test, notice: None })
        }
    }
}

/// A model measured on a test set.
#[derive(Debug)]
pub struct Evaluated<'a> {
    /// The model's file.
    pub file: &'a Path,
    /// Measured data.
    pub data: &'a Data,
    /// Measured part of the data.
    pub part: Part,
    /// Device.
    pub info: &'a DeviceInfo,
    /// The loss that the model was trained with.
    pub loss: Loss,
    /// Loss and predictions.
    pub evaluation: Evaluation,
    /// Labels against predictions; `None` where the targets are real values.
    pub confusion: Option<Confusion>,
    /// Calibration of the probabilities, if there are any.
    pub calibration: Option<Calibration>,
    /// Curves and threshold, for two classes.
    pub two_classes: Option<TwoClasses>,
    /// Results for each of several real values.
    pub targets: Vec<OfTarget>,
    /// Importance of a table's columns, if it was asked for.
    pub importance: Option<Vec<Importance>>,
}

#[derive(Serialize)]
struct EvaluationLine<'a> {
    model: String,
    data: &'a str,
    part: &'a str,
    #[serde(flatten)]
    device: DeviceLine<'a>,
    examples: usize,
    loss: f64,
    #[serde(flatten)]
    measures: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    importance: Option<&'a [Importance]>,
}

impl Evaluated<'_> {
    /// Prints it as JSON, with the measures of its kind of targets.
    fn print(&self, measures: serde_json::Value) -> softstep::Result<()> {
        let line = EvaluationLine {
            model: self.file.display().to_string(),
            data: &self.data.name,
            part: self.part.name(),
            device: DeviceLine::new(self.info),
            examples: self.data.test.len(),
            loss: self.evaluation.loss,
            measures,
            importance: self.importance.as_deref(),
        };
        print_event("eval", &line)
    }
}

/// Prints loss, accuracy, the classes and the confusion matrix.
fn print_evaluation(evaluated: &Evaluated<'_>, json: bool) -> Result<()> {
    let Evaluated { data, part, info, loss, evaluation, confusion, calibration, two_classes, .. } = evaluated;
    let examples = data.test.len();
    let Some(confusion) = confusion else { return print_evaluation_of_values(evaluated, json) };
    let per_class = confusion.per_class();
    let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
    let name = |class: usize| match names {
        Some(names) => printable(&names[class]),
        None => class.to_string(),
    };
    if json {
        let mut measures = json!({
            "correct": evaluation.correct,
            "accuracy": evaluation.accuracy(),
            "accuracy_interval": interval(evaluation.correct, examples),
            "most_frequent_share": most_frequent(data).map(|(_, share)| share),
            "per_class": per_class,
            "confusion": confusion.rows().collect::<Vec<_>>(),
            "class_names": names,
            "balanced_accuracy": confusion.balanced_accuracy(),
            "macro_f1": confusion.macro_f1(),
            "calibration_error": calibration.as_ref().map(|calibration| calibration.error),
        });
        if let Some(TwoClasses { roc_auc, average_precision, threshold, .. }) = two_classes {
            measures["roc_auc"] = json!(roc_auc);
            measures["average_precision"] = json!(average_precision);
            measures["threshold"] = json!(threshold);
        }
        return Ok(evaluated.print(measures)?);
    }
    let share = |share: Option<f64>| share.map_or_else(|| UNDEFINED.into(), |share| format!("{:.2} %", 100.0 * share));
    let mut classes = table(&["class", "precision", "recall", "F1", "examples"]);
    for class in &per_class {
        classes.add_row(right([
            name(class.class),
            share(class.precision),
            share(class.recall),
            share(class.f1),
            count(class.support),
        ]));
    }
    let mut matrix = table(&["label ↓ predicted →"]);
    matrix
        .set_header(right(std::iter::once("label ↓ predicted →".to_string()).chain((0..confusion.classes).map(name))));
    for (label, row) in confusion.rows().enumerate() {
        let counts = row.iter().map(|&times| if times == 0 { "·".to_string() } else { count(times) });
        matrix.add_row(right(std::iter::once(name(label)).chain(counts)));
    }
    let mut means =
        format!("balanced accuracy {}, macro F1 {}", share(confusion.balanced_accuracy()), share(confusion.macro_f1()));
    if let Some(Calibration { error, .. }) = calibration {
        means += &format!("; expected calibration error {}", percent(*error));
    }
    let mut lines = vec![field("classes", &means)];
    if let Some(of_two) = two_classes {
        let TwoClasses { roc_auc, average_precision, threshold, .. } = of_two;
        lines.push(field(
            &name(1),
            &format!("ROC AUC {}, average precision {}", figure(*roc_auc), figure(*average_precision)),
        ));
        lines.push(field("", &threshold_text(threshold, &name(1))));
    }
    let importance = importance_text(evaluated);
    let lines = lines.join("\n");
    let summary = format!(
        "{}\n{}\nloss      {}, {}\naccuracy  {}: {} of {} right, {}\n{}\n{lines}",
        device_line(info),
        field("data", &format!("{}, {}", line(&data.name), part.name())),
        figure(evaluation.loss),
        loss.name(),
        percent(evaluation.accuracy().unwrap_or(f64::NAN)),
        count(evaluation.correct),
        count(examples),
        interval_text(evaluation.correct, examples),
        field("baseline", &guess_text(data, *part).unwrap_or_default()),
    );
    Ok(print(&format!("{summary}\n\n{classes}\n\n{matrix}{importance}"))?)
}

/// Formats a threshold for the class `name`.
fn threshold_text(threshold: &Threshold, name: &str) -> String {
    let Threshold { probability, chosen_on, balanced_accuracy } = threshold;
    let chosen = if chosen_on == VALIDATION {
        format!(" (chosen on the {chosen_on})")
    } else {
        format!("; optimistic, as it was chosen on the {chosen_on}")
    };
    format!(
        "best threshold for {name} {}: balanced accuracy {}{chosen}",
        figure(*probability),
        percent(*balanced_accuracy)
    )
}

/// Formats the importance of the columns as a table, if it was measured.
fn importance_text(evaluated: &Evaluated<'_>) -> String {
    let Some(all) = &evaluated.importance else { return String::new() };
    let is_values = evaluated.confusion.is_none();
    let text = |value: f64| if is_values { figure(value) } else { format!("{:.2} %", 100.0 * value) };
    let lost = if is_values { "loss of R²" } else { "loss of accuracy" };
    let mut columns = table(&["column", lost, "±"]);
    for Importance { column, loss, deviation } in all {
        columns.add_row(right([printable(column), text(*loss), text(*deviation)]));
    }
    format!("\n\nwith the values of a column shuffled\n{columns}")
}

fn print_evaluation_of_values(evaluated: &Evaluated<'_>, json: bool) -> Result<()> {
    let Evaluated { data, part, info, evaluation, loss, targets, .. } = evaluated;
    if json {
        let mut measures = json!({
            "r_squared": evaluation.r_squared,
            "rmse": rmse(data, evaluation),
            "mean_rmse": rmse_of_mean(data),
        });
        if !targets.is_empty() {
            measures["targets"] = json!(targets);
        }
        return Ok(evaluated.print(measures)?);
    }
    let mut lines = vec![
        device_line(info),
        field("data", &format!("{}, {}: {}", line(&data.name), part.name(), counted(data.test.len(), "example"))),
        field("loss", &format!("{}, {}", significant(evaluation.loss, 7), loss.name())),
        field("R²", &r_squared_text(evaluation.r_squared)),
        field("error", &error_text(data, evaluation)),
        field("baseline", &guess_text(data, *part).unwrap_or_default()),
    ];
    lines.extend((1..).zip(targets).map(|(number, target)| {
        let error = significant(target.rmse, 4);
        field(&format!("value {number}"), &format!("R² {}, error {error}", r_squared_text(target.r_squared)))
    }));
    Ok(print(&(lines.join("\n") + &importance_text(evaluated)))?)
}
