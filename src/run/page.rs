//! `report.html`: the page of a run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{Markup, html};
use serde_json::Value;
use softstep::error::printable;
use softstep::loss::{Link, Loss};
use softstep::metrics::{Confusion, interval};
use softstep::model::{Layer, Weights};
use softstep::trainer::Best;

use crate::format::{count, counted, duration, four_decimals, number, percent, rounded};
use crate::html::plot::{Axis, Bars, Mark, Plot, Series, smoothed, thinned};
use crate::html::{self, facts, note, picture, section, table, tiles};
use crate::model_summary::model_name;
use crate::run::error_analysis::{ErrorAnalysis, Input, Mistake, Sample, Wrong};
use crate::run::files::write_whole;
use crate::run::importance::Importance;
use crate::run::metrics::EpochPoint;
use crate::run::model;
use crate::run::probabilities::{Calibration, Threshold, TwoClasses, VALIDATION};
use crate::run::record::Record;
use crate::run::results::{Outcome, Results, Timings, WorstNumber};
use crate::shell;

/// Name of the file.
pub const REPORT: &str = "report.html";

/// Columns of a plot of steps: as many as can be seen.
const COLUMNS: usize = 480;
/// Classes from which on a confusion matrix is squeezed to the width of the page.
const MANY_CLASSES: usize = 12;
/// Classes up to which a confusion matrix is shown; of more, the pairs most often mistaken.
const MATRIX_CLASSES: usize = 32;
const PAIRS: usize = 20;
/// Classes up to which each is in the table; of more, the worst.
const CLASSES: usize = 50;
/// Classes up to which there is a bar for each.
const BARS: usize = 12;
/// Classes whose learned weights are shown.
const WEIGHT_IMAGES: usize = 64;
/// Characters up to which a message or path is shown.
const LONG: usize = 1000;
/// Ratio of the largest to the smallest smoothed loss above which the axis is logarithmic.
const WIDE: f64 = 12.0;

/// Interval in seconds at which the page of a run in progress loads itself anew.
const REFRESH: u32 = 4;

/// Writes `report.html` into a run folder; returns its path.
pub fn write(folder: &Path) -> Result<PathBuf> {
    write_page(folder, false)
}

/// Writes the page of a run in progress, which loads itself anew.
pub fn write_live(folder: &Path) -> Result<PathBuf> {
    write_page(folder, true)
}

fn write_page(folder: &Path, is_live: bool) -> Result<PathBuf> {
    let path = folder.join(REPORT);
    write_whole(&path, rendered(&Record::read(folder)?, is_live).as_bytes())?;
    Ok(path)
}

/// Renders the page of a run.
pub fn page(record: &Record) -> String {
    rendered(record, false)
}

fn rendered(record: &Record, is_live: bool) -> String {
    let name = record.folder.canonicalize().unwrap_or_else(|_| record.folder.clone());
    let name = name.file_name().map_or_else(|| "run".into(), |name| html::name(&name.to_string_lossy()));
    // The model of a run in progress would be read from its last checkpoint.
    let weights = if is_live { None } else { weights(record) };
    let sections = [training(record), test(record), columns(record), mistakes(record), weights, details(record)];
    let body = html! {
        h1 { (name) }
        p.summary { (summary(record, is_live)) }
        p.lead { (lead(record)) }
        (tiles(&key_figures(record)))
        @let missing = if is_live { Vec::new() } else { missing(record) };
        @if !missing.is_empty() { ul.missing { @for text in missing { li { (text) } } } }
        @for text in whole(record).into_iter().flat_map(|results| &results.findings) {
            p.warning { (printable(text, LONG)) }
        }
        @for section in sections.into_iter().flatten() { (section) }
        footer { (made_by(record.results.as_ref())) }
    };
    let title = format!("{name} – softstep");
    if is_live { html::refreshing_document(&title, "en", REFRESH, &body) } else { html::document(&title, "en", &body) }
}

fn made_by(results: Option<&Results>) -> String {
    let run = results.map(|results| format!("The run ended {}. ", results.written)).unwrap_or_default();
    format!("{run}Made by softstep {}.", env!("CARGO_PKG_VERSION"))
}

/// The results that are those of all the steps in the metrics, and not of an earlier part of a run that went on.
pub fn whole(record: &Record) -> Option<&Results> {
    let last = record.history.steps.last().map_or(0, |point| point.step);
    // A run that fails may do so between writing a step's line and counting it.
    let uncounted = |results: &Results| usize::from(matches!(results.outcome, Outcome::Failed(_)));
    record.results.as_ref().filter(|results| results.step + uncounted(results) >= last)
}

fn tested(record: &Record) -> Option<&ErrorAnalysis> {
    whole(record)?.test.as_ref()
}

/// The loss that a run was trained with.
pub fn loss(record: &Record) -> Loss {
    record.setting("loss").and_then(Loss::from_name).unwrap_or_default()
}

fn lead(record: &Record) -> String {
    let config = &record.config;
    let mut parts = vec![format!("data {}", html::name(&config.data))];
    if let Some(architecture) = record.architecture() {
        let parameters = record.parameters().unwrap_or_default();
        parts.push(format!("model {}, {} parameters", model_name(&architecture), count(parameters)));
    }
    parts.push(format!(
        "{} on {} ({})",
        loss(record).name(),
        html::name(&config.adapter),
        html::name(&config.device_type)
    ));
    parts.join(" · ")
}

