//! Plots as SVG, drawn by `plotters`. `plotters` only sees coordinates in 0..1: this module computes ranges, logarithms
//! and ticks, so that any numbers can be drawn.
//!
//! A plot is small enough to be read on a phone; a page places several next to each other if there is room. A plot
//! scales with the page, and [`style`] replaces its colours, which are the light ones, with those of the page.

use std::fmt::Write;
use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::format::plain;

/// Size of a plot in pixels, on a page that is not scaled.
const SIZE: [u32; 2] = [440, 280];
/// Size of a plot over the whole width of a page.
const WIDE: [u32; 2] = [960, 340];
/// Drawing units per pixel: `plotters` draws on integer coordinates.
const FINE: u32 = 4;
/// Font size in pixels.
const LETTERS: f64 = 13.0;

/// Colours of text and grid, as in the style sheet.
const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);
/// Colours of the series, `--s0` … in the style sheet. Their last two bits are 0, to leave room for the dash pattern.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb0),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x7a, 0x58),
    RGBColor(0xa8, 0x45, 0x7c),
    RGBColor(0x8c, 0x6d, 0x1c),
    RGBColor(0x55, 0x5f, 0x68),
    RGBColor(0x0e, 0x88, 0x94),
    RGBColor(0xb3, 0x12, 0x38),
];
/// Dash patterns of the lines; the dashed ones are used once every colour is taken.
const DASHES: [&str; 3] = ["none", "28 14", "8 10"];

/// Number of series that can be told apart.
pub const MAX_SERIES: usize = COLOURS.len() * DASHES.len();

/// Colour of series number `index`. Its last two bits encode the dash pattern.
fn colour(index: usize) -> RGBColor {
    let RGBColor(red, green, blue) = COLOURS[index % COLOURS.len()];
    RGBColor(red, green, blue | (index / COLOURS.len() % DASHES.len()) as u8)
}

fn hexadecimal(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// CSS rules that map the colours of plots to those of the page.
pub fn style() -> String {
    let mut css = String::new();
    let ink = [(hexadecimal(INK), "ink"), (hexadecimal(GRID), "grid")];
    for (code, name) in ink {
        let _ =
            write!(css, "svg [fill=\"{code}\"]{{fill:var(--{name})}}svg [stroke=\"{code}\"]{{stroke:var(--{name})}}");
    }
    for index in 0..MAX_SERIES {
        let (code, name) = (hexadecimal(colour(index)), index % COLOURS.len());
        let dashes = DASHES[index / COLOURS.len()];
        let _ = write!(
            css,
            "svg [fill=\"{code}\"]{{fill:var(--s{name})}}\
             svg [stroke=\"{code}\"]{{stroke:var(--s{name});stroke-dasharray:{dashes}}}"
        );
    }
    css
}

/// Style of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A line in the background.
    Faint,
    /// A line with a dot at each of its points.
    Dotted,
    /// Dots alone.
    Dots,
}

/// Thins a line: keeps the lowest and the highest of the points in each of `columns` columns, in their order, which
/// preserves the shape of the line. Short lines are returned unchanged.
pub fn thinned(points: &[[f64; 2]], columns: usize) -> Vec<[f64; 2]> {
    let chunk = points.len().div_ceil(columns.max(1)).max(1);
    if chunk <= 2 {
        return points.to_vec();
    }
    let extremes = |points: &[[f64; 2]]| {
        let finite = || points.iter().enumerate().filter(|(_, point)| point[1].is_finite());
        let lowest = finite().min_by(|(_, a), (_, b)| a[1].total_cmp(&b[1])).map(|(at, _)| at);
        let highest = finite().max_by(|(_, a), (_, b)| a[1].total_cmp(&b[1])).map(|(at, _)| at);
        let mut both: Vec<usize> = lowest.into_iter().chain(highest).collect();
        both.sort_unstable();
        both.dedup();
        both.into_iter().map(|at| points[at]).collect::<Vec<_>>()
    };
    points.chunks(chunk).flat_map(extremes).collect()
}

