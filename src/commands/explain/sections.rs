//! The sections of the lesson's page, with its numbers and texts in tables and figures.

use anyhow::Result;
use maud::{Markup, Render, html};

use super::experiments::{
    DigitRun, Digits, Factor, Houses, Lesson, Matrix, OneStep, Picture, Softmax, Term, Tumours, TwoClasses,
};
use super::text::{Text, fixed, percent, quantity};
use crate::html::plot::{Axis, Bars, Mark, Plot, Series, thinned};
use crate::html::{self, picture};

/// Upper limit of the rows of a table of terms.
const MAX_TERMS: usize = 16;
/// Upper limit of the dots of a plot.
const MAX_DOTS: usize = 1000;
/// Number of columns that long lines are thinned to.
const COLUMNS: usize = 240;

/// Provenance of the page, which its last section shows.
pub struct Provenance {
    /// Values for the names of [`Text::made_names`], in the same order.
    pub values: [String; 9],
}

/// The whole page.
pub fn page(lesson: &Lesson, provenance: &Provenance, text: Text) -> Result<String> {
    let Lesson { houses, softmax, tumours, two_classes, digits: [digits, with_hidden], one_step } = lesson;
    let sections = [
        ("houses", text.houses_title(), houses_section(houses, text)),
        ("classes", text.classes_title(), classes_section(digits, text)?),
        ("samples", text.samples_title(), samples_section(tumours, text)),
        ("softmax", text.softmax_title(), softmax_section(softmax, text)),
        ("two-classes", text.two_title(), two_section(two_classes, text)),
        ("fits", text.fits_title(), fits_section(tumours, text)),
        ("losses", text.digits_title(), digits_section(digits, with_hidden, text)?),
        ("one-step", text.step_title(), step_section(one_step, text)),
        ("made", text.made_title(), provenance_section(provenance, text)),
    ];
    let p = |index: usize| fixed(softmax.probabilities[index], 2);
    let [line, sigmoid] = [&tumours.line, &tumours.sigmoid].map(|fit| text.centimetres(fit.boundary_error));
    let tiles = [
        (text.tile_softmax(), format!("{}, {}, {}", p(0), p(1), p(2))),
        (text.tile_boundary(), format!("{line} / {sigmoid}")),
        (text.tile_number(), percent(digits.number.accuracy())),
        (text.tile_cross_entropy(), percent(digits.cross_entropy.accuracy())),
    ];
    let body = html! {
        h1 { (text.title()) }
        p.lead { (text.lead(&provenance.values[0])) }
        p { (text.steps_of_training()) }
        (html::tiles(&tiles.map(|(name, value)| (name.to_string(), value))))
        nav aria-label=(text.contents()) {
            ol.contents { @for (id, title, _) in &sections { li { a href=(format!("#{id}")) { (title) } } } }
        }
        @for (index, (id, title, body)) in sections.iter().enumerate() {
            div id=(id) { (html::section(&format!("{}. {title}", index + 1), body)) }
        }
    };
    Ok(html::document(text.title(), text.lang(), &body))
}

fn paragraph(html: &Markup) -> Markup {
    html! { p { (html) } }
}

fn formula(html: &Markup) -> Markup {
    html! { p.formula { (html) } }
}

/// Describes the run behind a section.
fn was_run(text: Text, what: &impl Render) -> Markup {
    html! { p.note { b { (text.was_run()) } (what) } }
}

fn axis(label: &str) -> Axis<'_> {
    Axis { label, ..Axis::default() }
}

fn series(name: impl Into<String>, colour: usize, mark: Mark, points: &[[f64; 2]]) -> Series {
    Series { name: name.into(), colour, mark, points: points.to_vec() }
}

/// A table of strings.
fn table(caption: &str, header: &[&str], rows: Vec<Vec<String>>) -> Markup {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    html! { div { h3 { (caption) } (html::table(caption, &header, rows)) } }
}