/// Sentence that says what happened.
fn summary(record: &Record, is_live: bool) -> Markup {
    let last = record.history.steps.last().map_or(0, |point| point.step);
    let epochs = record.history.epochs.len();
    if is_live {
        let all = record.config.settings.get("epochs").and_then(Value::as_u64);
        let of = all.map_or_else(String::new, |all| format!(" of {all}"));
        let text = format!("This run is under way: epoch {epochs}{of} has ended{}.", so_far(record));
        return html! { (text) };
    }
    let text = match whole(record) {
        Some(Results { outcome: Outcome::Ended, .. }) => return html! { (ended(record)) },
        Some(Results { outcome: Outcome::Stopped, step, steps, .. }) => {
            format!("This run was stopped after step {} of {} and may go on.", count(*step), count(*steps))
        }
        Some(Results { outcome: Outcome::Failed(problem), .. }) => {
            format!("This run failed: {}", printable(problem, LONG))
        }
        None => format!("After step {} this run was still under way, or it was killed.", count(last)),
    };
    html! { span.warning { (text) } }
}

/// Quality of the last epoch, for a sentence.
fn so_far(record: &Record) -> String {
    let Some(epoch) = last_epoch(record) else { return String::new() };
    let name = if epoch.real_values { "R²" } else { "accuracy" };
    epoch.test_quality.map_or_else(String::new, |quality| {
        format!(", with a test {name} of {}", quality_text(quality, epoch.real_values))
    })
}

/// Sentence about a run that has ended.
fn ended(record: &Record) -> String {
    let epochs = record.history.epochs.len();
    let trained = match whole(record).map(|results| &results.timings) {
        Some(timings) => format!("After {} in {}", counted(epochs, "epoch"), training_time(timings)),
        None => format!("After {}", counted(epochs, "epoch")),
    };
    let Some(test) = tested(record) else { return format!("{trained} this run has ended{}.", so_far(record)) };
    let on = counted(test.examples, "test example");
    let mut of_class = vec![0; test.classes];
    test.confusion.iter().for_each(|&[label, _, times]| of_class[label] += times);
    let most = of_class.iter().max().map(|&most| most as f64 / test.examples.max(1) as f64);
    match (test.accuracy, test.r_squared, test.rmse) {
        (Some(accuracy), ..) => {
            let guess =
                most.map(|most| format!(", where always the most frequent class would be in {}", percent(most)));
            format!("{trained} the model is right in {} of {on}{}.", percent(accuracy), guess.unwrap_or_default())
        }
        (None, Some(r_squared), rmse) => {
            let rmse = rmse.filter(|_| test.targets.is_empty());
            let of_mean = rmse.map(|rmse| (rmse, rmse / (1.0 - r_squared).sqrt())).filter(|(_, mean)| mean.is_finite());
            let error = of_mean.map(|(rmse, mean)| {
                format!(": its error is {}, where that of always the mean is {}", number(rmse, 4), number(mean, 4))
            });
            format!(
                "{trained} the model has an R² of {} on {on}{}.",
                four_decimals(r_squared),
                error.unwrap_or_default()
            )
        }
        (None, None, Some(rmse)) => {
            format!("{trained} the model has a root mean squared error of {} on {on}.", number(rmse, 4))
        }
        _ => format!("{trained} this run has ended."),
    }
}

/// An accuracy or R² as people read it.
pub fn quality_text(quality: f64, real_values: bool) -> String {
    if real_values { four_decimals(quality) } else { percent(quality) }
}

/// The last epoch that has a quality.
pub fn last_epoch(record: &Record) -> Option<&EpochPoint> {
    record.history.epochs.last()
}

/// Loss, and accuracy or R², that the kept parameters have on the test part.
pub fn final_test(record: &Record) -> (Option<f64>, Option<f64>) {
    match (tested(record), last_epoch(record)) {
        (Some(test), _) => (Some(test.loss), test.accuracy.or(test.r_squared)),
        (None, Some(epoch)) => (epoch.test_loss, epoch.test_quality),
        (None, None) => (None, None),
    }
}

fn key_figures(record: &Record) -> Vec<(String, String)> {
    let mut figures = Vec::new();
    let mut add = |name: &str, value: String| figures.push((name.to_string(), value));
    let real_values = last_epoch(record).is_some_and(|epoch| epoch.real_values);
    let (test_loss, quality) = final_test(record);
    if let Some(quality) = quality {
        add(if real_values { "test R²" } else { "test accuracy" }, quality_text(quality, real_values));
    }
    if let Some(test) = tested(record) {
        let right: usize = test.confusion.iter().filter(|cell| cell[0] == cell[1]).map(|cell| cell[2]).sum();
        if !test.confusion.is_empty() {
            add("wrong", format!("{} of {}", count(test.examples - right), count(test.examples)));
            if let Some([low, high]) = interval(right, test.examples) {
                add("95 % interval", format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high));
            }
            let mut of_class = vec![0; test.classes];
            test.confusion.iter().for_each(|&[label, _, times]| of_class[label] += times);
            let most = of_class.into_iter().max().unwrap_or(0);
            add("always the most frequent class", percent(most as f64 / test.examples.max(1) as f64));
        }
        for (number_of, target) in (1..).zip(&test.targets) {
            add(&format!("root mean squared error of value {number_of}"), number(target.rmse, 5));
        }
        // An error over several targets, which may differ in units, tells little.
        if let Some(rmse) = test.rmse.filter(|_| test.targets.is_empty()) {
            let unit = record.config.target.as_ref().map(|target| format!(" of {}", html::name(target)));
            add(&format!("root mean squared error{}", unit.unwrap_or_default()), number(rmse, 5));
            // R² is one minus the ratio of the squares of this error and of that of the mean.
            let of_mean = test.r_squared.map(|r_squared| rmse / (1.0 - r_squared).sqrt());
            if let Some(of_mean) = of_mean.filter(|error| error.is_finite()) {
                add("error of always the mean", number(of_mean, 5));
            }
        }
    }
    if let Some(loss) = test_loss {
        add("test loss", four_decimals(loss));
    }
    if let Some(Best { epoch, .. }) = whole(record).and_then(|results| results.best) {
        add("best epoch", format!("{epoch} of {}", record.history.epochs.len()));
    }
    if let Some(timings @ Timings { steps_per_second, .. }) = whole(record).map(|results| &results.timings) {
        add("training", training_time(timings));
        add("steps in a second", number(*steps_per_second, 3));
    }
    figures
}

