//! The page that compares runs.

use std::collections::BTreeSet;

use maud::html;

use super::run::{final_test, is_wide, last_epoch, losses, quality_text, settings, training_time, whole, window};
use crate::page::plot::{Axis, Mark, Plot, Series, number, smoothed};
use crate::page::{self, section, table};
use crate::record::{EpochPoint, Outcome, Record};
use crate::report::{count, model_name};

/// Points of a curve: as many as can be seen.
const COLUMNS: usize = 240;

/// A page about these runs, by these names.
pub fn page(records: &[Record], labels: &[String]) -> String {
    let both = || records.iter().zip(labels);
    let header =
        |first: &str| -> Vec<String> { std::iter::once(first.to_string()).chain(labels.iter().cloned()).collect() };
    let (same, differing) = compared(records);
    let body = html! {
        h1 { "Comparison of " (records.len()) " runs" }
        p.lead { (labels.join(" · ")) }
        (section("Results", &html! {
            (table("Results of the runs", &RESULTS.map(String::from), both().map(|(record, label)| results(record, label))))
            @if let Some(best) = best(records, labels) { p { (best) } }
        }))
        (section("Training", &html! {
            div.plots {
                (loss_of_steps(records, labels))
                (of_epochs(records, labels, "Test loss after each epoch", |epoch| epoch.test_loss, false))
                (of_epochs(records, labels, "Validation loss after each epoch", |epoch| epoch.validation_loss, false))
                (of_epochs(records, labels, "Test accuracy after each epoch", |epoch| epoch.test_quality.filter(|_| !epoch.real_values), true))
                (of_epochs(records, labels, "Test R² after each epoch", |epoch| epoch.test_quality.filter(|_| epoch.real_values), false))
            }
        }))
        (section("Settings that differ", &html! {
            @if differing.is_empty() { p { "There is none." } }
            @else { (table("Settings that differ", &header("setting"), differing)) }
        }))
        (section("Settings that are the same", &page::facts(same)))
        footer { "Made by softstep " (env!("CARGO_PKG_VERSION")) "." }
    };
    page::document("Comparison – softstep", "en", &body)
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
        text(loss.map(|loss| format!("{loss:.4}"))),
        text(quality.map(|quality| quality_text(quality, real_values))),
        text(last.and_then(|epoch| epoch.train_loss).map(|loss| format!("{loss:.4}"))),
        text(results.and_then(|results| results.best).map(|best| best.epoch.to_string())),
        record.history.epochs.len().to_string(),
        format!("{}{state}", count(steps)),
        text(timings.map(training_time)),
        text(timings.map(|timings| number(timings.steps_per_second, 3))),
    ]
}

/// Which run is best, if they learned the same.
fn best(records: &[Record], labels: &[String]) -> Option<String> {
    let data: BTreeSet<_> = records.iter().map(|record| &record.config.data).collect();
    let kinds: BTreeSet<_> = records.iter().map(|record| last_epoch(record).map(|epoch| epoch.real_values)).collect();
    if data.len() > 1 || kinds.len() > 1 {
        return None;
    }
    let qualities = records.iter().zip(labels).filter_map(|(record, label)| Some((final_test(record).1?, label)));
    let (quality, label) = qualities.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let real_values = last_epoch(&records[0]).is_some_and(|epoch| epoch.real_values);
    let what = if real_values { "highest R²" } else { "highest accuracy" };
    Some(format!("The {what} on the test part, {}, is that of {label}.", quality_text(quality, real_values)))
}

/// Settings and the rest of what runs were made with: names and values that all have, and those that differ.
fn compared(records: &[Record]) -> (Vec<(String, String)>, Vec<Vec<String>>) {
    let all: Vec<Vec<(String, String)>> = records
        .iter()
        .map(|record| {
            let config = &record.config;
            let mut all = vec![
                ("data".to_string(), page::name(&config.data)),
                ("model".into(), config.sizes.as_deref().map_or_else(|| "–".into(), model_name)),
                ("adapter".into(), page::name(&config.adapter)),
                ("driver".into(), page::name(&config.driver)),
                ("softstep".into(), page::name(&config.version)),
            ];
            all.extend(config.train_examples.map(|examples| ("training examples".into(), count(examples))));
            all.extend(config.validation_examples.map(|examples| ("validation examples".into(), count(examples))));
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

fn loss_of_steps(records: &[Record], labels: &[String]) -> maud::Markup {
    let longest = records.iter().map(|record| record.history.steps.len()).max().unwrap_or(0);
    let window = window(longest);
    let series: Vec<Series> = records
        .iter()
        .zip(labels)
        .enumerate()
        .map(|(colour, (record, label))| Series {
            name: label.clone(),
            colour,
            mark: Mark::Line,
            points: smoothed(&losses(record), window, COLUMNS),
        })
        .collect();
    let logarithmic = is_wide(series.iter().flat_map(|series| &series.points));
    let remark = format!("Each point is the mean of the last {} steps.", count(window));
    Plot {
        title: if logarithmic { "Training loss, logarithmic" } else { "Training loss" },
        summary: &summary(&series, 4),
        x: Axis { label: "step", include: &[0.0], ..Axis::default() },
        y: Axis { logarithmic, include: if logarithmic { &[] } else { &[0.0] }, ..Axis::default() },
        series: &series,
        note: if window > 1 { &remark } else { "" },
    }
    .figure()
}

fn of_epochs(
    records: &[Record],
    labels: &[String],
    title: &str,
    figure: fn(&EpochPoint) -> Option<f64>,
    percent: bool,
) -> maud::Markup {
    let series: Vec<Series> = records
        .iter()
        .zip(labels)
        .enumerate()
        .map(|(colour, (record, label))| {
            let points = record.history.epochs.iter().filter_map(|epoch| Some([epoch.epoch as f64, figure(epoch)?]));
            let mark = if record.history.epochs.len() <= 40 { Mark::Dotted } else { Mark::Line };
            Series { name: label.clone(), colour, mark, points: points.collect() }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    if series.is_empty() {
        return html! {};
    }
    let logarithmic = !percent && is_wide(series.iter().flat_map(|series| &series.points));
    let title = if logarithmic { format!("{title}, logarithmic") } else { title.to_string() };
    Plot {
        title: &title,
        summary: &summary(&series, 4),
        x: Axis { label: "epoch", ..Axis::default() },
        y: Axis { logarithmic, percent, ..Axis::default() },
        series: &series,
        note: "",
    }
    .figure()
}

fn summary(series: &[Series], digits: i32) -> String {
    let last = |series: &Series| {
        let y = series.points.last().map_or(f64::NAN, |point| point[1]);
        format!("{} {}", series.name, number(y, digits))
    };
    format!("In the end {}.", series.iter().map(last).collect::<Vec<_>>().join(", "))
}
