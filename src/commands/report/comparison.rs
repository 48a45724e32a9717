//! The page that compares runs.

use std::collections::BTreeSet;

use maud::html;
use softstep::metrics::{mcnemar, wilcoxon};

use crate::format::{count, counted, four_decimals, number};
use crate::html::plot::{Axis, Mark, Plot, Series, smoothed};
use crate::html::{self, note, section, table};
use crate::model_summary::model_name;
use crate::run::config::Config;
use crate::run::error_analysis::{Paired, PairedResults};
use crate::run::page::{
    Figure, epoch_line, final_test, is_wide, last_epoch, loss, losses, plot_of_epochs, quality_text, settings,
    training_time, whole, window,
};
use crate::run::record::Record;
use crate::run::results::Outcome;

/// Points of a curve: as many as can be seen.
const COLUMNS: usize = 240;

/// A run among those that are compared.
#[derive(Clone, Copy)]
struct Run<'a> {
    record: &'a Record,
    /// Label.
    label: &'a str,
    /// Colour in every plot.
    colour: usize,
}

impl Run<'_> {
    fn series(&self, mark: Mark, points: Vec<[f64; 2]>) -> Series {
        Series { name: self.label.into(), colour: self.colour, mark, points }
    }
}

/// Title, figures and remarks of runs of one command.
pub struct Common {
    /// Title of the page.
    pub title: String,
    /// Figures with mean, standard deviation, lowest, highest and interval.
    pub rows: Vec<Vec<String>>,
    /// Sentences about the runs.
    pub remarks: Vec<String>,
    /// True for runs that were tested with folds.
    pub folds: bool,
}

/// A page about these runs, by these names; with `common`, runs of one command.
pub fn page(records: &[Record], labels: &[String], common: Option<&Common>) -> String {
    let both = || records.iter().zip(labels);
    let runs: Vec<Run<'_>> =
        both().enumerate().map(|(colour, (record, label))| Run { record, label, colour }).collect();
    let by_loss = by_loss(&runs);
    let header =
        |first: &str| -> Vec<String> { std::iter::once(first.to_string()).chain(labels.iter().cloned()).collect() };
    let (same, differing) = compared(records);
    let body = html! {
        h1 { @match common { Some(common) => (common.title), None => { "Comparison of " (records.len()) " runs" } } }
        p.lead { (labels.join(" · ")) }
        @if let Some(common) = common { (spread(common)) }
        (section("Results", &html! {
            (table("Results of the runs", &RESULTS.map(String::from), both().map(|(record, label)| results(record, label))))
            (best(records, labels))
            @if by_loss.len() > 1 {
                (note("These runs have different losses, which measure different things: they are not to be compared \
                    with each other, and have plots of their own."))
            }
        }))
        (section("Training", &html! {
            div.plots {
                @for (of, runs) in &by_loss {
                    (loss_of_steps(runs, of))
                    (of_epochs(runs, &format!("Test loss{of} after each epoch"), false, |epoch| epoch.test_loss))
                    (of_epochs(runs, &format!("Validation loss{of} after each epoch"), false, |epoch| epoch.validation_loss))
                }
                (of_epochs(&runs, "Test accuracy after each epoch", true, |epoch| epoch.test_quality.filter(|_| !epoch.real_values)))
                (of_epochs(&runs, "Test R² after each epoch", false, |epoch| epoch.test_quality.filter(|_| epoch.real_values)))
            }
        }))
        (section("Settings that differ", &html! {
            @if differing.is_empty() { p { "There is none." } }
            @else { (table("Settings that differ", &header("setting"), differing)) }
        }))
        (section("Settings that are the same", &html::facts(same)))
        footer { "Made by softstep " (env!("CARGO_PKG_VERSION")) "." }
    };
    html::document("Comparison – softstep", "en", &body)
}

/// Renders the spread of the figures over the runs.
fn spread(common: &Common) -> maud::Markup {
    let header = ["", "mean", "standard deviation", "lowest", "highest", "95 % interval of the mean"].map(String::from);
    let folds = "Folds share most of their training examples, so that the interval is narrower than one of independent \
                 data would be.";
    section(
        "All runs together",
        &html! {
            (table("All runs together", &header, common.rows.iter().cloned()))
            @for remark in &common.remarks { p { (remark) } }
            @if common.folds { (note(folds)) }
        },
    )
}

const RESULTS: [&str; 9] = [
    "run",
    "test loss",
    "accuracy or R²",
    "training loss",
    "best epoch",
    "epochs",
    "steps",
    "training",
    "steps in a second",
];

