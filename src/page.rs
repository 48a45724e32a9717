//! Pages for people: one self-contained HTML file each, with neither scripts nor requests.
//!
//! [`document`] is the skeleton, [`plot`] draws, [`picture`] makes images. Whatever is put into `html!` is escaped: the
//! names of classes, columns and files come from users. Every colour is one of the style sheet's, so that a page suits
//! light and dark screens; an SVG of [`plot`] has the light ones in itself.

pub mod picture;
pub mod plot;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use softstep::error::printable;

const STYLE: &str = include_str!("page/style.css");

/// What is near the start of each page.
pub const MARK: &str = "<meta name=\"generator\" content=\"softstep";

/// A whole page in this language (`en`, `zh`). `body` begins with its `h1`.
pub fn document(title: &str, lang: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang=(lang) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("softstep ", env!("CARGO_PKG_VERSION")));
                // The page says itself that it needs nothing from anywhere.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(plot::style())) }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}

/// A section under its heading.
pub fn section(title: &str, body: &Markup) -> Markup {
    html! { section { h2 { (title) } (body) } }
}

/// Names beside values.
pub fn facts<N: AsRef<str>, V: AsRef<str>>(facts: impl IntoIterator<Item = (N, V)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name.as_ref()) } dd { (value.as_ref()) } }
            }
        }
    }
}

/// The figures that matter most, large.
pub fn tiles(tiles: &[(String, String)]) -> Markup {
    html! {
        dl.tiles {
            @for (name, value) in tiles {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A table with its header, that scrolls within itself where it is wider than the page. Cells after the first are
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

/// A name from a file: on one line, and no longer than anybody reads.
pub fn name(text: &str) -> String {
    printable(text, 80)
}

/// A remark under a figure or table.
pub fn note(text: &str) -> Markup {
    html! { p.note { (text) } }
}