/// Moving average: the mean of the last `window` points, at about `columns` of the points and at the last one.
pub fn smoothed(points: &[[f64; 2]], window: usize, columns: usize) -> Vec<[f64; 2]> {
    let every = points.len().div_ceil(columns.max(1)).max(1);
    let last = points.len().wrapping_sub(1);
    let shown = |at: &usize| at % every == every - 1 || *at == last;
    let mean = |at: usize| {
        let points = &points[(at + 1).saturating_sub(window)..=at];
        let finite = points.iter().map(|point| point[1]).filter(|y| y.is_finite());
        let (sum, count) = finite.fold((0.0, 0), |(sum, count), y| (sum + y, count + 1));
        [points[points.len() - 1][0], sum / f64::from(count)]
    };
    (0..points.len()).filter(shown).map(mean).collect()
}

/// A named sequence of points, drawn in one colour and style.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend; a plot with one unnamed series needs no legend.
    pub name: String,
    /// Index of the colour and dash pattern, below [`MAX_SERIES`].
    pub colour: usize,
    /// Style of the series.
    pub mark: Mark,
    /// Points `[x, y]`; those that are not finite are left out.
    pub points: Vec<[f64; 2]>,
}

/// An axis of a plot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Axis<'a> {
    /// Quantity and unit of the axis.
    pub label: &'a str,
    /// Makes the axis logarithmic; points that are not above 0 are left out.
    pub logarithmic: bool,
    /// Formats the values, which are shares, as percentages.
    pub percent: bool,
    /// Restricts ticks to whole numbers, for counts.
    pub whole: bool,
    /// Values that the axis must include, besides those of the points.
    pub include: &'a [f64],
    /// Texts for the numbers 0, 1, …; empty for an axis of numbers.
    pub labels: &'a [String],
}

/// Lines and dots between two axes.
#[derive(Clone, Debug)]
pub struct Plot<'a> {
    /// Title of the plot.
    pub title: &'a str,
    /// Text alternative for readers who cannot see the plot.
    pub summary: &'a str,
    /// The horizontal axis.
    pub x: Axis<'a>,
    /// The vertical axis; its label belongs in the title.
    pub y: Axis<'a>,
    /// The series; the first is drawn behind the others.
    pub series: &'a [Series],
    /// Note below the plot.
    pub note: &'a str,
}

impl Plot<'_> {
    /// Renders the plot with title, legend and note.
    pub fn figure(&self) -> Markup {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let svg = match (
            Scale::new(self.x, points().map(|point| point[0]), 0.0),
            Scale::new(self.y, points().map(|point| point[1]), 0.04),
        ) {
            (Some(x), Some(y)) => self.svg(&x, &y),
            _ => None,
        };
        let legend: Vec<_> =
            self.series.iter().map(|series| (series.name.as_str(), series.colour, series.mark)).collect();
        figure(self.title, self.summary, &legend, svg, self.note)
    }

    fn svg(&self, x: &Scale, y: &Scale) -> Option<String> {
        draw(x, y, self.x.label, |canvas| {
            for series in self.series {
                let points: Vec<(f64, f64)> =
                    series.points.iter().filter_map(|&[px, py]| Some((x.place(px)?, y.place(py)?))).collect();
                let colour = colour(series.colour);
                if series.mark != Mark::Dots {
                    let (opacity, width) = if series.mark == Mark::Faint { (0.4, FINE) } else { (1.0, 2 * FINE) };
                    let style = colour.mix(opacity).stroke_width(width);
                    canvas.draw_series([PathElement::new(points.clone(), style)]).ok()?;
                }
                if matches!(series.mark, Mark::Dots | Mark::Dotted) {
                    let (radius, opacity) =
                        if series.mark == Mark::Dots { (2 * FINE + 2, 0.6) } else { (3 * FINE, 1.0) };
                    let dot = |point| Circle::new(point, radius, colour.mix(opacity).filled());
                    canvas.draw_series(points.into_iter().map(dot)).ok()?;
                }
            }
            Some(())
        })
    }
}

