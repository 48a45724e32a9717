//! Rows in JSON: objects by column names for models of tables, numbers for others.
//!
//! They are read as they come, so that a body makes no tree of values many times its size.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use csv::{QuoteStyle, Writer, WriterBuilder};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use softstep::data::predict_inputs::{Fit, Inputs};
use softstep::data::{Features, Form, TableFormat};

use super::body::NAME;
use crate::commands::predict;
use crate::flags::with_flags;
use crate::run::model::{Input, Model};

/// Reads the examples of a JSON text, of which `most` are allowed.
///
/// # Errors
/// The reason, where the text is no JSON, or not of the model's examples.
pub fn read(model: &Model, json: &[u8], most: usize) -> Result<Inputs, String> {
    let width = model.parameters.features();
    match model.input() {
        Input::Table(format) => {
            let (table, rows) = table(json, format, most)?;
            if rows == 0 {
                return Err("no rows: send an object with a value for each column, or an array of such objects".into());
            }
            let reading = predict::reading(model, Fit::Whole, true);
            let first = if format.positions.is_none() { 2 } else { 1 };
            let read =
                reading.read(TABLE, &table).map_err(|error| rows_for_lines(&with_flags(&error.to_string()), first))?;
            if read.names.len() != rows {
                return Err(format!("{rows} rows, but as a table they are {}", read.names.len()));
            }
            Ok(Inputs { names: names(rows), ..read })
        }
        Input::Numbers(arrays) => {
            let number = |number: f64| match number as f32 {
                value if value.is_finite() => Ok(value),
                _ => Err(format!("{number} is too large")),
            };
            let (values, count) = numbers(json, width, most, number)?;
            let values = arrays.standardise(values).map_err(|error| error.to_string())?;
            Ok(of_features(values.into(), count))
        }
        Input::Bytes(_) | Input::Image(_) => {
            let byte = |number: f64| match number as u8 {
                value if f64::from(value) == number => Ok(value),
                _ => Err(format!("{number} is no byte: the features of this model are whole numbers from 0 to 255")),
            };
            let (values, count) = numbers(json, width, most, byte)?;
            Ok(of_features(values.into(), count))
        }
    }
}

/// Name of the table that the rows are written to.
const TABLE: &str = "the rows as a table";

/// Replaces lines of the table, whose row 1 is in line `first`, by the rows that a message means.
fn rows_for_lines(problem: &str, first: u64) -> String {
    let problem = problem.strip_prefix(TABLE).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(problem);
    let mut parts = problem.split("line ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        match part[..digits].parse::<u64>().ok().and_then(|line| (line + 1).checked_sub(first)) {
            Some(row) if part[digits..].starts_with(", column") => text += &format!("row {row}{}", &part[digits..]),
            _ => text += &format!("line {part}"),
        }
    }
    text
}

fn of_features(features: Features, count: usize) -> Inputs {
    Inputs { names: names(count), features, notices: Vec::new(), problems: Vec::new(), places: vec![None; count] }
}

fn names(count: usize) -> Vec<String> {
    if count == 1 { vec![NAME.into()] } else { (0..count).map(|index| format!("{NAME}[{index}]")).collect() }
}

/// Reads numbers: one example, or an array of examples. Arrays within an example are joined.
fn numbers<T>(
    json: &[u8],
    width: usize,
    most: usize,
    convert: impl Fn(f64) -> Result<T, String>,
) -> Result<(Vec<T>, usize), String> {
    let mut found = Vec::new();
    let mut lengths = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let array = Numbers {
        lengths: Some(&mut lengths),
        most: width.saturating_mul(most),
        number: &mut |number| {
            found.push(convert(number)?);
            Ok(found.len())
        },
    };
    array.deserialize(&mut reader).and_then(|_| reader.end()).map_err(|error| format!("not read as JSON: {error}"))?;
    let odd = lengths.iter().position(|&length| length != width);
    match odd {
        None if !lengths.is_empty() => Ok((found, lengths.len())),
        // One example, flat or in rows of its own.
        _ if found.len() == width => Ok((found, 1)),
        Some(at) if lengths.len() < found.len() => {
            Err(format!("example {at} has {} numbers, and the model takes {width}", lengths[at]))
        }
        _ => Err(format!("{} numbers, and an example of this model has {width}", found.len())),
    }
}

