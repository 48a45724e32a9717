//! Several runs by one command: with other seeds, or tested on other parts of the data.
//!
//! Each run is the one that `softstep train` with its own arguments makes, in a folder of its own. What they have in
//! common is in the folder around: the list of the runs, the page that compares them, and the model to use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use softstep::Error;
use softstep::data::Kind;

use super::job::Beside;
use super::options::TrainArgs;
use super::prepare::Prepared;
use super::resume::is_complete;
use super::signals::{STOPPED, stop_on_signals};
use crate::commands::report::comparison::{self, Common};
use crate::format::{counted, duration, figure, four_decimals, percent};
use crate::run::checkpoints::checkpoints;
use crate::run::files::write_whole;
use crate::run::folder::{check_free, create_named};
use crate::run::lock::lock;
use crate::run::model::MODEL;
use crate::run::page::{REPORT, final_test, last_epoch};
use crate::run::record::Record;
use crate::run::several::List;
use crate::side_by_side::{Place, execute, places};
use crate::spread::Spread;
use crate::terminal;

/// Options that belong to all runs together, by the names of their fields.
const OF_ALL: [&str; 8] = ["seed", "seeds", "folds", "jobs", "out", "quiet", "json", "adapter"];

/// One of several runs.
struct Repeat {
    number: usize,
    name: String,
    folder: PathBuf,
    /// Arguments of the run alone.
    args: TrainArgs,
}

/// Trains the models of `args` side by side, compares them, and keeps one.
pub async fn run(args: &TrainArgs, started: Instant) -> Result<ExitCode> {
    let data = &args.data.data;
    if let (Some(folds), Kind::Idx) = (args.folds(), Kind::of(data)) {
        bail!(
            "--folds {folds} is for tables, folders of images and arrays, and --data {data} has a test part of its own: \
             --seeds {folds} trains on it with several seeds"
        );
    }
    let named = named_runs(args);
    let common = common_arguments(args);
    let first = single(&common, &named[0].1, &[])?;
    // What is wrong with data or settings is said once, and leaves no folder behind.
    Prepared::new(&first, None, true)?;
    let places = places(&args.device, named.len(), args.jobs).await?;
    let list = List {
        version: env!("CARGO_PKG_VERSION").into(),
        arguments: common.clone(),
        runs: named.iter().map(|(name, _)| name.clone()).collect(),
        command: command_arguments(args),
    };
    let folder = open_folder(args, &list)?;
    let _lock = lock(&folder)?;
    let stop = stop_on_signals()?;
    let mut runs = Vec::new();
    for (number, (name, own)) in named.into_iter().enumerate() {
        let place = folder.join(&name);
        let args = single(&common, &own, &[format!("--out={}", place.display())])?;
        runs.push(Repeat { number, name, folder: place, args });
    }

    let mut progress = Progress::new(args, runs.len());
    let mut failed = Vec::new();
    let work = |place: &Place, run: &&Repeat| {
        let beside = Beside { name: &run.name, stop: Arc::clone(&stop), notices: false };
        Some(train_or_resume(run, place, &beside))
    };
    let waiting = runs.iter().take_while(|_| !stop.load(Ordering::Relaxed));
    execute(
        &places,
        waiting,
        |run| run.number,
        work,
        |run, ended: Result<ExitCode>| match ended {
            Ok(code) if code == ExitCode::SUCCESS => progress.show(run),
            Ok(code) if code == ExitCode::from(STOPPED) => {}
            Ok(_) => failed.push(run.name.clone()),
            Err(error) => {
                progress.suspend(|| terminal::error(&error.context(run.name.clone())));
                failed.push(run.name.clone());
            }
        },
    );
    progress.close();
    conclude(args, &folder, &list, &runs, &failed, stop.load(Ordering::Relaxed), started)
}

/// Names of the runs, and the arguments that each has for itself.
fn named_runs(args: &TrainArgs) -> Vec<(String, Vec<String>)> {
    let seeds = args.seeds();
    let mut named = Vec::new();
    for seed in &seeds {
        let of_seed = format!("--seed={seed}");
        match args.folds() {
            None => named.push((format!("seed-{seed}"), vec![of_seed])),
            Some(folds) => named.extend((1..=folds).map(|fold| {
                let name = if seeds.len() > 1 { format!("seed-{seed}-fold-{fold}") } else { format!("fold-{fold}") };
                (name, vec![of_seed.clone(), format!("--test=fold={fold}/{folds}")])
            })),
        }
    }
    named
}