/// The time spent in training steps; of a run that was resumed only that since then is known.
pub fn training_time(timings: &Timings) -> String {
    let since = timings.resumed_from.map(|step| format!(" since step {}", count(step)));
    duration(timings.seconds) + &since.unwrap_or_default()
}

/// Lists what cannot be shown, and why.
fn missing(record: &Record) -> Vec<&'static str> {
    let mut missing = Vec::new();
    match (&record.results, whole(record)) {
        (None, _) => missing.push(
            "There is no results.json, which a run writes when it ends: no confusion matrix, mistakes and timings.",
        ),
        (Some(_), None) => missing.push(
            "results.json is of an earlier part of this run: no confusion matrix, mistakes and timings until it ends.",
        ),
        (_, Some(results)) => match &results.test {
            None => missing.push("The run did not come to an evaluation: no confusion matrix and mistakes."),
            Some(ErrorAnalysis { mistakes: None, .. }) => {
                let real_values = last_epoch(record).is_some_and(|epoch| epoch.real_values);
                missing.push(match results.outcome {
                    Outcome::Ended if real_values => {
                        "Predictions are drawn, and the worst listed, only where a single value is learned."
                    }
                    Outcome::Ended => "The mistakes could not be looked at when the run ended.",
                    _ => "Mistakes are only looked at when a run has ended.",
                });
            }
            Some(_) => {}
        },
    }
    if record.history.steps.is_empty() {
        missing.push("metrics.jsonl has no step yet.");
    }
    if record.architecture().is_none() {
        missing.push("config.json is of an older version and does not say what the data look like.");
    }
    missing
}

/// Steps and their losses.
pub fn losses(record: &Record) -> Vec<[f64; 2]> {
    record.history.steps.iter().map(|point| [point.step as f64, point.loss]).collect()
}

/// Returns the number of losses in the mean of a smoothed line: a fiftieth of the run.
pub fn window(points: usize) -> usize {
    (points / 50).max(1)
}

/// Returns true if the values need a logarithmic axis.
pub fn is_wide<'a>(points: impl IntoIterator<Item = &'a [f64; 2]>) -> bool {
    let finite = points.into_iter().map(|point| point[1]).filter(|y| y.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, 0.0f64), |(low, high), y| (low.min(y), high.max(y)));
    low > 0.0 && high / low > WIDE
}

fn training(record: &Record) -> Option<Markup> {
    if record.history.steps.is_empty() {
        return None;
    }
    let epochs = &record.history.epochs;
    let real_values = epochs.first().is_some_and(|epoch| epoch.real_values);
    let plots = html! {
        div.plots {
            (loss_of_steps(record))
            @if !epochs.is_empty() {
                (of_epochs(epochs, "Loss after each epoch", false, &[
                    ("training", 0, |epoch| epoch.train_loss),
                    ("validation", 2, |epoch| epoch.validation_loss),
                    ("test", 1, |epoch| epoch.test_loss),
                ]))
                (of_epochs(epochs, if real_values { "R² after each epoch" } else { "Accuracy after each epoch" }, !real_values, &[
                    ("validation", 2, |epoch| epoch.validation_quality),
                    ("test", 1, |epoch| epoch.test_quality),
                ]))
            }
            (learning_rate(record))
            (range_test(record))
        }
    };
    Some(section("Training", &plots))
}

fn loss_of_steps(record: &Record) -> Markup {
    let points = losses(record);
    let window = window(points.len());
    let lines = smoothed(&points, window, COLUMNS);
    let thin = thinned(&points, COLUMNS);
    let logarithmic = is_wide(&lines);
    let chunk = points.len().div_ceil(COLUMNS);
    let lost = points.iter().filter(|point| !point[1].is_finite()).count();
    let mut remark = String::new();
    if thin.len() < points.len() {
        remark = format!("Of each {} steps the lowest and the highest loss are drawn. ", count(chunk));
    }
    if lost > 0 {
        remark += &format!("The loss of {} is not finite.", counted(lost, "step"));
    }
    let first = points.iter().map(|point| point[1]).find(|y| y.is_finite()).unwrap_or(f64::NAN);
    let summary = format!(
        "From {} in the first step to {}, the mean of the last {}.",
        number(first, 3),
        number(lines.last().map_or(f64::NAN, |point| point[1]), 3),
        counted(window, "step")
    );
    let mean = format!("mean of the last {}", counted(window, "step"));
    let series = if window == 1 {
        vec![Series { name: String::new(), colour: 0, mark: Mark::Line, points: thin }]
    } else {
        vec![
            Series { name: "loss".into(), colour: 0, mark: Mark::Faint, points: thin },
            Series { name: mean, colour: 0, mark: Mark::Line, points: lines },
        ]
    };
    Plot {
        title: if logarithmic { "Loss of every step, logarithmic" } else { "Loss of every step" },
        summary: &summary,
        x: Axis { label: "step", include: &[0.0], ..Axis::default() },
        y: Axis { logarithmic, include: if logarithmic { &[] } else { &[0.0] }, ..Axis::default() },
        series: &series,
        note: remark.trim_end(),
    }
    .figure()
}

