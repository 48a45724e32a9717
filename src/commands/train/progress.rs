//! Output of `softstep train`: header, progress bar, a line for each epoch, and the results.
//!
//! With `--json`, standard output is JSON Lines, objects with an `event`:
//!
//! - `start`: `version`, `backend` (`gpu`, `cpu`), `adapter`, `device_type`, `driver`, `data`, `train_examples`,
//!   `test_examples`, `architecture` (`input`, its shape, and `layers`, each as `--layers` has it), `sizes` (`[features, hidden…, classes]`, only of a stack of linear layers), `out`, `resumed_from` (a step, only with `--resume`), `chosen` (the settings that follow the data, and why), and the settings as in
//!   `config.json`;
//! - `epoch`: `epoch`, `train_loss`, `validation_loss` and `validation_accuracy` (only with `--validation`),
//!   `test_loss`, `test_accuracy`; where the targets are real values, `*_r_squared` in the place of `*_accuracy`;
//! - `profile` (only with `--profile`): `kernels`, each with `name`, `dispatches` and `seconds`, in the order of a step,
//!   and `host_seconds`, the rest of the training time;
//! - `stopped` (instead of `done`, if the run was stopped): `step`, `steps`, `out`;
//! - `finished` (alone, if `--resume` names a run that has ended): `step`, `steps`, `out`;
//! - `done`: `backend`, `adapter`, `device_type`, `driver`, `data`, `architecture` and `sizes` as in `start`, `epochs`, `batch_size`, `seed`, `steps`,
//!   `seconds` (spent in training steps since the program's start, without loading and evaluation), `steps_per_second` and `images_per_second`
//!   (over these seconds), `first_loss_seconds` and `total_seconds` (since the program's start), `train_loss`,
//!   `validation_*`, `test_loss`, `test_accuracy` or `test_r_squared` and `test_rmse`, `best_epoch` and `best_validation_loss` (with
//!   `--patience` or `--keep best`), `parameters_sha256`, `out`. `epochs` are those that were trained.
//!
//! Losses are means, cross-entropies in nats; an `rmse` (root mean squared error) is in the target's own units, of several targets in their deviations; accuracies shares in 0..1; a number that is not finite is `null`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use softstep::backend::DeviceInfo;
use softstep::data::{Column, Data, Encoding, Part, Preprocessing, TableFormat, Targets};
use softstep::model::Architecture;
use softstep::range_test::RangeTest;
use softstep::trainer::{Best, Event, Keep, Summary, TrainingConfig};
use softstep::verify::Verification;

use super::chart::{Chart, LINES};
use crate::flags::with_flags;
use crate::format::{count, counted, figure, interval_text, percent, rate};
use crate::model_summary::model_lines;
use crate::quality::{error_text, example_unit, guess_text, quality, rmse};
use crate::run::metrics::{EpochLine, TestLine, ValidationLine};
use crate::run::results::{Profile, Timings, VerifiedSteps};
use crate::terminal::{
    DeviceLine, device_line, field, line, notice, notice_with_command, path_text, print, print_event, printable,
    progress_bar, right, style, table,
};

/// Description of a training run, for the header and the results.
#[derive(Debug)]
pub struct Header<'a> {
    /// Device.
    pub info: DeviceInfo,
    /// Data without the validation part.
    pub data: &'a Data,
    /// Model.
    pub architecture: &'a Architecture,
    /// Settings.
    pub config: &'a TrainingConfig,
    /// Settings that were chosen by the data, and the reason.
    pub chosen: Option<&'a str>,
    /// Range test that found the learning rate.
    pub range_test: Option<&'a RangeTest>,
    /// Run folder.
    pub out: &'a Path,
    /// Step that the run is resumed from.
    pub resumed_from: Option<usize>,
}

/// What a run prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Header, progress, epochs and results.
    All,
    /// Results alone.
    Results,
    /// JSON Lines, and progress.
    Json,
    /// JSON Lines, without progress.
    Lines,
    /// Nothing.
    Silent,
}

/// Progress of a training run.
#[derive(Debug)]
pub struct Progress<'a> {
    run: Header<'a>,
    voice: Voice,
    bar: ProgressBar,
    /// Losses for the chart below the bar.
    chart: Arc<Mutex<Chart>>,
    /// Start time of the program.
    started: Instant,
    first_loss: Option<Duration>,
    epoch_started: Instant,
    /// Time in training steps of finished epochs.
    trained: Duration,
    /// Number of steps since the start of the program, and of their examples.
    steps: usize,
    examples: usize,
    /// True once a result could not be printed.
    unprinted: bool,
}