/// The arguments that all runs have in common.
fn common_arguments(args: &TrainArgs) -> Vec<String> {
    let options = args.options.iter().filter(|(field, argument)| {
        // Its place decides the adapter of a run, unless there is only one.
        let is_one_adapter = field == "adapter" && !argument.contains(',');
        (!OF_ALL.contains(&field.as_str()) || is_one_adapter) && argument != "--keep=first"
    });
    options.map(|(_, argument)| argument.clone()).collect()
}

/// Parses the arguments of one run, as if they were on the command line.
fn single(common: &[String], own: &[String], more: &[String]) -> Result<TrainArgs> {
    Ok(TrainArgs::parse(common.iter().chain(own).chain(more).cloned())?)
}

/// Creates the folder around the runs, or opens one of the same command.
fn open_folder(args: &TrainArgs, list: &List) -> Result<PathBuf> {
    let Some(out) = &args.out else {
        let folder = create_named(&args.data.data)?;
        list.write(&folder)?;
        return Ok(folder);
    };
    let Some(there) = List::read(out)? else {
        check_free("--out", out)?;
        fs::create_dir_all(out).map_err(Error::io("create folder", out))?;
        list.write(out)?;
        return Ok(out.clone());
    };
    if (&there.arguments, &there.runs) != (&list.arguments, &list.runs) {
        bail!(
            "--out {}: that folder has the runs {} of {}: choose another folder, or the same arguments",
            out.display(),
            terminal::line(&there.runs.join(", ")),
            terminal::line(&there.command(out))
        );
    }
    Ok(out.clone())
}

/// Trains a run, or what is left of it.
fn train_or_resume(run: &Repeat, place: &Place, beside: &Beside<'_>) -> Result<ExitCode> {
    let started = Instant::now();
    let has_checkpoint = run.folder.is_dir() && !checkpoints(&run.folder)?.is_empty();
    if !has_checkpoint {
        let device = Some(place.device.clone());
        return pollster::block_on(super::train_beside(&run.args, device, beside, started));
    }
    if is_complete(&run.folder) {
        return Ok(ExitCode::SUCCESS);
    }
    let resume = format!("--resume={}", run.folder.display());
    let others = run.args.options.iter().filter(|(field, _)| ["data", "data_dir", "verify"].contains(&field.as_str()));
    let arguments: Vec<String> = others.map(|(_, argument)| argument.clone()).collect();
    let args = single(&arguments, &[resume], &[])?;
    pollster::block_on(super::train_beside(&args, None, beside, started))
}

/// Progress of the runs: a bar, and a line for each run that has ended.
struct Progress {
    bar: indicatif::ProgressBar,
    json: bool,
    quiet: bool,
    problem: Option<softstep::Error>,
}

impl Progress {
    fn new(args: &TrainArgs, runs: usize) -> Self {
        let bar = if args.quiet { indicatif::ProgressBar::hidden() } else { terminal::progress_bar(Some(runs as u64)) };
        bar.set_style(terminal::style("{pos} of {len} runs  {bar:16}  {elapsed}"));
        bar.tick();
        Self { bar, json: args.json, quiet: args.quiet, problem: None }
    }

    fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Shows a run that has ended.
    fn show(&mut self, run: &Repeat) {
        self.bar.inc(1);
        let Ok(record) = Record::read(&run.folder) else { return };
        let printed = self.bar.suspend(|| match (self.json, self.quiet) {
            (true, _) => terminal::print_event("run", &run_line(run, &record)),
            (false, false) => terminal::print(&format!("{:8}  {}", run.name, result_text(&record))),
            (false, true) => Ok(()),
        });
        self.problem = self.problem.take().or(printed.err());
    }

    fn close(&self) {
        self.bar.finish_and_clear();
        if let Some(problem) = &self.problem {
            terminal::notice(&format!("{problem}: the results are in the folders of the runs"));
        }
    }
}

