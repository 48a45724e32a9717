//! What people and programs see; the only place that prints. Nothing is printed that a terminal obeys, whatever names and
//! texts are in it: [`lines`] looks after all that goes out, and [`line`] keeps what is one message on one line.
//!
//! Results go to standard output; progress, notices and errors to standard error. A standard output that was closed
//! (`| head`) silences the results and nothing else: a training run still ends with its model. So it does where standard
//! output cannot be written, on a full disk or on a terminal that is gone; then one notice and the exit code say so.
//!
//! With `--json`, standard output is JSON Lines. `softstep train` prints objects with an `event`:
//!
//! - `start`: `version`, `backend` (`gpu`, `cpu`), `adapter`, `device_type`, `driver`, `data`, `train_examples`,
//!   `test_examples`, `architecture` (`input`, its shape, and `layers`, each as `--layers` has it), `sizes` (`[features, hidden…, classes]`, only of a stack of linear layers), `out`, `resumed_from` (a step, only with `--resume`), `chosen` (the settings that follow the data, and why), and the settings as in
//!   `config.json`;
//! - `epoch`: `epoch`, `train_loss`, `validation_loss` and `validation_accuracy` (only with `--validation`),
//!   `test_loss`, `test_accuracy`; where the targets are real values, `*_r_squared` in the place of `*_accuracy`;
//! - `profile` (only with `--profile`): `kernels`, each with `name`, `dispatches` and `seconds`, in the order of a step,
//!   and `host_seconds`, what training took beyond them;
//! - `stopped` (instead of `done`, if the run was stopped): `step`, `steps`, `out`;
//! - `finished` (alone, if `--resume` names a run that has ended): `step`, `steps`, `out`;
//! - `done`: `backend`, `adapter`, `device_type`, `driver`, `data`, `architecture` and `sizes` as in `start`, `epochs`, `batch_size`, `seed`, `steps`,
//!   `seconds` (spent in training steps since the program's start, without loading and evaluation), `steps_per_second` and `images_per_second`
//!   (over these seconds), `first_loss_seconds` and `total_seconds` (since the program's start), `train_loss`,
//!   `validation_*`, `test_loss`, `test_accuracy` or `test_r_squared` and `test_rmse`, `best_epoch` and `best_validation_loss` (with
//!   `--patience` or `--keep best`), `parameters_sha256`, `out`. `epochs` are those that were trained.
//!
//! Losses are means, cross-entropies in nats; an `rmse` (root mean squared error) is in the target's own units; accuracies shares in 0..1; a number that is not finite is `null`.
//! `softstep eval` prints one object, [`Evaluated`] as JSON; `softstep bench` one for each configuration, [`Comparison`]
//! as JSON; `softstep adapters` one for each adapter; `softstep explain` one, [`Explained`] as JSON.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{DecimalBytes, HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use softstep::Error;
use softstep::backend::{DeviceInfo, Evaluation};
use softstep::data::{Column, Data, Encoding, Part, Preprocessing, Progress, TableFormat, Targets};
use softstep::error::is_printable;
use softstep::gpu::kernels::Matmul;
use softstep::gpu::self_test::{Costs, KernelTest};
use softstep::gpu::{AdapterEntry, REMEDY};
use softstep::loss::Loss;
use softstep::metrics::{Confusion, interval};
use softstep::model::{Architecture, Layer};
use softstep::plan::Plan;
use softstep::range_test::RangeTest;
use softstep::trainer::{Best, Event, Keep, Summary, TrainingConfig};
use softstep::verify::Verification;

use crate::commands::doctor::{Device, Diagnosis, Folder, TestTraining};
use crate::commands::explain::experiments::Lesson;
use crate::commands::predict::{Outcome, Prediction};
use crate::record::{Profile, Timings, Verified};
use softstep::data::inputs::Place;

/// What stands for an undefined number.
const UNDEFINED: &str = "–";

/// Prints a wrong usage, or the help or version that was asked for; says how to exit.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if lines(&text) == text {
        let _ = error.print();
    } else {
        // Without its colours: an argument is quoted that holds other commands for the terminal.
        print_error_line(&text);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Writes a line of the log that `RUST_LOG` asks for.
pub fn log_line(output: &mut impl Write, record: &log::Record<'_>) -> io::Result<()> {
    writeln!(output, "[{} {}] {}", record.level(), record.target(), line(&record.args().to_string()))
}

/// Prints an error and what caused it, each on a line of its own.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("error: {}", line(&error.to_string()));
    for cause in error.chain().skip(1) {
        text += &format!("\n  caused by: {}", line(&cause.to_string()));
    }
    print_error_line(&text);
}

/// Prints a line that the person should read.
pub fn notice(text: &str) {
    print_error_line(&format!("note: {}", line(text)));
}

/// The same, with a command for a shell on a line of its own.
pub fn notice_with_command(text: &str, command: &str) {
    print_error_line(&format!("note: {}\n{command}", line(text)));
}

/// Prints what a person should know of how data were read.
pub fn notices(texts: &[String]) {
    texts.iter().for_each(|text| notice(&softstep::error::printable(text, 1000)));
}

/// Lists adapters.
pub fn adapters(entries: &[AdapterEntry], json: bool) -> Result<()> {
    if json {
        entries.iter().try_for_each(|entry| print_json(&adapter_line(entry)))?;
        return Ok(());
    }
    if entries.is_empty() {
        notice(&format!("no adapter found: {REMEDY}; meanwhile softstep computes on the CPU"));
        return Ok(());
    }
    Ok(print(&adapter_table(entries))?)
}

fn adapter_line(entry: &AdapterEntry) -> serde_json::Value {
    let AdapterEntry { index, name, device_type, api, driver, .. } = entry;
    json!({ "index": index, "name": name, "device_type": device_type, "api": api, "driver": driver })
}

fn adapter_table(entries: &[AdapterEntry]) -> String {
    let mut table = table(&["#", "adapter", "type", "api", "driver"]);
    for AdapterEntry { index, name, device_type, api, driver, .. } in entries {
        table.add_row([&index.to_string(), name, *device_type, api, driver]);
    }
    table.to_string()
}

/// For serde: adapters as `softstep adapters --json` has them.
pub fn serialize_adapters<S: serde::Serializer>(entries: &[AdapterEntry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(adapter_line))
}