impl<'a> Progress<'a> {
    /// Prints the header of a run of `steps` steps.
    pub fn new(run: Header<'a>, steps: usize, voice: Voice, started: Instant) -> Self {
        let shows_progress = matches!(voice, Voice::All | Voice::Json);
        let bar = if shows_progress { progress_bar(Some(steps as u64)) } else { ProgressBar::hidden() };
        bar.set_style(style("{prefix}  {bar:16} {percent:>3} %"));
        // Not `set_position`, which draws: the header comes first.
        let bar = bar.with_position(run.resumed_from.unwrap_or(0) as u64);
        let mut progress = Self {
            run,
            voice,
            bar,
            chart: Arc::default(),
            started,
            first_loss: None,
            epoch_started: started,
            trained: Duration::ZERO,
            steps: 0,
            examples: 0,
            unprinted: false,
        };
        let header = progress.header(steps);
        progress.printed(header);
        progress
    }

    /// Prints a notice at the first result that could not be printed. Training continues: the run folder has the results, too.
    fn printed(&mut self, printed: softstep::Result<()>) {
        let Err(error) = printed else { return };
        if !std::mem::replace(&mut self.unprinted, true) {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            let folder = path_text(self.run.out);
            self.bar.suspend(|| notice(&format!("{error}{cause}; training goes on, and its results are in {folder}")));
        }
    }

    /// Returns true if every result was printed, or standard output was closed.
    pub fn all_printed(&self) -> bool {
        !self.unprinted
    }

    fn prints_json(&self) -> bool {
        matches!(self.voice, Voice::Json | Voice::Lines)
    }

