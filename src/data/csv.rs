//! Tables: delimited text files with one column as the target.

mod cells;
mod columns;
mod forms;
mod text;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use self::cells::{Header, Table};
use self::columns::{Scan, Texts, Values};
pub use self::forms::gap_texts;
use self::forms::{is_gap, is_number_gap};
pub use self::text::binary_kind;
pub(super) use self::text::lines_before_header;
use super::files::{self, File};
use super::preprocessing::{
    Column, Encoding, Form, Missing, Preprocessing, Scale, TableFormat, TargetEncoding, TestPart,
};
use super::{Data, Examples, Listed, MAX_CLASSES, Origin, Targets, choose_test};
use crate::error::{Error, Result};
use crate::parallel::*;

/// Upper limit of the size of a table: 4 GiB.
const MAX_BYTES: u64 = 4 << 30;
/// Upper limit of the categories of a column.
const MAX_CATEGORIES: usize = 256;
/// Largest number of different whole numbers in a target that is taken for classes.
const FEW_NUMBERS: usize = 20;
/// Number of rows from which a column of texts is left out if nearly every text is different.
const MANY_ROWS: usize = 20;
/// Number of rows from which a column of numbers that count up is taken for an index.
const INDEX_ROWS: usize = 10;
/// Largest number of different texts among numbers that are taken for mistakes or unknown markers of missing values.
const FEW_MISTAKES: usize = 5;

/// Options for loading a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOptions {
    /// Name of the target column.
    pub target: String,
    /// The task; `None` chooses it by the target. Numbers with decimals, dates, and whole numbers with more than 20
    /// different values, or with many for the number of rows, are learned by regression, anything else as classes.
    pub task: Option<Task>,
    /// Columns to treat as categories although their values are numbers. As in the two lists below, a name that no
    /// column has may be a comma-separated list of names.
    pub categorical: Vec<String>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// Columns to use although they look like an index, or nearly every row has a different text.
    pub used: Vec<String>,
    /// Handling of missing values.
    pub missing: Missing,
    /// True if the table has no header: the first line is a row, and columns are named by their positions, from 1. A
    /// first line of numbers alone is taken for a row in any case, unless the numbers count up.
    pub no_header: bool,
    /// The test part: a share of the rows, or another file with the same columns.
    pub test: TestPart,
}

/// The kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Classification: the target is a class.
    Classification,
    /// Regression: the target is a number.
    Regression,
}

/// A loaded table whose statistics can be recomputed from fewer rows: [`Data::refit`].
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Loaded {
    rows: Rows,
    /// Rows of a separate test file.
    test: Option<Rows>,
    /// True for each row of the test part, if there is no such file.
    chosen: Vec<bool>,
    /// The columns with their number formats; the encodings hold the statistics of an earlier fit, if any.
    format: TableFormat,
    /// Notices that do not depend on the split.
    notices: Vec<String>,
}

/// The rows of a table, column by column.
#[derive(Clone, Debug)]
struct Rows {
    file: String,
    /// The line of each row in the file, from 1.
    lines: Vec<u64>,
    /// The feature columns, in their order.
    values: Vec<Values>,
    target: Values,
}

/// Loads a table. The seed chooses the test rows if the test part is a share.
///
/// The file may be gzipped, in UTF-8, UTF-16 or Latin-1, with values separated by commas, semicolons, tabs or bars. Its
/// first line names the columns, or is a row if it holds numbers alone. A column of numbers, dates or booleans becomes
/// a feature that is standardised by its mean and deviation in the training part; any other column is categorical and
/// becomes one feature for each text in the training part. Columns without a name, columns that count up, and columns
/// with a different text in nearly every row are left out. A column in which at least half of the values are numbers,
/// and the others are rare or of few different texts, is refused. The [notices](Data::notices) report these decisions.
///
/// # Errors
/// [`Error::Format`] with file, line and column of what cannot be used; [`Error::Invalid`] for unknown columns;
/// [`Error::Io`].
pub fn load(path: &Path, options: &TableOptions, seed: u64) -> Result<Data> {
    load_with(path, options, seed, &mut |_| {})
}

/// Loads a table as [`load`] does and reports the completed share of the work, in 0..1.
///
/// # Errors
/// The errors of [`load`].
pub fn load_with(path: &Path, options: &TableOptions, seed: u64, progress: &mut dyn FnMut(f64)) -> Result<Data> {
    read_with(&path.display().to_string(), &mut BufReader::new(open(path)?), options, seed, progress)
}

/// Opens a table for training: a regular file, which a resumed run can read again.
fn open(path: &Path) -> Result<impl Read> {
    let metadata = files::metadata(path).map_err(Error::io("read", path))?;
    let problem = match metadata.len() {
        _ if metadata.is_dir() => "it is a folder, and a table is a file".to_string(),
        _ if !metadata.is_file() => "it is a pipe or a device: save the table as a file".to_string(),
        length if length > MAX_BYTES => format!("it has {length} bytes: the limit of a table is {MAX_BYTES}"),
        _ => return File::open(path).map_err(Error::io("read", path)),
    };
    Err(Error::format(path.display().to_string(), problem))
}

/// Reads a table from bytes as [`load`] does; `file` is the name in error messages.
///
/// # Errors
/// The errors of [`load`].
pub fn read(file: &str, mut input: impl Read, options: &TableOptions, seed: u64) -> Result<Data> {
    read_with(file, &mut input, options, seed, &mut |_| {})
}