/// Prints what `softstep doctor` found.
pub fn diagnosis(diagnosis: &Diagnosis, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(diagnosis)?);
    }
    let Diagnosis { version, os, processor, threads, adapters, auto, device, training, folders, problems } = diagnosis;
    let mut lines = vec![
        field("softstep", &format!("{version}, {os}")),
        field("processor", &format!("{processor}, {}", counted(*threads, "thread"))),
    ];
    if !adapters.is_empty() {
        lines.extend(["".into(), adapter_table(adapters), "".into()]);
    }
    lines.push(field("auto", &format!("takes {auto}")));
    if let Some(Device { info, limits, matmul, matmul_choices, kernels, costs }) = device {
        lines.push(device_line(info));
        lines.push(field(
            "limits",
            &format!(
                "{} in a binding, {} in a buffer, {} workgroups along a side, {} of workgroup memory, {}timestamps",
                HumanBytes(limits.binding_bytes),
                HumanBytes(limits.buffer_bytes),
                count(limits.workgroups_per_dimension as usize),
                HumanBytes(u64::from(limits.workgroup_bytes)),
                if limits.timestamps { "" } else { "no " },
            ),
        ));
        let right = kernels.iter().filter(|test| test.passed()).count();
        let numbers = kernels.iter().map(|test| test.numbers).sum();
        let worst = kernels.iter().max_by(|a, b| a.worst.excess().total_cmp(&b.worst.excess()));
        let choices: Vec<String> = matmul_choices.iter().map(|&choice| matmul_name(choice)).collect();
        lines.push(field(
            "kernels",
            &format!(
                "{right} of {} right: {} numbers; matmul {} (takes {})",
                counted(kernels.len(), "test"),
                count(numbers),
                choices.join(", "),
                matmul_name(*matmul)
            ),
        ));
        if let Some(KernelTest { kernel, matmul, worst, .. }) = worst {
            lines.push(field("", &format!("worst: {kernel}{}, {worst}", by_matmul(*matmul))));
        }
        if let Some(Costs { dispatch_seconds, readback_seconds }) = costs {
            let (dispatch, readback) = (1e6 * dispatch_seconds, 1e6 * readback_seconds);
            let text = format!("a dispatch {dispatch:.1} µs, one submitted and read back {readback:.0} µs");
            lines.push(field("costs", &text));
        }
    }
    if let Some(TestTraining { device, steps, verified, first_loss, last_loss }) = training {
        lines.push(field(
            "training",
            &format!(
                "{steps} steps on {device}: loss {first_loss:.3} to {last_loss:.3}, {} right by the CPU",
                counted(*verified, "step")
            ),
        ));
    }
    for Folder { what, path, free_bytes, problem, .. } in folders {
        let free = free_bytes.map_or_else(String::new, |bytes| format!(", {} free", DecimalBytes(bytes)));
        let state = problem.as_deref().unwrap_or("can be written");
        lines.push(field(what, &format!("{}: {}{free}", path_text(path), line(state))));
    }
    let verdict = match problems.as_slice() {
        [] => "training works here".into(),
        problems => {
            let problems: Vec<String> = problems.iter().map(|problem| line(problem)).collect();
            format!("training would fail here, or come out wrong\n  {}", problems.join("\n  "))
        }
    };
    lines.push(field("verdict", &verdict));
    Ok(print(&lines.join("\n"))?)
}

/// As in ` by matmul plain`.
pub fn by_matmul(matmul: Option<Matmul>) -> String {
    matmul.map_or_else(String::new, |matmul| format!(" by matmul {}", matmul_name(matmul)))
}

fn matmul_name(matmul: Matmul) -> String {
    format!("{matmul:?}").to_lowercase()
}