fn results(record: &Record, label: &str) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let (loss, quality) = final_test(record);
    let last = last_epoch(record);
    let real_values = last.is_some_and(|epoch| epoch.real_values);
    let results = whole(record);
    let timings = results.map(|results| &results.timings);
    let steps = record.history.steps.last().map_or(0, |point| point.step);
    let state = match results.map(|results| &results.outcome) {
        Some(Outcome::Ended) => "",
        Some(Outcome::Stopped) => ", stopped",
        Some(Outcome::Failed(_)) => ", failed",
        None => ", not ended",
    };
    vec![
        label.to_string(),
        text(loss.map(four_decimals)),
        text(quality.map(|quality| quality_text(quality, real_values))),
        text(last.and_then(|epoch| epoch.train_loss).map(four_decimals)),
        text(results.and_then(|results| results.best).map(|best| best.epoch.to_string())),
        record.history.epochs.len().to_string(),
        format!("{}{state}", count(steps)),
        text(timings.map(training_time)),
        text(timings.map(|timings| number(timings.steps_per_second, 3))),
    ]
}

/// The runs with each loss, and its name where there are several.
fn by_loss<'a>(runs: &[Run<'a>]) -> Vec<(String, Vec<Run<'a>>)> {
    let names: BTreeSet<&str> = runs.iter().map(|run| loss(run.record).name()).collect();
    let of = |name: &str| if names.len() > 1 { format!(" ({name})") } else { String::new() };
    let with = |name: &str| runs.iter().filter(|run| loss(run.record).name() == name).copied().collect();
    names.iter().map(|name| (of(name), with(name))).collect()
}

/// Names the best runs, if all have the same task, and says whether a paired test tells them from the others.
fn best(records: &[Record], labels: &[String]) -> maud::Markup {
    let BestRuns { text, first, others } = match best_runs(records, labels) {
        Ok(best) => best,
        Err(text) => return html! { p { (text) } },
    };
    let verdicts: Vec<(&str, Verdict)> =
        others.iter().map(|&other| (labels[other].as_str(), verdict(&records[first], &records[other]))).collect();
    let row = |(label, verdict): &(&str, Verdict)| {
        let (is, p) = match verdict {
            Verdict::Tested(p) if *p < SIGNIFICANT => ("better", format!("p = {}", number(*p, 2))),
            Verdict::Tested(p) => ("may be chance", format!("p = {}", number(*p, 2))),
            Verdict::Unknown(reason) => ("not known", (*reason).to_string()),
        };
        vec![(*label).to_string(), is.to_string(), p]
    };
    let is_of_values = records[first].history.epochs.last().is_some_and(|epoch| epoch.real_values);
    let test = if is_of_values {
        "Wilcoxon's signed-rank test of the squared errors of the same test examples"
    } else {
        "McNemar's exact test of the same test examples"
    };
    let header = ["beside", "the best run is", "paired test"].map(String::from);
    html! {
        p { (text) }
        @if !verdicts.is_empty() {
            (table("Paired tests of the best run and the others", &header, verdicts.iter().map(row)))
            (note(&format!("A run is called better if {test} gives less than {SIGNIFICANT}. The best of many runs looks \
                better than it is: measure it on other data.")))
        }
    }
}

/// Level of significance.
const SIGNIFICANT: f64 = 0.05;