fn read_with(
    file: &str,
    input: &mut dyn Read,
    options: &TableOptions,
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Result<Data> {
    let header = if options.no_header { Header::None } else { Header::Guess { target: &options.target } };
    let mut table = Table::read(file, input, header, &mut |share| progress(0.5 * share))?;
    let notices = std::mem::take(&mut table.notices);
    let (mut loaded, rule) = Plan { table: &table, options, notices }.load(&mut |share| progress(0.5 + 0.5 * share))?;
    drop(table);
    let classes = match &loaded.rows.target {
        Values::Texts { codes, .. } => Some(codes.as_slice()),
        Values::Numbers(_) => None,
    };
    if let Some(chosen) = choose_test(file, &options.test, classes, loaded.rows.lines.len(), seed)? {
        loaded.chosen = chosen;
    }
    let training: Vec<bool> = loaded.chosen.iter().map(|chosen| !chosen).collect();
    loaded.format = loaded.fit(&training)?;
    if let TestPart::Path(path) = &options.test {
        let (rows, notices) = rows_of_file(Path::new(path), &loaded.format)?;
        loaded.notices.extend(notices.into_iter().map(|notice| format!("{path}: {notice}")));
        loaded.test = Some(rows);
    }
    let (train, test, notices) = loaded.examples(&loaded.format)?;
    let preprocessing = Preprocessing::Table(loaded.format.clone());
    train.check_learnable(preprocessing.class_names()).map_err(|problem| Error::format(file, problem))?;
    Ok(Data {
        name: file.into(),
        train,
        test,
        preprocessing: Some(preprocessing),
        image: None,
        notices,
        target_rule: Some(rule),
        test_origins: loaded.test_origins(),
        loaded: Some(super::Loaded::Table(Arc::new(loaded))),
    })
}

/// Reads every row of a table with the format of a model.
pub(super) fn examples(path: &Path, format: &TableFormat) -> Result<Listed> {
    let (rows, mut notices) = rows_of_file(path, format)?;
    let all = vec![true; rows.lines.len()];
    notices.extend(rows.unseen(format, &all, "rows"));
    Ok(Listed { examples: rows.examples(format)?, origins: rows.origins(&all), notices })
}

fn rows_of_file(path: &Path, format: &TableFormat) -> Result<(Rows, Vec<String>)> {
    let table =
        Table::read(&path.display().to_string(), &mut BufReader::new(open(path)?), Header::Known(format), &mut |_| {})?;
    Again { table: &table, format }.rows(true)
}

/// The features of a table for prediction; the table may lack the target.
pub(super) struct Inputs {
    /// The features of every row, `[rows, features]`.
    pub features: Vec<f32>,
    /// The line of each row, from 1.
    pub lines: Vec<u64>,
    /// Notices for the user.
    pub notices: Vec<String>,
}

/// Reads a table for prediction with the format of a model.
pub(super) fn inputs(file: &str, input: impl Read, format: &TableFormat) -> Result<Inputs> {
    inputs_of(file, input, Header::Known(format), format)
}

/// Reads some rows of a table, of all of which it is known whether they begin with a name.
pub(super) fn inputs_of_part(
    file: &str,
    input: impl Read,
    format: &TableFormat,
    has_row_names: bool,
) -> Result<Inputs> {
    inputs_of(file, input, Header::Part { format, has_row_names }, format)
}

/// Returns true if every row of a table begins with a name, for which the header has none.
pub(super) fn has_row_names(file: &str, mut input: impl Read, format: &TableFormat) -> bool {
    Table::read(file, &mut input, Header::Known(format), &mut |_| {}).is_ok_and(|table| table.has_row_names)
}

fn inputs_of(file: &str, mut input: impl Read, header: Header<'_>, format: &TableFormat) -> Result<Inputs> {
    let table = Table::read(file, &mut input, header, &mut |_| {})?;
    let (rows, mut notices) = Again { table: &table, format }.rows(false)?;
    let all = vec![true; rows.lines.len()];
    notices.extend(rows.unseen(format, &all, "rows"));
    let features = rows.features(format)?;
    Ok(Inputs { features, lines: rows.lines, notices })
}

impl Loaded {
    /// Recomputes means, deviations and categories from the rows that remain in the training part after
    /// [`Examples::split`] has held out the share `validation`; returns training part, test part, format and notices.
    pub(super) fn refit(&self, validation: f64, seed: u64) -> Result<(Examples, Examples, TableFormat, Vec<String>)> {
        let rows = super::training_rows(&self.chosen, validation, seed);
        let format = self.fit(&rows)?;
        let (train, test, notices) = self.examples(&format)?;
        Ok((train, test, format, notices))
    }

    /// Origins of the test part's rows.
    fn test_origins(&self) -> Vec<Origin> {
        match &self.test {
            Some(rows) => rows.origins(&vec![true; rows.lines.len()]),
            None => self.rows.origins(&self.chosen),
        }
    }

    /// Computes the format with the statistics of the chosen rows.
    fn fit(&self, rows: &[bool]) -> Result<TableFormat> {
        let mut format = self.format.clone();
        let encodings: Vec<_> =
            self.rows.values.par_iter().map(|values| values.encoding(rows, MAX_CATEGORIES)).collect();
        let mut refused = Refused::default();
        for (column, encoding) in format.columns.iter_mut().zip(encodings) {
            match encoding {
                Some((encoding, marks_gaps)) => (column.encoding, column.marks_gaps) = (encoding, marks_gaps),
                None => {
                    refused.ignore(&column.name, format!("column {:?} has numbers that are too far apart", column.name))
                }
            }
        }
        if let (TargetEncoding::Standardised(scale), Values::Numbers(numbers)) =
            (&mut format.encoding, &self.rows.target)
        {
            let numbers: Vec<f64> =
                rows.iter().zip(numbers).filter(|(used, _)| **used).map(|(_, number)| *number).collect();
            match Scale::of(&numbers) {
                Some(of_rows) => *scale = of_rows,
                None => refused.problems.push(format!("column {:?} has numbers that are too far apart", format.target)),
            }
        }
        refused.check(&self.rows.file)?;
        Preprocessing::Table(format.clone())
            .check()
            .map_err(|error| Error::format(&self.rows.file, error.to_string()))?;
        Ok(format)
    }

    /// Builds the training part, the test part and the notices.
    fn examples(&self, format: &TableFormat) -> Result<(Examples, Examples, Vec<String>)> {
        let mut train = self.rows.examples(format)?;
        let (test, unseen) = match &self.test {
            Some(rows) => (rows.examples(format)?, rows.unseen(format, &vec![true; rows.lines.len()], "test rows")),
            None => (train.take(&self.chosen), self.rows.unseen(format, &self.chosen, "test rows")),
        };
        Ok((train, test, self.notices.iter().cloned().chain(unseen).collect()))
    }
}

impl Rows {
    /// Origins of the chosen rows.
    fn origins(&self, chosen: &[bool]) -> Vec<Origin> {
        let file: Arc<str> = self.file.as_str().into();
        let lines = self.lines.iter().zip(chosen).filter(|(_, chosen)| **chosen);
        lines.map(|(&line, _)| Origin::Line(file.clone(), line)).collect()
    }

    /// The features of every row, `[rows, features]`.
    fn features(&self, format: &TableFormat) -> Result<Vec<f32>> {
        let features = columns::features(&format.columns, &self.values, self.lines.len());
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            let width = format.features();
            let (row, mut feature) = (at / width, at % width);
            for (column, values) in format.columns.iter().zip(&self.values) {
                match (&column.encoding, values, feature.checked_sub(column.features())) {
                    (_, _, Some(rest)) => feature = rest,
                    (Encoding::Standardised(scale), Values::Numbers(numbers), None) => {
                        return Err(self.too_far(row, &column.name, numbers[row], *scale));
                    }
                    _ => break,
                }
            }
        }
        Ok(features)
    }

    /// Builds an example of every row.
    fn examples(&self, format: &TableFormat) -> Result<Examples> {
        let features = self.features(format)?;
        let targets = match (&format.encoding, &self.target) {
            (TargetEncoding::Standardised(scale), Values::Numbers(numbers)) => {
                let value = |(row, &number): (usize, &f64)| match scale.apply(number) {
                    value if value.is_finite() => Ok(value),
                    _ => Err(self.too_far(row, &format.target, number, *scale)),
                };
                Targets::Values(numbers.iter().enumerate().map(value).collect::<Result<_>>()?)
            }
            (_, Values::Texts { codes, .. }) => Targets::Classes(codes.clone()),
            (TargetEncoding::Classes(_), Values::Numbers(_)) => unreachable!("classes are read as such"),
        };
        Examples::new(features, targets, format.features(), format.outputs())
            .map_err(|error| Error::format(&self.file, error.to_string()))
    }

    fn too_far(&self, row: usize, column: &str, number: f64, scale: Scale) -> Error {
        let problem = format!("line {}, column {column:?}: {}", self.lines[row], scale.too_far(number));
        Error::format(&self.file, problem)
    }

    /// Notices about texts and missing values in some rows that the training rows do not have.
    fn unseen(&self, format: &TableFormat, rows: &[bool], called: &str) -> Vec<String> {
        let count = |is_odd: &dyn Fn(usize) -> bool| (0..rows.len()).filter(|&row| rows[row] && is_odd(row)).count();
        let (mut texts_of, mut rare_of, mut gaps_of) = (Vec::new(), Vec::new(), Vec::new());
        for (column, values) in format.columns.iter().zip(&self.values) {
            let name = &column.name;
            let (odd, gaps) = match (&column.encoding, values) {
                (Encoding::Standardised(_), Values::Numbers(_)) if column.marks_gaps => (0, 0),
                (Encoding::OneHot(known), Values::Texts { codes, texts }) => {
                    let places = columns::places(known, texts);
                    let is_unknown = |row: usize| places[codes[row] as usize].is_none();
                    let gaps = count(&|row| is_unknown(row) && values.is_gap(row));
                    (count(&is_unknown) - gaps, gaps)
                }
                _ => (0, count(&|row| values.is_gap(row))),
            };
            if odd > 0 {
                // A column with the most categories that there may be has, or had, other texts in training.
                let is_full = matches!(&column.encoding, Encoding::OneHot(known) if known.len() >= MAX_CATEGORIES);
                if is_full { &mut rare_of } else { &mut texts_of }.push(format!("{name} ({odd})"));
            }
            if gaps > 0 {
                gaps_of.push(format!("{name} ({gaps})"));
            }
        }
        let total = rows.iter().filter(|row| **row).count();
        let mut notices = Vec::new();
        if !texts_of.is_empty() {
            notices.push(format!(
                "of {total} {called}, some have texts that the training rows do not have, which belong to no category: {}",
                quoted_list(&texts_of, 10)
            ));
        }
        if !rare_of.is_empty() {
            notices.push(format!(
                "of {total} {called}, some have texts that are not among the {MAX_CATEGORIES} most frequent of the training \
                 rows, and belong to no category: {}",
                quoted_list(&rare_of, 10)
            ));
        }
        if !gaps_of.is_empty() {
            notices.push(format!(
                "of {total} {called}, some have missing values in columns that had none in training; the mean replaces \
                 numbers, texts get no category: {}",
                quoted_list(&gaps_of, 10)
            ));
        }
        notices
    }

    /// Keeps the marked rows and drops the others.
    fn keep(&mut self, kept: &[bool]) {
        let mut rows = kept.iter();
        self.lines.retain(|_| rows.next() == Some(&true));
        self.values.par_iter_mut().for_each(|values| values.keep(kept));
        self.target.keep(kept);
    }

    /// Handles rows with missing values as `missing` says; returns a notice about them.
    fn without_gaps(&mut self, names: &[&str], missing: Missing) -> Result<Option<String>> {
        let gaps: Vec<(usize, usize)> = self
            .values
            .par_iter()
            .map(|values| {
                let mut gaps = (0..self.lines.len()).filter(|&row| values.is_gap(row));
                gaps.next().map_or((0, 0), |first| (1 + gaps.count(), first))
            })
            .collect();
        let with_gaps = names.iter().zip(&gaps).filter(|(_, (count, _))| *count > 0);
        let list = |listed: Vec<String>| quoted_list(&listed, 10);
        match missing {
            _ if gaps.iter().all(|(count, _)| *count == 0) => Ok(None),
            Missing::Fill => {
                let columns = list(with_gaps.map(|(name, (count, _))| format!("{name} ({count})")).collect());
                Ok(Some(format!(
                    "missing values in {columns}: the mean of the training rows takes their place, and a feature says so; \
                     of texts they are a category of their own (`missing` drop or refuse changes that)"
                )))
            }
            Missing::Drop => {
                let kept: Vec<bool> =
                    (0..self.lines.len()).map(|row| !self.values.iter().any(|values| values.is_gap(row))).collect();
                let dropped = kept.iter().filter(|kept| !**kept).count();
                let columns = list(with_gaps.map(|(name, (count, _))| format!("{name} ({count})")).collect());
                let problem = format!("{dropped} of {} rows have missing values in {columns}", kept.len());
                if dropped == kept.len() {
                    let problem = format!("{problem}: none is left; fill them with `missing` fill");
                    return Err(Error::format(&self.file, problem));
                }
                self.keep(&kept);
                Ok(Some(format!("{problem}: left out, as `missing` drop says")))
            }
            Missing::Refuse => {
                let columns = with_gaps.map(|(name, (count, first))| {
                    format!("{name} ({count}, the first in line {})", self.lines[*first])
                });
                let problem = format!(
                    "missing values in {}, and `missing` refuse: fill them in, or say `missing` fill or `missing` drop",
                    list(columns.collect())
                );
                Err(Error::format(&self.file, problem))
            }
        }
    }
}