/// A figure of an epoch, where it has it.
pub type Figure = fn(&EpochPoint) -> Option<f64>;

fn of_epochs(epochs: &[EpochPoint], title: &str, percent: bool, figures: &[(&str, usize, Figure)]) -> Markup {
    let line = |&(name, colour, figure): &(&str, usize, Figure)| epoch_line(epochs, name, colour, figure);
    plot_of_epochs(title, percent, figures.iter().map(line).collect())
}

/// A figure of each epoch.
pub fn epoch_line(epochs: &[EpochPoint], name: &str, colour: usize, figure: Figure) -> Series {
    let points: Vec<_> = epochs.iter().filter_map(|epoch| Some([epoch.epoch as f64, figure(epoch)?])).collect();
    let mark = if epochs.len() <= 40 { Mark::Dotted } else { Mark::Line };
    Series { name: name.into(), colour, mark, points }
}

/// Figures of each epoch; none where no series has any.
pub fn plot_of_epochs(title: &str, percent: bool, mut series: Vec<Series>) -> Markup {
    series.retain(|series| !series.points.is_empty());
    if series.is_empty() {
        return html! {};
    }
    let last = |series: &Series| {
        let y = series.points.last().map_or(f64::NAN, |point| point[1]);
        format!("{} {}", series.name, if percent { self::percent(y) } else { number(y, 4) })
    };
    let summary = format!("In the end {}.", series.iter().map(last).collect::<Vec<_>>().join(", "));
    for series in &mut series {
        series.points = thinned(&series.points, COLUMNS / 2);
    }
    let logarithmic = !percent && is_wide(series.iter().flat_map(|series| &series.points));
    let title = if logarithmic { format!("{title}, logarithmic") } else { title.into() };
    Plot {
        title: &title,
        summary: &summary,
        x: Axis { label: "epoch", whole: true, ..Axis::default() },
        y: Axis { logarithmic, percent, ..Axis::default() },
        series: &series,
        note: "",
    }
    .figure()
}

fn learning_rate(record: &Record) -> Markup {
    let points: Vec<[f64; 2]> =
        record.history.steps.iter().map(|point| [point.step as f64, point.learning_rate]).collect();
    let schedule = record.setting("schedule").unwrap_or("unknown");
    let first = points.first().map_or(f64::NAN, |point| point[1]);
    let summary = format!("Schedule {schedule}, from {}.", number(first, 3));
    let series = [Series { name: String::new(), colour: 3, mark: Mark::Line, points: thinned(&points, COLUMNS / 2) }];
    Plot {
        title: "Learning rate",
        summary: &summary,
        x: Axis { label: "step", include: &[0.0], ..Axis::default() },
        y: Axis { include: &[0.0], ..Axis::default() },
        series: &series,
        note: "",
    }
    .figure()
}

/// The curve of `--lr auto`.
fn range_test(record: &Record) -> Markup {
    let Some(curve) = &record.config.range_test else { return html! {} };
    let finite = |value: Option<f32>| value.map_or(f64::NAN, f64::from);
    let points: Vec<[f64; 2]> = curve.iter().map(|&[rate, loss]| [finite(rate), finite(loss)]).collect();
    let taken = record.config.settings.get("learning_rate").and_then(Value::as_f64).unwrap_or(f64::NAN);
    let losses = || points.iter().map(|point| point[1]).filter(|loss| loss.is_finite());
    let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(f64::NEG_INFINITY, f64::max));
    let summary = format!("The rate that was taken is {}.", number(taken, 3));
    let series = [
        Series { name: "loss".into(), colour: 0, mark: Mark::Line, points },
        Series { name: "rate taken".into(), colour: 1, mark: Mark::Line, points: vec![[taken, low], [taken, high]] },
    ];
    Plot {
        title: "Loss of a range test, while the rate grows",
        summary: &summary,
        x: Axis { label: "learning rate, logarithmic", logarithmic: true, ..Axis::default() },
        y: Axis::default(),
        series: &series,
        note: "",
    }
    .figure()
}

fn test(record: &Record) -> Option<Markup> {
    let test = tested(record)?;
    let of = record.history.epochs.len();
    let kept =
        if test.epoch == of { String::new() } else { format!(" The model is that of epoch {} of {of}.", test.epoch) };
    let mut parts = vec![html! {
        p { "Measured on " (counted(test.examples, "example")) " that the model was not trained on." (kept) }
    }];
    if let Some(confusion) = test.confusion() {
        parts.push(class_results(record, test, &confusion));
    } else if test.accuracy.is_some() {
        parts.push(note("There are more classes than a confusion matrix has here."));
    }
    parts.push(probabilities(record, test));
    if let Some(sample) = &test.values {
        parts.push(values_plot(record, test, sample));
    }
    Some(section("Test", &html! { @for part in parts { (part) } }))
}