/// A model measured on a test set.
#[derive(Debug)]
pub struct Evaluated<'a> {
    /// The model's file.
    pub file: &'a Path,
    /// What it was measured on.
    pub data: &'a Data,
    /// Which of the data that is.
    pub part: Part,
    /// Where.
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
pub fn evaluation(evaluated: &Evaluated<'_>, json: bool) -> Result<()> {
    let Evaluated { data, part, info, loss, evaluation, confusion, .. } = evaluated;
    let examples = data.test.len();
    let Some(confusion) = confusion else { return evaluation_of_values(evaluated, json) };
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

fn evaluation_of_values(evaluated: &Evaluated<'_>, json: bool) -> Result<()> {
    let Evaluated { data, part, info, evaluation, .. } = evaluated;
    if json {
        let rmse = rmse(data, evaluation);
        return Ok(evaluated
            .print(json!({ "r_squared": evaluation.r_squared, "rmse": rmse, "mean_rmse": rmse_of_mean(data) }))?);
    }
    let lines = [
        device_line(info),
        field("data", &format!("{}, {}: {}", line(&data.name), part.name(), counted(data.test.len(), "example"))),
        field("loss", &format!("{}, mean squared error", significant(evaluation.loss, 7))),
        field("R²", &figure(evaluation.r_squared.unwrap_or(f64::NAN))),
        field("error", &error_text(data, evaluation)),
        field("guessing", &guess_text(data).unwrap_or_default()),
    ];
    Ok(print(&lines.join("\n"))?)
}

/// Prints what a model trained with this loss makes of its inputs.
pub fn predictions(predictions: &[Prediction], loss: Loss, json: bool) -> Result<()> {
    let measure = if loss == Loss::MeanSquaredError { "output" } else { "probability" };
    if json {
        return predictions.iter().try_for_each(|Prediction { input, place, is_no_digit, outcome }| {
            let mut line = match outcome {
                Outcome::Values(values) => json!({ "input": input, "values": values }),
                Outcome::Classes(classes) => {
                    let classes: Vec<_> =
                        classes.iter().map(|(class, value)| json!({ "class": class, measure: value })).collect();
                    json!({ "input": input, "classes": classes })
                }
            };
            if *is_no_digit {
                line["no_digit"] = json!(true);
            }
            if let Some(Place { number, row, bounds, .. }) = place {
                line["digit"] = json!(number);
                line["row"] = json!(row);
                line["box"] = json!(bounds);
            }
            Ok(print_json(&line)?)
        });
    }
    let number = |value: f32| match loss {
        Loss::MeanSquaredError => format!("{value:.4}"),
        Loss::CrossEntropy | Loss::BinaryCrossEntropy => percent(value.into()),
    };
    let is_values = |prediction: &Prediction| matches!(prediction.outcome, Outcome::Values(_));
    let others = |prediction: &Prediction| matches!(&prediction.outcome, Outcome::Classes(all) if all.len() > 1);
    let mut header = vec!["input"];
    match predictions.iter().any(is_values) {
        true => header.push("value"),
        false => header.extend(["class", measure]),
    }
    header.extend(predictions.iter().any(others).then_some("next"));
    let has_places = predictions.iter().any(|prediction| prediction.place.is_some());
    if has_places {
        header.splice(1..1, ["digit", "row", "box"]);
    }
    let mut table = table(&header);
    for Prediction { input, place, is_no_digit, outcome } in predictions {
        let mut row = vec![Cell::new(printable_end(input))];
        match place {
            Some(Place { number, row: of_sheet, bounds: [x, y, width, height], .. }) => {
                row.extend(right([number.to_string(), of_sheet.to_string()]));
                row.push(Cell::new(format!("{x},{y} {width}x{height}")));
            }
            None if has_places => row.extend([(); 3].map(|()| Cell::new(""))),
            None => {}
        }
        match outcome {
            Outcome::Values(values) => {
                let values: Vec<String> = values.iter().map(|&value| significant(value, 7)).collect();
                row.push(Cell::new(values.join(", ")));
            }
            Outcome::Classes(classes) => {
                // Where it is none, the digit that it would be comes first among the others.
                let first = usize::from(!is_no_digit);
                match classes.first() {
                    Some((class, value)) if !is_no_digit => {
                        row.push(Cell::new(printable(class)));
                        row.extend(right([number(*value)]));
                    }
                    _ => row.extend(["no digit", ""].map(Cell::new)),
                }
                let next =
                    classes.iter().skip(first).map(|(class, value)| format!("{} {}", printable(class), number(*value)));
                row.push(Cell::new(next.collect::<Vec<_>>().join(", ")));
            }
        }
        table.add_row(row);
    }
    Ok(print(&table.to_string())?)
}

/// Root mean squared error of real values, in their own units also where the model learned them standardised; `None` for
/// classes.
pub fn rmse(data: &Data, evaluation: &Evaluation) -> Option<f64> {
    evaluation.r_squared?;
    let unit = data.preprocessing.as_ref().and_then(Preprocessing::target_scale).map_or(1.0, |scale| scale.deviation);
    Some(evaluation.loss.sqrt() * unit)
}

/// [`rmse`] as in `12.34 (root mean square), in the units of price`.
fn error_text(data: &Data, evaluation: &Evaluation) -> String {
    let rmse = rmse(data, evaluation).unwrap_or(f64::NAN);
    let target = data.preprocessing.as_ref().and_then(Preprocessing::target);
    let units = target.map(|target| format!(", in the units of {}", printable(target)));
    format!("{} (root mean square){}", significant(rmse, 4), units.unwrap_or_default())
}

/// What an example is called in a rate.
fn example_unit(data: &Data) -> &'static str {
    match data.preprocessing {
        _ if data.image.is_some() => "images",
        Some(Preprocessing::Table(_)) => "rows",
        _ => "examples",
    }
}

/// The class that most test examples have, and their share; `None` for real values.
fn most_frequent(data: &Data) -> Option<(usize, f64)> {
    let Targets::Classes(labels) = &*data.test.targets else { return None };
    let mut counts = vec![0usize; data.test.outputs];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    // Of equals the first.
    let (class, count) = counts.into_iter().enumerate().rev().max_by_key(|&(_, count)| count)?;
    Some((class, count as f64 / labels.len() as f64))
}

/// The root mean squared error of the mean of the test targets, in their own units; `None` for classes.
fn rmse_of_mean(data: &Data) -> Option<f64> {
    let unit = data.preprocessing.as_ref().and_then(Preprocessing::target_scale).map_or(1.0, |scale| scale.deviation);
    Some(data.test.variance()?.sqrt() * unit)
}

/// What comes of guessing: the share of the most frequent class, or the error of the mean.
fn guess_text(data: &Data) -> Option<String> {
    match (most_frequent(data), rmse_of_mean(data)) {
        (Some((class, share)), _) => {
            let names = data.preprocessing.as_ref().and_then(Preprocessing::class_names);
            let name = names.map_or_else(|| class.to_string(), |names| printable(&names[class]));
            Some(format!("always {name}, the most frequent class, would be right in {}", percent(share)))
        }
        (None, Some(error)) => {
            Some(format!("always the mean would have an error of {} (root mean square)", significant(error, 4)))
        }
        (None, None) => None,
    }
}

/// The 95 % interval of an accuracy, as in `95 % interval 96.1 to 98.9 %`.
pub fn interval_text(correct: usize, examples: usize) -> String {
    match interval(correct, examples) {
        Some([low, high]) => format!("95 % interval {:.1} to {:.1} %", 100.0 * low, 100.0 * high),
        None => "no example".into(),
    }
}

/// A loss or R², of whatever size, with digits that mean something.
pub fn figure(number: f64) -> String {
    if number.abs() < 1e5 || !number.is_finite() { format!("{number:.4}") } else { format!("{number:.3e}") }
}

/// A number of any size with so many digits that mean something.
fn significant(number: f64, digits: usize) -> String {
    let before = if number != 0.0 && number.is_finite() { number.abs().log10().floor() } else { 0.0 };
    match before {
        -5.0..9.0 => format!("{number:.*}", (digits as f64 - 1.0 - before).max(0.0) as usize),
        _ => format!("{number:.*e}", digits - 1),
    }
}

/// Shows what happens while data is loaded.
#[derive(Debug)]
pub struct Downloads {
    progress: bool,
    /// Of the file under way; hidden where standard error is no terminal, and before the first.
    bar: ProgressBar,
    file: String,
}

impl Downloads {
    /// Shows downloads where `progress` is wanted, as a bar on a terminal and as a line for each file elsewhere;
    /// notices in any case.
    pub fn new(progress: bool) -> Self {
        Self { progress, bar: ProgressBar::hidden(), file: String::new() }
    }