/// Problems for which a table is refused, with the columns that settings could exempt.
#[derive(Default)]
struct Refused {
    problems: Vec<String>,
    categorical: Vec<String>,
    ignored: Vec<String>,
}

impl Refused {
    fn ignore(&mut self, column: &str, problem: String) {
        self.problems.push(problem);
        self.ignored.push(column.into());
    }

    fn check(self, file: &str) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let settings: Vec<String> = [("`categorical`", &self.categorical), ("`ignore`", &self.ignored)]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(setting, names)| setting_values(setting, names))
            .collect();
        let way_out = if settings.is_empty() {
            String::new()
        } else {
            format!(". Correct them, or pass with: {}", settings.join(" "))
        };
        // The settings must not be truncated, or they are of no use.
        let shown = crate::error::printable(&joined(&self.problems, "; ", 8), 1000);
        let problem = shown + &crate::error::printable(&way_out, 3000);
        Err(Error::Format { file: file.into(), problem })
    }
}

/// Formats a setting with names of columns for a shell; names without commas share one list.
fn setting_values(setting: &str, names: &[String]) -> String {
    let (alone, listed): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.contains(','));
    let listed: Vec<&str> = listed.into_iter().map(String::as_str).collect();
    let values =
        Some(listed.join(",")).filter(|listed| !listed.is_empty()).into_iter().chain(alone.into_iter().cloned());
    let quoted = |value: String| {
        let plain = |character: char| character.is_alphanumeric() || "-_./,:+@".contains(character);
        let between = if value.starts_with('-') { '=' } else { ' ' };
        match value.chars().all(plain) {
            true => format!("{setting}{between}{value}"),
            false => format!("{setting}{between}'{}'", value.replace('\'', "'\\''")),
        }
    };
    values.map(quoted).collect::<Vec<_>>().join(" ")
}