/// Renders precision, recall and F1 of the classes, and the confusion matrix.
fn class_results(record: &Record, test: &ErrorAnalysis, confusion: &Confusion) -> Markup {
    let name = |class: usize| record.class_name(class);
    let names: Vec<String> = (0..confusion.classes).map(name).collect();
    let per_class = confusion.per_class();
    let share = |share: Option<f64>| share.map_or_else(|| "–".into(), percent);
    let mut worst: Vec<_> = per_class.iter().collect();
    let mut classes_note = String::new();
    if worst.len() > CLASSES {
        // Those without examples and predictions have no F1, and come last.
        worst.sort_by(|a, b| a.f1.unwrap_or(2.0).total_cmp(&b.f1.unwrap_or(2.0)));
        worst.truncate(CLASSES);
        classes_note = format!("Of {} classes these are the {CLASSES} with the lowest F1. ", count(confusion.classes));
    }
    let rows = worst.into_iter().map(|class| {
        vec![name(class.class), share(class.precision), share(class.recall), share(class.f1), count(class.support)]
    });
    let header = ["class", "precision", "recall", "F1", "examples"].map(String::from);
    let wrong = per_class.iter().map(|class| class.recall.map_or(0.0, |recall| 1.0 - recall)).collect();
    let bars = Bars {
        title: "Mistakes by class",
        summary: "The share of the examples of each class that was taken for another.",
        labels: &names,
        x_label: "class",
        y: Axis { percent: true, ..Axis::default() },
        text: |share| rounded(100.0 * share, 0.1),
        series: &[(String::new(), wrong)],
        note: "",
    };
    html! {
        div.beside {
            div {
                h3 { "Classes" }
                (table("Precision, recall and F1 of each class", &header, rows))
                (note(&(classes_note + "Precision: how often the class was right when it was predicted. Recall: how \
                    many of its examples were found. F1: their harmonic mean.")))
            }
            @if confusion.classes <= BARS { (bars.figure()) }
        }
        @if confusion.classes <= MATRIX_CLASSES { (matrix(confusion, &names)) } @else { (pairs(test, name)) }
    }
}

/// Axis of a share of a whole.
const SHARES: Axis<'static> =
    Axis { label: "", logarithmic: false, percent: true, whole: false, include: &[0.0, 1.0], labels: &[] };

/// Renders the means over classes, and the plots of a classifier's probabilities.
fn probabilities(record: &Record, test: &ErrorAnalysis) -> Markup {
    let mut means = Vec::new();
    let mut add = |name: &str, value: String| means.push((name.to_string(), value));
    if let (Some(balanced), Some(f1)) = (test.balanced_accuracy, test.macro_f1) {
        add("balanced accuracy, the mean recall", percent(balanced));
        add("macro F1, the mean F1", percent(f1));
    }
    if let Some(Calibration { error, .. }) = &test.calibration {
        add("expected calibration error", percent(*error));
    }
    let mut threshold_note = String::new();
    if let Some(TwoClasses { roc_auc, average_precision, threshold, .. }) = &test.two_classes {
        add("area under the ROC curve", four_decimals(*roc_auc));
        add("average precision", four_decimals(*average_precision));
        let Threshold { probability, chosen_on, balanced_accuracy } = threshold;
        let flattered = if chosen_on == VALIDATION { "" } else { ", which makes it optimistic" };
        threshold_note = format!(
            "If what has a probability above {} is taken for {}, the balanced accuracy here is {}. This threshold is the best \
             one for the {}{flattered}.",
            number(*probability, 3),
            record.class_name(1),
            percent(*balanced_accuracy),
            html::name(chosen_on)
        );
    }
    html! {
        @if !means.is_empty() { h3 { "All classes" } (facts(means)) }
        @if !threshold_note.is_empty() { (note(&threshold_note)) }
        @if test.two_classes.is_some() || test.calibration.is_some() {
            div.plots {
                @if let Some(of_two) = &test.two_classes { (roc(record, of_two)) (precision_recall(record, of_two)) }
                @if let Some(calibration) = &test.calibration { (reliability_diagram(calibration)) }
            }
        }
    }
}

fn roc(record: &Record, of_two: &TwoClasses) -> Markup {
    let TwoClasses { roc_auc, roc, .. } = of_two;
    let [first, second] = [0, 1].map(|class| record.class_name(class));
    let x_label = format!("{first} taken for {second}");
    let series = [
        Series { name: "guessing".into(), colour: 5, mark: Mark::Faint, points: vec![[0.0, 0.0], [1.0, 1.0]] },
        Series { name: format!("{second} found"), colour: 0, mark: Mark::Line, points: roc.clone() },
    ];
    Plot {
        title: &format!("ROC curve, area {}", four_decimals(*roc_auc)),
        summary: "The true positive rate over the false positive rate.",
        x: Axis { label: &x_label, ..SHARES },
        y: SHARES,
        series: &series,
        note: "",
    }
    .figure()
}

fn precision_recall(record: &Record, of_two: &TwoClasses) -> Markup {
    let TwoClasses { average_precision, precision_recall, share, .. } = of_two;
    let second = record.class_name(1);
    let x_label = format!("recall: share of {second} found");
    let series = [
        Series { name: "guessing".into(), colour: 5, mark: Mark::Faint, points: vec![[0.0, *share], [1.0, *share]] },
        Series { name: "precision".into(), colour: 2, mark: Mark::Line, points: precision_recall.clone() },
    ];
    Plot {
        title: &format!("Precision over recall, average {}", four_decimals(*average_precision)),
        summary: "The precision at each recall.",
        x: Axis { label: &x_label, ..SHARES },
        y: SHARES,
        series: &series,
        note: "",
    }
    .figure()
}

