//! `softstep eval`: a trained model on a test set.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use softstep::backend::{DeviceInfo, Evaluation, Inference};
use softstep::data::predict_inputs::{Fit, Reading};
use softstep::data::{self, Data, Kind, Measured, Part, Preprocessing, Targets};
use softstep::loss::Loss;
use softstep::metrics::{Confusion, interval};
use softstep::model::check_fit;

use super::predict::{self, FitChoice};
use crate::device;
use crate::format::{UNDEFINED, count, counted, figure, interval_text, percent, significant};
use crate::loading::{self, MAX_PATH};
use crate::options::{DataArgs, DeviceArgs};
use crate::quality::{error_text, guess_text, most_frequent, rmse, rmse_of_mean};
use crate::run::model::{self, Model};
use crate::terminal::{self, DeviceLine, device_line, field, line, print, print_event, printable, right, table};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep eval --model runs/mlp              on the data of the run
  softstep eval --model runs/mlp --data mnist
  softstep eval --model model.safetensors --data digits --json
  softstep eval --model runs/mnist --data pictures/    with a folder for each class: 0, 1, … 9

Measures the model on the data's own test part; or, if these are the data that it was trained on, on the share that was set
aside; or on all examples of other data. --all measures it on all examples in any case, including the training examples.

--json prints one JSON object: part (\"test part\" or \"all examples\"), loss, accuracy, correct, examples, per_class
(precision, recall, f1, support; null where undefined) and confusion, whose rows are labels and whose columns are
predictions. Where the targets are real values it is part, loss, r_squared, examples and rmse, the root mean squared error
in the target's own units.";

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
    /// How to fit pictures of a folder to a model that was trained on IDX files, as for `softstep predict`
    #[arg(long, value_enum)]
    pub fit: Option<FitChoice>,
    /// Use every example of a table, of images or of arrays, not only those that the model was not trained on
    #[arg(long)]
    pub all: bool,
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
    let Model { path: file, parameters, loss, .. } = model;
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
    let info = backend.info();
    let confusion = match &*data.test.targets {
        Targets::Classes(labels) => Some(Confusion::new(labels, &evaluation.predictions, outputs.max(2))?),
        Targets::Values(_) => None,
    };
    print_evaluation(&Evaluated { file: &file, data: &data, part, info, loss, evaluation, confusion }, args.json)
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
        bail!("{}: the name of its data is longer than any path: say where they are with --data", file.display());
    }
    let where_data_are = || {
        format!("{} was trained on {}: say where the data are with --data", file.display(), terminal::printable(spec))
    };
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
        None if all => bail!("--all is for tables, images and arrays, and --data {spec} is none of these"),
        None => {
            let set = DataArgs { data: spec.into(), data_dir: data_dir.map(Path::to_path_buf) };
            let data = loading::load_data(&set, progress);
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
        };
        print_event("eval", &line)
    }
}

/// Prints loss, accuracy, the classes and the confusion matrix.
fn print_evaluation(evaluated: &Evaluated<'_>, json: bool) -> Result<()> {
    let Evaluated { data, part, info, loss, evaluation, confusion, .. } = evaluated;
    let examples = data.test.len();
    let Some(confusion) = confusion else { return print_evaluation_of_values(evaluated, json) };
    let per_class = confusion.per_class();
    let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
    let name = |class: usize| match names {
        Some(names) => printable(&names[class]),
        None => class.to_string(),
    };
    if json {
        return Ok(evaluated.print(json!({
            "correct": evaluation.correct,
            "accuracy": evaluation.accuracy(),
            "accuracy_interval": interval(evaluation.correct, examples),
            "most_frequent_share": most_frequent(data).map(|(_, share)| share),
            "per_class": per_class,
            "confusion": confusion.rows().collect::<Vec<_>>(),
            "class_names": names,
        }))?);
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
    let summary = format!(
        "{}\n{}\nloss      {}, {}\naccuracy  {}: {} of {} right, {}\n{}",
        device_line(info),
        field("data", &format!("{}, {}", line(&data.name), part.name())),
        figure(evaluation.loss),
        loss.name(),
        percent(evaluation.accuracy().unwrap_or(f64::NAN)),
        count(evaluation.correct),
        count(examples),
        interval_text(evaluation.correct, examples),
        field("guessing", &guess_text(data).unwrap_or_default()),
    );
    Ok(print(&format!("{summary}\n\n{classes}\n\n{matrix}"))?)
}

fn print_evaluation_of_values(evaluated: &Evaluated<'_>, json: bool) -> Result<()> {
    let Evaluated { data, part, info, evaluation, loss, .. } = evaluated;
    if json {
        let rmse = rmse(data, evaluation);
        return Ok(evaluated
            .print(json!({ "r_squared": evaluation.r_squared, "rmse": rmse, "mean_rmse": rmse_of_mean(data) }))?);
    }
    let lines = [
        device_line(info),
        field("data", &format!("{}, {}: {}", line(&data.name), part.name(), counted(data.test.len(), "example"))),
        field("loss", &format!("{}, {}", significant(evaluation.loss, 7), loss.name())),
        field("R²", &figure(evaluation.r_squared.unwrap_or(f64::NAN))),
        field("error", &error_text(data, evaluation)),
        field("guessing", &guess_text(data).unwrap_or_default()),
    ];
    Ok(print(&lines.join("\n"))?)
}
