//! The cells of a table: column names, and rows of texts.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use ::csv::ByteRecord;

use super::text::{self, Preamble, Text};
use super::{forms, joined, quoted_list};
use crate::data::TableFormat;
use crate::error::{Error, Result};

/// Upper limit of the number of columns.
pub(super) const MAX_COLUMNS: usize = 1 << 16;
/// Number of bytes between two progress reports.
const REPORT_EVERY: u64 = 1 << 20;

/// Prior knowledge of the header of a table.
#[derive(Clone, Copy)]
pub(super) enum Header<'a> {
    /// Only the name of the target column is known.
    Guess {
        /// Name of the target column.
        target: &'a str,
    },
    /// The table has no header.
    None,
    /// The columns are those of a model's format.
    Known(&'a TableFormat),
    /// So they are, and these rows are some of a table's rows.
    Part {
        /// The model's format.
        format: &'a TableFormat,
        /// True if every row of the whole table begins with a name.
        has_row_names: bool,
    },
}

impl<'a> Header<'a> {
    /// The model's format, if there is one.
    fn format(self) -> Option<&'a TableFormat> {
        match self {
            Self::Known(format) | Self::Part { format, .. } => Some(format),
            Self::Guess { .. } | Self::None => None,
        }
    }
}

/// All rows of a table, with trimmed values.
pub(super) struct Table {
    pub file: String,
    /// Column names; `""` for a column that the file does not name.
    pub names: Vec<String>,
    /// Number of columns, if the file has no header; columns are then named by their positions, from 1.
    pub positions: Option<usize>,
    pub notices: Vec<String>,
    rows: Vec<Row>,
    /// True if every row begins with a name, for which the header has none.
    pub has_row_names: bool,
    /// All values, concatenated.
    cells: String,
    /// End of each value in `cells`.
    ends: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Row {
    /// Index of the row's first value.
    first: usize,
    /// Number of values.
    length: usize,
    /// First line of the row in the file, from 1.
    line: u64,
}

impl Table {
    pub fn read(file: &str, input: &mut dyn Read, header: Header<'_>, progress: &mut dyn FnMut(f64)) -> Result<Self> {
        let Text { text, mut notices } = text::read(file, input)?;
        let Preamble { separator, body, lines, comments, last } = Preamble::of(&text);
        let separator = separator.unwrap_or_else(|| text::separator(body, |record| is_header(record, header)));
        if let Some(line) = text::open_quote(body.as_bytes(), separator) {
            let problem =
                "a quote opens here that is never closed: close or remove it, or write it twice within quotes";
            return Err(Error::format(file, format!("line {}: {problem}", lines + line)));
        }
        let mut table = Self {
            file: file.into(),
            names: Vec::new(),
            positions: None,
            notices: Vec::new(),
            rows: Vec::new(),
            has_row_names: false,
            cells: String::new(),
            ends: Vec::new(),
        };
        let mut cells = Vec::with_capacity(body.len());
        let mut reader = text::records(body, separator);
        let mut record = ByteRecord::new();
        let mut next_report = 0;
        while reader.read_byte_record(&mut record).map_err(|error| Error::format(file, error.to_string()))? {
            let Some(position) = record.position() else { continue };
            if position.byte() >= next_report {
                progress(position.byte() as f64 / body.len() as f64);
                next_report = position.byte() + REPORT_EVERY;
            }
            let row = Row {
                first: table.ends.len(),
                length: record.len(),
                line: lines + text::line(body.as_bytes(), position),
            };
            let before = cells.len();
            for cell in &record {
                cells.extend_from_slice(cell.trim_ascii());
                table.ends.push(cells.len() as u32);
            }
            // A line without anything is no row, nor is one without values; but whoever asks for predictions counts on one
            // for the latter, too.
            let is_before_names = |format: &TableFormat| table.rows.is_empty() && format.positions.is_none();
            if cells.len() == before && (row.length == 1 || header.format().is_none_or(is_before_names)) {
                table.ends.truncate(row.first);
            } else {
                table.rows.push(row);
            }
        }
        let not_text = |_| Error::format(file, "a separator stands within a character");
        table.cells = String::from_utf8(cells).map_err(not_text)?;
        let commented =
            last.map(|last| text::records(last, separator)).and_then(|mut reader| reader.byte_records().next()?.ok());
        table.take_names(header, commented.as_ref())?;
        let skipped = comments - usize::from(table.is_named_by(commented.as_ref())) + table.fit_rows(header)?;
        if skipped > 0 {
            let lines = if skipped == 1 { "1 line that starts".into() } else { format!("{skipped} lines that start") };
            notices.push(format!(
                "{lines} with # and {} no row: left out as a comment",
                if skipped == 1 { "is" } else { "are" }
            ));
        }
        if table.rows.is_empty() {
            return Err(Error::format(file, "no rows: a table is a line of column names and then rows"));
        }
        notices.append(&mut table.notices);
        table.notices = notices;
        Ok(table)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// A trimmed value.
    pub fn cell(&self, row: usize, column: usize) -> &str {
        let at = self.rows[row].first + column;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.cells[start..self.ends[at] as usize]
    }

    /// All values of a column.
    pub fn column(&self, column: usize) -> impl Iterator<Item = &str> {
        (0..self.len()).map(move |row| self.cell(row, column))
    }

    /// Line of a row in the file, from 1.
    pub fn line(&self, row: usize) -> u64 {
        self.rows[row].line
    }

    /// Index of the column `name`; `setting` is the setting that named it, for the error.
    pub fn find(&self, setting: &str, name: &str) -> Result<usize> {
        self.names.iter().position(|other| other == name && !name.is_empty()).ok_or_else(|| {
            let alike = self.names.iter().find(|other| other.eq_ignore_ascii_case(name) && !name.is_empty());
            let hint = match (alike, self.positions) {
                (Some(alike), _) => format!(": did you mean {alike}?"),
                (None, Some(_)) => "; without a line of names, columns are called by their places, from 1".into(),
                // With numbers among the names, the first line may be a row.
                (None, None) if self.names.iter().any(|name| forms::plain(name).is_some()) => {
                    format!(
                        "; if the first line holds no names but a row, say `no_header` and {setting} {}",
                        self.names.len()
                    )
                }
                (None, None) => String::new(),
            };
            let names = quoted_list(self.names.iter().filter(|name| !name.is_empty()), 40);
            Error::format(&self.file, format!("{setting} {name}: there is no such column; it has {names}{hint}"))
        })
    }

    /// Takes the names from the first row or from a comment before it, or names every column by its position.
    fn take_names(&mut self, header: Header<'_>, commented: Option<&ByteRecord>) -> Result<()> {
        let Some(&Row { length, .. }) = self.rows.first() else { return Ok(()) };
        if length > MAX_COLUMNS {
            return Err(Error::format(&self.file, format!("{length} columns, and {MAX_COLUMNS} are the limit")));
        }
        let first: Vec<&str> = (0..length).map(|column| self.cell(0, column)).collect();
        let numbers = first.iter().filter(|text| forms::plain(text).is_some()).count();
        let all_numbers = numbers > 0 && first.iter().all(|text| text.is_empty() || forms::plain(text).is_some());
        let of_comment = commented
            .filter(|comment| comment.len() == length && length > 1 && numbers > 0 && !comment.iter().any(is_number));
        let positions = match header {
            Header::Known(format) | Header::Part { format, .. } => format.positions.is_some(),
            Header::None => true,
            Header::Guess { .. } if of_comment.is_some() => false,
            Header::Guess { target } => {
                let is_place = target.parse().is_ok_and(|place: usize| (1..=length).contains(&place));
                all_numbers && !counts_up(&first) && (is_place || !first.contains(&target))
            }
        };
        if let (Some(names), false, false) = (of_comment, matches!(header, Header::None), positions) {
            self.names = names.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect();
        } else if !positions {
            // Years are common column names.
            let is_odd = |text: &&str| {
                forms::plain(text).is_some_and(|number| number.fract() != 0.0 || !(1000.0..3000.0).contains(&number))
            };
            let odd = quoted_list(first.iter().copied().filter(is_odd), 5);
            let is_said = matches!(header, Header::Guess { .. }) && !odd.is_empty() && !counts_up(&first);
            self.names = first.into_iter().map(String::from).collect();
            if is_said {
                let notice =
                    format!("the first line has numbers among its names, {odd}: if it is a row, say `no_header`");
                self.notices.push(notice);
            }
            self.rows.remove(0);
        } else {
            self.names = (1..=length).map(|place| place.to_string()).collect();
            if let Header::Guess { .. } = header {
                self.notices.push(
                    "the first line holds numbers alone, so it is taken for a row, as with `no_header`: columns are called \
                     by their places, from 1"
                        .into(),
                );
            }
            self.positions = Some(length);
        }
        if let Some(TableFormat { positions: Some(width), target, .. }) = header.format()
            && length + 1 == *width
            && let Ok(place) = target.parse::<usize>()
            && (1..=*width).contains(&place)
        {
            // A table for prediction may lack the target column.
            self.names = (1..=*width).filter(|&other| other != place).map(|place| place.to_string()).collect();
        }
        Ok(())
    }

    /// Returns true if the column names came from this comment.
    fn is_named_by(&self, comment: Option<&ByteRecord>) -> bool {
        comment.is_some_and(|comment| {
            self.positions.is_none()
                && comment.iter().map(<[u8]>::trim_ascii).eq(self.names.iter().map(String::as_bytes))
        })
    }

    /// Fits rows and header to one length: drops comments among the rows, adds an empty name for a column of row names,
    /// as R writes it, and drops last columns without name and values; any other difference is an error. Returns the
    /// number of comments.
    fn fit_rows(&mut self, header: Header<'_>) -> Result<usize> {
        let all = self.rows.len();
        let width = self.names.len();
        if width > 1 {
            let (cells, ends) = (&self.cells, &self.ends);
            let is_comment = |row: &Row| {
                let start = row.first.checked_sub(1).map_or(0, |before| ends[before] as usize);
                row.length != width && cells[start..].starts_with('#') && ends[row.first] as usize > start
            };
            self.rows.retain(|row| !is_comment(row));
        }
        let comments = all - self.rows.len();
        let is_all = |length: usize| !self.rows.is_empty() && self.rows.iter().all(|row| row.length == length);
        self.has_row_names = match header {
            Header::Part { has_row_names, .. } => has_row_names,
            // A single row may as well be too long.
            Header::Known(_) if self.len() == 1 => false,
            _ => is_all(width + 1) && !(0..self.len()).all(|row| self.is_empty_beyond(row, width)),
        };
        if self.has_row_names {
            self.names.insert(0, String::new()); // names of rows, as R writes them
        } else if width > 1 && self.names[width - 1].is_empty() && is_all(width - 1) {
            self.names.pop();
        }
        let width = self.names.len();
        let is_odd = |row: &usize| self.rows[*row].length < width || !self.is_empty_beyond(*row, width);
        let mut odd = (0..self.len()).filter(is_odd);
        if let Some(row) = odd.next() {
            let Row { length, line, .. } = self.rows[row];
            let values = if length == 1 { "value" } else { "values" };
            let names = if self.positions.is_some() { "the first line has" } else { "the header names" };
            let more = match odd.count() {
                0 => String::new(),
                more => format!(", and {more} more lines are of another length"),
            };
            return Err(Error::format(
                &self.file,
                format!("line {line}: {length} {values}, where {names} {width}{more}"),
            ));
        }
        // A separator at the end of every line does not make a column.
        while self.names.len() > 1
            && self.names.last().is_some_and(String::is_empty)
            && self.column(self.names.len() - 1).all(str::is_empty)
        {
            self.names.pop();
        }
        self.tell_apart();
        Ok(comments)
    }

    /// Returns true if a row has only empty values beyond the first `width`.
    fn is_empty_beyond(&self, row: usize, width: usize) -> bool {
        (width..self.rows[row].length).all(|column| self.cell(row, column).is_empty())
    }

    /// Renames columns of the same name as pandas does: `a`, `a.1`, `a.2`.
    fn tell_apart(&mut self) {
        let mut known = BTreeSet::new();
        let mut renamed = Vec::new();
        let mut counts: HashMap<String, usize> = HashMap::new();
        let given: BTreeSet<String> = self.names.iter().cloned().collect();
        for name in self.names.iter_mut().filter(|name| !name.is_empty()) {
            if !known.insert(name.clone()) {
                let given_name = name.clone();
                let count = counts.entry(name.clone()).or_default();
                *name = loop {
                    *count += 1;
                    let other = format!("{name}.{count}");
                    if !known.contains(&other) && !given.contains(&other) {
                        break other;
                    }
                };
                known.insert(name.clone());
                renamed.push((given_name, name.clone()));
            }
        }
        if !renamed.is_empty() {
            let again = renamed.iter().map(|(name, other)| format!("{name}, read as {other}"));
            self.notices.push(format!("names that an earlier column has: {}", joined(again, "; ", 5)));
        }
    }
}

/// Returns true if a record contains the column names that the table must have.
fn is_header(record: &ByteRecord, header: Header<'_>) -> bool {
    let has = |name: &str| record.iter().any(|other| other.trim_ascii() == name.as_bytes());
    match header {
        Header::Guess { target } => has(target),
        Header::None => false,
        Header::Known(format) | Header::Part { format, .. } => {
            format.positions.is_none() && !format.columns.is_empty() && {
                let mut names = BTreeSet::new();
                names.extend(record.iter().map(<[u8]>::trim_ascii));
                format.columns.iter().all(|column| names.contains(column.name.as_bytes()))
            }
        }
    }
}

fn is_number(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| forms::plain(name.trim()).is_some())
}

/// Returns true if names are 0, 1, 2, … or 1, 2, 3, …, as programs number unnamed columns; the first name may be empty.
fn counts_up(names: &[&str]) -> bool {
    let names = if names.first().is_some_and(|name| name.is_empty()) { &names[1..] } else { names };
    [0, 1]
        .iter()
        .any(|start| names.len() > 1 && names.iter().enumerate().all(|(at, name)| *name == (at + start).to_string()))
}