fn reliability_diagram(calibration: &Calibration) -> Markup {
    let Calibration { error, bins } = calibration;
    let points = bins.iter().map(|bin| [bin.confidence, bin.accuracy]).collect();
    let series = [
        Series { name: "as it should be".into(), colour: 5, mark: Mark::Faint, points: vec![[0.0, 0.0], [1.0, 1.0]] },
        Series { name: "right".into(), colour: 1, mark: Mark::Dotted, points },
    ];
    let fewest = bins.iter().map(|bin| bin.examples).min().unwrap_or(0);
    Plot {
        title: &format!("Reliability, off by {} on average", percent(*error)),
        summary: "The share of right predictions over the probability that the model gave them.",
        x: Axis { label: "probability of the predicted class", ..SHARES },
        y: SHARES,
        series: &series,
        note: &format!(
            "Above the line the model is right more often than it says, below it less often. Each point is a tenth of \
             the probabilities, the least with {}.",
            counted(fewest, "example")
        ),
    }
    .figure()
}

/// The most important columns of a table.
fn columns(record: &Record) -> Option<Markup> {
    let all = tested(record)?.importance.as_deref().filter(|all| !all.is_empty())?;
    let real_values = last_epoch(record).is_some_and(|epoch| epoch.real_values);
    let text = |value: f64| if real_values { four_decimals(value) } else { percent(value) };
    let quality = if real_values { "R²" } else { "accuracy" };
    let largest = all.iter().map(|importance| importance.loss).fold(0.0, f64::max);
    let body = html! {
        p { "What the model loses in " (quality) " on the test part while the values of a column are shuffled: the mean of five \
            shuffles, and how far they differ. Of two columns that say the same, either can be shuffled without much loss." }
        dl.chances.wide {
            @for Importance { column, loss, deviation } in all {
                div style=(format!("--v:{:.3}", (loss / largest).clamp(0.0, 1.0))) {
                    dt { (html::name(column)) } dd { (text(*loss)) " ± " (text(*deviation)) }
                }
            }
        }
    };
    Some(section("Columns that matter", &body))
}

/// Renders a plot of predicted over actual values.
fn values_plot(record: &Record, test: &ErrorAnalysis, sample: &Sample) -> Markup {
    let pairs = &sample.pairs;
    let target = record.config.target.as_deref().map_or_else(|| "target".into(), html::name);
    let ends = pairs.iter().flatten().copied().filter(|value| value.is_finite());
    let (low, high) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let remark = if sample.every > 1 { format!("One of {} examples is drawn.", sample.every) } else { String::new() };
    let x_label = format!("actual {target}");
    let title = format!("Predicted {target} over the actual");
    let series = [
        Series { name: "as it should be".into(), colour: 5, mark: Mark::Faint, points: vec![[low, low], [high, high]] },
        Series { name: "test examples".into(), colour: 0, mark: Mark::Dots, points: pairs.clone() },
    ];
    let summary = format!("R² {}.", test.r_squared.map_or_else(|| "unknown".into(), four_decimals));
    let plot = Plot {
        title: &title,
        summary: &summary,
        x: Axis { label: &x_label, ..Axis::default() },
        y: Axis::default(),
        series: &series,
        note: &remark,
    };
    html! { div.plots { (plot.figure()) } }
}

