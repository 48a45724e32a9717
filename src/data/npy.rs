//! NumPy arrays: `.npy` files as `numpy.save` writes them, and folders and `.npz` archives of them as data sets.
//!
//! A file is `\x93NUMPY`, the version of its format, the length of its header (two bytes, from version 2 on four), a Python
//! dictionary that gives type, order and shape, and the elements. Source: NumPy, "A simple file format for NumPy arrays"
//! (`numpy.lib.format`). The dictionary has three known entries, which are read strictly here; the crates for this format
//! bring a parser of all Python literals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use super::csv::Task;
use super::idx::shape_text;
use super::preprocessing::{ArrayFormat, ArrayTargets, Elements};
use super::scaling::{self, TooFar};
#[cfg(not(target_arch = "wasm32"))]
use super::stored::{Element, Row};
use super::{Examples, Features, MAX_CLASSES, Stored, Targets};
use crate::error::{Error, Result};

#[doc(hidden)]
pub use folder::Loaded;
pub use folder::load;
pub(super) use folder::{is_set, own_examples, own_test};

/// The longest header that is read; of arrays that are not structured it has about a hundred bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The longest text of an array, in characters.
const MAX_TEXT: usize = 10_000;
/// Bytes that are read at a time, and up to which an announced size is believed before the data is there.
const CHUNK: usize = 64 << 10;
const TRUSTED: usize = 64 << 20;

/// An array.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub struct Array {
    /// Name of the file, for errors.
    pub file: String,
    /// Dimensions of the array, none of them 0.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Values,
}

/// The elements of an array.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub enum Values {
    /// Elements of type `uint8`.
    Bytes(Vec<u8>),
    /// Elements of any other integer type, or of `bool`.
    Integers(Vec<i64>),
    /// Elements of type `float16`, `float32`, or `float64`, which are rounded; all finite.
    Floats(Vec<f32>),
    /// Texts of a fixed length, `str` or `bytes`.
    Texts(Vec<String>),
    /// Numbers of any type that stay in their file; of a float type all are finite.
    Stored(Stored),
}

/// Header of a file.
struct Header {
    /// Type of the elements, such as `<f4`: byte order, kind and bytes.
    descr: String,
    /// True if the first index changes fastest.
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Array {
    /// Reads a file; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Format`] where it is no whole array of numbers, or is empty, or an element is not finite as an f32;
    /// [`Error::Io`].
    pub fn read(file: &str, mut input: impl Read) -> Result<Self> {
        Self::read_from(file, &mut input)
    }

    fn read_from(file: &str, input: &mut dyn Read) -> Result<Self> {
        let header = read_header(file, input)?;
        let error = |problem: String| Error::format(file, problem);
        let shape = header.shape;
        let whole = shape_text(&shape);
        if shape.contains(&0) {
            return Err(error(format!("its shape {whole} holds no data")));
        }
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let no_memory = || error(format!("there is no memory for its shape {whole}"));
        let count = count.filter(|count| count.checked_mul(8).is_some()).ok_or_else(no_memory)?;
        let (big_endian, kind) = match header.descr.split_at_checked(1) {
            Some((">", kind)) => (true, kind),
            Some(("<" | "|", kind)) => (false, kind),
            _ => (false, ""),
        };
        // Element by element, from bytes in the order of this machine.
        macro_rules! elements {
            ($number:ty, $values:ident, $convert:expr) => {{
                let mut values = Vec::new();
                let size = size_of::<$number>();
                values.try_reserve_exact(count.min(TRUSTED / size)).map_err(|_| no_memory())?;
                read_chunks(file, input, count * size, &mut |chunk| {
                    values.try_reserve(chunk.len() / size).map_err(|_| no_memory())?;
                    for &bytes in chunk.as_chunks().0 {
                        let number =
                            if big_endian { <$number>::from_be_bytes(bytes) } else { <$number>::from_le_bytes(bytes) };
                        let convert: fn($number) -> std::result::Result<_, &'static str> = $convert;
                        let at = values.len();
                        values.push(convert(number).map_err(|problem| {
                            error(format!("{} is {number:?}{problem}", index_text(at, &shape, header.fortran_order)))
                        })?);
                    }
                    Ok(())
                })?;
                Values::$values(if header.fortran_order { row_major(&values, &shape) } else { values })
            }};
        }
        let values = match kind {
            "u1" => elements!(u8, Bytes, Ok),
            "b1" => elements!(u8, Integers, |byte| Ok(i64::from(byte != 0))),
            "i1" => elements!(i8, Integers, |number| Ok(number.into())),
            "i2" => elements!(i16, Integers, |number| Ok(number.into())),
            "u2" => elements!(u16, Integers, |number| Ok(number.into())),
            "i4" => elements!(i32, Integers, |number| Ok(number.into())),
            "u4" => elements!(u32, Integers, |number| Ok(number.into())),
            "i8" => elements!(i64, Integers, Ok),
            "u8" => {
                elements!(u64, Integers, |number| i64::try_from(number).map_err(|_| ", beyond 64 bits with a sign"))
            }
            "f2" => elements!(Half, Floats, |number| finite(number.value()).ok_or("")),
            "f4" => elements!(f32, Floats, |number| finite(number).ok_or("")),
            "f8" => elements!(f64, Floats, |number| finite(number as f32).ok_or(if number.is_finite() {
                ", beyond the range of 32-bit floats"
            } else {
                ""
            })),
            "O" => {
                return Err(error(
                    "its elements are Python objects: save array.astype(str) if they are texts, or \
                     array.astype('float32') if they are numbers"
                        .into(),
                ));
            }
            _ => match text_length(kind) {
                Some(length) => {
                    let size = length * if kind.starts_with('U') { 4 } else { 1 };
                    let bytes = count.checked_mul(size).ok_or_else(no_memory)?;
                    let mut taken: Vec<u8> = Vec::new();
                    read_chunks(file, input, bytes, &mut |chunk| {
                        taken.try_reserve(chunk.len()).map_err(|_| no_memory())?;
                        taken.extend(chunk);
                        Ok(())
                    })?;
                    let texts: Vec<String> =
                        taken.chunks_exact(size).map(|text| decode_text(kind, big_endian, text)).collect();
                    Values::Texts(if header.fortran_order { row_major(&texts, &shape) } else { texts })
                }
                None => {
                    return Err(error(format!(
                        "its elements are of type {:?}, not numbers or texts: save array.astype('float32'), or \
                         array.astype(str) if they are texts",
                        header.descr
                    )));
                }
            },
        };
        Ok(Self { file: file.into(), shape, values })
    }

    /// Elements of a row: the product of all dimensions after the first.
    fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::format(&self.file, problem)
    }
}