    /// Shows one report of the loader.
    pub fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Notice(text) => self.bar.suspend(|| notice(text)),
            Progress::Download { file, received, total } if self.progress => {
                let next = self.file != file;
                // Another mirror starts the file anew.
                if next || received < self.bar.position() {
                    self.bar.finish_and_clear();
                    self.bar = download_bar(file, total);
                }
                if next {
                    self.file = file.to_string();
                    if self.bar.is_hidden() {
                        print_error_line(&format!("downloading {file}"));
                    }
                }
                self.bar.set_position(received);
            }
            Progress::Download { .. } => {}
        }
    }
}

/// Shown from its first position on; it fits 80 columns.
fn download_bar(file: &str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{prefix} {bar:12} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
        None => "{prefix} {decimal_bytes} {decimal_bytes_per_sec}",
    };
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr())
        .with_style(style(template))
        .with_prefix(file.to_string())
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows how far a table is read, where that takes longer than a moment.
pub struct Reading {
    bar: ProgressBar,
    started: Instant,
    file: String,
    progress: bool,
}

impl Reading {
    /// Shows it on a terminal, where `progress` is wanted.
    pub fn new(file: &str, progress: bool) -> Self {
        Self { bar: ProgressBar::hidden(), started: Instant::now(), file: printable(file), progress }
    }

    /// Shows which share is done.
    pub fn show(&mut self, share: f64) {
        const MOMENT: Duration = Duration::from_millis(500);
        if self.progress && self.bar.is_hidden() && self.started.elapsed() > MOMENT {
            self.progress = false;
            self.bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr())
                .with_style(style("reading {prefix} {bar:16} {percent:>3} %"))
                .with_prefix(self.file.clone());
        }
        self.bar.set_position((100.0 * share) as u64);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A training run, for its header and its last line.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where it computes.
    pub info: DeviceInfo,
    /// Its data, without what is held out.
    pub data: &'a Data,
    /// Its model.
    pub architecture: &'a Architecture,
    /// Its settings.
    pub config: &'a TrainingConfig,
    /// The settings that follow the data, and why.
    pub chosen: Option<&'a str>,
    /// The trial that found its learning rate.
    pub range_test: Option<&'a RangeTest>,
    /// Its folder.
    pub out: &'a Path,
    /// The step that it goes on from.
    pub resumed_from: Option<usize>,
}

/// One epoch's line in `metrics.jsonl` and, as the event `epoch`, on standard output.
#[derive(Clone, Debug, Serialize)]
pub struct EpochLine {
    epoch: usize,
    train_loss: f64,
    #[serde(flatten)]
    validation: Option<ValidationLine>,
    #[serde(flatten)]
    test: TestLine,
}

#[derive(Clone, Debug, Serialize)]
struct ValidationLine {
    validation_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_r_squared: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct TestLine {
    test_loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_r_squared: Option<f64>,
}

impl EpochLine {
    /// The line of an evaluated epoch.
    pub fn new(epoch: usize, train_loss: f64, validation: Option<&Evaluation>, test: &Evaluation) -> Self {
        Self { epoch, train_loss, validation: validation.map(ValidationLine::new), test: TestLine::new(test) }
    }
}

impl ValidationLine {
    fn new(validation: &Evaluation) -> Self {
        Self {
            validation_loss: validation.loss,
            validation_accuracy: validation.accuracy(),
            validation_r_squared: validation.r_squared,
        }
    }
}

impl TestLine {
    fn new(test: &Evaluation) -> Self {
        Self { test_loss: test.loss, test_accuracy: test.accuracy(), test_r_squared: test.r_squared }
    }
}

/// How good an evaluation is, as in `97.50 %` and `R² 0.9750`.
fn quality(evaluation: &Evaluation) -> String {
    match (evaluation.accuracy(), evaluation.r_squared) {
        (Some(accuracy), _) => percent(accuracy),
        (None, r_squared) => format!("R² {}", figure(r_squared.unwrap_or(f64::NAN))),
    }
}

/// Shows a training run while it goes on.
#[derive(Debug)]
pub struct TrainReport<'a> {
    run: Run<'a>,
    json: bool,
    quiet: bool,
    bar: ProgressBar,
    /// When the program started.
    started: Instant,
    first_loss: Option<Duration>,
    epoch_started: Instant,
    /// Time in training steps, in epochs that are over.
    trained: Duration,
    /// Steps since the program's start, and their examples.
    steps: usize,
    examples: usize,
    /// Set once a result could not be printed.
    unprinted: bool,
}