/// Joins texts with commas, and counts those beyond `most`.
fn quoted_list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, most: usize) -> String {
    joined(texts, ", ", most)
}

/// Joins texts with a separator, and counts those beyond `most`.
fn joined<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, between: &str, most: usize) -> String {
    let mut texts = texts.into_iter();
    let mut list = texts.by_ref().take(most).map(|text| text.as_ref().to_string()).collect::<Vec<_>>().join(between);
    match texts.count() {
        0 => {}
        more => list += &format!(" and {more} more"),
    }
    list
}

/// Loading of a table for training.
struct Plan<'a> {
    table: &'a Table,
    options: &'a TableOptions,
    notices: Vec<String>,
}

/// The detected kind of a column.
enum Choice {
    /// Plain numbers, as programs write them.
    Numbers(Vec<f64>),
    /// Numbers, dates or booleans in one of these formats.
    Dressed(Vec<Form>, Texts),
    Categories(Texts),
    /// Numbers, and other texts that are mistakes.
    Odd(Form, Texts),
    /// A column without values.
    Empty,
    /// Whole numbers that count up, one for each row.
    Index(Vec<f64>),
    /// A different text in nearly every row.
    Unique,
}

/// The target: its encoding, values and the rule that chose them.
struct Aim {
    encoding: TargetEncoding,
    form: Form,
    /// True if numbers have thousands separators.
    thousands: bool,
    values: Values,
    /// Reason why the target is classes or numbers, with the setting that changes it.
    rule: String,
}

/// The feature columns: their formats and values.
struct Features {
    columns: Vec<Column>,
    values: Vec<Values>,
    /// True if the table has decimal commas.
    comma: bool,
    /// Names of the columns whose numbers have thousands separators.
    thousands: Vec<String>,
}

/// Columns of a table that need a notice, by their names.
#[derive(Default)]
struct ColumnNotes {
    /// Columns without values.
    empty: Vec<String>,
    /// Columns that count up like an index.
    indices: Vec<String>,
    /// Columns with another text in nearly every row.
    unique: Vec<String>,
    /// Columns with too many different texts, and their number.
    many: Vec<String>,
    /// Ways in which numbers were read from texts, with the columns.
    formed: Vec<(&'static str, Vec<String>)>,
}

impl ColumnNotes {
    /// Notes that the numbers of a column were read in this way.
    fn add_formed(&mut self, reading: &'static str, name: &str) {
        match self.formed.iter_mut().find(|(other, _)| *other == reading) {
            Some((_, names)) => names.push(name.to_owned()),
            None => self.formed.push((reading, vec![name.to_owned()])),
        }
    }

    /// Formats the notices.
    fn notices(self) -> Vec<String> {
        let Self { empty, indices, unique, many, formed } = self;
        let formed = formed.into_iter().filter(|(reading, _)| !reading.is_empty()).map(|(reading, names)| {
            format!("read as {reading}: {} (`categorical` takes such values for texts)", quoted_list(names, 10))
        });
        let use_them = |names: &[String]| setting_values("`used`", &names[..names.len().min(10)]);
        let (of_indices, of_unique) = (use_them(&indices), use_them(&unique));
        let left_out = [
            (empty, "there is no value".to_owned()),
            (indices, format!("it counts up like an index ({of_indices} would use it)")),
            (unique, format!("nearly every row has a text of its own there ({of_unique} would use it)")),
        ];
        let left_out = left_out.into_iter().filter(|(names, _)| !names.is_empty());
        let left_out = left_out.map(|(names, why)| format!("left out, as {why}: {}", quoted_list(&names, 10)));
        let many = (!many.is_empty()).then(|| {
            format!(
                "more than {MAX_CATEGORIES} different texts, of which the most frequent become features: {}",
                quoted_list(many, 10)
            )
        });
        formed.chain(left_out).chain(many).collect()
    }
}

/// Describes how a column of texts that may be of several `forms` was read as numbers of one; empty for booleans.
fn reading_of(form: Form, forms: &[Form]) -> &'static str {
    let both = forms.contains(&Form::DayMonthYear) && forms.contains(&Form::MonthDayYear);
    match form {
        Form::Number => "numbers in spite of thousands separators, currencies or %",
        Form::DecimalComma => "numbers with a decimal comma",
        Form::Boolean => "",
        Form::MonthDayYear if both => "days: the month first, as no date tells otherwise",
        Form::DayMonthYear if both && !forms.contains(&Form::YearMonthDay) => {
            "days: the day first, as no date tells otherwise"
        }
        _ => "days since 1970-01-01",
    }
}