fn result_text(record: &Record) -> String {
    let figures = Figures::of(record);
    let mut parts = Vec::new();
    parts.extend(figures.quality.map(|quality| quality_text(figures.real_values, quality)));
    parts.extend(figures.test_loss.map(|loss| format!("test loss {}", figure(loss))));
    parts.extend(figures.validation_loss.map(|loss| format!("validation loss {}", figure(loss))));
    parts.extend(record.results.as_ref().map(|results| duration(results.timings.total_seconds)));
    parts.join(", ")
}

fn quality_text(real_values: bool, quality: f64) -> String {
    if real_values { format!("test R² {}", figure(quality)) } else { format!("test accuracy {}", percent(quality)) }
}

fn run_line(run: &Repeat, record: &Record) -> Value {
    let figures = Figures::of(record);
    let mut line = Map::new();
    line.insert("run".into(), run.name.clone().into());
    line.insert("test_loss".into(), json!(figures.test_loss));
    line.insert(figures.quality_name().into(), json!(figures.quality));
    line.insert("validation_loss".into(), json!(figures.validation_loss));
    let sha256 = record.results.as_ref().and_then(|results| results.parameters_sha256.clone());
    line.insert("parameters_sha256".into(), json!(sha256));
    line.insert("out".into(), run.folder.display().to_string().into());
    Value::Object(line)
}

/// The figures of a finished run that are compared.
struct Figures {
    real_values: bool,
    test_loss: Option<f64>,
    /// Accuracy or R² on the test part.
    quality: Option<f64>,
    /// Validation loss of the kept parameters.
    validation_loss: Option<f64>,
}

impl Figures {
    fn of(record: &Record) -> Self {
        let (test_loss, quality) = final_test(record);
        let best = record.results.as_ref().and_then(|results| results.best).map(|best| best.loss);
        let keeps_best = record.setting("keep") == Some("best");
        let last = last_epoch(record).and_then(|epoch| epoch.validation_loss);
        Self {
            real_values: last_epoch(record).is_some_and(|epoch| epoch.real_values),
            test_loss,
            quality,
            validation_loss: best.filter(|_| keeps_best).or(last),
        }
    }

    fn quality_name(&self) -> &'static str {
        if self.real_values { "test_r_squared" } else { "test_accuracy" }
    }
}

/// A figure's spread over the runs, with its name in JSON and on the page.
struct Compared {
    field: &'static str,
    name: &'static str,
    percent: bool,
    spread: Spread,
}

impl Compared {
    fn all(records: &[Record]) -> Vec<Self> {
        let figures: Vec<Figures> = records.iter().map(Figures::of).collect();
        let real_values = figures.first().is_some_and(|figures| figures.real_values);
        let (field, name) =
            if real_values { ("test_r_squared", "test R²") } else { ("test_accuracy", "test accuracy") };
        let of = |field: &'static str, name, percent, figure: fn(&Figures) -> Option<f64>| {
            // A loss is 0 or more, an accuracy a share, and an R² 1 or less.
            let (low, high) = match field {
                "test_accuracy" => (0.0, 1.0),
                "test_r_squared" => (f64::NEG_INFINITY, 1.0),
                _ => (0.0, f64::INFINITY),
            };
            let spread = Spread::of(figures.iter().filter_map(figure))?.within(low, high);
            Some(Self { field, name, percent, spread })
        };
        let all = [
            of(field, name, !real_values, |figures| figures.quality),
            of("test_loss", "test loss", false, |figures| figures.test_loss),
            of("validation_loss", "validation loss", false, |figures| figures.validation_loss),
        ];
        all.into_iter().flatten().collect()
    }

    fn text(&self, number: f64) -> String {
        if self.percent { percent(number) } else { four_decimals(number) }
    }

    /// Cells: mean, standard deviation, lowest, highest, and the interval of the mean.
    fn cells(&self) -> [String; 5] {
        let Spread { mean, sd, lowest, highest, interval, .. } = self.spread;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
        [
            self.text(mean),
            or_dash(sd.map(|sd| self.text(sd))),
            self.text(lowest),
            self.text(highest),
            or_dash(interval.map(|[low, high]| format!("{} to {}", self.text(low), self.text(high)))),
        ]
    }

    fn line(&self) -> String {
        let [mean, sd, lowest, highest, interval] = self.cells();
        format!(
            "{:15}  {mean} ± {sd}, lowest {lowest}, highest {highest}; 95 % interval of the mean {interval}",
            self.name
        )
    }
}

