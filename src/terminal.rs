//! Printing: results to standard output; notices, progress and errors to standard error.
//!
//! No control character reaches the terminal, whatever names and texts a message quotes: [`print`] and [`print_json`]
//! replace or escape them, and [`line`] keeps a message on one line.
//!
//! If standard output is closed (`| head`), results are dropped and everything else goes on: a training run still ends
//! with its model. If it cannot be written, on a full disk or a terminal that is gone, one notice and the exit code say
//! so.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use softstep::Error;
use softstep::backend::DeviceInfo;
use softstep::error::is_printable;

use crate::flags::with_flags;

/// True if this process prints nothing.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// Prints nothing from now on: another process says the same.
pub fn be_silent() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

fn is_silent() -> bool {
    IS_SILENT.load(Ordering::Relaxed)
}

/// Prints a usage error, or the requested help or version; returns the exit code.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if lines(&text) == text && !is_silent() {
        let _ = error.print();
    } else {
        // Without its colours: an argument is quoted that holds other commands for the terminal.
        print_error_line(&text);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Writes a log record as one line; `RUST_LOG` selects the records.
pub fn log_line(output: &mut impl Write, record: &log::Record<'_>) -> io::Result<()> {
    writeln!(output, "[{} {}] {}", record.level(), record.target(), line(&with_flags(&record.args().to_string())))
}

/// Prints an error and its causes, a line each.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("error: {}", line(&error.to_string()));
    for cause in error.chain().skip(1) {
        text += &format!("\n  caused by: {}", line(&cause.to_string()));
    }
    print_error_line(&text);
}

/// Prints a notice.
pub fn notice(text: &str) {
    print_error_line(&format!("note: {}", line(text)));
}

/// Prints a notice, with a shell command on a line of its own.
pub fn notice_with_command(text: &str, command: &str) {
    print_error_line(&format!("note: {}\n{command}", line(text)));
}

/// Prints notices about data, shortened if they are long.
pub fn notices(texts: &[String]) {
    texts.iter().for_each(|text| notice(&softstep::error::printable(text, 1000)));
}

/// Prints a result. A closed standard output is no error.
pub fn print(text: &str) -> softstep::Result<()> {
    if is_silent() {
        return Ok(());
    }
    let mut output = io::stdout().lock();
    match writeln!(output, "{}", lines(text)).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::io("write", "standard output")),
    }
}

/// Prints a JSON line.
pub fn print_json(line: &impl Serialize) -> softstep::Result<()> {
    let json = serde_json::to_string(line).map_err(|error| Error::io("write", "standard output")(error.into()))?;
    // Control characters occur only in strings, where JSON can escape them.
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match is_printable(character) {
            true => text.push(character),
            false => text.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    print(&text)
}

/// Prints a JSON line with the field `event`.
pub fn print_event(event: &'static str, line: &impl Serialize) -> softstep::Result<()> {
    print_json(&Tagged { event, line })
}

/// A JSON line with the field `event`.
#[derive(Serialize)]
struct Tagged<'a, T> {
    event: &'static str,
    #[serde(flatten)]
    line: &'a T,
}

/// Prints to standard error, with flags for the settings that a message of the library names.
pub fn print_error_line(text: &str) {
    if is_silent() {
        return;
    }
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", lines(with_flags(text).trim_end()));
}

/// Replaces the control characters of a text, except line breaks.
pub fn lines(text: &str) -> String {
    text.chars()
        .map(|character| if character == '\n' || is_printable(character) { character } else { '\u{fffd}' })
        .collect()
}

/// Formats a named value of a listing.
pub fn field(name: &str, value: &str) -> String {
    format!("{name:8}  {value}")
}

/// Prints named values, a line each, or one JSON object.
pub fn print_fields(text: &[(&str, String)], json: &impl Serialize, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(print_json(json)?);
    }
    let lines: Vec<String> = text.iter().map(|(name, value)| field(name, &line(value))).collect();
    Ok(print(&lines.join("\n"))?)
}

/// Prints the path of a file that was written.
pub fn written(what: &str, path: &Path) -> anyhow::Result<()> {
    Ok(print(&format!("{what} in {}", path_text(path)))?)
}

/// Longest printed message in characters: room for two paths of any length, and a sentence about them.
const LONGEST_LINE: usize = 10_000;

/// Formats a message as one printable line.
pub fn line(text: &str) -> String {
    softstep::error::printable(text, LONGEST_LINE)
}

/// Formats a whole path as one printable line.
pub fn path_text(path: &Path) -> String {
    line(&path.display().to_string())
}

/// Shortens a name from a file to 40 printable characters.
pub fn printable(name: &str) -> String {
    softstep::error::printable(name, 40)
}

/// Shortens a name to its last 60 characters: the end tells files and rows apart.
pub fn printable_end(name: &str) -> String {
    let from = name.char_indices().rev().nth(59).map_or(0, |(at, _)| at);
    let shown: String =
        name[from..].chars().collect::<Vec<_>>().chunks(40).map(|part| printable(&String::from_iter(part))).collect();
    if from > 0 { format!("…{shown}") } else { shown }
}

/// Creates a progress bar on standard error; a hidden one if that is no terminal.
pub fn progress_bar(total: Option<u64>) -> ProgressBar {
    let is_terminal = io::stderr().is_terminal() && !is_silent();
    let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    ProgressBar::with_draw_target(total, target)
}

/// Builds the style of a progress bar.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Builds a table without borders.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// Builds right-aligned cells.
pub fn right(cells: impl IntoIterator<Item = String>) -> Vec<Cell> {
    cells.into_iter().map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right)).collect()
}

/// Formats a device as a line of a listing.
pub fn device_line(info: &DeviceInfo) -> String {
    field("device", &format!("{} ({}; {})", info.name, info.device_type, info.driver))
}

/// A device in a JSON line.
#[derive(Serialize)]
pub struct DeviceLine<'a> {
    backend: &'a str,
    adapter: &'a str,
    device_type: &'a str,
    driver: &'a str,
}

impl<'a> DeviceLine<'a> {
    /// Describes this device.
    pub fn new(info: &'a DeviceInfo) -> Self {
        Self { backend: info.backend, adapter: &info.name, device_type: info.device_type, driver: &info.driver }
    }
}

/// Serializes a device with the field names of every JSON line.
pub fn serialize_device<S: serde::Serializer>(info: &DeviceInfo, serializer: S) -> Result<S::Ok, S::Error> {
    DeviceLine::new(info).serialize(serializer)
}
