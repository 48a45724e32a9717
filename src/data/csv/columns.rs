//! The columns of a table: what their values are, and the features that become of them.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use super::cells::Table;
use super::forms::{self, is_gap, is_number_gap};
use crate::data::{Column, Encoding, Form, Scale};

/// Columns that are scanned together, as their values lie beside each other.
const BLOCK: usize = 64;
/// Rows that become features together.
const ROWS: usize = 64;

/// The numbers of a column as programs write them.
pub(super) struct Scan {
    /// A number for each row; not one where there is none.
    pub numbers: Vec<f64>,
    /// Values that are missing.
    pub gaps: usize,
    /// Values that are other texts.
    pub odd: usize,
}

/// Scans columns, on all cores; `progress` is told which share is done.
pub(super) fn scan(table: &Table, columns: &[usize], progress: &mut dyn FnMut(f64)) -> Vec<Scan> {
    let threads = rayon::current_num_threads();
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

/// The different texts of a column.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    /// The text of each row, by its place in `texts`.
    pub codes: Vec<u32>,
    /// In the order in which they come.
    pub texts: Vec<String>,
    /// How many rows have each.
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

    /// Whether a text means that the value is missing. Where there are pluses, a minus is a value of its own.
    pub fn is_gap(&self, text: &str) -> bool {
        is_gap(text) && (text != "-" || !self.texts.iter().any(|other| other == "+"))
    }

    /// Values that are there.
    pub fn present(&self) -> usize {
        self.rows(|text| !self.is_gap(text))
    }

    /// How many rows have one of some texts.
    pub fn rows(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.texts.iter().zip(&self.counts).filter(|(text, _)| wanted(text)).map(|(_, count)| count).sum()
    }

    /// How many different values there are.
    pub fn distinct(&self) -> usize {
        self.texts.iter().filter(|text| !self.is_gap(text)).count()
    }

    /// The forms in which every value is a number.
    pub fn forms(&self) -> Vec<Form> {
        let is_read =
            |form: &Form| self.texts.iter().all(|text| is_number_gap(text) || forms::parse(*form, text).is_some());
        let some = self.texts.iter().any(|text| !is_number_gap(text));
        Form::ALL.into_iter().filter(|form| some && is_read(form)).collect()
    }

    /// The form in which most values are numbers, and in how many rows they are.
    pub fn nearest(&self) -> (Form, usize) {
        let rows = |form: Form| self.rows(|text| forms::parse(form, text).is_some());
        let nearest = Form::ALL.into_iter().rev().map(|form| (form, rows(form))).max_by_key(|&(_, rows)| rows);
        nearest.unwrap_or((Form::Number, 0))
    }

    /// The number of each row; not one where there is none.
    pub fn numbers(&self, form: Form) -> Vec<f64> {
        let numbers: Vec<f64> = self.texts.iter().map(|text| forms::parse(form, text).unwrap_or(f64::NAN)).collect();
        self.codes.iter().map(|&code| numbers[code as usize]).collect()
    }

    /// The same with one text, `""`, for all that mean that the value is missing.
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
    /// Numbers; not one where it is missing.
    Numbers(Vec<f64>),
    /// Texts, by their places among the different ones; `""` is a missing one.
    Texts { codes: Vec<u32>, texts: Vec<String> },
}

impl Values {
    pub fn is_gap(&self, row: usize) -> bool {
        match self {
            Self::Numbers(numbers) => numbers[row].is_nan(),
            Self::Texts { codes, texts } => texts[codes[row] as usize].is_empty(),
        }
    }

    /// Keeps some rows.
    pub fn keep(&mut self, kept: &[bool]) {
        let mut rows = kept.iter();
        match self {
            Self::Numbers(numbers) => numbers.retain(|_| rows.next() == Some(&true)),
            Self::Texts { codes, .. } => codes.retain(|_| rows.next() == Some(&true)),
        }
    }

    /// What becomes of them, by some of the rows; `None` where numbers are too far apart. Of more texts than `most`,
    /// those that most rows have.
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
                let kept: BTreeSet<&str> = found.into_iter().take(most).map(|(text, _)| text).collect();
                Some((Encoding::OneHot(kept.into_iter().map(String::from).collect()), false))
            }
        }
    }
}

/// How a value of a column becomes features.
enum Way<'a> {
    Number { numbers: &'a [f64], scale: Scale, marks_gaps: bool },
    Text { codes: &'a [u32], places: Vec<Option<u32>>, width: usize },
}

/// The features of every row, `[rows, features]`. A number that is no finite f32 stands for one that is too far from the
/// training rows.
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

/// The feature of each text, if it has one.
pub(super) fn places(known: &[String], texts: &[String]) -> Vec<Option<u32>> {
    let at: HashMap<&str, u32> =
        known.iter().rev().zip((0..known.len() as u32).rev()).map(|(text, at)| (&**text, at)).collect();
    texts.iter().map(|text| at.get(&**text).copied()).collect()
}