/// The result of a paired test of two runs.
enum Verdict {
    /// The p-value.
    Tested(f64),
    /// Why there is none.
    Unknown(&'static str),
}

/// Tests whether two runs differ on the test examples.
fn verdict(best: &Record, other: &Record) -> Verdict {
    let paired = |record| {
        whole(record).and_then(|results| results.test.as_ref()).map(|test| (test.examples, test.paired.as_ref()))
    };
    let (Some((examples, Some(best))), Some((_, Some(other)))) = (paired(best), paired(other)) else {
        return Verdict::Unknown("results of single examples are not recorded");
    };
    let (Paired { part, results: best }, Paired { part: other_part, results: other }) = (best, other);
    if part != other_part {
        return Verdict::Unknown("measured on other test examples");
    }
    let p = match (best, other) {
        (PairedResults::SquaredErrors(best), PairedResults::SquaredErrors(other)) if best.len() == other.len() => {
            let difference = |(best, other): (&f32, &f32)| f64::from(*best) - f64::from(*other);
            wilcoxon(&best.iter().zip(other).map(difference).collect::<Vec<_>>())
        }
        (best, other) => best.correct(examples).zip(other.correct(examples)).map(|(best, other)| {
            let only = |wanted: (bool, bool)| {
                best.iter().copied().zip(other.iter().copied()).filter(|pair| *pair == wanted).count()
            };
            mcnemar(only((true, false)), only((false, true)))
        }),
    };
    p.map_or(Verdict::Unknown("too few examples differ for a test"), Verdict::Tested)
}

/// The best runs, and those that are not as good.
struct BestRuns {
    /// Sentence that names the best ones.
    text: String,
    /// Index of the first of the best.
    first: usize,
    /// Indices of the others.
    others: Vec<usize>,
}

/// Finds the best runs, if all have the same task; otherwise says why there is none.
fn best_runs(records: &[Record], labels: &[String]) -> Result<BestRuns, String> {
    let real_values = |record: &Record| last_epoch(record).map(|epoch| epoch.real_values);
    let learned = |record: &Record| {
        let Config { data, target, test_examples, .. } = &record.config;
        (data.clone(), target.clone(), *test_examples)
    };
    let tasks: BTreeSet<_> = records.iter().map(learned).collect();
    let kinds: BTreeSet<_> = records.iter().filter_map(real_values).collect();
    if tasks.len() > 1 || kinds.len() > 1 {
        return Err("No run is best: they learned different things, or from different data.".into());
    }
    let qualities = || (0..records.len()).filter_map(|index| Some((final_test(&records[index]).1?, index)));
    let Some(best) = qualities().map(|(quality, _)| quality).max_by(f64::total_cmp) else {
        return Err("No run has been tested yet.".into());
    };
    let with = |is_best: bool| {
        let wanted = qualities().filter(move |(quality, _)| (*quality == best) == is_best);
        wanted.map(|(_, index)| index).collect::<Vec<_>>()
    };
    let (best_runs, others) = (with(true), with(false));
    let names: Vec<&str> = best_runs.iter().map(|&index| labels[index].as_str()).collect();
    let real_values = kinds.contains(&true);
    let what = if real_values { "highest R²" } else { "highest accuracy" };
    let text = quality_text(best, real_values);
    let text = match names.as_slice() {
        [label] => format!("The {what} on the test part, {text}, is that of {label}."),
        labels => format!("Equal, and the {what} on the test part, {text}, are those of {}.", labels.join(", ")),
    };
    Ok(BestRuns { text, first: best_runs[0], others })
}

/// Settings and the rest of what runs were made with: names and values that all have, and those that differ.
fn compared(records: &[Record]) -> (Vec<(String, String)>, Vec<Vec<String>>) {
    let all: Vec<Vec<(String, String)>> = records
        .iter()
        .map(|record| {
            let config = &record.config;
            let mut all = vec![
                ("data".to_string(), html::name(&config.data)),
                ("model".into(), record.architecture().as_ref().map_or_else(|| "–".into(), model_name)),
                ("adapter".into(), html::name(&config.adapter)),
                ("driver".into(), html::name(&config.driver)),
                ("softstep".into(), html::name(&config.version)),
            ];
            all.extend(config.target.as_ref().map(|target| ("learned column".into(), html::name(target))));
            all.extend(config.train_examples.map(|examples| ("training examples".into(), count(examples))));
            all.extend(config.validation_examples.map(|examples| ("validation examples".into(), count(examples))));
            all.extend(config.test_examples.map(|examples| ("test examples".into(), count(examples))));
            all.extend(settings(record));
            all
        })
        .collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = |of: &[(String, String)], name: &str| {
        of.iter().find(|(other, _)| other == name).map_or_else(|| "–".to_string(), |(_, value)| value.clone())
    };
    let (mut same, mut differing) = (Vec::new(), Vec::new());
    for name in names {
        let values: Vec<String> = all.iter().map(|of| value(of, name)).collect();
        if values.windows(2).all(|pair| pair[0] == pair[1]) {
            same.push((name.clone(), values[0].clone()));
        } else {
            differing.push(std::iter::once(name.clone()).chain(values).collect());
        }
    }
    (same, differing)
}

/// The losses of every step of each run, as means over a share of its own.
fn loss_of_steps(runs: &[Run<'_>], of: &str) -> maud::Markup {
    let windows: Vec<usize> = runs.iter().map(|run| window(run.record.history.steps.len())).collect();
    let series: Vec<Series> = runs
        .iter()
        .zip(&windows)
        .map(|(run, &window)| run.series(Mark::Line, smoothed(&losses(run.record), window, COLUMNS)))
        .collect();
    let logarithmic = is_wide(series.iter().flat_map(|series| &series.points));
    let remark = match windows.as_slice() {
        [1, rest @ ..] if rest.iter().all(|window| *window == 1) => String::new(),
        [first, rest @ ..] if rest.iter().all(|window| window == first) => {
            format!("Each point is the mean of the last {}.", counted(*first, "step"))
        }
        windows => {
            let each = runs.iter().zip(windows).map(|(run, &window)| format!("{} {}", run.label, count(window)));
            let each = each.collect::<Vec<_>>().join(", ");
            format!("Each point is the mean of the last fiftieth of the steps of its run, in steps: {each}.")
        }
    };
    Plot {
        title: &format!("Training loss{of}{}", if logarithmic { ", logarithmic" } else { "" }),
        summary: &summary(&series, 4),
        x: Axis { label: "step", include: &[0.0], ..Axis::default() },
        y: Axis { logarithmic, include: if logarithmic { &[] } else { &[0.0] }, ..Axis::default() },
        series: &series,
        note: &remark,
    }
    .figure()
}

fn of_epochs(runs: &[Run<'_>], title: &str, percent: bool, figure: Figure) -> maud::Markup {
    let line = |run: &Run<'_>| epoch_line(&run.record.history.epochs, run.label, run.colour, figure);
    plot_of_epochs(title, percent, runs.iter().map(line).collect())
}

fn summary(series: &[Series], digits: i32) -> String {
    let last = |series: &Series| {
        let y = series.points.last().map_or(f64::NAN, |point| point[1]);
        format!("{} {}", series.name, number(y, digits))
    };
    format!("In the end {}.", series.iter().map(last).collect::<Vec<_>>().join(", "))
}
