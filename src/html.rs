//! HTML pages: reports and lessons, each one self-contained file without scripts or requests, and the page of a server.
//!
//! [`document`] is the skeleton, [`plot`] draws plots, [`picture`] encodes images. `html!` escapes everything put into
//! it, since the names of classes, columns and files come from users. Every colour is one from the style sheet, so that
//! a page suits light and dark screens; an SVG of [`plot`] itself contains the light colours.

pub mod picture;
pub mod plot;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use softstep::error::printable;

const STYLE: &str = include_str!("html/style.css");

/// Marker near the start of every page.
pub const MARK: &str = "<meta name=\"generator\" content=\"softstep";

/// Renders a whole page in the language `lang` (`en`, `zh`). `body` begins with its `h1`.
pub fn document(title: &str, lang: &str, body: &Markup) -> String {
    whole(title, lang, body, None, None)
}

/// Renders a whole page as [`document`] does, which loads itself anew every so many seconds.
pub fn refreshing_document(title: &str, lang: &str, seconds: u32, body: &Markup) -> String {
    whole(title, lang, body, None, Some(seconds))
}

/// Renders a page in English that a server answers with, and whose script, under this address, speaks to the server alone.
pub fn served_document(title: &str, body: &Markup, script: &str) -> String {
    whole(title, "en", body, Some(script), None)
}

/// Renders a whole page.
fn whole(title: &str, lang: &str, body: &Markup, script: Option<&str>, refresh: Option<u32>) -> String {
    // The policy makes browsers refuse every other resource: the page needs none.
    let policy = match script {
        None => "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        Some(_) => {
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'self'; connect-src 'self'"
        }
    };
    let page = html! {
        (DOCTYPE)
        html lang=(lang) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                meta name="generator" content=(concat!("softstep ", env!("CARGO_PKG_VERSION")));
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(plot::style())) }
                @if let Some(script) = script {
                    // Without it, browsers ask for one.
                    link rel="icon" href="data:,";
                    script src=(script) defer {}
                }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}

/// A section with its heading.
pub fn section(title: &str, body: &Markup) -> Markup {
    html! { section { h2 { (title) } (body) } }
}

/// A list of names and values.
pub fn facts<N: AsRef<str>, V: AsRef<str>>(facts: impl IntoIterator<Item = (N, V)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name.as_ref()) } dd { (value.as_ref()) } }
            }
        }
    }
}

/// The most important figures, in large type.
pub fn tiles(tiles: &[(String, String)]) -> Markup {
    html! {
        dl.tiles {
            @for (name, value) in tiles {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A table with a header, which scrolls on its own if it is wider than the page. Cells after the first column are
/// numbers.
pub fn table(caption: &str, header: &[String], rows: impl IntoIterator<Item = Vec<String>>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                thead { tr { @for name in header { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Shortens a name from a file to one line of at most 80 characters.
pub fn name(text: &str) -> String {
    printable(text, 80)
}

/// A remark below a figure or table.
pub fn note(text: &str) -> Markup {
    html! { p.note { (text) } }
}
