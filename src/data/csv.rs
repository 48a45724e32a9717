//! Tables: CSV files with a header, and one column of them to learn.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ::csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use super::preprocessing::{Column, Encoding, Preprocessing, Scale, TableFormat, TargetEncoding, TestPart};
use super::{Data, Examples, MAX_CLASSES, Targets, choose_test, kind};
use crate::error::{Error, Result};

/// The most bytes of a table: 4 GiB.
const MAX_BYTES: u64 = 4 << 30;
/// The most categories of a column.
const MAX_CATEGORIES: usize = 256;
/// A target with so many different numbers, or fewer, is taken for classes.
const FEW_NUMBERS: usize = 20;

/// What is to be made of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableOptions {
    /// The column to learn.
    pub target: String,
    /// Whether that is a class or a number. Otherwise, more than 20 different values that are all numbers are numbers,
    /// and anything else is classes.
    pub task: Option<Task>,
    /// Columns of categories, though their values are numbers.
    pub categorical: Vec<String>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// The rows to test with: a share of them, or another CSV file that has the same columns.
    pub test: TestPart,
}

/// What is to be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Which class.
    Classification,
    /// A number.
    Regression,
}

/// Loads a CSV file: its first line names the columns; the seed decides which rows are for testing, if they are a share.
///
/// A column of numbers is numeric, and becomes a feature that is standardised by its mean and deviation in the training
/// part; any other is categorical, and becomes a feature for each text that the training part has there. One in which at
/// least half of the values are numbers, but not all, is refused.
///
/// # Errors
/// [`Error::Format`] with file, line and column of what cannot be used; [`Error::Invalid`] for columns that are not
/// there; [`Error::Io`].
pub fn load(path: &Path, options: &TableOptions, seed: u64) -> Result<Data> {
    read(&path.display().to_string(), BufReader::new(open(path)?), options, seed)
}

/// Opens a table to learn from: a regular file, that a run which goes on finds again.
fn open(path: &Path) -> Result<File> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    let problem = match metadata.len() {
        _ if metadata.is_dir() => "it is a folder, and a table is a file".to_string(),
        _ if !metadata.is_file() => "it is a pipe or a device: save the table as a file".to_string(),
        length if length > MAX_BYTES => format!("it has {length} bytes: the limit of a table is {MAX_BYTES}"),
        _ => return File::open(path).map_err(Error::io("read", path)),
    };
    Err(Error::format(path.display().to_string(), problem))
}

/// [`load`] from bytes; `file` is what errors call them.
///
/// # Errors
/// As of [`load`].
pub fn read(file: &str, input: impl Read, options: &TableOptions, seed: u64) -> Result<Data> {
    let table = Table::read(file, input)?;
    let chosen = table.choose(&options.test, seed)?;
    let format = table.format(options, &chosen)?;
    kind::data(file, table.examples(&format)?, Preprocessing::Table(format), seed)
}

/// Every row of a CSV file, as a model with this format reads them.
pub(super) fn examples(path: &Path, format: &TableFormat) -> Result<Examples> {
    Table::read(&path.display().to_string(), BufReader::new(open(path)?))?.examples(format)
}

/// The features of every row of a CSV file, `[rows, features]`, as a model with this format reads them, and the line of
/// each, from 1. Its target need not be there.
pub(super) fn inputs(file: &str, input: impl Read, format: &TableFormat) -> Result<(Vec<f32>, Vec<u64>)> {
    let table = Table::read(file, input)?;
    Ok((table.inputs(format)?, table.rows.iter().map(|row| row.line).collect()))
}

/// The lines of a file.
struct Table {
    file: String,
    header: StringRecord,
    rows: Vec<Row>,
}

struct Row {
    /// Where it starts, from 1.
    line: u64,
    fields: StringRecord,
}