impl Plan<'_> {
    /// Reads the rows, without statistics; also returns the rule that made the target classes or numbers.
    fn load(mut self, progress: &mut dyn FnMut(f64)) -> Result<(Loaded, String)> {
        let Self { table, options, .. } = self;
        let target = table.find("`target`", &options.target)?;
        let categorical = self.resolve("`categorical`", &options.categorical, target)?;
        let ignored = self.resolve("`ignore`", &options.ignore, target)?;
        let used = self.resolve("`used`", &options.used, target)?;
        let candidates: Vec<usize> = (0..table.names.len())
            .filter(|column| *column != target && !ignored.contains(column) && !table.names[*column].is_empty())
            .collect();
        let nameless: Vec<String> = (0..table.names.len())
            .filter(|&column| column != target && table.names[column].is_empty())
            .map(|column| (column + 1).to_string())
            .collect();
        if !nameless.is_empty() {
            self.notices.push(format!(
                "column {} {} no name, as the index that pandas and R write: left out (name it to use it)",
                quoted_list(&nameless, 5),
                if nameless.len() == 1 { "has" } else { "have" }
            ));
        }
        let scans = columns::scan(table, &candidates, progress);
        let choices: Vec<(usize, Choice)> = candidates
            .into_par_iter()
            .zip(scans)
            .map(|(column, scan)| {
                (column, choose_kind(table, column, scan, categorical.contains(&column), used.contains(&column)))
            })
            .collect();
        let Features { columns, values, comma, mut thousands } = self.columns(choices)?;
        let aim = self.aim(target, comma)?;
        thousands.extend(aim.thousands.then(|| options.target.clone()));

        let lines = (0..table.len()).map(|row| table.line(row)).collect();
        let mut rows = Rows { file: table.file.clone(), lines, values, target: aim.values };
        let has_target: Vec<bool> = (0..table.len()).map(|row| !rows.target.is_gap(row)).collect();
        if let Some(first) = has_target.iter().position(|has| !has) {
            let missing = has_target.iter().filter(|has| !**has).count();
            if missing == has_target.len() {
                let problem = format!("column {:?} has no value: there is nothing to learn", options.target);
                return Err(Error::format(&table.file, problem));
            }
            let gaps = gaps_of(table, target, &has_target);
            self.notices.push(without_target(missing, table.len(), &options.target, rows.lines[first], &gaps));
            rows.keep(&has_target);
        }
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        self.notices.extend(rows.without_gaps(&names, options.missing)?);
        let mut encoding = aim.encoding;
        if let (TargetEncoding::Classes(names), Values::Texts { codes, .. }) = (&mut encoding, &mut rows.target) {
            self.check_classes(names, codes)?;
        }
        let format = TableFormat {
            columns,
            target: options.target.clone(),
            encoding,
            test: options.test.clone(),
            form: aim.form,
            thousands,
            missing: options.missing,
            positions: table.positions,
        };
        let chosen = vec![false; rows.lines.len()];
        Ok((Loaded { rows, test: None, chosen, format, notices: self.notices }, aim.rule))
    }

    /// Resolves the columns that a setting names; none of them may be the target.
    fn resolve(&self, setting: &str, names: &[String], target: usize) -> Result<BTreeSet<usize>> {
        let mut columns = BTreeSet::new();
        for name in names {
            // A single name may contain commas.
            let is_one = self.table.names.contains(name) || !name.contains(',');
            let names = if is_one { vec![name.as_str()] } else { name.split(',').map(str::trim).collect() };
            for name in names {
                let column = self.table.find(setting, name)?;
                if column == target {
                    let problem = format!("{setting} {name}: that is the column to learn; take it out of {setting}");
                    return Err(Error::format(&self.table.file, problem));
                }
                columns.insert(column);
            }
        }
        Ok(columns)
    }

    /// Collects the feature columns.
    fn columns(&mut self, choices: Vec<(usize, Choice)>) -> Result<Features> {
        let table = self.table;
        let only_comma = |forms: &[Form]| forms.contains(&Form::DecimalComma) && !forms.contains(&Form::Number);
        let comma = choices.iter().any(|(_, choice)| matches!(choice, Choice::Dressed(forms, _) if only_comma(forms)));
        let is_some =
            choices.iter().any(|(_, choice)| !matches!(choice, Choice::Index(_) | Choice::Empty | Choice::Unique));
        let (mut columns, mut values, mut notes) = (Vec::new(), Vec::new(), ColumnNotes::default());
        let (mut refused, mut thousands) = (Refused::default(), Vec::new());
        for (column, choice) in choices {
            let name = table.names[column].clone();
            let (form, of_column) = match choice {
                Choice::Empty => {
                    notes.empty.push(name);
                    continue;
                }
                Choice::Index(_) if is_some => {
                    notes.indices.push(name);
                    continue;
                }
                Choice::Unique => {
                    notes.unique.push(name);
                    continue;
                }
                Choice::Odd(form, texts) => {
                    self.refuse_odd(column, form, &texts, &mut refused);
                    continue;
                }
                Choice::Numbers(numbers) | Choice::Index(numbers) => {
                    match comma.then(|| grouped_with_dots(table, column)) {
                        Some(Some(texts)) => {
                            notes.add_formed(reading_of(Form::DecimalComma, &[]), &name);
                            thousands.push(name.clone());
                            (Form::DecimalComma, Values::Numbers(texts.numbers(Form::DecimalComma)))
                        }
                        _ => (Form::Number, Values::Numbers(numbers)),
                    }
                }
                Choice::Dressed(forms, texts) => {
                    let form = pick(&forms, comma, &texts);
                    notes.add_formed(reading_of(form, &forms), &name);
                    thousands.extend(texts.have_thousands(form).then(|| name.clone()));
                    (form, Values::Numbers(texts.numbers(form)))
                }
                Choice::Categories(texts) => {
                    let distinct = texts.distinct();
                    if distinct > MAX_CATEGORIES {
                        notes.many.push(format!("{name} ({distinct})"));
                    }
                    let Texts { codes, texts, .. } = texts;
                    (Form::Number, Values::Texts { codes, texts })
                }
            };
            // The real encoding is computed once the training rows are known.
            let encoding = match &of_column {
                Values::Numbers(_) => Encoding::Standardised(Scale { mean: 0.0, deviation: 1.0 }),
                Values::Texts { .. } => Encoding::OneHot(Vec::new()),
            };
            columns.push(Column { name, encoding, form, marks_gaps: false });
            values.push(of_column);
        }
        refused.check(&table.file)?;
        self.notices.extend(notes.notices());
        if columns.is_empty() {
            let problem = format!(
                "no column is left to learn {:?} from{}",
                self.options.target,
                match self.notices.last() {
                    Some(notice) if notice.starts_with("left out") || notice.contains("no name") =>
                        format!("; {notice}"),
                    _ => String::new(),
                }
            );
            return Err(Error::format(&table.file, problem));
        }
        Ok(Features { columns, values, comma, thousands })
    }

    /// Refuses a column of numbers with mistakes among them.
    fn refuse_odd(&self, column: usize, form: Form, texts: &Texts, refused: &mut Refused) {
        let (table, name) = (self.table, &self.table.names[column]);
        let is_odd = |text: &str| !is_number_gap(text) && forms::parse(form, text).is_none();
        let odd = texts.rows(is_odd);
        let first = (0..table.len()).find(|&row| is_odd(table.cell(row, column))).unwrap_or(0);
        let more = if odd > 1 { format!(" (nor are {} more)", odd - 1) } else { String::new() };
        refused.problems.push(format!(
            "line {}, column {name:?}: {:?} is not a {}{more}, and {} of {} values of this column are",
            table.line(first),
            table.cell(first, column),
            if form.is_date() { "date" } else { "number" },
            texts.rows(|text| forms::parse(form, text).is_some()),
            table.len(),
        ));
        if texts.distinct() <= MAX_CATEGORIES {
            refused.categorical.push(name.clone());
        } else {
            refused.ignored.push(name.clone());
        }
    }

    fn aim(&self, target: usize, comma: bool) -> Result<Aim> {
        let Self { table, options, .. } = self;
        let name = &options.target;
        let texts = Texts::of(table, target);
        let forms = texts.forms();
        if forms.is_empty() {
            // In a target, a single minus is as often a class as a missing value.
            let is_missing = |text: &str| is_gap(text) && text != "-";
            let is_odd = |text: &str| !is_missing(text) && forms::plain(text).is_none();
            let (_, numbers) = texts.nearest();
            let first = (0..table.len()).find(|&row| is_odd(table.cell(row, target))).unwrap_or(0);
            let odd = texts.rows(is_odd);
            let place =
                format!("line {}, column {name:?}: {:?} is not a number", table.line(first), table.cell(first, target));
            let more = if odd > 1 { format!(" (nor are {} more)", odd - 1) } else { String::new() };
            if options.task == Some(Task::Regression) {
                let problem =
                    format!("{place}{more}, and this column is read as numbers: correct it or remove the row");
                return Err(Error::format(&table.file, problem));
            }
            let mixed = 2 * numbers >= texts.present() && texts.distinct() > FEW_NUMBERS;
            if mixed && options.task.is_none() {
                let problem = format!(
                    "{place}{more}, and {numbers} of {} values of this column to learn are: correct it, empty it to leave the \
                     row out, or pass with `task` classification, which makes each of {} texts a class",
                    table.len(),
                    texts.distinct()
                );
                return Err(Error::format(&table.file, problem));
            }
            let mut names: Vec<String> = texts.texts.iter().filter(|text| !is_missing(text)).cloned().collect();
            names.sort();
            let rule = "its values are texts, and each is a class".into();
            let values = classes(&texts, &names, |text| Some(text.to_string()).filter(|text| !is_missing(text)));
            let encoding = TargetEncoding::Classes(names);
            return Ok(Aim { encoding, form: Form::Number, thousands: false, values, rule });
        }
        let form = pick(&forms, comma, &texts);
        let thousands = texts.have_thousands(form);
        let number =
            |text: &str| Some(text).filter(|text| !is_number_gap(text)).and_then(|text| forms::parse(form, text));
        let mut distinct: Vec<f64> =
            texts.texts.iter().filter_map(|text| number(text)).map(|number| number + 0.0).collect();
        distinct.sort_by(f64::total_cmp);
        distinct.dedup();
        let (task, rule) = self.task(form, &distinct, texts.rows(|text| number(text).is_some()));
        if task == Task::Regression {
            let scale = Scale { mean: 0.0, deviation: 1.0 };
            let mut numbers = texts.numbers(form);
            numbers.iter_mut().zip(&texts.codes).for_each(|(value, &code)| {
                *value = number(&texts.texts[code as usize]).unwrap_or(f64::NAN);
            });
            let values = Values::Numbers(numbers);
            return Ok(Aim { encoding: TargetEncoding::Standardised(scale), form, thousands, values, rule });
        }
        // Equal numbers are one class however they are written. The class is named as written if all rows agree on the
        // text.
        let mut written: HashMap<u64, Option<&str>> = HashMap::new();
        for text in &texts.texts {
            if let Some(number) = number(text) {
                let key = (number + 0.0).to_bits();
                written.entry(key).and_modify(|written| *written = None).or_insert(Some(text));
            }
        }
        let name_of = |number: f64| match (written.get(&(number + 0.0).to_bits()), form) {
            (Some(Some(text)), _) => text.to_string(),
            (_, Form::Boolean) => if number == 1.0 { "true" } else { "false" }.into(),
            _ => number.to_string(),
        };
        let names: Vec<String> = distinct.iter().map(|&number| name_of(number)).collect();
        let values = classes(&texts, &names, |text| number(text).map(name_of));
        Ok(Aim { encoding: TargetEncoding::Classes(names), form, thousands, values, rule })
    }

    /// Chooses the task for a target of numbers, with the reason.
    fn task(&self, form: Form, distinct: &[f64], rows: usize) -> (Task, String) {
        const TO_CLASSES: &str = "regression (`task` classification makes each number a class)";
        let count = distinct.len();
        match self.options.task {
            Some(Task::Classification) => (Task::Classification, "each number is a class, as `task` says".into()),
            Some(Task::Regression) => (Task::Regression, "regression, as `task` says".into()),
            None if form == Form::Boolean => (Task::Classification, "true and false are two classes".into()),
            None if form.is_date() => (Task::Regression, format!("dates are days since 1970-01-01: {TO_CLASSES}")),
            None if distinct.iter().any(|number| number.fract() != 0.0) => {
                (Task::Regression, format!("numbers with decimals: {TO_CLASSES}"))
            }
            None if count > FEW_NUMBERS => {
                (Task::Regression, format!("{count} different whole numbers, more than {FEW_NUMBERS}: {TO_CLASSES}"))
            }
            None if count > 2 && 2 * count > rows => {
                (Task::Regression, format!("{count} different whole numbers in {rows} rows: {TO_CLASSES}"))
            }
            None => {
                let rule =
                    format!("each of {count} whole numbers is a class (`task` regression learns them as numbers)");
                (Task::Classification, rule)
            }
        }
    }

    /// Drops classes that no row has any more, and refuses too few or too many.
    fn check_classes(&self, names: &mut Vec<String>, codes: &mut [u32]) -> Result<()> {
        let mut places = vec![None; names.len()];
        codes.iter().for_each(|&code| places[code as usize] = Some(0));
        let mut kept = places.iter().map(Option::is_some).collect::<Vec<_>>().into_iter();
        names.retain(|_| kept.next() == Some(true));
        places.iter_mut().flatten().enumerate().for_each(|(at, place)| *place = at as u32);
        codes.iter_mut().for_each(|code| *code = places[*code as usize].unwrap_or(0));
        let problem = match names.len() {
            0 | 1 => format!(
                "has one class only, {:?}: there is nothing to tell apart",
                names.first().map_or("", |name| name)
            ),
            2..=MAX_CLASSES => return Ok(()),
            count => format!("has {count} classes, and {MAX_CLASSES} are the limit"),
        };
        Err(Error::format(&self.table.file, format!("column {:?} {problem}", self.options.target)))
    }
}