/// Parallel coordinates: a vertical axis for each quantity, and a line through all of them for each item.
#[derive(Clone, Debug)]
pub struct Parallel<'a> {
    /// Title of the plot.
    pub title: &'a str,
    /// Text alternative for readers who cannot see the plot.
    pub summary: &'a str,
    /// The axes, from left to right.
    pub lanes: &'a [Lane],
    /// Number of items that stand out: the first ones.
    pub best: usize,
    /// Note below the plot.
    pub note: &'a str,
}

/// An axis of [`Parallel`] coordinates, with the place of each item.
#[derive(Clone, Debug)]
pub struct Lane {
    name: String,
    ticks: Vec<(f64, String)>,
    /// In 0..1; `None` for what cannot be shown.
    places: Vec<Option<f64>>,
}

impl Lane {
    /// Builds the axis of these numbers, one for each item.
    pub fn new(name: String, axis: Axis<'_>, numbers: &[f64]) -> Self {
        match Scale::new(axis, numbers.iter().copied(), 0.04) {
            Some(scale) => {
                let places = numbers.iter().map(|&number| scale.place(number)).collect();
                Self { name, ticks: scale.ticks.0, places }
            }
            None => Self { name, ticks: Vec::new(), places: vec![None; numbers.len()] },
        }
    }
}

impl Parallel<'_> {
    /// Renders the plot with title and note; it scrolls where it is wider than the page.
    pub fn figure(&self) -> Markup {
        let [width, height] = WIDE.map(|size| size * FINE);
        html! {
            figure.plot.wide {
                figcaption { h3 { (self.title) } }
                div.scroll tabindex="0" role="region" aria-label=(self.title) {
                    @match self.svg() {
                        Some(svg) => svg viewBox=(format!("0 0 {width} {height}")) role="img"
                            aria-label=(format!("{}. {}", self.title, self.summary)) { (PreEscaped(svg)) },
                        None => p.note { "There are no numbers to draw." },
                    }
                }
                @if !self.note.is_empty() { p.note { (self.note) } }
            }
        }
    }

    fn svg(&self) -> Option<String> {
        let count = self.lanes.len();
        let place = |lane: usize| (lane as f64 + 0.5) / count as f64;
        let room = ((0.9 * f64::from(WIDE[0]) / (0.56 * LETTERS) / count as f64) as usize).max(3);
        let names = self.lanes.iter().enumerate();
        let names = names.map(|(lane, Lane { name, .. })| (place(lane), shortened(name, room)));
        let x = Scale { low: 0.0, high: 1.0, logarithmic: false, ticks: Ticks(names.collect()) };
        let y = Scale { low: 0.0, high: 1.0, logarithmic: false, ticks: Ticks::default() };
        let items = self.lanes.iter().map(|lane| lane.places.len()).max().unwrap_or(0);
        let line = |item: usize| -> Vec<(f64, f64)> {
            let lanes = self.lanes.iter().enumerate();
            lanes.filter_map(|(lane, of)| Some((place(lane), (*of.places.get(item)?)?))).collect()
        };
        draw_on(WIDE, &x, &y, "", |canvas| {
            // The best come last, on top of the others.
            for item in (0..items).rev() {
                let (index, opacity, width) = match item {
                    0 => (1, 1.0, 4 * FINE),
                    _ if item < self.best => (1, 0.8, 2 * FINE),
                    _ => (0, 0.35, FINE),
                };
                let style = colour(index).mix(opacity).stroke_width(width);
                canvas.draw_series([PathElement::new(line(item), style)]).ok()?;
            }
            for (lane, Lane { ticks, .. }) in self.lanes.iter().enumerate() {
                let axis = PathElement::new([(place(lane), 0.0), (place(lane), 1.0)], INK.mix(0.6).stroke_width(FINE));
                canvas.draw_series([axis]).ok()?;
                for (at, text) in ticks {
                    let text = Text::new(text.clone(), (place(lane) + 0.006, *at), letters(HPos::Left));
                    canvas.draw_series([text]).ok()?;
                }
            }
            Some(())
        })
    }
}

