//! The page of a sweep: its best run, parallel coordinates of all runs, and the loss against each setting.

use maud::html;

use super::journal::Best;
use super::space::{Setting, Space};
use super::table::{Row, Rows};
use super::trial::Ended;
use crate::format::{counted, duration, four_decimals, number, percent};
use crate::html::plot::{Axis, Lane, Mark, Parallel, Plot, Series};
use crate::html::{self, note, section, table, tiles};
use crate::run::page::is_wide;

/// Rows of the table.
const ROWS: usize = 100;
/// Lines of the parallel coordinates, the best of all runs.
const LINES: usize = 300;
/// Characters up to which a command is shown.
const LONG: usize = 2000;

/// The sweep that a page is about.
pub struct About<'a> {
    /// Name of the data.
    pub data: &'a str,
    /// Settings.
    pub space: &'a Space,
    /// Runs.
    pub rows: &'a Rows,
    /// The best run and its test, once the sweep has ended.
    pub best: Option<&'a Best>,
    /// Time since the start of the sweep.
    pub seconds: f64,
}

/// Renders the page.
pub fn page(about: &About<'_>) -> String {
    let About { data, space, rows, best, seconds } = *about;
    let all = rows.all();
    let mut figures = vec![("runs".to_string(), all.len().to_string())];
    if let Some(row) = rows.best() {
        figures.push(("lowest validation loss".into(), row.ended.loss.map_or_else(|| "–".into(), four_decimals)));
    }
    if let Some(best) = best {
        figures.extend(best.test_accuracy.map(|accuracy| ("its test accuracy".to_string(), percent(accuracy))));
        figures.extend(best.test_r_squared.map(|r_squared| ("its test R²".to_string(), four_decimals(r_squared))));
    }
    figures.push(("time".into(), duration(seconds)));
    let early = all.iter().filter(|row| row.state() == "ended early").count();
    let failed = all.iter().filter(|row| row.state() == "failed").count();
    let body = html! {
        h1 { "Sweep on " (html::name(data)) }
        p.lead { (lead(space)) }
        (tiles(&figures))
        @match best {
            Some(best) => {
                p { "Run " (best.run) " has the lowest validation loss. This command trains it, to the same bits:" }
                p { code { (softstep::error::printable(&best.command, LONG)) } }
                (note("The test part was measured once, for this run alone: the others were chosen among without it."))
            }
            None => p.warning { "The sweep has not ended: the same command goes on, and measures the best run on the test part." }
        }
        @if early > 0 { p { (counted(early, "run")) " ended early, as others did better after the same share of their epochs." } }
        @if failed > 0 { p { (counted(failed, "run")) " failed or diverged, and " (if failed == 1 { "is" } else { "are" }) " not drawn." } }
        @if !space.settings.is_empty() && rows.all().iter().any(|row| row.ended.loss.is_some()) {
            (section("All runs", &parallel(space, all)))
            (section("Validation loss against each setting", &html! {
                div.plots { @for (at, setting) in space.settings.iter().enumerate() { (against(setting, at, all)) } }
            }))
        }
        (section("Runs, best first", &runs(space, all)))
        footer { "Made by softstep " (env!("CARGO_PKG_VERSION")) "." }
    };
    html::document("Sweep – softstep", "en", &body)
}

fn lead(space: &Space) -> String {
    let flags: Vec<&str> = space.settings.iter().map(|setting| setting.flag.as_str()).collect();
    let tried = if flags.is_empty() { "one setting".to_string() } else { flags.join(", ") };
    let fixed = if space.fixed.is_empty() { String::new() } else { format!(" · all with {}", space.fixed.join(" ")) };
    softstep::error::printable(&format!("tried {tried}{fixed}"), LONG)
}

/// The values of a setting as numbers, if all are, or else as places in a list of texts.
struct Coordinates {
    numbers: Vec<f64>,
    /// Texts of the numbers 0, 1, …; empty where values are numbers.
    texts: Vec<String>,
}

impl Coordinates {
    fn of(all: &[Row], at: usize) -> Self {
        let value = |row: &Row| row.choice.get(at).cloned().unwrap_or_default();
        let numbers: Option<Vec<f64>> = all.iter().map(|row| value(row).parse().ok()).collect();
        if let Some(numbers) = numbers {
            return Self { numbers, texts: Vec::new() };
        }
        let mut texts: Vec<String> = all.iter().map(value).collect();
        // Texts first, then numbers by their size.
        let size = |text: &String| text.parse().unwrap_or(f64::NEG_INFINITY);
        texts.sort_by(|a, b| size(a).total_cmp(&size(b)).then_with(|| a.cmp(b)));
        texts.dedup();
        let place = |text: &String| texts.iter().position(|other| other == text).unwrap_or_default() as f64;
        let numbers = all.iter().map(|row| place(&value(row))).collect();
        Self { numbers, texts: texts.iter().map(|text| html::name(text)).collect() }
    }

    fn is_logarithmic(&self, setting: &Setting) -> bool {
        self.texts.is_empty() && setting.is_logarithmic() && self.numbers.iter().all(|number| *number > 0.0)
    }
}

fn name_of(setting: &Setting) -> String {
    setting.flag.trim_start_matches("--").to_owned()
}