/// Types of elements that can stay in their file.
#[cfg(not(target_arch = "wasm32"))]
const STORED: [&str; 11] = ["u1", "b1", "i1", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8"];

/// Opens a file of features without reading it into memory; `None` for one that has to be read as a whole: of texts, in
/// Fortran order, or of numbers that may lie beyond 64 bits with a sign.
///
/// # Errors
/// As of [`Array::read`].
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub fn store(file: &str, input: std::fs::File) -> Result<Option<Array>> {
    use std::io::Seek;

    let mut reader = &input;
    let Header { descr, fortran_order, shape } = read_header(file, &mut reader)?;
    let start = reader.stream_position().map_err(Error::io("read", file))?;
    let kind = descr.split_at_checked(1).and_then(|(order, kind)| {
        let kind = STORED.into_iter().find(|known| *known == kind)?;
        ["<", ">", "|"].contains(&order).then_some((kind, order == ">"))
    });
    let (Some((kind, big_endian)), Some(&rows), false) = (kind, shape.first(), fortran_order || shape.contains(&0))
    else {
        return Ok(None);
    };
    let Some(width) = shape[1..].iter().try_fold(1usize, |product, &size| product.checked_mul(size)) else {
        return Ok(None);
    };
    let element = if kind == "u1" { Element::Byte } else { Element::Number { kind, big_endian } };
    let mut stored = Stored::new(file, input, start, [rows, width], element)?;
    if kind.starts_with('f') {
        let (mut problem, mut largest) = (None, 0f32);
        stored.for_each(|row, values| {
            let Row::Floats(values) = values else { return };
            largest = values.iter().fold(largest, |largest, value| largest.max(value.abs()));
            if let (Some(at), None) = (values.iter().position(|value| !value.is_finite()), &problem) {
                let place = index_text(row * width + at, &shape, false);
                problem = Some(format!("{place} is {:?}, or beyond the range of 32-bit floats", values[at]));
            }
        });
        stored.check()?;
        if let Some(problem) = problem {
            return Err(Error::format(file, problem));
        }
        stored = stored.with_largest(largest.into());
    }
    Ok(Some(Array { file: file.into(), shape, values: Values::Stored(stored) }))
}

/// Numbers from their bytes in a file, as [`Array::read`] and [`Array::into_features`] make them.
pub(super) fn decoded(kind: &str, big_endian: bool, bytes: &[u8]) -> Vec<f32> {
    macro_rules! numbers {
        ($number:ty, $convert:expr) => {{
            let convert: fn($number) -> f32 = $convert;
            let number = |&bytes: &[u8; size_of::<$number>()]| {
                if big_endian { <$number>::from_be_bytes(bytes) } else { <$number>::from_le_bytes(bytes) }
            };
            bytes.as_chunks().0.iter().map(|bytes| convert(number(bytes))).collect()
        }};
    }
    match kind {
        "b1" => numbers!(u8, |byte| f32::from(u8::from(byte != 0))),
        "i1" => numbers!(i8, f32::from),
        "i2" => numbers!(i16, f32::from),
        "u2" => numbers!(u16, f32::from),
        "i4" => numbers!(i32, |number| number as f32),
        "u4" => numbers!(u32, |number| number as f32),
        "i8" => numbers!(i64, |number| number as f32),
        "f2" => numbers!(Half, Half::value),
        "f4" => numbers!(f32, |number| number),
        "f8" => numbers!(f64, |number| number as f32),
        _ => numbers!(u8, f32::from),
    }
}

/// A `float16`, by its bits.
#[derive(Clone, Copy)]
struct Half(u16);

impl Half {
    fn from_be_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_be_bytes(bytes))
    }

    fn from_le_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_le_bytes(bytes))
    }

    fn value(self) -> f32 {
        let (exponent, fraction) = (i32::from(self.0 >> 10 & 31), f32::from(self.0 & 0x3ff));
        let size = match exponent {
            0 => fraction * 2f32.powi(-24),
            31 if fraction == 0.0 => f32::INFINITY,
            31 => f32::NAN,
            _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
        };
        if self.0 >> 15 == 1 { -size } else { size }
    }
}

impl fmt::Debug for Half {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(formatter)
    }
}

/// Characters of each text of a type: 5 of `U5`; `None` for what is no text.
fn text_length(kind: &str) -> Option<usize> {
    let digits = kind.strip_prefix(['U', 'S'])?;
    size(digits).filter(|length| (1..=MAX_TEXT).contains(length))
}