impl Table {
    fn read(file: &str, mut input: impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(Error::io("read", file))?;
        if let Some(line) = open_quote(&bytes) {
            let problem =
                "a quote opens here that is never closed: close or remove it, or write it twice within quotes";
            return Err(Error::format(file, format!("line {line}: {problem}")));
        }
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(&bytes[..]);
        let header = reader.headers().map_err(|error| unreadable(file, &bytes, &error))?.clone();
        if header.len() == 1 && header[0].contains([';', '\t']) {
            let problem = "line 1: commas separate the columns of a table, and there is none: save it with commas";
            return Err(Error::format(file, problem));
        }
        let mut names = BTreeSet::new();
        for (index, name) in header.iter().enumerate() {
            if name.is_empty() || !names.insert(name) {
                let problem = if name.is_empty() { "has no name" } else { "has a name that is there twice" };
                return Err(Error::format(file, format!("line 1: column {} {problem}", index + 1)));
            }
        }
        let rows = reader
            .into_records()
            .map(|record| {
                let fields = record.map_err(|error| unreadable(file, &bytes, &error))?;
                Ok(Row { line: fields.position().map_or(0, |position| line(&bytes, position)), fields })
            })
            .collect::<Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Err(Error::format(file, "no rows: a table is a line of column names and then rows"));
        }
        Ok(Self { file: file.into(), header, rows })
    }

    /// Which rows are for testing.
    fn choose(&self, test: &TestPart, seed: u64) -> Result<Vec<bool>> {
        match test {
            TestPart::Share(share) => choose_test(&self.file, self.rows.len(), *share, seed),
            TestPart::Path(_) => Ok(vec![false; self.rows.len()]),
        }
    }

    /// The number of a column.
    fn column(&self, flag: &str, name: &str) -> Result<usize> {
        self.header.iter().position(|other| other == name).ok_or_else(|| {
            let names: Vec<&str> = self.header.iter().collect();
            Error::format(&self.file, format!("{flag} {name}: there is no such column; it has {}", names.join(", ")))
        })
    }

    /// What to make of the columns, by the rows that are not chosen for testing.
    fn format(&self, options: &TableOptions, chosen: &[bool]) -> Result<TableFormat> {
        let target = self.column("--target", &options.target)?;
        for (flag, names) in [("--categorical", &options.categorical), ("--ignore", &options.ignore)] {
            for name in names {
                if self.column(flag, name)? == target {
                    let problem = format!("{flag} {name}: that is the column to learn; take it out of {flag}");
                    return Err(Error::format(&self.file, problem));
                }
            }
        }
        let mut columns = Vec::new();
        for (column, name) in self.header.iter().enumerate() {
            if column == target || options.ignore.iter().any(|other| other == name) {
                continue;
            }
            let categorical = options.categorical.iter().any(|other| other == name);
            let encoding = if !categorical && self.is_numeric(column)? {
                Encoding::Standardised(self.scale(column, chosen)?)
            } else {
                let texts = self.texts(column, |row| !chosen[row])?;
                if texts.len() > MAX_CATEGORIES {
                    return Err(Error::format(
                        &self.file,
                        format!(
                            "column {name:?} has {} different texts, and {MAX_CATEGORIES} categories are the limit: \
                             leave it out with --ignore",
                            texts.len()
                        ),
                    ));
                }
                Encoding::OneHot(texts)
            };
            columns.push(Column { name: name.into(), encoding });
        }
        if columns.is_empty() {
            let problem = format!("no column is left to learn {:?} from", options.target);
            return Err(Error::format(&self.file, problem));
        }
        let encoding = self.target_encoding(target, options, chosen)?;
        let format = TableFormat { columns, target: options.target.clone(), encoding, test: options.test.clone() };
        Preprocessing::Table(format.clone()).check().map_err(|error| Error::format(&self.file, error.to_string()))?;
        Ok(format)
    }

    /// Whether its values are numbers. Numbers and other texts, where they are not fewer, are a mistake.
    fn is_numeric(&self, column: usize) -> Result<bool> {
        let odd = |row: &&Row| number(&row.fields[column]).is_none();
        let (rows, odds) = (self.rows.len(), self.rows.iter().filter(odd).count());
        match self.rows.iter().find(odd) {
            None => Ok(true),
            Some(_) if 2 * odds > rows => Ok(false),
            Some(row) => {
                let (text, name) = (self.text(row, column)?, &self.header[column]);
                let problem = format!(
                    "{text:?} is no number, and {} of {rows} values of this column are: mend it or remove the row, or \
                     take them for categories with --categorical {name}, or leave the column out with --ignore {name}",
                    rows - odds
                );
                Err(self.error(row, column, problem))
            }
        }
    }

    fn target_encoding(&self, target: usize, options: &TableOptions, chosen: &[bool]) -> Result<TargetEncoding> {
        let mut texts = self.texts(target, |_| true)?;
        let numbers = texts.iter().all(|text| number(text).is_some());
        let task = match options.task {
            Some(task) => task,
            None if numbers && texts.len() > FEW_NUMBERS => Task::Regression,
            None => Task::Classification,
        };
        if task == Task::Regression {
            return Ok(TargetEncoding::Standardised(self.scale(target, chosen)?));
        }
        let problem =
            |problem: String| Err(Error::format(&self.file, format!("column {:?} {problem}", options.target)));
        match texts.len() {
            1 => return problem(format!("has one class only, {:?}: there is nothing to tell apart", texts[0])),
            2..=MAX_CLASSES => {}
            count => return problem(format!("has {count} classes, and {MAX_CLASSES} are the limit")),
        }
        if numbers {
            let value = |text: &String| number(text).unwrap_or(f64::NAN);
            texts.sort_by(|a, b| value(a).total_cmp(&value(b)));
        }
        Ok(TargetEncoding::Classes(texts))
    }

    /// Mean and deviation of a column in the rows that are not chosen. Every row must have a number there.
    fn scale(&self, column: usize, chosen: &[bool]) -> Result<Scale> {
        let mut numbers = Vec::new();
        for (row, chosen) in self.rows.iter().zip(chosen) {
            let number = self.number(row, column)?;
            if !chosen {
                numbers.push(number);
            }
        }
        Scale::of(&numbers).ok_or_else(|| {
            Error::format(&self.file, format!("column {:?} has numbers that are too far apart", &self.header[column]))
        })
    }

    /// The different texts of a column in some rows, sorted. Every row must have one there.
    fn texts(&self, column: usize, wanted: impl Fn(usize) -> bool) -> Result<Vec<String>> {
        let mut texts = BTreeSet::new();
        for (index, row) in self.rows.iter().enumerate() {
            let text = self.text(row, column)?;
            if wanted(index) {
                texts.insert(text);
            }
        }
        Ok(texts.into_iter().map(String::from).collect())
    }

    fn text<'a>(&self, row: &'a Row, column: usize) -> Result<&'a str> {
        match &row.fields[column] {
            "" => Err(self.error(row, column, "the value is missing: fill it in, or remove the row".into())),
            text => Ok(text),
        }
    }

    fn number(&self, row: &Row, column: usize) -> Result<f64> {
        let text = self.text(row, column)?;
        number(text).ok_or_else(|| {
            self.error(row, column, format!("{text:?} is no number, and this column is read as numbers: mend it"))
        })
    }

    fn standardised(&self, row: &Row, column: usize, scale: Scale) -> Result<f32> {
        let value = scale.apply(self.number(row, column)?);
        if value.is_finite() {
            return Ok(value);
        }
        let Scale { mean, deviation } = scale;
        let text = &row.fields[column];
        let problem = format!(
            "{text} is too far from the training rows, of mean {mean:.3e} and deviation {deviation:.3e}: mend it or remove \
             the row"
        );
        Err(self.error(row, column, problem))
    }

    fn error(&self, row: &Row, column: usize, problem: String) -> Error {
        let Row { line, .. } = row;
        Error::format(&self.file, format!("line {line}, column {:?}: {problem}", &self.header[column]))
    }

    /// The features of every row, `[rows, features]`.
    fn inputs(&self, format: &TableFormat) -> Result<Vec<f32>> {
        let columns = format
            .columns
            .iter()
            .map(|column| Ok((self.column("column", &column.name)?, &column.encoding)))
            .collect::<Result<Vec<_>>>()?;
        let mut inputs: Vec<f32> = Vec::with_capacity(self.rows.len() * format.features());
        for row in &self.rows {
            for &(column, encoding) in &columns {
                match encoding {
                    Encoding::Standardised(scale) => inputs.push(self.standardised(row, column, *scale)?),
                    Encoding::OneHot(texts) => {
                        let text = self.text(row, column)?;
                        inputs.extend(texts.iter().map(|other| f32::from(u8::from(other == text))));
                    }
                }
            }
        }
        Ok(inputs)
    }

    /// Every row as an example.
    fn examples(&self, format: &TableFormat) -> Result<Examples> {
        let target = self.column("--target", &format.target)?;
        let inputs = self.inputs(format)?;
        let targets = match &format.encoding {
            TargetEncoding::Classes(names) => {
                let class = |row: &Row| {
                    let text = self.text(row, target)?;
                    let class = names.iter().position(|name| name == text).ok_or_else(|| {
                        self.error(row, target, format!("{text:?} is none of the classes {}", names.join(", ")))
                    })?;
                    Ok(class as u32)
                };
                Targets::Classes(self.rows.iter().map(class).collect::<Result<_>>()?)
            }
            TargetEncoding::Standardised(scale) => {
                let value = |row: &Row| self.standardised(row, target, *scale);
                Targets::Values(self.rows.iter().map(value).collect::<Result<_>>()?)
            }
        };
        Examples::new(inputs, targets, format.features(), format.outputs())
            .map_err(|error| Error::format(&self.file, error.to_string()))
    }
}