fn houses_section(houses: &Houses, text: Text) -> Markup {
    let row = |name: String, factor: &Factor| {
        let mut row = vec![name, quantity(factor.fitted, 3)];
        row.extend(factor.law.map(|law| quantity(law, 3)));
        row
    };
    let shown = houses.terms.len().min(MAX_TERMS);
    let name = |term: &Term| match (&houses.file, &term.category) {
        (None, _) => text.house_column(&term.name),
        (_, None) => html::name(&term.name),
        (_, Some(category)) => format!("{} = {}", html::name(&term.name), html::name(category)),
    };
    let mut rows: Vec<_> = houses.terms[..shown].iter().map(|term| row(name(term), &term.factor)).collect();
    // In a user's table, numbers need not have a meaningful 0, and categories have none.
    rows.push(match houses.file {
        None => row(text.intercept().into(), &houses.intercept),
        Some(_) => row(text.at_means().into(), &Factor { fitted: houses.at_means, law: None }),
    });
    let header = &text.terms_header()[..if houses.intercept.law.is_some() { 3 } else { 2 }];
    let categories = houses.terms.iter().any(|term| term.category.is_some());
    let constants = houses.terms.iter().any(|term| term.factor.fitted.is_nan());

    let [low, high] = houses
        .predictions
        .iter()
        .flatten()
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &value| [low.min(value), high.max(value)]);
    let every = houses.predictions.len().div_ceil(MAX_DOTS);
    let drawn: Vec<[f64; 2]> = houses.predictions.iter().step_by(every).copied().collect();
    let predictions = [
        series(text.perfect(), 5, Mark::Line, &[[low, low], [high, high]]),
        series(text.prediction(), 0, Mark::Dots, &drawn),
    ];
    html! {
        (paragraph(&text.houses_why()))
        @match &houses.file {
            Some(file) => (paragraph(&text.houses_table(houses, file))),
            None => (paragraph(&text.houses_law(houses.noise, &law_of(houses, text)))),
        }
        div.plots {
            @if houses.file.is_none() { (by_area(houses, text)) }
            (Plot {
                title: &text.figure(if houses.file.is_none() { "1b" } else { "1" }, text.predicted_by_real()),
                summary: text.predicted_by_real_summary(),
                x: axis(text.real_axis()),
                y: axis(text.prediction()),
                series: &predictions,
                note: &if every > 1 { text.every(every) } else { String::new() },
            }.figure())
        }
        p { (text.houses_found(houses)) @if houses.file.is_none() { (text.houses_noise(houses)) } }
        (table(text.terms_caption(), header, rows))
        @if shown < houses.terms.len() { (html::note(&text.more_terms(houses.terms.len() - shown))) }
        @if categories { (html::note(text.categories_note())) }
        @if constants { (html::note(text.constants_note())) }
        (was_run(text, &text.houses_run(houses)))
    }
}

fn law_of(houses: &Houses, text: Text) -> String {
    let law = |factor: &Factor| factor.law.unwrap_or(f64::NAN);
    match &houses.terms[..] {
        [area, age] => text.houses_law_formula(law(&houses.intercept), law(&area.factor), -law(&age.factor)),
        _ => String::new(),
    }
}

/// Plot of price by area: the houses, the law and the fit.
fn by_area(houses: &Houses, text: Text) -> Markup {
    let areas = houses.areas.iter().map(|point| point[0]);
    let [low, high] =
        areas.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], area| [low.min(area), high.max(area)]);
    let line = |age| [low, high].map(|area| [area, houses.price(true, area, age)]);
    let ages = [(0.0, 0), (40.0, 1)];
    let mut all = vec![series(text.test_houses(), 5, Mark::Dots, &houses.areas)];
    let places = (0..=12).map(|place| low + (high - low) * f64::from(place) / 12.0);
    let law = |age| places.clone().map(move |area| [area, houses.price(false, area, age)]);
    let law: Vec<_> = ages.iter().flat_map(|&(age, _)| law(age)).collect();
    all.extend(ages.map(|(age, colour)| series(text.fit_of_age(age), colour, Mark::Line, &line(age))));
    all.push(series(text.law(), 2, Mark::Dots, &law));
    Plot {
        title: &text.figure("1a", text.houses_by_area()),
        summary: text.houses_by_area_summary(),
        x: axis(text.area_axis()),
        y: axis(""),
        series: &all,
        note: "",
    }
    .figure()
}