impl<'a> TrainReport<'a> {
    /// Begins with the header. `steps` is the length of the run.
    pub fn new(run: Run<'a>, steps: usize, json: bool, quiet: bool, started: Instant) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(steps as u64),
            if quiet || !io::stderr().is_terminal() {
                ProgressDrawTarget::hidden()
            } else {
                ProgressDrawTarget::stderr()
            },
        );
        bar.set_style(style("{prefix}  {bar:16} {percent:>3} %"));
        // Not `set_position`, which draws: the header comes first.
        let bar = bar.with_position(run.resumed_from.unwrap_or(0) as u64);
        let mut report = Self {
            run,
            json,
            quiet,
            bar,
            started,
            first_loss: None,
            epoch_started: started,
            trained: Duration::ZERO,
            steps: 0,
            examples: 0,
            unprinted: false,
        };
        let header = report.header(steps);
        report.printed(header);
        report
    }

    /// Says, the first time, that results cannot be printed. Training goes on: they are in its folder, too.
    fn printed(&mut self, printed: softstep::Result<()>) {
        let Err(error) = printed else { return };
        if !std::mem::replace(&mut self.unprinted, true) {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            let folder = path_text(self.run.out);
            self.bar.suspend(|| notice(&format!("{error}{cause}; training goes on, and its results are in {folder}")));
        }
    }

    /// Returns true if every result so far was printed, or nobody reads them any more.
    pub fn all_printed(&self) -> bool {
        !self.unprinted
    }

    fn header(&self, steps: usize) -> softstep::Result<()> {
        let Run { info, data, architecture, config, chosen, range_test, out, resumed_from } = &self.run;
        if self.json {
            return print_event(
                "start",
                &StartLine {
                    version: env!("CARGO_PKG_VERSION"),
                    device: DeviceLine::new(info),
                    data: &data.name,
                    columns: match &data.preprocessing {
                        Some(Preprocessing::Table(format)) => {
                            Some(format.columns.iter().map(ColumnLine::new).collect())
                        }
                        _ => None,
                    },
                    train_examples: data.train.len(),
                    test_examples: data.test.len(),
                    architecture,
                    sizes: architecture.as_dense().map(|(sizes, _)| sizes),
                    out: out.display().to_string(),
                    resumed_from: *resumed_from,
                    chosen: *chosen,
                    config,
                },
            );
        }
        if self.quiet {
            return Ok(());
        }
        let mut lines = vec![
            device_line(info),
            field(
                "data",
                &format!(
                    "{}: {} training and {} test examples, {}, {}",
                    line(&data.name),
                    count(data.train.len()),
                    count(data.test.len()),
                    counted(data.train.features, "feature"),
                    match *data.train.targets {
                        Targets::Classes(_) => format!("{} classes", data.train.outputs),
                        Targets::Values(_) => counted(data.train.outputs, "target value"),
                    }
                ),
            ),
        ];
        if let Some(Preprocessing::Table(format)) = &data.preprocessing {
            lines.push(field("columns", &columns_text(format)));
            if let Some(rule) = &data.target_rule {
                lines.push(field("target", &format!("{}: {rule}", printable(&format.target))));
            }
        }
        lines.extend(model_lines(architecture, config.loss));
        lines.push(field(
            "training",
            &format!(
                "{} of {}, batches of {}, learning rate {}, seed {}",
                counted(config.epochs, "epoch"),
                counted(steps / config.epochs, "step"),
                config.batch_size,
                config.learning_rate,
                config.seed
            ),
        ));
        lines.extend(chosen.map(|chosen| field("chosen", chosen)));
        if let Some(RangeTest { curve, learning_rate }) = range_test {
            let steps = counted(curve.len(), "step");
            lines.push(field("", &format!("learning rate {learning_rate}, by a range test of {steps}")));
        }
        if let Some(step) = resumed_from {
            lines.push(field("resumed", &format!("after step {} of {}", count(*step), count(steps))));
        }
        print(&lines.join("\n"))
    }

    /// Shows an event of the trainer.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::EpochStarted { epoch } => {
                self.epoch_started = Instant::now();
                self.bar.set_prefix(format!("epoch {epoch}/{}", self.run.config.epochs));
            }
            Event::Step { batch, loss, .. } => {
                self.steps += 1;
                self.examples += batch;
                if !self.bar.is_hidden() {
                    let seconds = (self.trained + self.epoch_started.elapsed()).as_secs_f64();
                    let unit = example_unit(self.run.data);
                    let loss = figure(loss.into());
                    self.bar.set_message(format!("loss {loss}, {} {unit}/s", rate(self.examples, seconds)));
                }
                if self.first_loss.is_none() {
                    self.first_loss = Some(self.started.elapsed());
                    self.bar.set_style(style("{prefix}  {bar:16} {percent:>3} %  {msg}, {eta} left"));
                }
                self.bar.inc(1);
            }
            Event::Checkpoint { .. } => {}
            Event::EpochTrained { .. } => self.trained += self.epoch_started.elapsed(),
            Event::EpochEvaluated { epoch, train_loss, validation, test } => {
                if self.json {
                    let line = EpochLine::new(epoch, train_loss, validation, test);
                    let printed = self.bar.suspend(|| print_event("epoch", &line));
                    self.printed(printed);
                } else if !self.quiet && self.shows_epoch(epoch) {
                    let epochs = self.run.config.epochs.to_string();
                    let validation = validation.map_or_else(String::new, |validation| {
                        format!("  validation loss {}, {}", figure(validation.loss), quality(validation))
                    });
                    let line = format!(
                        "epoch {epoch:>width$}/{epochs}  train loss {}{validation}  test loss {}, {}",
                        figure(train_loss),
                        figure(test.loss),
                        quality(test),
                        width = epochs.len()
                    );
                    let printed = self.bar.suspend(|| print(&line));
                    self.printed(printed);
                }
            }
        }
    }

    /// Returns true for the epochs that have a line: all of a few, else some twenty, the first and the last among them.
    fn shows_epoch(&self, epoch: usize) -> bool {
        const LINES: usize = 20;
        let epochs = self.run.config.epochs;
        let every = if epochs <= LINES + LINES / 4 { 1 } else { epochs.div_ceil(LINES) };
        epoch == 1 || epoch == epochs || epoch.is_multiple_of(every)
    }

    /// Removes the progress bar, however training ended.
    pub fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// How long it took.
    pub fn timings(&self) -> Timings {
        let seconds = self.trained.as_secs_f64();
        Timings {
            resumed_from: self.run.resumed_from,
            steps: self.steps,
            seconds,
            steps_per_second: self.steps as f64 / seconds,
            examples_per_second: self.examples as f64 / seconds,
            first_loss_seconds: self.first_loss.map(|time| time.as_secs_f64()),
            total_seconds: self.started.elapsed().as_secs_f64(),
        }
    }

    /// What was verified, if anything was to be.
    pub fn verification(&mut self, found: Option<&Verification>, steps: usize) {
        let Some(found) = found else { return };
        if self.json {
            return self.printed(print_event("verification", &Verified::new(found)));
        }
        let Verification { steps: verified, worst } = found;
        let mut lines = vec![field(
            "verified",
            &format!("{} of {}, computed again on the CPU: all right", count(*verified), counted(steps, "step")),
        )];
        lines.extend(worst.iter().map(|(step, worst)| field("", &format!("worst in step {step}: {worst}"))));
        self.printed(print(&lines.join("\n")));
    }

    /// Where the time of the steps went, if it was measured.
    pub fn profile(&mut self, profile: Option<&Profile>) {
        let Some(profile) = profile else { return };
        if self.json {
            return self.printed(print_event("profile", profile));
        }
        let seconds = self.trained.as_secs_f64();
        let mut table = table(&["kernel", "µs a step", "share"]);
        for (name, part) in profile.rows() {
            let [time, share] = [format!("{:.1}", part * 1e6 / self.steps as f64), percent(part / seconds)];
            table.add_row([vec![Cell::new(name)], right([time, share])].concat());
        }
        self.printed(print(&table.to_string()));
    }

    /// Prints that the run stopped after step `step` of `steps`, and the `command` that goes on with it.
    pub fn stopped(&mut self, step: usize, steps: usize, command: &str) {
        let text = format!("stopped after step {} of {}, which is saved; go on with:", count(step), count(steps));
        notice_with_command(&text, command);
        if self.json {
            let line = json!({ "step": step, "steps": steps, "out": self.run.out.display().to_string() });
            self.printed(print_event("stopped", &line));
        }
    }

    /// Ends with what the run came to, its model and, if there is one, its page.
    pub fn done(&mut self, summary: &Summary, model: &Path, page: Option<&Path>, parameters_sha256: String) {
        let printed = self.print_done(summary, model, page, parameters_sha256);
        self.printed(printed);
    }

    fn print_done(
        &self,
        summary: &Summary,
        model: &Path,
        page: Option<&Path>,
        parameters_sha256: String,
    ) -> softstep::Result<()> {
        let Run { info, data, architecture, config, out, .. } = &self.run;
        let Summary { epochs, steps, train_loss, best, ref validation, ref test } = *summary;
        let Timings { seconds, steps_per_second, examples_per_second, first_loss_seconds, total_seconds, .. } =
            self.timings();
        if self.json {
            return print_event(
                "done",
                &DoneLine {
                    device: DeviceLine::new(info),
                    data: &data.name,
                    architecture,
                    sizes: architecture.as_dense().map(|(sizes, _)| sizes),
                    epochs,
                    batch_size: config.batch_size,
                    seed: config.seed,
                    steps,
                    seconds,
                    steps_per_second,
                    images_per_second: examples_per_second,
                    first_loss_seconds,
                    total_seconds,
                    train_loss,
                    validation: validation.as_ref().map(ValidationLine::new),
                    test: TestLine::new(test),
                    test_rmse: rmse(data, test),
                    best_epoch: best.map(|best| best.epoch),
                    best_validation_loss: best.map(|best| best.loss),
                    parameters_sha256,
                    out: out.display().to_string(),
                },
            );
        }
        let mut lines = Vec::new();
        if let Some(Best { epoch, loss }) = best {
            let ended = if epochs < config.epochs { format!("ended after epoch {epochs}: ") } else { String::new() };
            let kept = if config.keep == Keep::Best { ", which is kept" } else { "" };
            lines.push(format!("{ended}the validation loss was lowest, {}, after epoch {epoch}{kept}", figure(loss)));
        }
        lines.push(match test.accuracy() {
            Some(accuracy) => {
                let examples = test.predictions.len();
                let wrong = examples - test.correct;
                format!(
                    "test accuracy {}: {} of {} wrong, {}",
                    percent(accuracy),
                    count(wrong),
                    count(examples),
                    interval_text(test.correct, examples)
                )
            }
            None => format!("test {}, error {}", quality(test), error_text(data, test)),
        });
        lines.extend(guess_text(data));
        if self.steps > 0 {
            lines.push(format!(
                "trained {} in {seconds:.1} s: {} steps/s, {} {}/s",
                counted(self.steps, "step"),
                rate(self.steps, seconds),
                rate(self.examples, seconds),
                example_unit(data)
            ));
        }
        lines.push(format!("model in {}", path_text(model)));
        lines.extend(page.map(|page| format!("report in {}", path_text(page))));
        print(&lines.join("\n"))
    }
}