/// A finite number.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The line of a quote that is never closed, which would take all that follows for one value. As the `csv` crate reads
/// them, quotes count at the start of a value, and two of them stand for one within.
fn open_quote(bytes: &[u8]) -> Option<u64> {
    enum State {
        Start,
        Within,
        Quoted(u64),
        /// Behind a quote that ends the value, if it is not the first of two.
        Closed(u64),
    }
    use State::{Closed, Quoted, Start, Within};
    let (mut line, mut state) = (1, Start);
    for byte in bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) {
        line += u64::from(*byte == b'\n');
        state = match (state, byte) {
            (Start, b'"') => Quoted(line),
            (Quoted(line), b'"') => Closed(line),
            (Closed(line), b'"') | (Quoted(line), _) => Quoted(line),
            (_, b',' | b'\r' | b'\n') => Start,
            _ => Within,
        };
    }
    match state {
        Quoted(line) => Some(line),
        Start | Within | Closed(_) => None,
    }
}

/// Where a row starts: a position is before the empty lines that are skipped.
fn line(bytes: &[u8], position: &::csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|&&byte| byte == b'\n');
    position.line() + skipped.count() as u64
}

fn unreadable(file: &str, bytes: &[u8], error: &::csv::Error) -> Error {
    let problem = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} {}, where the header names {expected_len}", if *len == 1 { "value" } else { "values" })
        }
        ErrorKind::Utf8 { .. } => "not UTF-8 text".into(),
        _ => error.to_string(),
    };
    let place = error.position().map(|position| format!("line {}: ", line(bytes, position)));
    Error::format(file, place.unwrap_or_default() + &problem)
}