fn classes_section(digits: &Digits, text: Text) -> Result<Markup> {
    let shown = [6, 1, 7, 5].iter().filter_map(|&class| digits.pictures.iter().find(|picture| picture.label == class));
    let mut figures = Vec::new();
    for picture in shown {
        let cells = (0..digits.pictures.len() as u32).map(|class| u32::from(class == picture.label));
        figures.push(html! {
            figure {
                (image(picture, text)?)
                figcaption {
                    (picture.label) " → [" @for (class, cell) in cells.enumerate() {
                        @if class > 0 { "," wbr; } @if cell == 1 { b { "1" } } @else { "0" }
                    } "]"
                }
            }
        });
    }
    Ok(html! {
        (paragraph(&text.classes_why()))
        (paragraph(&text.classes_one_hot()))
        div.pictures { @for figure in figures { (figure) } }
    })
}

fn image(picture: &Picture, text: Text) -> Result<Markup> {
    let side = picture.pixels.len().isqrt();
    let address = picture::grey(&picture.pixels, [side, side])?;
    Ok(html! { img src=(address) alt=(text.picture_of(picture.label)) width=(side) height=(side); })
}

fn samples_section(tumours: &Tumours, text: Text) -> Markup {
    let all = [
        series(text.labels(), 5, Mark::Dots, &tumours.samples),
        series(text.true_law(), 2, Mark::Line, &tumours.law),
        series(text.shares(tumours.group), 1, Mark::Dotted, &tumours.shares),
    ];
    html! {
        (paragraph(&text.samples_why()))
        (paragraph(&text.samples_law(tumours)))
        (Plot {
            title: &text.figure("2", text.samples_figure()),
            summary: text.samples_summary(),
            x: axis(text.size_axis()),
            y: Axis { include: &[0.0, 1.0], ..Axis::default() },
            series: &all,
            note: "",
        }.figure())
    }
}

fn softmax_section(softmax: &Softmax, text: Text) -> Markup {
    let labels: Vec<String> = (1..=softmax.scores.len()).map(|class| class.to_string()).collect();
    let bars = |figure: &str, title: &str, summary: &str, values: &[f64], value: fn(f64) -> String, include: &[f64]| {
        Bars {
            title: &text.figure(figure, title),
            summary,
            labels: &labels,
            x_label: text.classes_axis(),
            y: Axis { include, ..Axis::default() },
            series: &[(String::new(), values.to_vec())],
            text: value,
            note: "",
        }
        .figure()
    };
    html! {
        (paragraph(&text.softmax_why()))
        (formula(&Text::softmax_formula()))
        div.plots {
            (bars("3a", text.scores(), text.scores_summary(), &softmax.scores, |score| fixed(score, 0), &[]))
            (bars("3b", text.probabilities(), text.probabilities_summary(), &softmax.probabilities, |p| fixed(p, 2), &[0.0, 1.0]))
        }
        (paragraph(&text.softmax_result(softmax)))
        (paragraph(&text.softmax_loss(softmax)))
        (was_run(text, &text.softmax_run()))
    }
}

fn two_section(two: &TwoClasses, text: Text) -> Markup {
    let plot = |figure, title, x, [by_softmax, by_sigmoid]: [&[[f64; 2]]; 2]| {
        Plot {
            title: &text.figure(figure, title),
            summary: text.two_over_range_summary(),
            x: axis(x),
            y: Axis { include: &[0.0, 1.0], ..Axis::default() },
            series: &[
                series(text.sigmoid_of_one(), 0, Mark::Line, by_sigmoid),
                series(text.softmax_of_two(), 1, Mark::Dots, by_softmax),
            ],
            note: "",
        }
        .figure()
    };
    html! {
        (paragraph(&text.two_why()))
        (formula(&Text::two_formula()))
        (paragraph(&text.two_result(two)))
        (paragraph(&text.two_trained(two)))
        div.plots {
            (plot("4a", text.two_over_range(), text.difference_axis(), [&two.softmax, &two.sigmoid]))
            (plot("4b", text.two_after_training(), text.size_axis(), [&two.trained[0], &two.trained[1]]))
        }
    }
}