/// Prints that there is nothing to go on with.
pub fn finished(steps: usize, out: &Path, model: &Path, json: bool) -> Result<()> {
    if json {
        let line = json!({ "step": steps, "steps": steps, "out": out.display().to_string() });
        return Ok(print_event("finished", &line)?);
    }
    Ok(print(&format!("this run has ended after all its {} steps\nmodel in {}", count(steps), path_text(model)))?)
}

/// Prints what `softstep reproduce` and `softstep inspect` found: lines under their names, or JSON.
pub fn receipt(text: &[(&str, String)], json: &impl Serialize, as_json: bool) -> Result<()> {
    if as_json {
        return Ok(print_json(json)?);
    }
    let lines: Vec<String> = text.iter().map(|(name, value)| field(name, &line(value))).collect();
    Ok(print(&lines.join("\n"))?)
}

/// Prints where something was written.
pub fn written(what: &str, path: &Path) -> Result<()> {
    Ok(print(&format!("{what} in {}", path_text(path)))?)
}

/// How fast a backend trains a configuration.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// Median over the rounds.
    pub steps_per_second: f64,
    /// The same in examples.
    pub images_per_second: f64,
    /// The same in 10⁹ floating-point operations of matrix products.
    pub gflop_per_second: f64,
    /// From opening the device to the first loss on the host.
    pub first_loss_seconds: f64,
    /// Steps per second in each round.
    pub rounds: Vec<f64>,
    /// Where it ran.
    #[serde(flatten, serialize_with = "serialize_device")]
    pub device: DeviceInfo,
}

/// For serde: a device as every line of JSON has it.
pub fn serialize_device<S: serde::Serializer>(info: &DeviceInfo, serializer: S) -> Result<S::Ok, S::Error> {
    DeviceLine::new(info).serialize(serializer)
}

/// A configuration on both backends.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The model.
    pub architecture: Architecture,
    /// Layer sizes `[features, hidden…, classes]` of a stack of linear layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<usize>>,
    /// Examples in a step.
    pub batch_size: usize,
    /// `None` where there is no adapter.
    pub gpu: Option<Speed>,
    /// The processor.
    pub cpu: Speed,
    /// Median over the rounds of the GPU's steps per second by the CPU's.
    pub gpu_per_cpu: Option<f64>,
    /// The backend to train this configuration on: the faster.
    #[serde(rename = "use")]
    pub best: &'static str,
}

/// Shows a benchmark while it goes on.
#[derive(Debug)]
pub struct BenchReport {
    json: bool,
    bar: ProgressBar,
    rows: Vec<Comparison>,
}

impl BenchReport {
    /// Begins, with this many configurations to come.
    pub fn new(configurations: usize, json: bool) -> Self {
        let bar = ProgressBar::new(configurations as u64);
        bar.set_style(style("measuring {msg}  {bar:24} {pos}/{len}"));
        Self { json, bar, rows: Vec::new() }
    }

    /// Shows which configuration is under way.
    pub fn begin(&self, architecture: &Architecture, batch_size: usize) {
        self.bar.set_message(format!("{}, batches of {batch_size}", model_name(architecture)));
        self.bar.tick();
    }