/// A bar chart: for each label, one bar per series.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// Title of the chart.
    pub title: &'a str,
    /// Text alternative for readers who cannot see the chart.
    pub summary: &'a str,
    /// Labels below the bars.
    pub labels: &'a [String],
    /// Quantity that the labels stand for.
    pub x_label: &'a str,
    /// The vertical axis.
    pub y: Axis<'a>,
    /// Formats the value above a bar, if there is room for it.
    pub text: fn(f64) -> String,
    /// Names and values of the series, one value for each label; the first series has the first colour.
    pub series: &'a [(String, Vec<f64>)],
    /// Note below the chart.
    pub note: &'a str,
}

impl Bars<'_> {
    /// Renders the chart with title, legend and note; each bar has its value above it.
    pub fn figure(&self) -> Markup {
        let values = self.series.iter().flat_map(|(_, values)| values.iter().copied());
        let svg = Scale::new(self.y, values.chain([0.0]), 0.08).and_then(|y| self.svg(&y));
        let legend: Vec<_> =
            self.series.iter().enumerate().map(|(index, (name, _))| (name.as_str(), index, Mark::Dots)).collect();
        figure(self.title, self.summary, &legend, svg, self.note)
    }

    fn svg(&self, y: &Scale) -> Option<String> {
        let place = |at: f64| at / self.labels.len() as f64;
        // A label may be as wide as its group of bars, and a value as wide as its bar.
        let letters_in = |width: f64| (0.85 * f64::from(SIZE[0]) / (0.56 * LETTERS) * width) as usize;
        let room = letters_in(place(1.0)).max(1);
        let text = |label: &String| shortened(label, room);
        let ticks = self.labels.iter().enumerate().map(|(index, label)| (place(index as f64 + 0.5), text(label)));
        let x = Scale { low: 0.0, high: 1.0, logarithmic: false, ticks: Ticks(ticks.collect()) };
        let zero = y.place(0.0)?;
        draw(&x, y, self.x_label, |canvas| {
            let width = 0.76 / self.series.len() as f64;
            for (number, (_, values)) in self.series.iter().enumerate() {
                for (index, &value) in values.iter().enumerate() {
                    let Some(top) = y.place(value) else { continue };
                    let left = index as f64 + 0.12 + width * number as f64;
                    let corners = [(place(left), zero), (place(left + 0.94 * width), top)];
                    canvas.draw_series([Rectangle::new(corners, colour(number).filled())]).ok()?;
                    let (text, above) = ((self.text)(value), (place(left + 0.47 * width), top.max(zero) + 0.01));
                    if text.chars().count() <= letters_in(place(1.0 / self.series.len() as f64)) {
                        canvas.draw_series([Text::new(text, above, letters(HPos::Center))]).ok()?;
                    }
                }
            }
            Some(())
        })
    }
}