fn matrix(confusion: &Confusion, names: &[String]) -> Markup {
    let row_sum = |row: &[usize]| row.iter().sum::<usize>().max(1) as f64;
    html! {
        h3 { "Confusion matrix" }
        div.scroll tabindex="0" role="region" aria-label="Confusion matrix" {
            table.confusion.many[confusion.classes > MANY_CLASSES] {
                thead { tr { th scope="col" { "is ↓ taken for →" } @for name in names { th scope="col" { (name) } } } }
                tbody {
                    @for (label, row) in confusion.rows().enumerate() {
                        tr {
                            th scope="row" { (names[label]) }
                            @for (prediction, &times) in row.iter().enumerate() {
                                @let share = times as f64 / row_sum(row);
                                @if times == 0 {
                                    td.none { "·" }
                                } @else if label == prediction {
                                    td.hit style=(format!("--v:{:.3}", 0.45 * share)) { (count(times)) }
                                } @else {
                                    // Few mistakes must be seen, too.
                                    td.miss style=(format!("--v:{:.3}", 0.6 * share.sqrt())) { (count(times)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        (note("A row has the examples of a class, a column what they were taken for. Colours say how large a share of the row it is."))
    }
}

/// The pairs of classes that are most often mistaken.
fn pairs(test: &ErrorAnalysis, name: impl Fn(usize) -> String) -> Markup {
    let mut cells: Vec<_> = test.confusion.iter().filter(|cell| cell[0] != cell[1]).collect();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell[2]));
    let rows = cells.into_iter().take(PAIRS).map(|&[label, taken, times]| vec![name(label), name(taken), count(times)]);
    let header = ["is", "taken for", "times"].map(String::from);
    html! { h3 { "Most often mistaken" } (table("Pairs of classes most often mistaken", &header, rows)) }
}

fn mistakes(record: &Record) -> Option<Markup> {
    let mistakes = tested(record)?.mistakes.as_deref()?;
    let body = match mistakes {
        [] => html! { p { "There is none." } },
        [Mistake { input: Input::Picture(_), .. }, ..] => {
            let of = if loss(record).link() == Link::Identity { "outputs" } else { "probabilities" };
            html! {
                p { "The pictures that the model was most wrongly sure of, with its " (of) ". The blue one is what it is." }
                @if mistakes.iter().any(|mistake| mistake.attribution.is_some()) {
                    p { "Beside each is what the model looked at: " b { "orange" } " pixels speak for what it was taken for, "
                        b { "blue" } " ones against it. (The gradient of the predicted class's score times the pixel; black "
                        "pixels have none.)" }
                }
                div.pictures.mistakes.named[record.config.class_names.is_some()] { @for mistake in mistakes { (picture_of(record, mistake)) } }
            }
        }
        [Mistake { wrong, .. }, ..] => rows(record, mistakes, matches!(wrong, Wrong::Class { .. })),
    };
    Some(section("Worst mistakes", &body))
}

fn picture_of(record: &Record, mistake: &Mistake) -> Markup {
    let (Input::Picture(address), Wrong::Class { label, predicted, outputs }) = (&mistake.input, &mistake.wrong) else {
        return html! {};
    };
    let [is, taken] = [label, predicted].map(|class| record.class_name(*class));
    let probabilities = loss(record).link() != Link::Identity;
    let text = |output: f32| {
        let output = f64::from(output);
        match output {
            _ if !probabilities => number(output, 3),
            ..0.001 => "< 0.1 %".into(),
            0.9995.. => "> 99.9 %".into(),
            _ => format!("{:.1} %", 100.0 * output),
        }
    };
    html! {
        figure {
            div.seen {
                img src=(address) alt=(format!("test example {}, a {is} that was taken for {taken}", mistake.example));
                @if let Some(attribution) = &mistake.attribution {
                    img src=(attribution) alt=(format!("the pixels of test example {} that speak for and against {taken}", mistake.example));
                }
            }
            figcaption {
                b { (is) } " taken for " b { (taken) }
                dl.chances {
                    @for &(class, output) in outputs {
                        div.label[class == *label] style=(format!("--v:{:.3}", f64::from(output).clamp(0.0, 1.0))) {
                            dt { (record.class_name(class)) } dd { (text(output)) }
                        }
                    }
                }
            }
        }
    }
}

fn rows(record: &Record, mistakes: &[Mistake], classes: bool) -> Markup {
    let columns: Vec<String> = match mistakes.first().map(|mistake| &mistake.input) {
        Some(Input::Row(row)) => row.iter().map(|(name, _)| name.clone()).collect(),
        _ => Vec::new(),
    };
    let header =
        if classes { &["is", "taken for", "with", "instead of"][..] } else { &["actual", "predicted", "off by"] };
    let header: Vec<String> = header.iter().map(ToString::to_string).chain(columns).collect();
    let probabilities = loss(record).link() != Link::Identity;
    let row = |mistake: &Mistake| {
        let mut cells = match &mistake.wrong {
            Wrong::Class { label, predicted, outputs } => {
                let output =
                    |class: &usize| outputs.iter().find(|(of, _)| of == class).map(|&(_, output)| f64::from(output));
                let text = |class| match output(class) {
                    Some(output) if probabilities => percent(output),
                    Some(output) => number(output, 3),
                    None => "–".into(),
                };
                vec![record.class_name(*label), record.class_name(*predicted), text(predicted), text(label)]
            }
            Wrong::Value { actual, predicted } => {
                vec![number(*actual, 6), number(*predicted, 6), number(predicted - actual, 4)]
            }
        };
        if let Input::Row(values) = &mistake.input {
            cells.extend(values.iter().map(|(_, value)| html::name(value)));
        }
        cells
    };
    let text =
        if classes { "The rows that the model was most wrongly sure of." } else { "The rows with the largest errors." };
    html! { p { (text) } (table(text, &header, mistakes.iter().map(row))) }
}

/// The weights of softmax regression on images, class by class.
fn weights(record: &Record) -> Option<Markup> {
    let image = record.config.image?;
    let architecture = record.architecture()?;
    if !matches!(architecture.layers(), [Layer::Linear { .. }]) {
        return None;
    }
    let model = match model::read_model(&record.folder) {
        Ok(model) => model,
        Err(error) => {
            let text = format!("The weights cannot be shown: {error:#}");
            return Some(section("What the model looks for", &note(&printable(&text, LONG))));
        }
    };
    let [Weights { inputs, outputs, values }] = model.parameters.layers.as_slice() else { return None };
    if image[0].checked_mul(image[1]) != Some(*inputs) {
        let text = "The weights are only drawn for grey images: those of colours have three for each pixel.";
        return Some(section("What the model looks for", &note(text)));
    }
    let weights = &values[..inputs * outputs];
    // A few weights are far larger than the others, which would be pale beside them.
    let mut sizes: Vec<f32> = weights.iter().map(|weight| weight.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    let full = sizes[(sizes.len() - 1) * 99 / 100];
    let of_output = |output: usize| -> Vec<f32> { weights[output..].iter().step_by(*outputs).copied().collect() };
    let name = |output: usize| if *outputs == 1 { record.class_name(1) } else { record.class_name(output) };
    let ramp: Vec<f32> = (0..65).map(|at| at as f32 / 32.0 - 1.0).collect();
    let end = number(f64::from(full), 2);
    let body = html! {
        p { "The weight of each pixel in the score of each class: " b { "orange" } " pixels speak for the class where they are "
            "bright, " b { "blue" } " ones against it." }
        div.pictures {
            @for output in 0..(*outputs).min(WEIGHT_IMAGES) {
                @if let Ok(address) = picture::diverging(&of_output(output), image, full) {
                    figure { img src=(address) alt=(format!("weights of {}", name(output))); figcaption { (name(output)) } }
                }
            }
        }
        @if let Ok(ramp) = picture::diverging(&ramp, [1, 65], 1.0) {
            div.scale { span { "−" (end) " or less" } img src=(ramp) alt="colours from blue by way of none to orange"; span { (end) " or more" } }
        }
        @if *outputs > WEIGHT_IMAGES { (note(&format!("Of {outputs} classes these are the first."))) }
    };
    Some(section("What the model looks for", &body))
}

/// Settings as text, in the order of their names.
pub fn settings(record: &Record) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => html::name(text),
        Value::Array(values) if values.is_empty() => "none".into(),
        Value::Array(values) => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
            printable(&values.iter().map(text).collect::<Vec<_>>().join(", "), LONG)
        }
        Value::Null => "none".into(),
        other => html::name(&other.to_string()),
    };
    record.config.settings.iter().map(|(name, value)| (html::name(name).replace('_', " "), text(value))).collect()
}

fn details(record: &Record) -> Option<Markup> {
    let config = &record.config;
    let mut device = vec![
        ("adapter".to_string(), html::name(&config.adapter)),
        ("type".into(), html::name(&config.device_type)),
        ("backend".into(), html::name(&config.backend)),
        ("driver".into(), printable(&config.driver, LONG)),
        ("softstep".into(), html::name(&config.version)),
    ];
    let mut data = vec![("data".to_string(), html::name(&config.data))];
    let mut add =
        |name: &str, number: Option<usize>| data.extend(number.map(|number| (name.to_string(), count(number))));
    add("training examples", config.train_examples);
    add("validation examples", config.validation_examples);
    add("test examples", config.test_examples);
    add("features", record.architecture().map(|architecture| architecture.input().len()));
    if let Some([rows, columns]) = config.image {
        data.push(("images".into(), format!("{columns} × {rows} pixels")));
    }
    data.extend(config.target.as_ref().map(|target| ("learned column".to_string(), html::name(target))));
    let results = whole(record);
    let mut parts = Vec::new();
    if let Some(results) = results {
        parts.push(html! { h3 { "Time" } (facts(times(results))) });
        if let Some(profile) = &results.profile {
            let header = ["kernel", "µs a step", "share"].map(String::from);
            let Timings { seconds, steps, .. } = results.timings;
            let rows = profile.rows().map(|(name, part)| {
                vec![html::name(name), number(1e6 * part / steps.max(1) as f64, 3), percent(part / seconds)]
            });
            parts.push(table("Where the time of a step goes", &header, rows));
        }
        if let Some(sha256) = &results.parameters_sha256 {
            device.push(("parameters".into(), format!("SHA-256 {}", printable(sha256, LONG))));
        }
        if let Some(verified) = &results.verification {
            let header = ["", "step", "row", "column", "GPU", "CPU", "error", "tolerance"].map(String::from);
            let rows = verified.worst.iter().map(|worst: &WorstNumber| {
                let WorstNumber { step, tensor, row, column, gpu, cpu, error, tolerance } = worst;
                let places = [step, row, column].map(|place| count(*place));
                let numbers = [gpu, cpu, error, tolerance].map(|value| format!("{value:.3e}"));
                [vec![html::name(tensor)], places.to_vec(), numbers.to_vec()].concat()
            });
            parts.push(html! {
                h3 { "Verification" }
                p { (counted(verified.steps, "step")) " were computed again on the CPU and came out right. "
                    "The numbers that came nearest to their tolerance:" }
                (table("Verified numbers", &header, rows))
            });
        }
    }
    let body = html! {
        h3 { "Settings" } (facts(settings(record)))
        @if let Some(chosen) = &config.chosen { (note(&format!("By the data: {}.", printable(chosen, LONG)))) }
        h3 { "Data" } (facts(data))
        @for part in parts { (part) }
        h3 { "Device" } (facts(device))
        (note(&format!("The run is in {}.", printable_path(&record.folder))))
        h3 { "Again" }
        p { "This command trains the run again, from what its folder holds, and says whether the bits are the same:" }
        p { code { (printable(&shell::reproduce_command(&whole_path(&record.folder)), LONG)) } }
    };
    Some(section("The run", &body))
}

/// The path of a run folder from the root on, where there is one.
fn whole_path(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
}

fn printable_path(path: &Path) -> String {
    printable(&path.display().to_string(), LONG)
}

fn times(results: &Results) -> Vec<(String, String)> {
    let Timings {
        resumed_from,
        steps,
        seconds,
        steps_per_second,
        examples_per_second,
        first_loss_seconds,
        total_seconds,
    } = &results.timings;
    let mut times = vec![("steps".to_string(), count(results.step))];
    if let Some(step) = resumed_from {
        times.push(("resumed after step".into(), count(*step)));
        times.push(("steps since then".into(), count(*steps)));
    }
    let since = if resumed_from.is_some() { " since then" } else { "" };
    times.push((format!("in training steps{since}"), duration(*seconds)));
    times.push(("steps in a second".into(), number(*steps_per_second, 4)));
    times.push(("examples in a second".into(), number(*examples_per_second, 4)));
    times.extend(first_loss_seconds.map(|seconds| ("to the first loss".into(), duration(seconds))));
    times.push((format!("in all{since}"), duration(*total_seconds)));
    times
}