fn parallel(space: &Space, all: &[Row]) -> maud::Markup {
    let drawn: Vec<Row> = all.iter().filter(|row| row.ended.loss.is_some()).take(LINES).cloned().collect();
    let losses: Vec<f64> = drawn.iter().filter_map(|row| row.ended.loss).collect();
    let points: Vec<[f64; 2]> = losses.iter().map(|loss| [0.0, *loss]).collect();
    let mut lanes: Vec<Lane> = space
        .settings
        .iter()
        .enumerate()
        .map(|(at, setting)| {
            let coordinates = Coordinates::of(&drawn, at);
            let logarithmic = coordinates.is_logarithmic(setting);
            let axis = Axis { label: "", logarithmic, labels: &coordinates.texts, ..Axis::default() };
            Lane::new(name_of(setting), axis, &coordinates.numbers)
        })
        .collect();
    let axis = Axis { logarithmic: is_wide(&points), ..Axis::default() };
    lanes.push(Lane::new("validation loss".into(), axis, &losses));
    let best = drawn.len().div_ceil(10);
    let mut note = format!("Each line is a run. The best {best} are orange, the best of all is thick.");
    if drawn.len() < all.len() {
        note += &format!(" Of {} runs {} are drawn.", all.len(), drawn.len());
    }
    let summary = drawn.first().map_or_else(String::new, |row| format!("The best run has {}.", row.choice.join(", ")));
    Parallel { title: "Settings and loss of each run", summary: &summary, lanes: &lanes, best, note: &note }.figure()
}

fn against(setting: &Setting, at: usize, all: &[Row]) -> maud::Markup {
    let drawn: Vec<Row> = all.iter().filter(|row| row.ended.loss.is_some()).cloned().collect();
    let coordinates = Coordinates::of(&drawn, at);
    let points = |wanted: &dyn Fn(usize, &Row) -> bool| -> Vec<[f64; 2]> {
        let both = drawn.iter().enumerate().zip(&coordinates.numbers);
        both.filter(|((at, row), _)| wanted(*at, row)).filter_map(|((_, row), x)| Some([*x, row.ended.loss?])).collect()
    };
    let early = points(&|_, row| !row.ended.finished);
    let mut series = vec![
        Series { name: "ended early".into(), colour: 5, mark: Mark::Dots, points: early },
        Series {
            name: "whole".into(),
            colour: 0,
            mark: Mark::Dots,
            points: points(&|at, row| at > 0 && row.ended.finished),
        },
        Series {
            name: "best".into(),
            colour: 1,
            mark: Mark::Dots,
            points: points(&|at, row| at == 0 && row.ended.finished),
        },
    ];
    series.retain(|series| !series.points.is_empty());
    let logarithmic = is_wide(series.iter().flat_map(|series| &series.points));
    let name = name_of(setting);
    let x_label = if coordinates.is_logarithmic(setting) { format!("{name}, logarithmic") } else { name.clone() };
    let value = drawn.first().and_then(|row| row.choice.get(at)).cloned().unwrap_or_default();
    let loss = drawn.first().and_then(|row| row.ended.loss).unwrap_or(f64::NAN);
    Plot {
        title: &format!("Validation loss against {name}{}", if logarithmic { ", logarithmic" } else { "" }),
        summary: &format!("Lowest, {}, at {}.", number(loss, 4), html::name(&value)),
        x: Axis {
            label: &x_label,
            logarithmic: coordinates.is_logarithmic(setting),
            labels: &coordinates.texts,
            ..Axis::default()
        },
        y: Axis { logarithmic, ..Axis::default() },
        series: &series,
        note: "",
    }
    .figure()
}

fn runs(space: &Space, all: &[Row]) -> maud::Markup {
    let quality = if all.iter().any(|row| row.ended.real_values) { "R²" } else { "accuracy" };
    let fixed = ["run", "validation loss", quality, "epochs", "time"].map(String::from);
    let header: Vec<String> = fixed.into_iter().chain(space.settings.iter().map(name_of)).collect();
    let rows = all.iter().take(ROWS).map(|row| {
        let Ended { run, loss, quality, real_values, epochs, of_epochs, seconds, .. } = row.ended;
        let quality = quality.map(|quality| if real_values { four_decimals(quality) } else { percent(quality) });
        let epochs = if epochs < of_epochs { format!("{epochs} of {of_epochs}") } else { epochs.to_string() };
        let mut cells = vec![
            run.to_string(),
            loss.map_or_else(|| row.state().to_string(), four_decimals),
            quality.unwrap_or_else(|| "–".into()),
            epochs,
            duration(seconds),
        ];
        cells.extend(row.choice.iter().map(|value| html::name(value)));
        cells
    });
    let problems: Vec<String> = all
        .iter()
        .filter_map(|row| Some(format!("Run {}: {}", row.ended.run, row.ended.problem.as_ref()?)))
        .take(5)
        .collect();
    html! {
        (table("Runs of the sweep", &header, rows))
        @if all.len() > ROWS { (note(&format!("These are the best {ROWS}; runs.csv beside this page has all."))) }
        @for problem in problems { (note(&softstep::error::printable(&problem, LONG))) }
    }
}