/// Truncates a text to the width of `room` average letters.
fn shortened(text: &str, room: usize) -> String {
    let width = |character: char| match character {
        '\u{1100}'.. => 1.9,
        'A'..='Z' | 'm' | 'w' => 1.4,
        _ => 1.0,
    };
    let all: f64 = text.chars().map(width).sum();
    if all <= room as f64 {
        return text.into();
    }
    let mut left = room as f64 - 1.0;
    let fits = |character: &char| {
        left -= width(*character);
        left >= 0.0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

fn letters(horizontal: HPos) -> TextStyle<'static> {
    // `plotters` writes a smaller font size to SVG than it is given.
    let size = LETTERS * 1.24 * f64::from(FINE);
    ("sans-serif", size).into_font().color(&INK).pos(Pos::new(horizontal, VPos::Bottom))
}

/// Renders title, legend, drawing and note.
fn figure(title: &str, summary: &str, legend: &[(&str, usize, Mark)], svg: Option<String>, note: &str) -> Markup {
    html! {
        figure.plot {
            figcaption {
                h3 { (title) }
                @if legend.iter().any(|(name, ..)| !name.is_empty()) {
                    ul.legend { @for &(name, index, mark) in legend { li { (key(index, mark)) (name) } } }
                }
            }
            @match svg {
                Some(svg) => {
                    svg viewBox=(format!("0 0 {} {}", SIZE[0] * FINE, SIZE[1] * FINE)) role="img"
                        aria-label=(format!("{title}. {summary}")) { (PreEscaped(svg)) }
                }
                None => p.note { "There are no numbers to draw." }
            }
            @if !note.is_empty() { p.note { (note) } }
        }
    }
}

/// Sample of a series for the legend.
fn key(index: usize, mark: Mark) -> Markup {
    let code = hexadecimal(colour(index));
    html! {
        svg viewBox="0 0 64 28" aria-hidden="true" {
            @if mark != Mark::Dots {
                line x1="0" y1="14" x2="64" y2="14" stroke=(code) stroke-width=(if mark == Mark::Faint { 4 } else { 10 })
                    opacity=(if mark == Mark::Faint { 0.4 } else { 1.0 }) {}
            }
            @if matches!(mark, Mark::Dots | Mark::Dotted) { circle cx="32" cy="14" r="12" fill=(code) {} }
        }
    }
}

type Canvas<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticks, Ticks>>;

/// Draws axes and content of a plot of the usual size; returns the inner content of the `svg` element.
fn draw(x: &Scale, y: &Scale, x_label: &str, content: impl FnOnce(&mut Canvas) -> Option<()>) -> Option<String> {
    draw_on(SIZE, x, y, x_label, content)
}

fn draw_on(
    size: [u32; 2],
    x: &Scale,
    y: &Scale,
    x_label: &str,
    content: impl FnOnce(&mut Canvas) -> Option<()>,
) -> Option<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (size[0] * FINE, size[1] * FINE)).into_drawing_area();
        let longest = y.ticks.0.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let left = (7.4 * longest as f64 + 14.0) * f64::from(FINE);
        let last = x.ticks.0.last().map_or(0, |(_, text)| text.chars().count());
        let mut canvas = ChartBuilder::on(&root)
            .margin_top(10 * FINE)
            .margin_right((4.0 * last as f64 + 4.0) as u32 * FINE)
            .margin_bottom(2 * FINE)
            .margin_left(2 * FINE)
            .x_label_area_size(42 * FINE)
            .y_label_area_size(left as u32)
            .build_cartesian_2d(x.ticks.clone(), y.ticks.clone())
            .ok()?;
        canvas
            .configure_mesh()
            .max_light_lines(0)
            .x_labels(x.ticks.0.len())
            .y_labels(y.ticks.0.len())
            .bold_line_style(GRID.stroke_width(FINE))
            .axis_style(GRID.stroke_width(FINE))
            .set_all_tick_mark_size(4 * FINE)
            .label_style(letters(HPos::Center))
            .x_desc(x_label)
            .axis_desc_style(letters(HPos::Center))
            .draw()
            .ok()?;
        content(&mut canvas)?;
        root.present().ok()?;
    }
    let inside = svg.split_once('\n')?.1;
    Some(inside.rsplit_once("</svg>")?.0.to_string())
}

/// Mapping of numbers to positions in 0..1, with ticks.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Ticks,
}