/// An array of numbers or of further arrays; returns how many numbers are in it.
struct Numbers<'a> {
    /// The numbers in each element, of the outermost array.
    lengths: Option<&'a mut Vec<usize>>,
    /// Most numbers in all.
    most: usize,
    /// Takes a number; returns how many there are so far.
    number: &'a mut dyn FnMut(f64) -> Result<usize, String>,
}

impl<'de> DeserializeSeed<'de> for Numbers<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.lengths.is_some() {
            "an array of numbers"
        } else {
            "a number, or an array of numbers"
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<usize, E> {
        if self.lengths.is_some() {
            return Err(E::invalid_type(serde::de::Unexpected::Float(number), &self));
        }
        match (self.number)(number) {
            Ok(count) if count > self.most => Err(E::custom(format!("more than {} numbers", self.most))),
            Ok(_) => Ok(1),
            Err(problem) => Err(E::custom(problem)),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<usize, E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<usize, E> {
        self.visit_f64(number as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<usize, A::Error> {
        let Self { mut lengths, most, number } = self;
        let mut count = 0;
        while let Some(length) = array.next_element_seed(Numbers { lengths: None, most, number: &mut *number })? {
            count += length;
            if let Some(lengths) = &mut lengths {
                if lengths.len() == most {
                    return Err(A::Error::custom(format!("more than {most} elements")));
                }
                lengths.push(length);
            }
        }
        Ok(count)
    }
}

/// Reads objects by column names, one or an array of them, as the text of a table; returns it with the number of rows.
fn table(json: &[u8], format: &TableFormat, most: usize) -> Result<(Vec<u8>, usize), String> {
    let columns = format.columns.iter().enumerate().map(|(at, column)| (&*column.name, at)).collect();
    // With quotes around each value none is taken for a comment, nor for the end of a row.
    let mut writer = WriterBuilder::new().quote_style(QuoteStyle::Always).from_writer(Vec::new());
    if format.positions.is_none() {
        let names = format.columns.iter().map(|column| &column.name);
        writer.write_record(names).map_err(|error| error.to_string())?;
    }
    let mut rows = Rows { format, columns, most, writer, count: 0 };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Table(&mut rows).deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| format!("not read as JSON: {error}"))?;
    let count = rows.count;
    Ok((rows.writer.into_inner().map_err(|error| error.to_string())?, count))
}

/// The rows that were read so far.
struct Rows<'a> {
    format: &'a TableFormat,
    /// Places of the columns by their names.
    columns: HashMap<&'a str, usize>,
    most: usize,
    writer: Writer<Vec<u8>>,
    count: usize,
}

impl Rows<'_> {
    /// Writes a row.
    fn write(&mut self, cells: Vec<Option<Cell>>) -> Result<(), String> {
        if self.count == self.most {
            return Err(format!("more than {} rows: send them in parts", self.most));
        }
        let number = self.count + 1;
        let mut texts = Vec::with_capacity(cells.len());
        for (column, cell) in self.format.columns.iter().zip(cells) {
            match cell {
                Some(cell) => texts.push(cell.text(column.form)),
                None => {
                    return Err(format!("row {number} lacks {:?}: say null where a value is missing", column.name));
                }
            }
        }
        // Without a line of names, columns are called by their places.
        if let Some(positions) = self.format.positions {
            let mut placed = vec![String::new(); positions];
            for (column, text) in self.format.columns.iter().zip(texts) {
                let place = column.name.parse::<usize>().ok().and_then(|place| placed.get_mut(place.checked_sub(1)?));
                *place.ok_or_else(|| format!("the model's column {:?} is no place", column.name))? = text;
            }
            texts = placed;
        }
        self.count += 1;
        self.writer.write_record(&texts).map_err(|error| error.to_string())
    }
}

/// A value of a row.
#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    Missing(()),
    Truth(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

impl Cell {
    /// Returns the value as a table has it in a column of this form.
    fn text(self, form: Form) -> String {
        match self {
            Self::Missing(()) => String::new(),
            Self::Truth(truth) => truth.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) if form == Form::DecimalComma => number.to_string().replace('.', ","),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// The outermost value: an object, or an array of objects.
struct Table<'a, 'b>(&'a mut Rows<'b>);

impl<'de> DeserializeSeed<'de> for Table<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Table<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a value for each column, or an array of such objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        Row(self.0).visit_map(object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(Row(self.0))?.is_some() {}
        Ok(())
    }
}

/// A row.
struct Row<'a, 'b>(&'a mut Rows<'b>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a value for each column")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut cells: Vec<Option<Cell>> = self.0.format.columns.iter().map(|_| None).collect();
        while let Some(name) = object.next_key::<Cow<'de, str>>()? {
            match self.0.columns.get(&*name) {
                Some(&at) if cells[at].is_some() => {
                    return Err(A::Error::custom(format!("row {} has {name:?} twice", self.0.count + 1)));
                }
                Some(&at) => {
                    let wrong = |_| {
                        A::Error::custom(format!(
                            "row {}, {name:?}: a value is a number, a text, true, false or null",
                            self.0.count + 1
                        ))
                    };
                    cells[at] = Some(object.next_value::<Cell>().map_err(wrong)?);
                }
                // The target, and columns that the model was trained without.
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.0.write(cells).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use softstep::data::{Column, Encoding, Missing, Scale, TargetEncoding, TestPart};

    use super::*;

    fn bytes(json: &str, width: usize) -> Result<(Vec<u8>, usize), String> {
        let byte = |number: f64| match number as u8 {
            value if f64::from(value) == number => Ok(value),
            _ => Err(format!("{number} is no byte")),
        };
        numbers(json.as_bytes(), width, 3, byte)
    }

    #[test]
    fn a_problem_names_the_row_and_not_a_line_of_the_table() {
        let problem =
            "the rows as a table: line 2, column \"a\": \"in line 5\" is not a number; line 4, column \"b\": no";
        let expected = "row 1, column \"a\": \"in line 5\" is not a number; row 3, column \"b\": no";
        assert_eq!(rows_for_lines(problem, 2), expected);
        assert_eq!(rows_for_lines("line 1, column \"a\": no", 1), "row 1, column \"a\": no");
        let table = crate::commands::export::tests::table_model();
        assert!(read(&table, b"[]", 9).unwrap_err().starts_with("no rows: send an object"));
    }

    #[test]
    fn numbers_are_one_example_or_several_however_they_are_nested() {
        assert_eq!(bytes("[1, 2]", 2), Ok((vec![1, 2], 1)));
        assert_eq!(bytes("[[1, 2], [3, 4.0]]", 2), Ok((vec![1, 2, 3, 4], 2)));
        assert_eq!(bytes("[[1], [2]]", 2), Ok((vec![1, 2], 1)));
        assert_eq!(bytes("[[[1], [2]], [[3], [4]]]", 2), Ok((vec![1, 2, 3, 4], 2)));
        assert_eq!(bytes("[[1], [2]]", 1), Ok((vec![1, 2], 2)));
        assert_eq!(bytes("[1]", 1), Ok((vec![1], 1)));
        for (json, reason) in [
            ("[]", "0 numbers, and an example of this model has 2"),
            ("[1, 2, 3]", "3 numbers, and an example of this model has 2"),
            ("[[1, 2], [3]]", "example 1 has 1 numbers, and the model takes 2"),
            ("[1, 256]", "256 is no byte at line 1 column 7"),
            ("[1, -1]", "-1 is no byte"),
            ("[1, 0.5]", "0.5 is no byte"),
            ("[1, \"2\"]", "expected a number, or an array of numbers"),
            ("7", "expected an array of numbers"),
            ("[1, 2] 3", "trailing characters"),
            ("[1, 2", "EOF"),
            ("[1, 1e999]", "number out of range"),
            ("[1, NaN]", "expected"),
            ("[[1,2],[1,2],[1,2],[1,2]]", "more than 6 numbers"),
            ("[[],[],[],[],[],[],[]]", "more than 6 elements"),
        ] {
            let problem = bytes(json, 2).unwrap_err();
            assert!(problem.contains(reason), "{json}: {problem}");
        }
        let deep = "[".repeat(100_000);
        assert!(bytes(&deep, 2).unwrap_err().contains("recursion limit"));
    }

    fn format(positions: Option<usize>) -> TableFormat {
        let number = |name: &str, form| Column {
            name: name.into(),
            encoding: Encoding::Standardised(Scale { mean: 0.0, deviation: 1.0 }),
            form,
            marks_gaps: false,
        };
        let colour =
            Column { encoding: Encoding::OneHot(vec!["red".into(), "blue".into()]), ..number("2", Form::Number) };
        TableFormat {
            columns: vec![number("1", Form::Number), colour, number("4", Form::DecimalComma)],
            target: "3".into(),
            encoding: TargetEncoding::Classes(vec!["no".into(), "yes".into()]),
            test: TestPart::default(),
            form: Form::Number,
            thousands: Vec::new(),
            missing: Missing::Fill,
            positions,
        }
    }

    #[test]
    fn objects_become_rows_of_a_table_in_the_form_of_its_columns() {
        let json = r##"[{"1": 1.5, "2": "#a, \"b\"", "4": 1.234, "other": [{}]}, {"4": "5,5", "2": null, "1": -3}]"##;
        let text = |positions| String::from_utf8(table(json.as_bytes(), &format(positions), 9).unwrap().0).unwrap();
        assert_eq!(text(None), "\"1\",\"2\",\"4\"\n\"1.5\",\"#a, \"\"b\"\"\",\"1,234\"\n\"-3\",\"\",\"5,5\"\n");
        assert_eq!(text(Some(4)), "\"1.5\",\"#a, \"\"b\"\"\",\"\",\"1,234\"\n\"-3\",\"\",\"\",\"5,5\"\n");
        let one = table(br#"{"1": true, "2": 7, "4": 2.0}"#, &format(None), 9).unwrap();
        assert_eq!((String::from_utf8(one.0).unwrap(), one.1), ("\"1\",\"2\",\"4\"\n\"true\",\"7\",\"2\"\n".into(), 1));
        for (json, reason) in [
            (r#"{"1": 1, "2": 2}"#, "row 1 lacks \"4\": say null where a value is missing"),
            (r#"[{"1": 1, "2": 2, "4": 3}, {"1": 1, "1": 2}]"#, "row 2 has \"1\" twice"),
            (r#"{"1": [1], "2": 2, "4": 3}"#, "row 1, \"1\": a value is a number"),
            (r#"[[1, 2, 3]]"#, "expected an object with a value for each column"),
            ("3", "expected an object with a value for each column, or an array"),
            (r#"{"1": 1"#, "EOF"),
        ] {
            let problem = table(json.as_bytes(), &format(None), 9).unwrap_err();
            assert!(problem.contains(reason), "{json}: {problem}");
        }
        let two = br#"[{"1":1,"2":2,"4":3},{"1":1,"2":2,"4":3}]"#;
        assert!(table(two, &format(None), 1).unwrap_err().contains("more than 1 rows"));
    }
}