    /// Takes a configuration's result.
    pub fn measured(&mut self, row: Comparison) -> softstep::Result<()> {
        self.bar.inc(1);
        if self.json {
            self.bar.suspend(|| print_json(&row))?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Ends with the table.
    pub fn done(&self) -> softstep::Result<()> {
        self.bar.finish_and_clear();
        let Some(first) = self.rows.first().filter(|_| !self.json) else { return Ok(()) };
        let mut devices = String::new();
        for (name, speed) in [("GPU", first.gpu.as_ref()), ("CPU", Some(&first.cpu))] {
            if let Some(DeviceInfo { name: adapter, device_type, driver, .. }) = speed.map(|speed| &speed.device) {
                devices += &format!("{}\n", field(name, &format!("{adapter} ({device_type}; {driver})")));
            }
        }
        let has_gpu = first.gpu.is_some();
        let backends = if has_gpu { &["GPU", "CPU"][..] } else { &["CPU"] };
        let figures = ["steps/s", "images/s", "GFLOP/s", "first loss"];
        let mut header = vec!["model".to_string(), "batch".to_string()];
        header.extend(figures.iter().flat_map(|figure| backends.iter().map(move |name| format!("{figure}\n{name}"))));
        if has_gpu {
            header.extend(["GPU/CPU", "use"].map(String::from));
        }
        let mut table = table(&[]);
        table.set_header(right(header));
        for row in &self.rows {
            let speeds: Vec<&Speed> = row.gpu.iter().chain([&row.cpu]).collect();
            let mut cells = vec![model_name(&row.architecture), row.batch_size.to_string()];
            cells.extend(speeds.iter().map(|speed| short(speed.steps_per_second)));
            cells.extend(speeds.iter().map(|speed| short(speed.images_per_second)));
            cells.extend(speeds.iter().map(|speed| short(speed.gflop_per_second)));
            cells.extend(speeds.iter().map(|speed| format!("{} ms", short(1e3 * speed.first_loss_seconds))));
            if let Some(ratio) = row.gpu_per_cpu {
                cells.extend([format!("{ratio:.2}"), row.best.to_string()]);
            }
            table.add_row(right(cells));
        }
        print(&format!("{devices}\n{table}"))
    }
}

impl Drop for BenchReport {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A short name of a model: its sizes, as in `784-128-10`; `16x5-pool2-32x5-pool2-128-10` where layers are convolutional.
pub fn model_name(architecture: &Architecture) -> String {
    let mut parts: Vec<String> = Vec::new();
    let layers = architecture.layers();
    if !layers.iter().any(|layer| matches!(layer, Layer::Conv2d { .. } | Layer::MaxPool2d { .. })) {
        parts.push(architecture.input().len().to_string());
    }
    parts.extend(layers.iter().filter_map(|layer| match layer {
        Layer::Linear { outputs } => Some(outputs.to_string()),
        Layer::Conv2d { .. } => Some(layer.to_string().replace("conv:", "")),
        Layer::MaxPool2d { .. } => Some(layer.to_string().replace(':', "")),
        Layer::BatchNorm => Some("bn".into()),
        Layer::Activation(_) | Layer::Dropout { .. } | Layer::Flatten => None,
    }));
    // Of deep ones the two ends.
    let left_out = parts.len().saturating_sub(NAMED_LAYERS);
    if left_out > 1 {
        let from = NAMED_LAYERS - 3;
        parts.splice(from..from + left_out, [format!("({left_out} more)")]);
    }
    parts.join("-")
}

/// The most layers in a model's name.
const NAMED_LAYERS: usize = 12;
/// The most layers that a model's summary shows.
const SHOWN_LAYERS: usize = 20;

/// The summary of a model: a line for each operation, with its output shape, its parameters and the floating-point
/// operations of an example in its product, forward; and their sums.
fn model_lines(architecture: &Architecture, loss: Loss) -> Vec<String> {
    let plan = Plan::new(architecture);
    let row = |[layer, output, parameters, operations]: [&str; 4]| {
        format!("{layer:26} {output:>12} {parameters:>13} {operations:>15}")
    };
    let some = |number: u64| if number == 0 { UNDEFINED.to_string() } else { HumanCount(number).to_string() };
    let mut rows = vec![row(["layer", "output", "parameters", "operations"])];
    for (index, node) in plan.nodes.iter().enumerate() {
        let mut name = architecture.layers()[node.layer - 1].to_string();
        let activation = node.activation.map(|activation| activation.name());
        let of_loss = match loss {
            Loss::CrossEntropy => Some("softmax"),
            Loss::BinaryCrossEntropy => Some("sigmoid"),
            Loss::MeanSquaredError => None,
        };
        if let Some(activation) = if index + 1 == plan.nodes.len() { of_loss } else { activation } {
            name += &format!(", {activation}");
        }
        let (parameters, operations) = (node.parameters() as u64, 2 * node.products());
        rows.push(row([&name, &node.output.to_string(), &some(parameters), &some(operations)]));
    }
    let left_out = plan.nodes.len().saturating_sub(SHOWN_LAYERS);
    if left_out > 1 {
        let from = 1 + SHOWN_LAYERS - 5;
        rows.splice(from..from + left_out, [format!("… {} more", count(left_out))]);
    }
    let (parameters, operations) = (plan.parameters() as u64, plan.forward_operations());
    rows.push(row(["in all, for an example", "", &some(parameters), &some(operations)]));
    rows.iter().enumerate().map(|(index, row)| field(if index == 0 { "model" } else { "" }, row)).collect()
}

/// A measured number, with as many digits as mean something.
fn short(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { count(number.round() as usize) }
}

#[derive(Serialize)]
struct DeviceLine<'a> {
    backend: &'a str,
    adapter: &'a str,
    device_type: &'a str,
    driver: &'a str,
}

impl<'a> DeviceLine<'a> {
    fn new(info: &'a DeviceInfo) -> Self {
        Self { backend: info.backend, adapter: &info.name, device_type: info.device_type, driver: &info.driver }
    }
}

/// A column of a table, and how many categories it has, unless it is numeric.
#[derive(Serialize)]
struct ColumnLine<'a> {
    name: &'a str,
    categories: Option<usize>,
}

impl<'a> ColumnLine<'a> {
    fn new(Column { name, encoding, .. }: &'a Column) -> Self {
        let categories = match encoding {
            Encoding::Standardised(_) => None,
            Encoding::OneHot(texts) => Some(texts.len()),
        };
        Self { name, categories }
    }
}

/// What was made of a table's columns: `3 numeric, 1 categorical: colour (4)`.
fn columns_text(format: &TableFormat) -> String {
    const SHOWN: usize = 5;
    let columns: Vec<ColumnLine<'_>> = format.columns.iter().map(ColumnLine::new).collect();
    let categorical: Vec<String> = columns
        .iter()
        .filter_map(|column| Some(format!("{} ({})", printable(column.name), column.categories?)))
        .collect();
    let numeric = columns.len() - categorical.len();
    let names = categorical.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match categorical.len() {
        0 => format!("{numeric} numeric"),
        count if count > SHOWN => format!("{numeric} numeric, {count} categorical: {names}, …"),
        count => format!("{numeric} numeric, {count} categorical: {names}"),
    }
}

#[derive(Serialize)]
struct StartLine<'a> {
    version: &'a str,
    #[serde(flatten)]
    device: DeviceLine<'a>,
    data: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<ColumnLine<'a>>>,
    train_examples: usize,
    test_examples: usize,
    architecture: &'a Architecture,
    #[serde(skip_serializing_if = "Option::is_none")]
    sizes: Option<Vec<usize>>,
    out: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_from: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<&'a str>,
    #[serde(flatten)]
    config: &'a TrainingConfig,
}

