//! The columns of a table: detection of their values, and conversion to features.

use std::collections::HashMap;

use super::cells::Table;
use super::forms::{self, is_gap, is_number_gap};
use crate::data::{Column, Encoding, Form, Scale};
use crate::parallel::*;

/// Number of columns that are scanned together, because their values are adjacent in memory.
const BLOCK: usize = 64;
/// Number of rows that are converted to features together.
const ROWS: usize = 64;

/// The plain numbers of a column.
pub(super) struct Scan {
    /// A number for each row; NaN for any other value.
    pub numbers: Vec<f64>,
    /// Number of missing values.
    pub gaps: usize,
    /// Number of values that are other texts.
    pub odd: usize,
}

/// Scans columns on all cores; `progress` receives the completed share.
pub(super) fn scan(table: &Table, columns: &[usize], progress: &mut dyn FnMut(f64)) -> Vec<Scan> {
    let threads = current_num_threads();
    let block = columns.len().div_ceil(threads).clamp(1, BLOCK);
    let mut scans = Vec::with_capacity(columns.len());
    for blocks in columns.chunks(block * threads) {
        scans.par_extend(blocks.par_chunks(block).flat_map_iter(|block| scan_block(table, block)));
        progress(scans.len() as f64 / columns.len() as f64);
    }
    scans
}

fn scan_block(table: &Table, columns: &[usize]) -> Vec<Scan> {
    let new = || Scan { numbers: Vec::with_capacity(table.len()), gaps: 0, odd: 0 };
    let mut scans: Vec<Scan> = columns.iter().map(|_| new()).collect();
    for row in 0..table.len() {
        for (&column, scan) in columns.iter().zip(&mut scans) {
            let text = table.cell(row, column);
            let number = forms::plain(text);
            match number {
                Some(_) => {}
                None if is_number_gap(text) => scan.gaps += 1,
                None => scan.odd += 1,
            }
            scan.numbers.push(number.unwrap_or(f64::NAN));
        }
    }
    scans
}

/// The distinct texts of a column.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    /// The text of each row, as an index into `texts`.
    pub codes: Vec<u32>,
    /// Distinct texts, in order of first occurrence.
    pub texts: Vec<String>,
    /// Number of rows with each text.
    pub counts: Vec<usize>,
}

impl Texts {
    pub fn of(table: &Table, column: usize) -> Self {
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut all = Self { codes: Vec::with_capacity(table.len()), texts: Vec::new(), counts: Vec::new() };
        for text in table.column(column) {
            let next = all.texts.len() as u32;
            let code = *known.entry(text).or_insert_with(|| {
                all.texts.push(text.into());
                all.counts.push(0);
                next
            });
            all.counts[code as usize] += 1;
            all.codes.push(code);
        }
        all
    }

    /// Returns true if a text marks a missing value. In a column with pluses, a minus is a value.
    pub fn is_gap(&self, text: &str) -> bool {
        is_gap(text) && (text != "-" || !self.texts.iter().any(|other| other == "+"))
    }

    /// Number of values that are not missing.
    pub fn present(&self) -> usize {
        self.rows(|text| !self.is_gap(text))
    }

    /// Number of rows whose text is `wanted`.
    pub fn rows(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.texts.iter().zip(&self.counts).filter(|(text, _)| wanted(text)).map(|(_, count)| count).sum()
    }

    /// Number of distinct values that are not missing.
    pub fn distinct(&self) -> usize {
        self.texts.iter().filter(|text| !self.is_gap(text)).count()
    }

    /// The formats in which every value that is not missing is a number; none if all are missing.
    pub fn forms(&self) -> Vec<Form> {
        let is_read =
            |form: &Form| self.texts.iter().all(|text| is_number_gap(text) || forms::parse(*form, text).is_some());
        let some = self.texts.iter().any(|text| !is_number_gap(text));
        Form::ALL.into_iter().filter(|form| some && is_read(form)).collect()
    }

    /// The format in which most rows are numbers, and the number of these rows.
    pub fn nearest(&self) -> (Form, usize) {
        let rows = |form: Form| self.rows(|text| forms::parse(form, text).is_some());
        let nearest = Form::ALL.into_iter().rev().map(|form| (form, rows(form))).max_by_key(|&(_, rows)| rows);
        nearest.unwrap_or((Form::Number, 0))
    }

    /// Returns true if a number has thousands separators in this format.
    pub fn have_thousands(&self, form: Form) -> bool {
        self.texts.iter().any(|text| forms::has_thousands(form, text))
    }

    /// The number of each row; NaN for any other value.
    pub fn numbers(&self, form: Form) -> Vec<f64> {
        let numbers: Vec<f64> = self.texts.iter().map(|text| forms::parse(form, text).unwrap_or(f64::NAN)).collect();
        self.codes.iter().map(|&code| numbers[code as usize]).collect()
    }

    /// Replaces every marker of a missing value by `""`.
    pub fn with_one_gap(mut self) -> Self {
        let gaps: Vec<bool> = self.texts.iter().map(|text| self.is_gap(text)).collect();
        for (text, gap) in self.texts.iter_mut().zip(gaps) {
            if gap {
                text.clear();
            }
        }
        self
    }
}