/// Positions in 0..1 with the labels of their ticks.
#[derive(Clone, Default)]
struct Ticks(Vec<(f64, String)>);

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (start, end): (i32, i32)) -> i32 {
        start + (place * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.iter().map(|&(place, _)| place).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..1.0
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format(place: &f64) -> String {
        place.to_string()
    }

    fn format_ext(&self, place: &f64) -> String {
        self.0.iter().find(|(at, _)| at == place).map_or_else(String::new, |(_, text)| text.clone())
    }
}

impl Scale {
    /// Builds the scale for these numbers and those that the axis must include, extended by the share `margin` at the
    /// ends; `None` if no number can be shown.
    fn new(axis: Axis<'_>, numbers: impl Iterator<Item = f64>, margin: f64) -> Option<Self> {
        let seen = |number: f64| Self::seen(number, axis.logarithmic);
        let all = numbers.chain(axis.include.iter().copied()).filter_map(seen);
        let (mut low, mut high) =
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| (low.min(number), high.max(number)));
        if !(high - low).is_finite() {
            return None;
        }
        if high - low <= 1e-9 * high.abs().max(low.abs()) {
            let around = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low, high) = (low - around, high + around);
        }
        let more = margin * (high - low);
        // A range that begins at 0 is not extended below it.
        (low, high) = (if low == 0.0 && !axis.logarithmic { low } else { low - more }, high + more);
        if !axis.labels.is_empty() {
            (low, high) = (-0.5, axis.labels.len() as f64 - 0.5);
        }
        let mut scale = Self { low, high, logarithmic: axis.logarithmic, ticks: Ticks::default() };
        if !axis.labels.is_empty() {
            let room = (60 / axis.labels.len()).max(3);
            let places = axis.labels.iter().enumerate();
            let ticks = places.filter_map(|(at, text)| Some((scale.place(at as f64)?, shortened(text, room))));
            scale.ticks = Ticks(ticks.collect());
            return Some(scale);
        }
        let (mut values, mut step) = if axis.logarithmic { powers(low, high) } else { steps(low, high) };
        if axis.whole {
            step = step.max(1.0);
            values.retain(|value| (value - value.round()).abs() <= 1e-9 * step);
        }
        let ticks = values.into_iter().filter_map(|value| Some((scale.place(value)?, axis.text(value, step))));
        scale.ticks = Ticks(ticks.collect());
        Some(scale)
    }

    /// The number, or its logarithm on a logarithmic axis; `None` if that is not finite.
    fn seen(number: f64, logarithmic: bool) -> Option<f64> {
        let seen = if logarithmic { number.log10() } else { number };
        seen.is_finite().then_some(seen)
    }

    /// Position of a number, clamped to the ends of the axis.
    fn place(&self, number: f64) -> Option<f64> {
        let seen = Self::seen(number, self.logarithmic)?;
        Some(((seen - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }
}

/// Round numbers in a range, with their step.
fn steps(low: f64, high: f64) -> (Vec<f64>, f64) {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    // Bounds the count in case rounding makes the divisions inexact.
    let count = (last - first + 1.0).clamp(0.0, 12.0) as usize;
    ((0..count).map(|index| (first + index as f64) * step).collect(), step)
}

/// Powers of ten between these exponents, with 2 and 5 times each if there are only a few.
fn powers(low: f64, high: f64) -> (Vec<f64>, f64) {
    let every = ((high - low) / 6.0).ceil().max(1.0);
    let factors = if high - low < 2.0 { &[1.0, 2.0, 5.0][..] } else { &[1.0] };
    let first = (low / every).floor();
    let count = ((high / every).ceil() - first + 1.0).clamp(0.0, 12.0) as usize;
    let all = (0..count).flat_map(|index| {
        let power = 10f64.powf((first + index as f64) * every);
        factors.iter().map(move |factor| factor * power)
    });
    (all.filter(|value| (low..=high).contains(&value.log10())).collect(), 0.0)
}

impl Axis<'_> {
    /// Formats a number on this axis for ticks `step` apart; 0 stands for an unknown step.
    fn text(&self, number: f64, step: f64) -> String {
        if self.percent {
            return format!("{} %", plain(100.0 * number, 100.0 * step));
        }
        plain(number, step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{number, rounded};

    fn series(points: Vec<[f64; 2]>) -> Series {
        Series { name: "a".into(), colour: 0, mark: Mark::Dotted, points }
    }

    fn drawn(points: Vec<[f64; 2]>, logarithmic: bool) -> String {
        let axis = Axis { label: "x", logarithmic, ..Axis::default() };
        let plot = Plot { title: "t", summary: "s", x: axis, y: axis, series: &[series(points)], note: "" };
        plot.figure().into_string()
    }

    #[test]
    fn labels_are_as_long_as_they_have_room() {
        for (text, room, shown) in
            [("daisies", 7, "daisies"), ("daisies", 4, "dai…"), ("向日葵", 4, "向…"), ("WWWW", 4, "WW…")]
        {
            assert_eq!(shortened(text, room), shown);
        }
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let ticks = |low: f64, high: f64, logarithmic| {
            let axis = Axis { logarithmic, ..Axis::default() };
            let scale = Scale::new(axis, [low, high].into_iter(), 0.0).unwrap();
            scale.ticks.0.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(0.0, 4220.0, false), "0 1,000 2,000 3,000 4,000");
        assert_eq!(ticks(0.905, 0.927, false), "0.905 0.910 0.915 0.920 0.925");
        let whole = Axis { whole: true, ..Axis::default() };
        for (epochs, shown) in [(1.0, "1"), (3.0, "1 2 3"), (45.0, "10 20 30 40")] {
            let ticks = Scale::new(whole, [1.0, epochs].into_iter(), 0.0).unwrap().ticks.0;
            assert_eq!(ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" "), shown);
        }
        assert_eq!(ticks(-1.0, 1.0, false), "−1.0 −0.5 0 0.5 1.0");
        assert_eq!(ticks(0.03, 2.3, true), "0.05 0.1 0.2 0.5 1 2");
        assert_eq!(ticks(1e-9, 10.0, true), "1e−8 1e−6 0.0001 0.01 1");
        assert_eq!(ticks(3.0, 3.0, false), "2.8 3.0 3.2");
    }

    #[test]
    fn a_thinned_line_keeps_every_extreme_and_the_order() {
        let wave = |step: u32| [f64::from(step), f64::from(step * 37 % 101)];
        let mut points: Vec<[f64; 2]> = (0..10_000).map(wave).collect();
        points[4_321][1] = 1e6;
        points[7_654][1] = -1e6;
        points[5_000][1] = f64::NAN;
        let thin = thinned(&points, 100);
        assert!(thin.len() <= 200 && thin.is_sorted_by(|a, b| a[0] < b[0]));
        assert!(thin.contains(&points[4_321]) && thin.contains(&points[7_654]));
        for (chunk, points) in points.chunks(100).enumerate() {
            let kept: Vec<f64> =
                thin.iter().filter(|point| point[0] as usize / 100 == chunk).map(|point| point[1]).collect();
            let highest = points.iter().map(|point| point[1]).filter(|y| y.is_finite()).fold(f64::MIN, f64::max);
            assert!(kept.contains(&highest), "{chunk}");
        }
        assert_eq!(thinned(&points[..150], 100), points[..150]);
    }

    #[test]
    fn a_smoothed_line_is_the_mean_of_the_last_points() {
        let points: Vec<[f64; 2]> = (1..=9).map(|step| [f64::from(step), f64::from(step * step)]).collect();
        assert_eq!(smoothed(&points, 3, 100)[..3], [[1.0, 1.0], [2.0, 2.5], [3.0, 14.0 / 3.0]]);
        let few = smoothed(&points, 3, 2);
        assert_eq!(few, [[5.0, 50.0 / 3.0], [9.0, 194.0 / 3.0]]);
    }

    #[test]
    fn every_series_has_a_colour_of_its_own_in_the_style() {
        let style = style();
        let codes: std::collections::BTreeSet<_> = (0..MAX_SERIES).map(|index| hexadecimal(colour(index))).collect();
        assert_eq!(codes.len(), MAX_SERIES);
        assert!(codes.iter().all(|code| style.contains(&format!("[stroke=\"{code}\"]"))));
        assert!(COLOURS.iter().all(|RGBColor(.., blue)| blue % 4 == 0));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        for points in [vec![], vec![[1.0, f64::NAN]], vec![[f64::MAX, 1.0], [f64::MIN, 2.0]]] {
            assert!(drawn(points, false).contains("no numbers to draw"));
        }
        assert!(drawn(vec![[1.0, -1.0]], true).contains("no numbers to draw"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn any_numbers_make_a_plot_or_a_remark(
            points in prop::collection::vec([any::<f64>(), any::<f64>()], 0..6),
            near in prop::collection::vec([-1e3f64..1e3, 0.999_999_999_9f64..1.000_000_000_1], 0..6),
            logarithmic: bool,
        ) {
            for points in [points.clone(), near, points.into_iter().map(|[x, _]| [x, x]).collect()] {
                for point in points.iter().flatten() {
                    prop_assert!(!number(*point, 4).is_empty() && !rounded(*point, point.abs()).is_empty());
                }
                let figure = drawn(points, logarithmic);
                prop_assert!(figure.contains("</svg>") || figure.contains("no numbers"));
                prop_assert!(!figure.contains("NaN") && !figure.contains("inf"), "{}", figure);
            }
        }
    }
}