fn fits_section(tumours: &Tumours, text: Text) -> Markup {
    let Tumours { line, sigmoid, .. } = tumours;
    let all = [
        series(text.labels(), 5, Mark::Dots, &tumours.samples),
        series(text.true_law(), 2, Mark::Line, &tumours.law),
        series(text.line(), 1, Mark::Line, &line.curve),
        series(text.sigmoid(), 0, Mark::Line, &sigmoid.curve),
    ];
    let [boundary, error, distance, outputs, wrong] = text.fits_rows().map(String::from);
    let both = [line, sigmoid];
    let row = |name: String, cell: &dyn Fn(usize) -> String| vec![name, cell(0), cell(1)];
    let rows = vec![
        row(boundary, &|fit| fixed(both[fit].boundary, 2)),
        row(error, &|fit| fixed(both[fit].boundary_error, 2)),
        row(distance, &|fit| fixed(both[fit].distance, 3)),
        row(outputs, &|fit| both[fit].outputs.map(|output| fixed(output, 2)).join(" … ")),
        row(wrong, &|fit| both[fit].wrong.to_string()),
    ];
    html! {
        (paragraph(&text.fits_why(tumours)))
        (paragraph(&text.fits_result(tumours)))
        div.beside {
            (Plot {
                title: &text.figure("5", text.fits_figure()),
                summary: &text.fits_summary(tumours),
                x: axis(text.size_axis()),
                y: axis(""),
                series: &all,
                note: "",
            }.figure())
            (table(text.fits_caption(), &text.fits_header(), rows))
        }
        (was_run(text, &text.fits_run(tumours)))
    }
}

/// Renders pictures with their two most probable classes.
fn recognised_pictures(digits: &Digits, text: Text) -> Result<Vec<Markup>> {
    let mut figures = Vec::new();
    for picture in &digits.pictures {
        let mut chances: Vec<(usize, f64)> = picture.probabilities.iter().copied().enumerate().collect();
        chances.sort_by(|a, b| b.1.total_cmp(&a.1));
        figures.push(html! {
            figure {
                (image(picture, text)?)
                figcaption { (text.as_number(picture.number)) }
                dl.chances {
                    @for &(class, chance) in &chances[..2] {
                        div.label[class == picture.label as usize] style=(format!("--v:{chance:.3}")) {
                            dt { (class) } dd { (percent(chance)) }
                        }
                    }
                }
            }
        });
    }
    Ok(figures)
}

fn digits_section(digits: &Digits, with_hidden: &Digits, text: Text) -> Result<Markup> {
    let runs = |digits: &Digits| -> [DigitRunView; 3] {
        [&digits.number, &digits.one_hot, &digits.cross_entropy].map(DigitRunView::new)
    };
    let names = text.loss_names();
    let all = runs(digits);
    let accuracies: Vec<Series> =
        (0..3).rev().map(|loss| series(names[loss], COLOURS[loss], Mark::Line, &all[loss].accuracies)).collect();
    let losses = (0..3).map(|loss| {
        let view = &all[loss];
        let per_epoch = digits.steps as f64 / digits.epochs as f64;
        let test: Vec<[f64; 2]> = view.test_losses.iter().map(|[epoch, loss]| [epoch * per_epoch, *loss]).collect();
        Plot {
            title: &text.figure(["6c", "6d", "6e"][loss], &text.loss_figure(names[loss])),
            summary: &text.loss_summary(&[&digits.number, &digits.one_hot, &digits.cross_entropy][loss].losses),
            x: axis(text.step_axis()),
            y: Axis { logarithmic: true, ..Axis::default() },
            series: &[
                series(text.training(), COLOURS[loss], Mark::Faint, &thinned(&view.losses, COLUMNS)),
                series(text.test(), COLOURS[loss], Mark::Line, &test),
            ],
            note: "",
        }
        .figure()
    });
    let diagonal = [[0.0, 0.0], [9.0, 9.0]];
    let hidden = runs(with_hidden);
    let rows = (0..3).map(|loss| {
        let rates = [&all, &hidden].map(|views| views[loss].learning_rate.to_string()).join(" / ");
        vec![names[loss].to_string(), percent(all[loss].accuracy), percent(hidden[loss].accuracy), rates]
    });
    let figures = recognised_pictures(digits, text)?;
    Ok(html! {
        (paragraph(&text.digits_why(digits)))
        (paragraph(&text.digits_result(digits)))
        div.plots {
            (Plot {
                title: &text.figure("6a", text.accuracy_figure()),
                summary: text.accuracy_summary(),
                x: axis(text.epoch_axis()),
                y: Axis { percent: true, include: &[0.0, 1.0], ..Axis::default() },
                series: &accuracies,
                note: "",
            }.figure())
            (Plot {
                title: &text.figure("6b", text.numbers_figure()),
                summary: text.numbers_summary(),
                x: axis(text.true_class_axis()),
                y: axis(""),
                series: &[
                    series(text.perfect(), 5, Mark::Line, &diagonal),
                    series(text.outputs(), COLOURS[0], Mark::Dots, &digits.numbers),
                ],
                note: "",
            }.figure())
        }
        (paragraph(&text.digits_reason()))
        div.plots { @for plot in losses { (plot) } }
        p.note { (text.loss_note()) }
        (table(text.digits_caption(), &text.digits_header(), rows.collect()))
        (paragraph(&text.digits_hidden(digits, with_hidden)))
        (paragraph(&text.pictures_lead()))
        div.pictures { @for figure in figures { (figure) } }
        (was_run(text, &text.digits_run(digits)))
    })
}