    fn header(&self, steps: usize) -> softstep::Result<()> {
        let Header { info, data, architecture, config, chosen, range_test, out, resumed_from } = &self.run;
        if self.prints_json() {
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
        if self.voice != Voice::All {
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
                    features_text(data),
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
                lines.push(field("target", &format!("{}: {}", printable(&format.target), with_flags(rule))));
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
                    self.chart.lock().unwrap_or_else(PoisonError::into_inner).add(loss);
                    let seconds = (self.trained + self.epoch_started.elapsed()).as_secs_f64();
                    let unit = example_unit(self.run.data);
                    let loss = figure(loss.into());
                    self.bar.set_message(format!("loss {loss}, {} {unit}/s", rate(self.examples, seconds)));
                }
                if self.first_loss.is_none() {
                    self.first_loss = Some(self.started.elapsed());
                    self.bar.set_style(with_chart(&self.chart));
                }
                self.bar.inc(1);
            }
            Event::Checkpoint { .. } => {}
            Event::EpochTrained { .. } => self.trained += self.epoch_started.elapsed(),
            Event::EpochEvaluated { epoch, train_loss, validation, test } => {
                if self.prints_json() {
                    let line = EpochLine::new(epoch, train_loss, validation, test);
                    let printed = self.bar.suspend(|| print_event("epoch", &line));
                    self.printed(printed);
                } else if self.voice == Voice::All && self.shows_epoch(epoch) {
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

    /// Returns true for the epochs that get a line: all of up to 25, else about 20 with the first and the last.
    fn shows_epoch(&self, epoch: usize) -> bool {
        const LINES: usize = 20;
        let epochs = self.run.config.epochs;
        let every = if epochs <= LINES + LINES / 4 { 1 } else { epochs.div_ceil(LINES) };
        epoch == 1 || epoch == epochs || epoch.is_multiple_of(every)
    }

    /// Returns the step that the run was resumed from; 0 for a new run.
    pub fn resumed_from(&self) -> usize {
        self.run.resumed_from.unwrap_or(0)
    }

    /// Removes the progress bar.
    pub fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// Returns the timings so far.
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

    /// Prints the verification, if there is one.
    pub fn verification(&mut self, found: Option<&Verification>, steps: usize) {
        let Some(found) = found.filter(|_| self.voice != Voice::Silent) else { return };
        if self.prints_json() {
            return self.printed(print_event("verification", &VerifiedSteps::new(found)));
        }
        let Verification { steps: verified, worst } = found;
        let mut lines = vec![field(
            "verified",
            &format!(
                "{} of {}, computed again on the CPU: all within bounds",
                count(*verified),
                counted(steps, "step")
            ),
        )];
        lines.extend(worst.iter().map(|(step, worst)| field("", &format!("worst in step {step}: {worst}"))));
        self.printed(print(&lines.join("\n")));
    }

    /// Prints the time by kernel, if it was measured.
    pub fn profile(&mut self, profile: Option<&Profile>) {
        let Some(profile) = profile.filter(|_| self.voice != Voice::Silent) else { return };
        if self.prints_json() {
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

    /// Prints that the run was stopped after step `step` of `steps`, and the `command` that resumes it.
    pub fn stopped(&mut self, step: usize, steps: usize, command: &str) {
        if self.voice == Voice::Silent {
            return;
        }
        let text = format!("stopped after step {} of {}, which is saved; go on with:", count(step), count(steps));
        notice_with_command(&text, command);
        if self.prints_json() {
            let line = json!({ "step": step, "steps": steps, "out": self.run.out.display().to_string() });
            self.printed(print_event("stopped", &line));
        }
    }

    /// Prints the results of a finished run, with the paths of its model and its page.
    pub fn done(&mut self, summary: &Summary, model: &Path, page: Option<&Path>, parameters_sha256: String) {
        if self.voice == Voice::Silent {
            return;
        }
        let printed = self.print_done(summary, model, page, parameters_sha256);
        self.printed(printed);
    }

    /// Prints commands to go on with.
    pub fn next(&mut self, commands: &[String]) {
        if self.voice != Voice::All {
            return;
        }
        let names = std::iter::once("next").chain(std::iter::repeat(""));
        let lines: Vec<String> = names.zip(commands).map(|(name, command)| field(name, command)).collect();
        self.printed(print(&lines.join("\n")));
    }

    fn print_done(
        &self,
        summary: &Summary,
        model: &Path,
        page: Option<&Path>,
        parameters_sha256: String,
    ) -> softstep::Result<()> {
        let Header { info, data, architecture, config, out, .. } = &self.run;
        let Summary { epochs, steps, train_loss, best, ref validation, ref test } = *summary;
        let Timings { seconds, steps_per_second, examples_per_second, first_loss_seconds, total_seconds, .. } =
            self.timings();
        if self.prints_json() {
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
        lines.extend(guess_text(data, Part::Test));
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

/// Style of the bar with a chart of the loss below it.
fn with_chart(chart: &Arc<Mutex<Chart>>) -> ProgressStyle {
    const KEYS: [&str; LINES] = ["chart0", "chart1", "chart2", "chart3"];
    let lines = KEYS.map(|key| format!("\n{{{key}}}")).concat();
    let mut style = style(&format!("{{prefix}}  {{bar:16}} {{percent:>3}} %  {{msg}}, {{eta}} left{lines}"));
    for (line, key) in KEYS.into_iter().enumerate() {
        let chart = Arc::clone(chart);
        style = style.with_key(key, move |_: &ProgressState, output: &mut dyn std::fmt::Write| {
            let _ = output.write_str(&chart.lock().unwrap_or_else(PoisonError::into_inner).line(line));
        });
    }
    style
}

/// Prints that a run has already ended.
pub fn finished(steps: usize, out: &Path, model: &Path, json: bool) -> Result<()> {
    if json {
        let line = json!({ "step": steps, "steps": steps, "out": out.display().to_string() });
        return Ok(print_event("finished", &line)?);
    }
    Ok(print(&format!("this run has ended after all its {} steps\nmodel in {}", count(steps), path_text(model)))?)
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

/// A column of a table in a JSON line, with its number of categories; `None` if it is numeric.
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

/// Counts the features, as in `10 features (standardised)`.
fn features_text(data: &Data) -> String {
    let features = counted(data.train.features, "feature");
    match &data.preprocessing {
        Some(Preprocessing::Arrays(arrays)) if !arrays.scales.is_empty() => {
            let together = if arrays.scales.len() < arrays.features { " together" } else { "" };
            format!("{features} (standardised{together})")
        }
        _ => features,
    }
}

/// Formats the columns of a table, as in `3 numeric, 1 categorical: colour (4)`.
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