/// A text without the zeros that fill it.
fn decode_text(kind: &str, big_endian: bool, bytes: &[u8]) -> String {
    if kind.starts_with('S') {
        return String::from_utf8_lossy(bytes).trim_end_matches('\0').into();
    }
    let code = |&bytes: &[u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let text: String = bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| char::from_u32(code(bytes)).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.trim_end_matches('\0').into()
}

fn finite(number: f32) -> Option<f32> {
    number.is_finite().then_some(number)
}

/// Formats the index of the element at position `at` of the file as NumPy does: `[2, 0, 7]`.
fn index_text(mut at: usize, shape: &[usize], fortran_order: bool) -> String {
    let mut index = vec![0; shape.len()];
    let mut place = |dimension: usize| {
        index[dimension] = at % shape[dimension];
        at /= shape[dimension];
    };
    if fortran_order {
        (0..shape.len()).for_each(&mut place)
    } else {
        (0..shape.len()).rev().for_each(&mut place)
    }
    format!("{index:?}")
}

/// The elements of an array whose first index changes fastest, in the order where the last does.
fn row_major<T: Clone>(values: &[T], shape: &[usize]) -> Vec<T> {
    let mut index = vec![0; shape.len()];
    let next = |_| {
        let value = values[index.iter().zip(shape).rev().fold(0, |at, (&index, &size)| at * size + index)].clone();
        for (index, &size) in index.iter_mut().zip(shape).rev() {
            *index = (*index + 1) % size;
            if *index > 0 {
                break;
            }
        }
        value
    };
    (0..values.len()).map(next).collect()
}

fn read_header(file: &str, input: &mut dyn Read) -> Result<Header> {
    let error = |problem: String| Error::format(file, problem);
    let mut take = |bytes: usize| {
        let mut taken = Vec::new();
        Read::take(&mut *input, bytes as u64).read_to_end(&mut taken).map_err(Error::io("read", file))?;
        Ok(taken)
    };
    let start = take(8)?;
    let Some((b"\x93NUMPY", &[major @ 1..=3, 0])) = start.split_at_checked(6) else {
        return Err(error("no .npy file of version 1 to 3, as numpy.save writes them".into()));
    };
    let truncated = || error("truncated: it ends inside its header".into());
    let wanted = if major == 1 { 2 } else { 4 };
    let length = take(wanted)?;
    if length.len() < wanted {
        return Err(truncated());
    }
    let length = length.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if length > MAX_HEADER_BYTES {
        return Err(error(format!("it announces a header of {length} bytes, and the limit is {MAX_HEADER_BYTES}")));
    }
    let header = take(length)?;
    if header.len() < length {
        return Err(truncated());
    }
    std::str::from_utf8(&header).ok().and_then(Header::parse).ok_or_else(|| {
        let text = String::from_utf8_lossy(&header);
        error(format!("its header is not that of a plain array; records, for one, are not read: {}", text.trim()))
    })
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` with the entries in any order, each once.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.trim_start();
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        while !rest.starts_with('}') {
            let key;
            (key, rest) = string(rest)?;
            rest = rest.trim_start().strip_prefix(':')?.trim_start();
            match key {
                "descr" if descr.is_none() => {
                    let text;
                    (text, rest) = string(rest)?;
                    descr = Some(text.to_string());
                }
                "fortran_order" if fortran_order.is_none() => {
                    let word = ["False", "True"].into_iter().position(|word| rest.starts_with(word))?;
                    rest = &rest[if word == 1 { 4 } else { 5 }..];
                    fortran_order = Some(word == 1);
                }
                "shape" if shape.is_none() => {
                    let sizes;
                    (sizes, rest) = rest.strip_prefix('(')?.split_once(')')?;
                    // A tuple of one has a comma behind it.
                    let sizes = sizes.trim_end().strip_suffix(',').unwrap_or(sizes);
                    let sizes = sizes.split(',').filter(|size| !size.trim().is_empty() || sizes.contains(','));
                    shape = Some(sizes.map(size).collect::<Option<Vec<usize>>>()?);
                }
                _ => return None,
            }
            rest = rest.trim_start();
            match rest.strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if rest.starts_with('}') => {}
                None => return None,
            }
        }
        (rest == "}").then_some(Self { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }
}

/// A quoted text without escapes, and what follows it.
fn string(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote).filter(|(text, _)| !text.contains('\\'))
}

/// A size: digits alone.
fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Hands exactly `bytes` to `sink`, in chunks of whole elements, and refuses less or more.
fn read_chunks(
    file: &str,
    input: &mut dyn Read,
    bytes: usize,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut left = bytes;
    let mut take = |bytes: usize, chunk: &mut Vec<u8>| {
        chunk.clear();
        Read::take(&mut *input, bytes as u64).read_to_end(chunk).map(|_| ()).map_err(Error::io("read", file))
    };
    while left > 0 {
        let wanted = left.min(CHUNK);
        take(wanted, &mut chunk)?;
        if chunk.len() < wanted {
            let problem = format!(
                "truncated: its header announces {bytes} bytes of data and there are {}",
                bytes - left + chunk.len()
            );
            return Err(Error::format(file, problem));
        }
        left -= wanted;
        sink(&chunk)?;
    }
    take(1, &mut chunk)?;
    if chunk.is_empty() { Ok(()) } else { Err(Error::format(file, "it holds more than its header announces")) }
}

/// Features and targets of some examples, and what was made of the targets.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub struct Labelled {
    /// The examples.
    pub examples: Examples,
    /// The names of the classes, where the targets are texts.
    pub classes: Vec<String>,
    /// Notice about how the targets were read.
    pub notice: Option<String>,
}

/// Features and targets of some examples: `x`, `[examples, …]`, whose bytes become `byte / 255` and whose other numbers
/// are features, row-major, standardised where `format` has scales; and `y`. Integers are classes, and so are texts, one-hot rows and floats that are
/// at most [`MAX_FLOAT_CLASSES`] whole numbers; other floats are real values, `[examples]` or `[examples, outputs]`. A
/// model's `format` gives the kind of targets and the number of classes, which is otherwise the highest plus 1; and what
/// the arrays must hold. A `task` says the kind of targets where there is no `format`.
///
/// # Errors
/// [`Error::Format`] naming the file, and the index where there is one.
#[doc(hidden)]
pub fn examples(x: Array, y: Array, format: Option<&ArrayFormat>, task: Option<Task>) -> Result<Labelled> {
    let examples = x.examples()?;
    if y.shape.first() != Some(&examples) {
        let problem = format!("its shape is [{}], and {} has {examples} examples", y.shape_list(), x.file);
        return Err(y.error(problem));
    }
    if let Some(format) = format {
        x.check_features(format.elements, format.features)?;
    }
    let (features, made) = (x.width(), targets(&y, format, task)?);
    let frames = [&x, &y].map(Frame::of);
    let Made { targets, outputs, classes, notice } = made;
    let mut examples = Examples::new(x.into_features()?, targets, features, outputs)
        .map_err(|error| Error::format(&y.file, error.to_string()))?;
    if let Some(format) = format {
        examples = standardised(examples, &frames, format)?;
    }
    Ok(Labelled { examples, classes, notice: notice.map(|notice| format!("{}: {notice}", y.file)) })
}

/// File and shape of an array.
#[derive(Clone, Debug)]
struct Frame {
    file: String,
    shape: Vec<usize>,
}

impl Frame {
    fn of(Array { file, shape, .. }: &Array) -> Self {
        Self { file: file.clone(), shape: shape.clone() }
    }

    /// Returns true if an example is a list of features, and not a picture or a series.
    fn holds_lists(&self) -> bool {
        self.shape.iter().skip(1).filter(|size| **size > 1).count() <= 1
    }

    fn too_far(&self, TooFar { at, number, scale }: TooFar) -> Error {
        let place = index_text(at, &self.shape, false);
        Error::format(&self.file, format!("{place}: {}", scale.too_far(number)))
    }
}

/// Standardises features and targets of the arrays `x` and `y` by the scales of a format.
fn standardised(examples: Examples, [x, y]: &[Frame; 2], format: &ArrayFormat) -> Result<Examples> {
    let Examples { mut inputs, mut targets, features, outputs } = examples;
    if !format.scales.is_empty() {
        let scaled = scaling::scaled(Arc::unwrap_or_clone(inputs), &format.scales);
        inputs = scaled.map_err(|too_far| x.too_far(too_far))?.into();
    }
    if let (Targets::Values(values), [_, ..]) = (&*targets, &format.target_scales[..]) {
        let scaled = scaling::standardise(values.clone(), &format.target_scales);
        targets = Targets::Values(scaled.map_err(|too_far| y.too_far(too_far))?).into();
    }
    Ok(Examples { inputs, targets, features, outputs })
}

/// The most whole numbers that floats are classes with; the same as in tables.
#[doc(hidden)]
pub const MAX_FLOAT_CLASSES: usize = 20;

/// Targets made of an array.
struct Made {
    targets: Targets,
    outputs: usize,
    classes: Vec<String>,
    notice: Option<String>,
}

fn targets(y: &Array, format: Option<&ArrayFormat>, task: Option<Task>) -> Result<Made> {
    let known = format.map(|format| format.targets);
    let is_regression = match (known, task) {
        (Some(ArrayTargets::Values(_)), _) | (None, Some(Task::Regression)) => Some(true),
        (Some(ArrayTargets::Classes(_)), _) | (None, Some(Task::Classification)) => Some(false),
        (None, None) => None,
    };
    let count = match known {
        Some(ArrayTargets::Classes(count)) => Some(count),
        _ => None,
    };
    if let Values::Stored(_) = &y.values {
        return Err(y.error("targets are read into memory"));
    }
    if let Values::Texts(texts) = &y.values {
        return texts_as_classes(y, texts, format, is_regression);
    }
    if format.is_some_and(|format| !format.classes.is_empty()) {
        return Err(y.error("it holds numbers, where training was on texts: save the names of the classes"));
    }
    let width = y.width();
    if is_regression == Some(true) {
        return real_values(y, known, None);
    }
    if width > 1 {
        return match (one_hot(y), count, &y.values) {
            (Some(_), Some(count), _) if width != count => {
                Err(y.error(format!("its one-hot rows have {width} columns, not {count} as in training")))
            }
            (Some(labels), _, _) => {
                let notice = format!("its one-hot rows are {width} classes (for real values, say `task` regression)");
                let notice = format.is_none().then_some(notice);
                Ok(Made { notice, ..classes(y, count.or(Some(width)), |at| i64::from(labels[at]))? })
            }
            (None, None, Values::Floats(_)) if is_regression.is_none() => real_values(y, known, None),
            _ => Err(y.error(format!(
                "its shape is [{}]: classes are one number for each example, or one-hot rows of one 1 and else 0; for real \
                 values, say `task` regression",
                y.shape_list()
            ))),
        };
    }
    match &y.values {
        Values::Bytes(bytes) => classes(y, count, |at| bytes[at].into()),
        Values::Integers(numbers) => classes(y, count, |at| numbers[at]),
        Values::Floats(numbers) => {
            let fraction = numbers.iter().position(|number| number.fract() != 0.0);
            if let (Some(at), Some(false)) = (fraction, is_regression) {
                let at = index_text(at, &y.shape, false);
                return Err(y.error(format!("{at} is not a whole number, and classes are numbers from 0")));
            }
            let distinct = distinct_up_to(numbers, MAX_FLOAT_CLASSES);
            let are_classes = fraction.is_none()
                && distinct.is_some_and(|distinct| distinct > 1)
                && numbers.iter().all(|number| (0.0..MAX_CLASSES as f32).contains(number));
            if is_regression == Some(false) || are_classes {
                let notice = "its floats are whole numbers, and classes (for real values, say `task` regression)";
                let notice = format.is_none().then(|| notice.to_string());
                return Ok(Made { notice, ..classes(y, count, |at| numbers[at] as i64)? });
            }
            let notice = fraction.is_none().then(|| {
                "its floats are whole numbers, taken as real values (if they are classes, say `task` classification)".into()
            });
            real_values(y, known, notice)
        }
        Values::Texts(_) | Values::Stored(_) => Err(y.error("it holds no numbers in memory")),
    }
}

/// Returns the number of different values; `None` if there are more than `most`.
fn distinct_up_to(numbers: &[f32], most: usize) -> Option<usize> {
    let mut distinct = BTreeSet::new();
    for number in numbers {
        distinct.insert(number.to_bits());
        if distinct.len() > most {
            return None;
        }
    }
    Some(distinct.len())
}

/// The class of each row where every row is one 1 and else 0.
fn one_hot(y: &Array) -> Option<Vec<u32>> {
    fn rows<T: Copy + PartialEq>(values: &[T], width: usize, [zero, one]: [T; 2]) -> Option<Vec<u32>> {
        let class = |row: &[T]| {
            let at = row.iter().position(|&value| value == one)?;
            let rest = row.iter().filter(|&&value| value == zero).count();
            (rest == width - 1).then_some(at as u32)
        };
        values.chunks(width).map(class).collect()
    }
    let width = y.width();
    match &y.values {
        _ if y.shape.len() != 2 => None,
        Values::Bytes(values) => rows(values, width, [0, 1]),
        Values::Integers(values) => rows(values, width, [0, 1]),
        Values::Floats(values) => rows(values, width, [0.0, 1.0]),
        Values::Texts(_) | Values::Stored(_) => None,
    }
}

fn real_values(y: &Array, known: Option<ArrayTargets>, notice: Option<String>) -> Result<Made> {
    let outputs = y.width();
    if y.shape.len() > 2 {
        return Err(y.error(format!("its shape is [{}], not [examples] or [examples, outputs]", y.shape_list())));
    }
    if let Some(ArrayTargets::Values(count)) = known
        && count != outputs
    {
        return Err(y.error(format!("an example has {outputs} values, not {count} as in training")));
    }
    let values = match &y.values {
        Values::Bytes(bytes) => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        Values::Integers(numbers) => numbers.iter().map(|&number| number as f32).collect(),
        Values::Floats(numbers) => numbers.clone(),
        Values::Texts(_) | Values::Stored(_) => Vec::new(),
    };
    Ok(Made { targets: Targets::Values(values), outputs, classes: Vec::new(), notice })
}

fn texts_as_classes(
    y: &Array,
    texts: &[String],
    format: Option<&ArrayFormat>,
    is_regression: Option<bool>,
) -> Result<Made> {
    if is_regression == Some(true) {
        return Err(y.error("it holds texts, where real values are wanted: save numbers, as y.astype('float32')"));
    }
    if y.width() != 1 {
        return Err(y.error(format!("its shape is [{}]: classes are one text for each example", y.shape_list())));
    }
    let names: Vec<String> = match format {
        Some(format) if format.classes.is_empty() => {
            return Err(y.error("it holds texts, where training was on classes that are numbers from 0"));
        }
        Some(format) => format.classes.clone(),
        None => texts.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect(),
    };
    match &names[..] {
        [only] => return Err(y.error(format!("one class only, {only:?}: there is nothing to tell apart"))),
        names if names.len() > MAX_CLASSES => {
            return Err(y.error(format!("{} different texts: at most {MAX_CLASSES} can be classes", names.len())));
        }
        _ => {}
    }
    let mut place: BTreeMap<&str, u32> = BTreeMap::new();
    place.extend(names.iter().map(String::as_str).zip(0..));
    let label = |(at, text): (usize, &String)| {
        place.get(text.as_str()).copied().ok_or_else(|| {
            let at = index_text(at, &y.shape, false);
            y.error(format!("{at} is {text:?}: it is not one of the classes {}", names.join(", ")))
        })
    };
    let labels = texts.iter().enumerate().map(label).collect::<Result<Vec<u32>>>()?;
    let outputs = names.len();
    let notice = format.is_none().then(|| format!("its texts are {outputs} classes"));
    Ok(Made { targets: Targets::Classes(labels), outputs, classes: names, notice })
}

/// Classes that are numbers from 0; so many if `count` says it.
fn classes(y: &Array, count: Option<usize>, label: impl Fn(usize) -> i64) -> Result<Made> {
    let limit = count.unwrap_or(MAX_CLASSES).min(MAX_CLASSES);
    let mut labels = Vec::with_capacity(y.shape[0]);
    for at in 0..y.shape[0] {
        let label = label(at);
        let class = usize::try_from(label).ok().filter(|&class| class < limit).ok_or_else(|| {
            let problem = match count {
                Some(count) => format!("classes are 0 to {}, as in training", count - 1),
                None => {
                    format!("classes are numbers from 0, below {MAX_CLASSES}: number them from 0, or for real values say `task` regression")
                }
            };
            y.error(format!("{} is {label}: {problem}", index_text(at, &y.shape, false)))
        })?;
        labels.push(class as u32);
    }
    let mut distinct: BTreeSet<u32> = BTreeSet::new();
    distinct.extend(&labels);
    let highest = distinct.last().map_or(0, |&label| label as usize);
    if count.is_none() && distinct.len() == 1 {
        return Err(y.error(format!("one class only, {highest}: there is nothing to tell apart")));
    }
    let outputs = count.unwrap_or(highest + 1);
    Ok(Made { targets: Targets::Classes(labels), outputs, classes: Vec::new(), notice: None })
}

impl Array {
    /// Returns the number of examples, one for each index of the first dimension.
    ///
    /// # Errors
    /// [`Error::Format`] where it is a single number.
    pub fn examples(&self) -> Result<usize> {
        self.shape.first().copied().ok_or_else(|| self.error("it is a single number, not [examples, …]"))
    }

    /// Checks that its examples are what a model was trained on.
    ///
    /// # Errors
    /// [`Error::Format`] if they are not.
    pub fn check_features(&self, wanted: Elements, features: usize) -> Result<()> {
        let (elements, width) = (self.elements(), self.width());
        if elements != wanted {
            return Err(self.error(format!("it holds {}, where training was on {}", elements.name(), wanted.name())));
        }
        if width != features {
            return Err(self.error(format!("an example has {width} features, not {features} as in training")));
        }
        Ok(())
    }

    /// Returns the elements as features, `[examples, …]`.
    ///
    /// # Errors
    /// [`Error::Format`] where they are texts.
    pub fn into_features(self) -> Result<Features> {
        Ok(match self.values {
            Values::Texts(_) => return Err(self.error("it holds texts, and features are numbers")),
            Values::Bytes(bytes) => Features::Bytes(bytes),
            Values::Integers(numbers) => Features::Floats(numbers.into_iter().map(|number| number as f32).collect()),
            Values::Floats(numbers) => Features::Floats(numbers),
            Values::Stored(stored) => Features::Stored(stored),
        })
    }

    /// Returns the elements as features of a model with this format.
    ///
    /// # Errors
    /// [`Error::Format`] where they are texts, or a number is too far from those of training.
    pub(super) fn into_features_of(self, format: &ArrayFormat) -> Result<Features> {
        let frame = Frame::of(&self);
        scaling::scaled(self.into_features()?, &format.scales).map_err(|too_far| frame.too_far(too_far))
    }

    fn elements(&self) -> Elements {
        match &self.values {
            Values::Bytes(_) => Elements::Bytes,
            Values::Stored(stored) if stored.is_bytes() => Elements::Bytes,
            Values::Stored(_) | Values::Integers(_) | Values::Floats(_) | Values::Texts(_) => Elements::Numbers,
        }
    }

    fn shape_list(&self) -> String {
        self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Elements {
    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes (uint8)",
            Self::Numbers => "numbers other than bytes",
        }
    }
}

mod folder {
    use std::io::BufReader;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use super::{Array, Frame, Labelled, examples, standardised};
    use crate::data::csv::Task;
    use crate::data::files::{self as fs, File};
    use crate::data::preprocessing::{ArrayFormat, Preprocessing, TestPart};
    use crate::data::{
        self, Data, Examples, Features, Listed, Origin, Targets, choose_test, scaling, training_rows, zip,
    };
    use crate::error::{Error, Result};

    /// Loads the arrays of a folder, or of an `.npz` archive: `x` and `y`, and for testing `x_test` and `y_test` or else a
    /// share of the examples, a fifth if none is given; the seed decides which. Other names are as good: `x_train`,
    /// `X_train`, `train_images` and `y_train`, `train_labels`, `images` and `labels`; see [`examples`] for what they hold.
    /// Numbers are standardised by mean and deviation of the training part.
    ///
    /// # Errors
    /// As of [`examples`] and [`Array::read`]; [`Error::Invalid`] for a test part that does not go with the arrays.
    pub fn load(path: &Path, test: Option<&TestPart>, task: Option<Task>, seed: u64) -> Result<Data> {
        let set = Set::open(path)?;
        let test = match (test, &set.test) {
            (Some(asked @ TestPart::Path(_)), _) => {
                return Err(Error::Invalid(format!(
                    "`test` {asked}: arrays to test with are x_test.npy and y_test.npy, beside {}",
                    set.train.join(" and ")
                )));
            }
            (Some(asked), Some(own)) => {
                return Err(Error::Invalid(format!(
                    "`test` {asked}: {} has its own test part, {}; remove `test`",
                    path.display(),
                    own.join(" and ")
                )));
            }
            (None, Some(own)) => TestPart::Path(set.place(&own[0])),
            (asked, None) => asked.cloned().unwrap_or_default(),
        };
        let name = path.display().to_string();
        let (Labelled { examples, classes, notice }, frames) = set.read(&set.train, None, task)?;
        let format = ArrayFormat { classes, test, ..ArrayFormat::of(&examples) };
        let chosen = choose_test(&name, &format.test, examples.labels().ok(), examples.len(), seed)?;
        let notices = set.notices.iter().cloned().chain(notice).collect();
        let whole = AsRead { listed: set.listed(&set.train, examples, notices), frames };
        let test = match (&chosen, &set.test) {
            (None, Some(own)) => {
                let (Labelled { examples, notice, .. }, frames) = set.read(own, Some(&format), None)?;
                Some(AsRead { listed: set.listed(own, examples, notice.into_iter().collect()), frames })
            }
            _ => None,
        };
        let chosen = chosen.unwrap_or_else(|| vec![false; whole.listed.examples.len()]);
        Loaded { name, whole, chosen, test, format }.data()
    }

    /// Arrays as they were read, with what standardises them.
    #[derive(Clone, Debug)]
    pub struct Loaded {
        /// The folder or archive.
        name: String,
        whole: AsRead,
        /// True for each example of the whole that is to test with.
        chosen: Vec<bool>,
        /// A test part of its own.
        test: Option<AsRead>,
        /// The format without scales.
        format: ArrayFormat,
    }

    /// Examples with features and targets as they are in their arrays.
    #[derive(Clone, Debug)]
    struct AsRead {
        listed: Listed,
        /// Files and shapes of features and targets.
        frames: [Frame; 2],
    }

    impl AsRead {
        fn standardised(&self, format: &ArrayFormat) -> Result<Listed> {
            let listed = self.listed.clone();
            Ok(Listed { examples: standardised(listed.examples, &self.frames, format)?, ..listed })
        }
    }

    impl Loaded {
        /// Builds the data set.
        fn data(self) -> Result<Data> {
            let format = self.fit(&training_rows(&self.chosen, 0.0, 0))?;
            let (train, test) = self.parts(&format)?;
            let is_standardised = format.scales.len() + format.target_scales.len() > 0;
            let preprocessing = Preprocessing::Arrays(format);
            let problem = |problem: String| Error::format(&self.name, problem);
            train.check_learnable(preprocessing.class_names()).map_err(problem)?;
            Ok(Data {
                preprocessing: Some(preprocessing),
                notices: self.whole.listed.notices.iter().cloned().chain(test.notices).collect(),
                test_origins: test.origins,
                ..Data::of_parts(&self.name, train, test.examples)
            })
            .map(|data| Data { loaded: is_standardised.then(|| data::Loaded::Arrays(Arc::new(self))), ..data })
        }

        /// Standardises by the examples that remain in the training part after [`Examples::split`] has held out the share
        /// `validation`; returns training part, test part and format.
        pub(in crate::data) fn refit(&self, validation: f64, seed: u64) -> Result<(Examples, Examples, ArrayFormat)> {
            let format = self.fit(&training_rows(&self.chosen, validation, seed))?;
            let (train, test) = self.parts(&format)?;
            Ok((train, test.examples, format))
        }

        /// Training part, test part and format without standardisation.
        pub(in crate::data) fn as_they_are(&self) -> Result<(Examples, Examples, ArrayFormat)> {
            let (train, test) = self.parts(&self.format)?;
            Ok((train, test.examples, self.format.clone()))
        }

        /// The format with the scales of the chosen examples.
        fn fit(&self, chosen: &[bool]) -> Result<ArrayFormat> {
            let AsRead { listed: Listed { examples, .. }, frames: [x, _] } = &self.whole;
            let scales = scaling::of_features(&examples.inputs, examples.features, chosen, x.holds_lists());
            examples.check_read()?;
            let target_scales = match &*examples.targets {
                Targets::Classes(_) => Vec::new(),
                Targets::Values(values) => scaling::of_targets(values, examples.outputs, chosen),
            };
            let format = ArrayFormat { scales, target_scales, ..self.format.clone() };
            let checked = Preprocessing::Arrays(format.clone()).check();
            checked.map_err(|error| Error::format(&self.name, error.to_string()))?;
            Ok(format)
        }

        /// Builds the training part and the test part.
        fn parts(&self, format: &ArrayFormat) -> Result<(Examples, Listed)> {
            let mut train = self.whole.standardised(format)?;
            let test = match &self.test {
                Some(test) => test.standardised(format)?,
                None => {
                    let (examples, origins) = train.take(&self.chosen);
                    Listed { examples, origins, notices: Vec::new() }
                }
            };
            Ok((train.examples, test))
        }
    }

    /// Every example of a set, but for its own test part, as a model with this format reads them.
    pub(in crate::data) fn own_examples(path: &Path, format: &ArrayFormat) -> Result<Listed> {
        let set = Set::open(path)?;
        let (Labelled { examples, notice, .. }, _) = set.read(&set.train, Some(format), None)?;
        let notices = set.notices.iter().cloned().chain(notice).collect();
        Ok(set.listed(&set.train, examples, notices))
    }

    /// The examples of its own test part, if it has one.
    pub(in crate::data) fn own_test(path: &Path, format: &ArrayFormat) -> Result<Option<Listed>> {
        let set = Set::open(path)?;
        let Some(test) = &set.test else { return Ok(None) };
        let (Labelled { examples, notice, .. }, _) = set.read(test, Some(format), None)?;
        Ok(Some(set.listed(test, examples, notice.into_iter().collect())))
    }

    /// Returns true if a path is an `.npz` archive, or a folder with arrays to train on.
    pub(in crate::data) fn is_set(path: &Path) -> bool {
        if is_archive(path) {
            return true;
        }
        let has = |role| file_names(path).iter().any(|name| place_of(name) == Some((Part::Train, role)));
        let has_folders = || {
            let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.any(|entry| fs::is_dir(&entry.path()))
        };
        match [has(Role::X), has(Role::Y)] {
            [true, true] => true,
            [false, false] => false,
            _ => !has_folders(),
        }
    }

    fn is_archive(path: &Path) -> bool {
        path.extension().is_some_and(|end| end.eq_ignore_ascii_case("npz")) && !fs::is_dir(path)
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Part {
        Train,
        Test,
        Validation,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Role {
        X,
        Y,
    }

    /// Returns part and role of an array by its name: `x`, `x_train`, `X_train.npy`, `trainX`, `train_images`,
    /// `labels`, ….
    fn place_of(name: &str) -> Option<(Part, Role)> {
        const PARTS: [(&str, Part); 6] = [
            ("training", Part::Train),
            ("train", Part::Train),
            ("test", Part::Test),
            ("validation", Part::Validation),
            ("valid", Part::Validation),
            ("val", Part::Validation),
        ];
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".npy").unwrap_or(&name);
        let without =
            |part: &str| name.strip_prefix(part).or_else(|| name.strip_suffix(part)).map(|rest| rest.to_string());
        let found = PARTS.iter().find_map(|&(text, part)| Some((without(text)?, part)));
        let (rest, part) = found.unwrap_or_else(|| (name.to_string(), Part::Train));
        let role = match rest.trim_matches(['_', '-', '.', ' ']) {
            "x" | "xs" | "image" | "images" | "data" | "feature" | "features" | "input" | "inputs" => Role::X,
            "y" | "ys" | "label" | "labels" | "target" | "targets" | "class" | "classes" => Role::Y,
            _ => return None,
        };
        Some((part, role))
    }

    /// The names of the arrays in a folder.
    fn file_names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.to_ascii_lowercase().ends_with(".npy")).collect();
        names.sort();
        names
    }

    /// Arrays by the parts of the data that they are.
    struct Set {
        path: PathBuf,
        /// Entries of an archive.
        entries: Option<Vec<zip::Entry>>,
        /// Features and targets to train on, and to test with.
        train: [String; 2],
        test: Option<[String; 2]>,
        notices: Vec<String>,
    }

    impl Set {
        fn open(path: &Path) -> Result<Self> {
            let (names, entries) = if is_archive(path) {
                let mut file = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
                let entries = zip::entries(&path.display().to_string(), &mut file)?;
                (entries.iter().map(|entry| entry.name.clone()).collect(), Some(entries))
            } else {
                (file_names(path), None)
            };
            let error = |problem: String| Error::format(path.display().to_string(), problem);
            let find = |part: Part, role: Role| {
                let mut found = names.iter().filter(|name| place_of(name) == Some((part, role)));
                match (found.next(), found.next()) {
                    (Some(first), Some(second)) => {
                        Err(error(format!("{first} and {second} are both {}: leave one of them", part.text(role))))
                    }
                    (found, _) => Ok(found.cloned()),
                }
            };
            let pair = |part: Part| match [find(part, Role::X)?, find(part, Role::Y)?] {
                [Some(x), Some(y)] => Ok(Some([x, y])),
                [None, None] => Ok(None),
                [x, y] => {
                    let missing = part.file(if x.is_none() { Role::X } else { Role::Y });
                    let there = x.or(y).unwrap_or_default();
                    let both = if part == Part::Train { "examples are both" } else { "a test part is both" };
                    Err(error(format!("it has {there} but no {missing}: {both}")))
                }
            };
            let Some(train) = pair(Part::Train)? else {
                return Err(error(format!(
                    "it needs arrays x and y, or x_train and y_train, or images and labels; it has {}",
                    if names.is_empty() { "none".into() } else { names.join(", ") }
                )));
            };
            let (test, validation) = (pair(Part::Test)?, pair(Part::Validation)?);
            let notices = match (&test, &validation) {
                (Some(_), Some([x, y])) => vec![format!(
                    "{x} and {y} are not used: to validate, hold out a share of the training part with `validation` 0.1"
                )],
                (None, Some([x, y])) => {
                    vec![format!("{x} and {y} are the test part: it is measured after every epoch")]
                }
                _ => Vec::new(),
            };
            Ok(Self { path: path.into(), entries, train, test: test.or(validation), notices })
        }

        /// Formats the place of an array for errors.
        fn place(&self, name: &str) -> String {
            match self.entries {
                Some(_) => format!("{}[{}]", self.path.display(), name.strip_suffix(".npy").unwrap_or(name)),
                None => self.path.join(name).display().to_string(),
            }
        }

        fn array(&self, name: &str) -> Result<Array> {
            let place = self.place(name);
            let Some(entries) = &self.entries else {
                let path = self.path.join(name);
                let file = File::open(&path).map_err(Error::io("read", &path))?;
                return Array::read(&place, BufReader::new(file));
            };
            let mut file = BufReader::new(File::open(&self.path).map_err(Error::io("read", &self.path))?);
            let entry = entries.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| Error::format(&place, "it is not in the archive"))?;
            zip::read(&self.path.display().to_string(), &mut file, entry, |input| Array::read(&place, input))
        }

        /// Examples with their indices in the arrays of these names.
        fn listed(&self, [x, _]: &[String; 2], examples: Examples, notices: Vec<String>) -> Listed {
            let name: Arc<str> = self.place(x).into();
            // Of features that memory need not hold, only the order is known.
            let indices = if matches!(*examples.inputs, Features::Stored(_)) { 0 } else { examples.len() };
            let origins = (0..indices).map(|index| Origin::Index(name.clone(), index)).collect();
            Listed { examples, origins, notices }
        }

        /// The features of a file: those of a large one stay there.
        fn features(&self, name: &str) -> Result<Array> {
            #[cfg(not(target_arch = "wasm32"))]
            if self.entries.is_none() {
                let path = self.path.join(name);
                let file = File::open(&path).map_err(Error::io("read", &path))?;
                let there = file.metadata().map_err(Error::io("read", &path))?;
                if there.is_file()
                    && there.len() > crate::data::stored::in_memory_bytes()
                    && let Some(array) = super::store(&self.place(name), file)?
                {
                    return Ok(array);
                }
            }
            self.array(name)
        }

        /// Examples of the arrays of these names, with files and shapes of the arrays.
        fn read(
            &self,
            [x, y]: &[String; 2],
            format: Option<&ArrayFormat>,
            task: Option<Task>,
        ) -> Result<(Labelled, [Frame; 2])> {
            let (x, y) = (self.features(x)?, self.array(y)?);
            let frames = [&x, &y].map(Frame::of);
            Ok((examples(x, y, format, task)?, frames))
        }
    }

    impl Part {
        /// Returns the usual file name of this role.
        fn file(self, role: Role) -> String {
            let name = if role == Role::X { "x" } else { "y" };
            match self {
                Self::Train => format!("{name}.npy"),
                Self::Test => format!("{name}_test.npy"),
                Self::Validation => format!("{name}_val.npy"),
            }
        }

        fn text(self, role: Role) -> &'static str {
            match (self, role) {
                (Self::Train, Role::X) => "features to train on",
                (Self::Train, Role::Y) => "targets to train on",
                (Self::Test, Role::X) => "features to test with",
                (Self::Test, Role::Y) => "targets to test with",
                (Self::Validation, Role::X) => "features to validate with",
                (Self::Validation, Role::Y) => "targets to validate with",
            }
        }
    }
}