#[derive(Serialize)]
struct DoneLine<'a> {
    #[serde(flatten)]
    device: DeviceLine<'a>,
    data: &'a str,
    architecture: &'a Architecture,
    #[serde(skip_serializing_if = "Option::is_none")]
    sizes: Option<Vec<usize>>,
    epochs: usize,
    batch_size: usize,
    seed: u64,
    steps: usize,
    seconds: f64,
    steps_per_second: f64,
    images_per_second: f64,
    first_loss_seconds: Option<f64>,
    total_seconds: f64,
    train_loss: f64,
    #[serde(flatten)]
    validation: Option<ValidationLine>,
    #[serde(flatten)]
    test: TestLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_rmse: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best_epoch: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best_validation_loss: Option<f64>,
    parameters_sha256: String,
    out: String,
}

fn device_line(info: &DeviceInfo) -> String {
    field("device", &format!("{} ({}; {})", info.name, info.device_type, info.driver))
}

fn field(name: &str, value: &str) -> String {
    format!("{name:8}  {value}")
}

/// As in `1 step` and `2 steps`.
pub fn counted(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

pub fn count(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

fn rate(number: usize, seconds: f64) -> String {
    count((number as f64 / seconds).round() as usize)
}

/// The longest message that is printed, in characters: one with two paths of any length, and what is said of them.
const LONGEST_LINE: usize = 10_000;

/// A message on one line, whatever names and causes are in it.
fn line(text: &str) -> String {
    softstep::error::printable(text, LONGEST_LINE)
}

/// A path, whole and on one line.
pub fn path_text(path: &Path) -> String {
    line(&path.display().to_string())
}

/// A name from a file, short enough for a line of a terminal.
pub fn printable(name: &str) -> String {
    softstep::error::printable(name, 40)
}

/// The same, but the end of a long one, which is what tells files and rows apart.
fn printable_end(name: &str) -> String {
    let from = name.char_indices().rev().nth(59).map_or(0, |(at, _)| at);
    let shown: String =
        name[from..].chars().collect::<Vec<_>>().chunks(40).map(|part| printable(&String::from_iter(part))).collect();
    if from > 0 { format!("…{shown}") } else { shown }
}

pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Progress of `softstep explain`.
pub struct LessonReport {
    bar: ProgressBar,
}

impl LessonReport {
    /// Begins, with this many experiments to come.
    pub fn new(experiments: u64, quiet: bool) -> Self {
        let bar = ProgressBar::new(experiments);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(style("running {msg}  {bar:24} {pos}/{len}"));
        Self { bar }
    }

    /// Shows which experiment is under way.
    pub fn begin(&self, experiment: &'static str) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        self.bar.set_message(experiment);
        self.bar.tick();
    }

    /// Ends with the page's path, or everything as JSON.
    pub fn done(&self, explained: &Explained<'_>, json: bool) -> Result<()> {
        self.bar.finish_and_clear();
        if json {
            return Ok(print_json(explained)?);
        }
        Ok(print(&format!("page in {}, after {:.1} s", path_text(explained.out), explained.seconds))?)
    }
}

impl Drop for LessonReport {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What `softstep explain` came to; as JSON with all its numbers.
#[derive(Serialize)]
pub struct Explained<'a> {
    /// Where it computed.
    #[serde(flatten, serialize_with = "serialize_device")]
    pub info: &'a DeviceInfo,
    /// The seed.
    pub seed: u64,
    /// Since the program's start.
    pub seconds: f64,
    /// The page.
    pub out: &'a Path,
    /// The experiments.
    #[serde(flatten)]
    pub lesson: &'a Lesson,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

fn right(cells: impl IntoIterator<Item = String>) -> Vec<Cell> {
    cells.into_iter().map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right)).collect()
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    event: &'static str,
    #[serde(flatten)]
    line: &'a T,
}

fn print_event(event: &'static str, line: &impl Serialize) -> softstep::Result<()> {
    print_json(&Tagged { event, line })
}

fn print_json(line: &impl Serialize) -> softstep::Result<()> {
    let json = serde_json::to_string(line).map_err(|error| Error::io("write", "standard output")(error.into()))?;
    // What a terminal obeys is only in strings, where JSON has an escape for it.
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match is_printable(character) {
            true => text.push(character),
            false => text.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    print(&text)
}

/// Text of several lines in which nothing is left that a terminal obeys.
fn lines(text: &str) -> String {
    text.chars()
        .map(|character| if character == '\n' || is_printable(character) { character } else { '\u{fffd}' })
        .collect()
}

/// Prints a result. That nobody reads any more is no error.
fn print(text: &str) -> softstep::Result<()> {
    let mut output = io::stdout().lock();
    match writeln!(output, "{}", lines(text)).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("write", "standard output")),
    }
}

fn print_error_line(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", lines(text.trim_end()));
}