/// Colour indices of the three losses.
const COLOURS: [usize; 3] = [1, 3, 0];

/// The numbers of a run as points for plots.
struct DigitRunView {
    learning_rate: f32,
    accuracy: f64,
    accuracies: Vec<[f64; 2]>,
    losses: Vec<[f64; 2]>,
    test_losses: Vec<[f64; 2]>,
}

impl DigitRunView {
    fn new(run: &DigitRun) -> Self {
        Self {
            learning_rate: run.learning_rate,
            accuracy: run.accuracy(),
            accuracies: counted(&run.accuracies, 0),
            losses: counted(&run.losses, 1),
            test_losses: counted(&run.test_losses, 1),
        }
    }
}

/// Pairs values with their numbers, which start at `first`.
fn counted(values: &[f64], first: usize) -> Vec<[f64; 2]> {
    values.iter().enumerate().map(|(index, &value)| [(first + index) as f64, value]).collect()
}

fn step_section(step: &OneStep, text: Text) -> Markup {
    let names = text.step_headers();
    let classes: Vec<String> = (0..3).map(|class| format!("{} {class}", names.class)).collect();
    let examples = ["a", "b", "c"];
    let matrix = |caption: &str, rows: &[&str], matrix: &Matrix, decimals: usize| {
        let header: Vec<&str> = std::iter::once("").chain(classes.iter().map(String::as_str)).collect();
        let rows = rows.iter().zip(matrix.rows()).map(|(name, row)| {
            std::iter::once(name.to_string()).chain(row.iter().map(|&value| fixed(value, decimals))).collect()
        });
        table(caption, &header, rows.collect())
    };
    let inputs = examples
        .iter()
        .zip(step.inputs.rows())
        .zip(&step.labels)
        .map(|((name, row), label)| vec![name.to_string(), fixed(row[0], 1), fixed(row[1], 1), label.to_string()]);
    let inputs_header = ["", names.features[0], names.features[1], names.label];
    let losses = examples.iter().zip(&step.losses).map(|(name, &loss)| vec![name.to_string(), fixed(loss, 4)]);
    html! {
        (paragraph(&text.step_lead()))
        div.tables {
            (table(names.inputs, &inputs_header, inputs.collect()))
            (matrix(names.weights, &names.rows, &step.weights, 1))
        }
        (paragraph(&text.step_forward(step)))
        div.tables {
            (matrix(names.scores, &examples, &step.scores, 2))
            (matrix(names.probabilities, &examples, &step.probabilities, 4))
        }
        (paragraph(&text.step_loss(step)))
        div.tables {
            (matrix(names.one_hot, &examples, &step.one_hot, 0))
            (table(names.losses, &["", names.loss], losses.collect()))
        }
        (paragraph(&text.step_backward(step)))
        div.tables {
            (matrix(names.errors, &examples, &step.errors, 4))
            (matrix(names.gradient, &names.rows, &step.gradient, 4))
        }
        (paragraph(&text.step_update(step)))
        div.tables {
            (matrix(names.updated, &names.rows, &step.updated, 4))
            (matrix(names.updated_probabilities, &examples, &step.updated_probabilities, 4))
        }
        (paragraph(&text.step_after(step)))
        (Plot {
            title: &text.figure("7", text.step_figure()),
            summary: &text.loss_summary(&step.curve),
            x: axis(text.step_axis()),
            y: Axis { include: &[0.0], ..Axis::default() },
            series: &[series("", 0, Mark::Line, &counted(&step.curve, 1))],
            note: "",
        }.figure())
        (was_run(text, &text.step_run()))
    }
}

fn provenance_section(provenance: &Provenance, text: Text) -> Markup {
    html! {
        (html::facts(text.made_names().iter().zip(&provenance.values)))
        (paragraph(&text.made_note()))
    }
}