/// The values of a column, row by row.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// Numbers; NaN for a missing one.
    Numbers(Vec<f64>),
    /// Indices into the distinct texts; `""` is a missing value.
    Texts { codes: Vec<u32>, texts: Vec<String> },
}

impl Values {
    pub fn is_gap(&self, row: usize) -> bool {
        match self {
            Self::Numbers(numbers) => numbers[row].is_nan(),
            Self::Texts { codes, texts } => texts[codes[row] as usize].is_empty(),
        }
    }

    /// Keeps the marked rows and drops the others.
    pub fn keep(&mut self, kept: &[bool]) {
        let mut rows = kept.iter();
        match self {
            Self::Numbers(numbers) => numbers.retain(|_| rows.next() == Some(&true)),
            Self::Texts { codes, .. } => codes.retain(|_| rows.next() == Some(&true)),
        }
    }

    /// Computes the encoding from some of the rows, and whether numbers are missing among them; `None` if numbers are
    /// too far apart. At most `most` texts get a feature: the most frequent ones.
    pub fn encoding(&self, rows: &[bool], most: usize) -> Option<(Encoding, bool)> {
        let chosen = |row: &usize| rows[*row];
        match self {
            Self::Numbers(numbers) => {
                let of_rows = (0..rows.len()).filter(chosen).map(|row| numbers[row]);
                let mut numbers: Vec<f64> = of_rows.collect();
                let all = numbers.len();
                numbers.retain(|number| !number.is_nan());
                let scale = match numbers.is_empty() {
                    true => Scale { mean: 0.0, deviation: 1.0 },
                    false => Scale::of(&numbers)?,
                };
                Some((Encoding::Standardised(scale), numbers.len() < all))
            }
            Self::Texts { codes, texts } => {
                let mut counts = vec![0usize; texts.len()];
                (0..rows.len()).filter(chosen).for_each(|row| counts[codes[row] as usize] += 1);
                let mut found: HashMap<&str, usize> = HashMap::new();
                texts
                    .iter()
                    .zip(counts)
                    .filter(|(_, count)| *count > 0)
                    .for_each(|(text, count)| *found.entry(text).or_default() += count);
                let mut found: Vec<(&str, usize)> = found.into_iter().collect();
                found.sort_by(|(a, few), (b, many)| many.cmp(few).then(a.cmp(b)));
                let mut kept: Vec<String> = found.into_iter().take(most).map(|(text, _)| text.into()).collect();
                kept.sort();
                Some((Encoding::OneHot(kept), false))
            }
        }
    }
}

/// Conversion of a column's values to features.
enum Way<'a> {
    Number { numbers: &'a [f64], scale: Scale, marks_gaps: bool },
    Text { codes: &'a [u32], places: Vec<Option<u32>>, width: usize },
}

/// Computes the features of every row, `[rows, features]`. A feature that is not finite means that the number is too
/// far from the training rows.
pub(super) fn features(columns: &[Column], values: &[Values], rows: usize) -> Vec<f32> {
    let ways: Vec<(Way<'_>, usize)> = columns
        .iter()
        .zip(values)
        .map(|(column, values)| {
            let way = match (&column.encoding, values) {
                (Encoding::Standardised(scale), Values::Numbers(numbers)) => {
                    Way::Number { numbers, scale: *scale, marks_gaps: column.marks_gaps }
                }
                (Encoding::OneHot(known), Values::Texts { codes, texts }) => {
                    Way::Text { codes, places: places(known, texts), width: known.len() }
                }
                _ => unreachable!("values are read as their encoding says"),
            };
            (way, column.features())
        })
        .collect();
    let width: usize = ways.iter().map(|(_, width)| width).sum();
    let mut features = vec![0.0; rows * width];
    if width == 0 {
        return features;
    }
    features.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, features)| {
        let mut first = 0;
        for (way, of_column) in &ways {
            for (index, row) in features.chunks_mut(width).enumerate() {
                let (at, place) = (chunk * ROWS + index, &mut row[first..first + of_column]);
                match way {
                    Way::Number { numbers, scale, marks_gaps } => {
                        let is_gap = numbers[at].is_nan();
                        place[0] = if is_gap { 0.0 } else { scale.apply(numbers[at]) };
                        if *marks_gaps {
                            place[1] = f32::from(u8::from(is_gap));
                        }
                    }
                    Way::Text { codes, places, width } => {
                        debug_assert_eq!(place.len(), *width);
                        if let Some(hot) = places[codes[at] as usize] {
                            place[hot as usize] = 1.0;
                        }
                    }
                }
            }
            first += of_column;
        }
    });
    features
}

/// Index of each text's feature, if it has one.
pub(super) fn places(known: &[String], texts: &[String]) -> Vec<Option<u32>> {
    let at: HashMap<&str, u32> =
        known.iter().rev().zip((0..known.len() as u32).rev()).map(|(text, at)| (&**text, at)).collect();
    texts.iter().map(|text| at.get(&**text).copied()).collect()
}