/// Compares the runs that have ended, keeps the model to use, and prints what came of all.
fn conclude(
    args: &TrainArgs,
    folder: &Path,
    list: &List,
    runs: &[Repeat],
    failed: &[String],
    stopped: bool,
    started: Instant,
) -> Result<ExitCode> {
    let ended: Vec<&Repeat> = runs.iter().filter(|run| is_complete(&run.folder)).collect();
    let records: Vec<Record> = ended.iter().map(|run| Record::read(&run.folder)).collect::<Result<_>>()?;
    let labels: Vec<String> = ended.iter().map(|run| run.name.clone()).collect();
    let compared = Compared::all(&records);
    let all = ended.len() == runs.len();
    let chosen = chosen_run(args, &records);
    if let Some(chosen) = chosen.filter(|_| all) {
        let model = ended[chosen].folder.join(MODEL);
        let bytes = fs::read(&model).map_err(Error::io("read", &model))?;
        write_whole(&folder.join(MODEL), &bytes)?;
    }
    let reason = if args.keeps_best_run() { "the run with the lowest validation loss" } else { "the first run" };
    if !records.is_empty() {
        let title = match args.folds() {
            Some(folds) => format!("{} over {folds} folds", counted(records.len(), "run")),
            None => format!("{} with different seeds", counted(records.len(), "run")),
        };
        let missing = (!all).then(|| format!("{} of {} runs have ended so far.", ended.len(), runs.len()));
        let model = chosen
            .filter(|_| all)
            .map(|at| format!("{MODEL} beside this page is the model of {}, {reason}.", labels[at]));
        let rows = compared.iter().map(|compared| {
            std::iter::once(compared.name.to_string()).chain(compared.cells()).collect::<Vec<String>>()
        });
        let remarks = missing.into_iter().chain(model).collect();
        let common = Common { title, rows: rows.collect(), remarks, folds: args.folds().is_some() };
        write_whole(&folder.join(REPORT), comparison::page(&records, &labels, Some(&common)).as_bytes())?;
    }
    if args.json {
        let event = if stopped { "stopped" } else { "done" };
        let mut line = Map::new();
        line.insert("runs".into(), runs.len().into());
        line.insert("ended".into(), ended.len().into());
        for compared in &compared {
            line.insert(compared.field.into(), serde_json::to_value(compared.spread)?);
        }
        line.insert("chosen".into(), json!(chosen.filter(|_| all).map(|at| &labels[at])));
        line.insert("total_seconds".into(), started.elapsed().as_secs_f64().into());
        line.insert("out".into(), folder.display().to_string().into());
        terminal::print_event(event, &line)?;
    } else if !compared.is_empty() {
        let mut lines: Vec<String> = compared.iter().map(Compared::line).collect();
        if let Some(at) = chosen.filter(|_| all) {
            let model = terminal::path_text(&folder.join(MODEL));
            lines.push(format!("model in {model}: that of {}, {reason}", labels[at]));
        }
        lines.push(format!("report in {}", terminal::path_text(&folder.join(REPORT))));
        terminal::print(&lines.join("\n"))?;
    }
    if all && failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let text = format!("{} of {} runs have ended; the others go on with:", ended.len(), runs.len());
    terminal::notice_with_command(&text, &list.command(folder));
    Ok(if stopped { ExitCode::from(STOPPED) } else { ExitCode::FAILURE })
}

/// The run whose model is the one to use.
fn chosen_run(args: &TrainArgs, records: &[Record]) -> Option<usize> {
    if !args.keeps_best_run() {
        return (!records.is_empty()).then_some(0);
    }
    let loss = |at: &usize| Figures::of(&records[*at]).validation_loss.filter(|loss| loss.is_finite());
    let losses = (0..records.len()).filter_map(|at| Some((at, loss(&at)?)));
    losses.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// Arguments of the command, except its folder.
fn command_arguments(args: &TrainArgs) -> Vec<String> {
    args.options.iter().filter(|(field, _)| field != "out").map(|(_, argument)| argument.clone()).collect()
}