/// Encodes each row's class by name; a missing class becomes `""`.
fn classes(texts: &Texts, names: &[String], name: impl Fn(&str) -> Option<String>) -> Values {
    let places: HashMap<&str, u32> = names.iter().enumerate().map(|(at, name)| (&**name, at as u32)).collect();
    let of_text: Vec<u32> = texts
        .texts
        .iter()
        .map(|text| name(text).and_then(|name| places.get(&*name).copied()).unwrap_or(names.len() as u32))
        .collect();
    let codes = texts.codes.iter().map(|&code| of_text[code as usize]).collect();
    Values::Texts { codes, texts: names.iter().cloned().chain([String::new()]).collect() }
}

/// The distinct texts of a column, but the empty one, in the rows that have no value there.
fn gaps_of<'a>(table: &'a Table, column: usize, has_value: &[bool]) -> Vec<&'a str> {
    let gaps = has_value.iter().enumerate().filter(|(_, has)| !**has).map(|(row, _)| table.cell(row, column));
    gaps.filter(|text| !text.is_empty()).collect::<BTreeSet<&str>>().into_iter().collect()
}

/// Notice about rows without a target; `gaps` are the texts that mark a missing value there.
fn without_target(missing: usize, rows: usize, target: &str, line: u64, gaps: &[&str]) -> String {
    let (have, are) = if missing == 1 { ("has", "is") } else { ("have", "are") };
    let texts = match gaps {
        [] => String::new(),
        [text] => format!(" (the text {text} is read as missing)"),
        _ => format!(" (the texts {} are read as missing)", quoted_list(gaps, 5)),
    };
    format!("{missing} of {rows} rows {have} no {target}{texts} and {are} left out, the first in line {line}")
}

