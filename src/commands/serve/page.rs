//! The page of a server: facts about the model, and fields to try it.

use maud::{Markup, html};
use softstep::backend::DeviceInfo;
use softstep::data::predict_inputs::Fit;
use softstep::data::{Column, Encoding, Form, TableFormat};

use crate::format::counted;
use crate::html;
use crate::model_summary::model_name;
use crate::run::model::{Input, Model};

/// The script of the page.
pub const SCRIPT: &str = include_str!("page.js");
/// Path of the script.
pub const SCRIPT_PATH: &str = "/page.js";

/// Most columns of a table that have a field each.
const FIELDS: usize = 100;

/// Renders the page.
pub fn page(model: &Model, fit: Fit, device: &DeviceInfo) -> String {
    let title = format!("Predict with a model of {}", html::name(&model.data));
    let (fields, example) = fields(model, fit);
    let preprocessing = model.preprocessing.as_ref();
    let outputs = match preprocessing.and_then(|preprocessing| preprocessing.target()) {
        Some(target) => html::name(target),
        None => counted(model.parameters.outputs(), "output"),
    };
    let facts = [
        ("Model", model_name(&model.parameters.architecture)),
        ("Trained on", html::name(&model.data)),
        ("Predicts", outputs),
        ("Computed on", format!("{} ({})", device.name, device.device_type)),
        ("softstep", env!("CARGO_PKG_VERSION").into()),
    ];
    let body = html! {
        h1 { (title) }
        p.lead { "Nothing leaves the machine that serves this page." }
        div.beside {
            div {
                (fields)
                p {
                    label for="file" { "Or a file: " }
                    input id="file" type="file";
                }
            }
            div {
                h2 id="heading" { "Prediction" }
                div id="result" aria-live="polite" aria-labelledby="heading" { p.note { "Nothing was predicted yet." } }
            }
        }
        (html::section("For programs", &html! {
            pre.scroll tabindex="0" { code { (example) } }
            p.note {
                "The answer is JSON; what cannot be predicted has a status of 4xx and a reason. "
                a href="health" { "health" } " · " a href="metrics" { "metrics" }
            }
        }))
        (html::section("The model", &html::facts(facts)))
    };
    html::served_document(&format!("{title} – softstep"), &body, &SCRIPT_PATH[1..])
}

/// The fields for an example, and a command that sends one.
fn fields(model: &Model, fit: Fit) -> (Markup, String) {
    let curl = |body: &str| format!("curl --data-binary {body} http://…/predict");
    match model.input() {
        Input::Table(format) if format.columns.len() <= FIELDS => (of_table(format), curl("@rows.csv")),
        Input::Table(_) => {
            (html! { p { "The table has more columns than a form should: give it a file." } }, curl("@rows.csv"))
        }
        Input::Image(_) | Input::Bytes(_) if fit != Fit::Whole => {
            let drawing = html! {
                canvas #drawing width="280" height="280" role="img" aria-label="a field to draw digits in" {}
                p { button #clear type="button" { "Clear" } " Draw with a finger, a pen or the mouse." }
            };
            (drawing, curl("@picture.png"))
        }
        Input::Image([height, width, channels]) => {
            let colour = if channels == 3 { "colour" } else { "grey" };
            let note = html! {
                p { "Choose a picture: it is made " (width) "×" (height) " and " (colour) ", as in training." }
            };
            (note, curl("@picture.png"))
        }
        Input::Numbers(arrays) => (of_numbers(arrays.features, "numbers"), curl("@array.npy")),
        Input::Bytes(features) => (of_numbers(features, "whole numbers from 0 to 255"), curl("@array.npy")),
    }
}

/// A field for each column.
fn of_table(format: &TableFormat) -> Markup {
    html! {
        form #row {
            @for (index, column) in format.columns.iter().enumerate() {
                p.field {
                    label for=(format!("column-{index}")) { (html::name(&column.name)) }
                    (of_column(index, column))
                }
            }
            p { button type="submit" { "Predict" } }
        }
    }
}

fn of_column(index: usize, column: &Column) -> Markup {
    let id = format!("column-{index}");
    match (&column.encoding, column.form) {
        (Encoding::OneHot(texts), _) => html! {
            select id=(id) data-column=(column.name) {
                @for text in texts {
                    option value=(text) { @if text.is_empty() { "(missing)" } @else { (html::name(text)) } }
                }
            }
        },
        (Encoding::Standardised(_), Form::Boolean) => html! {
            select id=(id) data-column=(column.name) {
                option value="true" { "true" }
                option value="false" { "false" }
                option value="" { "(missing)" }
            }
        },
        (Encoding::Standardised(scale), form) => {
            let hint = match form {
                Form::YearMonthDay => "2020-12-31".into(),
                Form::DayMonthYear => "31.12.2020".into(),
                Form::MonthDayYear => "12/31/2020".into(),
                _ => crate::format::significant(scale.mean, 3),
            };
            html! { input id=(id) data-column=(column.name) placeholder=(hint) autocomplete="off"; }
        }
    }
}

/// A field for an example of numbers.
fn of_numbers(features: usize, what: &str) -> Markup {
    html! {
        form #numbers {
            p { label for="values" { "An example as JSON: an array of " (features) " " (what) "." } }
            p { textarea #values rows="5" spellcheck="false" placeholder="[0, 0, …]" {} }
            p { button type="submit" { "Predict" } }
        }
    }
}