/// Chooses the format of a column among those that fit.
fn pick(forms: &[Form], comma: bool, texts: &Texts) -> Form {
    let has = |form: Form| forms.contains(&form);
    match forms {
        _ if has(Form::Number) && has(Form::DecimalComma) && comma => Form::DecimalComma,
        // The order cannot be known; with slashes the month comes first more often.
        [Form::DayMonthYear, Form::MonthDayYear] if texts.texts.iter().any(|text| text.contains('/')) => {
            Form::MonthDayYear
        }
        [form, ..] => *form,
        [] => Form::Number,
    }
}

/// Reads a column whose dots can all separate thousands; `None` unless there is such a dot.
fn grouped_with_dots(table: &Table, column: usize) -> Option<Texts> {
    let texts = Texts::of(table, column);
    let has_dot = texts.texts.iter().any(|text| text.contains('.') && !is_number_gap(text));
    (has_dot && texts.forms().contains(&Form::DecimalComma)).then_some(texts)
}

/// Detects the kind of a column.
fn choose_kind(table: &Table, column: usize, scan: Scan, is_categorical: bool, is_used: bool) -> Choice {
    let rows = table.len();
    let Scan { numbers, gaps, odd } = scan;
    if gaps == rows {
        return Choice::Empty;
    }
    if is_categorical {
        return Choice::Categories(Texts::of(table, column).with_one_gap());
    }
    if odd == 0 {
        let is_index = !is_used && gaps == 0 && is_index(&table.names[column], &numbers);
        return if is_index { Choice::Index(numbers) } else { Choice::Numbers(numbers) };
    }
    let texts = Texts::of(table, column);
    let forms = texts.forms();
    if !forms.is_empty() {
        return Choice::Dressed(forms, texts);
    }
    let (form, count) = texts.nearest();
    let (present, distinct) = (texts.present(), texts.distinct());
    let is_odd = |text: &str| !is_number_gap(text) && forms::parse(form, text).is_none();
    let (odd, different) = (texts.rows(is_odd), texts.texts.iter().filter(|text| is_odd(text)).count());
    if form != Form::Boolean && 2 * count >= present && (different <= FEW_MISTAKES || 20 * odd <= present) {
        return Choice::Odd(form, texts);
    }
    let is_unique = 10 * distinct >= 9 * present && present >= MANY_ROWS;
    if !is_used && (is_unique || distinct > MAX_CATEGORIES && 2 * distinct > present) {
        return Choice::Unique;
    }
    Choice::Categories(texts.with_one_gap())
}

/// Returns true if a column numbers the rows: it counts up by one from 0 or 1, or it has the name of an index and
/// grows.
fn is_index(name: &str, numbers: &[f64]) -> bool {
    let lower = name.to_ascii_lowercase();
    let named = ["id", "index", "idx", "rownames", "row.names", "row", "rowid", "unnamed: 0"].contains(&&*lower)
        || name.ends_with("Id")
        || name.ends_with("ID")
        || [" id", "_id", ".id", "-id"].iter().any(|end| lower.ends_with(end));
    let whole = numbers.iter().all(|number| number.fract() == 0.0);
    let grows = numbers.windows(2).all(|pair| pair[1] > pair[0]);
    let counts =
        [Some(&0.0), Some(&1.0)].contains(&numbers.first()) && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1.0);
    whole && numbers.len() >= 2 && (named && grows || counts && numbers.len() >= INDEX_ROWS)
}

/// Reading of a table for a model that was trained on another one.
struct Again<'a> {
    table: &'a Table,
    format: &'a TableFormat,
}

/// The row of an invalid value, and the problem.
type Mistake = (usize, String);

impl Again<'_> {
    /// Reads the rows, with their targets if `with_target`.
    fn rows(&self, with_target: bool) -> Result<(Rows, Vec<String>)> {
        let Self { table, format } = *self;
        let places = self.places()?;
        let target = if with_target { Some(table.find("`target`", &format.target)?) } else { None };
        let mut notices = table.notices.clone();
        // Columns of mostly plain numbers are scanned together.
        let is_plain =
            |column: &Column| matches!(column.encoding, Encoding::Standardised(_)) && column.form == Form::Number;
        let plain: Vec<usize> = format
            .columns
            .iter()
            .zip(&places)
            .filter(|(column, _)| is_plain(column))
            .map(|(_, &place)| place)
            .collect();
        let mut scans = columns::scan(table, &plain, &mut |_| {}).into_iter();
        let scans: Vec<Option<Scan>> =
            format.columns.iter().map(|column| is_plain(column).then(|| scans.next()).flatten()).collect();
        let read: Vec<(Values, Vec<Mistake>)> = format
            .columns
            .par_iter()
            .zip(places)
            .zip(scans)
            .map(|((column, place), scan)| match (&column.encoding, scan) {
                (Encoding::Standardised(_), Some(scan)) if scan.odd == 0 => (Values::Numbers(scan.numbers), Vec::new()),
                (Encoding::Standardised(_), _) => self.numbers(place, column.form, &column.name),
                (Encoding::OneHot(known), _) => {
                    let Texts { codes, mut texts, .. } = Texts::of(table, place);
                    // The rule of `Texts::is_gap`, extended to pluses that only the training rows have.
                    let plus = |text: &String| text == "+";
                    let has_plus = texts.iter().chain(known).any(plus);
                    for text in &mut texts {
                        if is_gap(text) && !known.contains(text) && !(text == "-" && has_plus) {
                            text.clear();
                        }
                    }
                    (Values::Texts { codes, texts }, Vec::new())
                }
            })
            .collect();
        let (values, mut mistakes): (Vec<Values>, Vec<Vec<Mistake>>) = read.into_iter().unzip();
        let place = target;
        let target = match target {
            Some(target) => {
                let (values, of_target) = self.target(target);
                mistakes.push(of_target);
                values
            }
            None => Values::Numbers(vec![0.0; table.len()]),
        };
        let mut mistakes = mistakes.concat();
        if !mistakes.is_empty() {
            mistakes.sort_by_key(|(row, _)| *row);
            let problems = joined(mistakes.into_iter().map(|(_, problem)| problem), "; ", 6);
            return Err(Error::format(&table.file, problems));
        }
        let lines: Vec<u64> = (0..table.len()).map(|row| table.line(row)).collect();
        let mut rows = Rows { file: table.file.clone(), lines, values, target };
        let has_target: Vec<bool> = (0..table.len()).map(|row| !rows.target.is_gap(row)).collect();
        if let Some(first) = has_target.iter().position(|has| !has) {
            let missing = has_target.iter().filter(|has| !**has).count();
            if missing == has_target.len() {
                let problem = format!("column {:?} has no value: there is nothing to measure", format.target);
                return Err(Error::format(&table.file, problem));
            }
            let gaps = place.map_or_else(Vec::new, |target| gaps_of(table, target, &has_target));
            notices.push(without_target(missing, table.len(), &format.target, rows.lines[first], &gaps));
            rows.keep(&has_target);
        }
        if format.missing != Missing::Fill {
            let names: Vec<&str> = format.columns.iter().map(|column| &*column.name).collect();
            notices.extend(rows.without_gaps(&names, format.missing)?);
        }
        Ok((rows, notices))
    }

    /// Positions of the format's columns in this table.
    fn places(&self) -> Result<Vec<usize>> {
        let Self { table, format } = self;
        let known: HashMap<&str, usize> =
            table.names.iter().enumerate().rev().map(|(at, name)| (&**name, at)).collect();
        let missing: Vec<&Column> = format.columns.iter().filter(|column| !known.contains_key(&*column.name)).collect();
        match missing[..] {
            [] => Ok(format.columns.iter().map(|column| known[&*column.name]).collect()),
            [column] => {
                Err(table.find("column", &column.name).err().unwrap_or_else(|| Error::Invalid(column.name.clone())))
            }
            _ => {
                let names = quoted_list(missing.iter().map(|column| &column.name), 20);
                let there = quoted_list(table.names.iter().filter(|name| !name.is_empty()), 20);
                let problem = format!("columns {names}: there are no such columns; it has {there}");
                Err(Error::format(&table.file, problem))
            }
        }
    }

    /// Parses the numbers of the column `name` in one format. Thousands separators that may be decimal marks are refused,
    /// unless the column had thousands separators in training.
    fn numbers(&self, place: usize, form: Form, name: &str) -> (Values, Vec<Mistake>) {
        let (mut mistake, mut more) = (None, 0);
        let groups = self.format.thousands.iter().any(|other| other == name);
        let is_unclear = |text: &str| !groups && forms::is_ambiguous(form, text);
        let numbers = self.table.column(place).enumerate().map(|(row, text)| match forms::parse(form, text) {
            Some(number) if !is_unclear(text) => number,
            _ => {
                if !is_number_gap(text) {
                    more += usize::from(mistake.is_some());
                    mistake.get_or_insert((row, text));
                }
                f64::NAN
            }
        });
        let numbers = Values::Numbers(numbers.collect());
        let (mark, other) = if form == Form::DecimalComma { ("commas", "points") } else { ("points", "commas") };
        let text = mistake.map_or("", |(_, text)| text);
        let problem = match form {
            _ if form.is_date() => "is not a date, and this column is read as dates: correct it".into(),
            Form::Number | Form::DecimalComma if is_unclear(text) => format!(
                "has a decimal or a thousands separator: in the training table, this column has decimal {mark} and no \
                 thousands separators; write it so"
            ),
            Form::Number | Form::DecimalComma if forms::parse(forms::other_mark(form), text).is_some() => {
                format!(
                    "has a decimal {}, and the training table has decimal {mark}: correct it",
                    &other[..other.len() - 1]
                )
            }
            _ => "is not a number, and this column is read as numbers: correct it".into(),
        };
        (numbers, self.mistake(mistake, more, &format!("column {name:?}"), &problem))
    }

    fn mistake(&self, mistake: Option<(usize, &str)>, more: usize, called: &str, problem: &str) -> Vec<Mistake> {
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let mistake = mistake
            .map(|(row, text)| (row, format!("line {}, {called}: {text:?} {problem}{more}", self.table.line(row))));
        mistake.into_iter().collect()
    }

    fn target(&self, place: usize) -> (Values, Vec<Mistake>) {
        let Self { table, format } = *self;
        let called = format!("column {:?}", format.target);
        let TargetEncoding::Classes(names) = &format.encoding else {
            return self.numbers(place, format.form, &format.target);
        };
        let class_of: HashMap<&str, u32> = names.iter().zip(0..).map(|(name, class)| (&**name, class)).collect();
        let numbers: Option<Vec<f64>> = names.iter().map(|name| forms::parse(format.form, name)).collect();
        let gap = names.len() as u32;
        let class = |text: &str| {
            let same_number = || {
                let number = forms::parse(format.form, text)?;
                numbers.as_ref()?.iter().position(|&other| other == number).map(|class| class as u32)
            };
            let is_gap = is_gap(text) || numbers.is_some() && is_number_gap(text);
            class_of.get(text).copied().or_else(same_number).or(is_gap.then_some(gap))
        };
        let texts = Texts::of(table, place);
        let classes: Vec<Option<u32>> = texts.texts.iter().map(|text| class(text)).collect();
        let mut unknown = (0..table.len()).filter(|&row| classes[texts.codes[row] as usize].is_none());
        let first = unknown.next().map(|row| (row, table.cell(row, place)));
        let problem = format!("is not one of the classes {}", quoted_list(names, 20));
        let mistakes = self.mistake(first, unknown.count(), &called, &problem);
        let codes = texts.codes.iter().map(|&code| classes[code as usize].unwrap_or(gap)).collect();
        (Values::Texts { codes, texts: names.iter().cloned().chain([String::new()]).collect() }, mistakes)
    }
}
