//! NumPy arrays: `.npy` files as `numpy.save` writes them, and folders of them as data sets.
//!
//! A file is `\x93NUMPY`, the version of its format, the length of its header (two bytes, from version 2 on four), a Python
//! dictionary that gives type, order and shape, and the elements. Source: NumPy, "A simple file format for NumPy arrays"
//! (`numpy.lib.format`). The dictionary has three known entries, which are read strictly here; the crates for this format
//! bring a parser of all Python literals.

use std::collections::BTreeSet;
use std::io::Read;

use super::idx::shape_text;
use super::preprocessing::{ArrayFormat, ArrayTargets, Elements};
use super::{Examples, Features, MAX_CLASSES, Targets};
use crate::error::{Error, Result};

#[cfg(not(target_arch = "wasm32"))]
pub use folder::load;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use folder::{is_folder, own_examples, own_test};

/// The longest header that is read; of arrays that are not structured it has about a hundred bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Bytes that are read at a time, and up to which an announced size is believed before the data is there.
const CHUNK: usize = 64 << 10;
const TRUSTED: usize = 64 << 20;

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// What errors call its file.
    pub file: String,
    /// Its dimensions; none is 0.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Values,
}

/// The elements of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of `uint8`.
    Bytes(Vec<u8>),
    /// Of any other type of integers, and of `bool`.
    Integers(Vec<i64>),
    /// Of `float32`, or of `float64` and rounded; all finite.
    Floats(Vec<f32>),
}

/// What a header says.
struct Header {
    /// Type of the elements, such as `<f4`: byte order, kind and bytes.
    descr: String,
    /// Whether the first index changes fastest.
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
        let header = read_header(file, &mut input)?;
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
                read_chunks(file, &mut input, count * size, |chunk| {
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
            "f4" => elements!(f32, Floats, |number| finite(number).ok_or("")),
            "f8" => elements!(f64, Floats, |number| finite(number as f32).ok_or(if number.is_finite() {
                ", beyond the range of 32-bit floats"
            } else {
                ""
            })),
            _ => {
                return Err(error(format!(
                    "its elements are of type {:?}, not integers, float32 or float64: save array.astype('float32')",
                    header.descr
                )));
            }
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

fn finite(number: f32) -> Option<f32> {
    number.is_finite().then_some(number)
}

/// As NumPy indexes the element that is at this place in the file: `[2, 0, 7]`.
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
fn row_major<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let mut index = vec![0; shape.len()];
    let next = |_| {
        let value = values[index.iter().zip(shape).rev().fold(0, |at, (&index, &size)| at * size + index)];
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

fn read_header(file: &str, input: &mut impl Read) -> Result<Header> {
    let error = |problem: String| Error::format(file, problem);
    let mut take = |bytes: usize| {
        let mut taken = Vec::new();
        input.take(bytes as u64).read_to_end(&mut taken).map_err(Error::io("read", file))?;
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
        error(format!("its header is none of a plain array, such as records are not: {}", text.trim()))
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
    input: &mut impl Read,
    bytes: usize,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut left = bytes;
    let mut take = |bytes: usize, chunk: &mut Vec<u8>| {
        chunk.clear();
        input.take(bytes as u64).read_to_end(chunk).map(|_| ()).map_err(Error::io("read", file))
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

/// Features and targets of some examples: `x`, `[examples, …]`, whose bytes become `byte / 255` and whose other numbers
/// are features as they are, row-major; and `y`, integers for classes, `[examples]`, or floats for real values,
/// `[examples]` or `[examples, outputs]`. A model's `format` gives the number of classes, otherwise it is the highest plus
/// 1; and what the arrays must hold.
///
/// # Errors
/// [`Error::Format`] naming the file, and the index where there is one.
pub fn examples(x: Array, y: Array, format: Option<&ArrayFormat>) -> Result<Examples> {
    let examples = x.examples()?;
    if y.shape.first() != Some(&examples) {
        let problem = format!("its shape is [{}], and {} has {examples} examples", y.shape_list(), x.file);
        return Err(y.error(problem));
    }
    if let Some(format) = format {
        x.check_features(format.elements, format.features)?;
    }
    let (features, (targets, outputs)) = (x.width(), targets(&y, format)?);
    let inputs = x.into_features();
    Examples::new(inputs, targets, features, outputs).map_err(|error| Error::format(y.file, error.to_string()))
}

fn targets(y: &Array, format: Option<&ArrayFormat>) -> Result<(Targets, usize)> {
    let format = format.map(|format| format.targets);
    let (label, name): (Box<dyn Fn(usize) -> i64>, _) = match &y.values {
        Values::Floats(values) => {
            let outputs = y.width();
            if y.shape.len() > 2 {
                return Err(
                    y.error(format!("its shape is [{}], not [examples] or [examples, outputs]", y.shape_list()))
                );
            }
            return match format {
                Some(ArrayTargets::Classes(_)) => {
                    Err(y.error("it holds floats, where training was on classes: save integers"))
                }
                Some(ArrayTargets::Values(count)) if count != outputs => {
                    Err(y.error(format!("an example has {outputs} values, not {count} as in training")))
                }
                _ => Ok((Targets::Values(values.clone()), outputs)),
            };
        }
        Values::Bytes(bytes) => (Box::new(|at| bytes[at].into()), "bytes"),
        Values::Integers(numbers) => (Box::new(|at| numbers[at]), "integers"),
    };
    let as_values = "for real values, save y.astype('float32')";
    let classes = match format {
        Some(ArrayTargets::Classes(count)) => Some(count),
        Some(ArrayTargets::Values(_)) => {
            return Err(y.error(format!("it holds {name}, where training was on real values: {as_values}")));
        }
        None => None,
    };
    if y.width() != 1 {
        return Err(y.error(format!(
            "its shape is [{}]: {name} are classes, one for each example; for one-hot rows, save y.argmax(axis=1), and \
             {as_values}",
            y.shape_list()
        )));
    }
    let limit = classes.unwrap_or(MAX_CLASSES);
    let mut labels = Vec::with_capacity(y.shape[0]);
    for at in 0..y.shape[0] {
        let label = label(at);
        let class = usize::try_from(label).ok().filter(|&class| class < limit).ok_or_else(|| {
            let problem = match classes {
                Some(count) => format!("classes are 0 to {}, as in training", count - 1),
                None => format!("classes are numbers from 0, below {MAX_CLASSES}; {as_values}"),
            };
            y.error(format!("{} is {label}: {problem}", index_text(at, &y.shape, false)))
        })?;
        labels.push(class as u32);
    }
    let distinct: BTreeSet<u32> = labels.iter().copied().collect();
    let highest = distinct.last().map_or(0, |&label| label as usize);
    if classes.is_none() && distinct.len() == 1 {
        return Err(y.error(format!("one class only, {highest}: there is nothing to tell apart")));
    }
    Ok((Targets::Classes(labels), classes.unwrap_or(highest + 1)))
}

impl Array {
    /// How many examples it has, if each of its first dimension is one.
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

    /// Its elements as features, `[examples, …]`.
    pub fn into_features(self) -> Features {
        match self.values {
            Values::Bytes(bytes) => Features::Bytes(bytes),
            Values::Integers(numbers) => Features::Floats(numbers.into_iter().map(|number| number as f32).collect()),
            Values::Floats(numbers) => Features::Floats(numbers),
        }
    }

    fn elements(&self) -> Elements {
        match self.values {
            Values::Bytes(_) => Elements::Bytes,
            Values::Integers(_) | Values::Floats(_) => Elements::Numbers,
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

#[cfg(not(target_arch = "wasm32"))]
mod folder {
    use std::fs::File;
    use std::io::BufReader;
    use std::path::Path;

    use super::{Array, examples};
    use crate::data::preprocessing::{ArrayFormat, ArrayTargets, Elements, Preprocessing, TestPart};
    use crate::data::{Data, Examples, Features, Targets, kind};
    use crate::error::{Error, Result};

    /// Features and targets to train on, and to test with.
    const TRAIN: [&str; 2] = ["x.npy", "y.npy"];
    const TEST: [&str; 2] = ["x_test.npy", "y_test.npy"];

    /// Loads a folder with the arrays `x.npy` and `y.npy`, and for testing `x_test.npy` and `y_test.npy` or else a share
    /// of the examples, a fifth if none is given; the seed decides which. See [`examples`] for what they hold.
    ///
    /// # Errors
    /// As of [`examples`] and [`Array::read`]; [`Error::Invalid`] for a test part that does not go with the folder.
    pub fn load(folder: &Path, test: Option<&TestPart>, seed: u64) -> Result<Data> {
        let has_test = has_test(folder)?;
        let test = match test {
            Some(asked @ TestPart::Path(_)) => {
                return Err(Error::Invalid(format!(
                    "--test {asked}: arrays to test with are {}, beside {}",
                    TEST.join(" and "),
                    TRAIN.join(" and ")
                )));
            }
            Some(asked) if has_test => {
                return Err(Error::Invalid(format!(
                    "--test {asked}: {} has its own test part, {}; leave --test away",
                    folder.display(),
                    TEST.join(" and ")
                )));
            }
            _ if has_test => TestPart::Path(folder.join(TEST[0]).display().to_string()),
            asked => asked.cloned().unwrap_or_default(),
        };
        let train = read(folder, TRAIN, None)?;
        let format = ArrayFormat {
            elements: match *train.inputs {
                Features::Bytes(_) => Elements::Bytes,
                Features::Floats(_) => Elements::Numbers,
            },
            features: train.features,
            targets: match *train.targets {
                Targets::Classes(_) => ArrayTargets::Classes(train.outputs),
                Targets::Values(_) => ArrayTargets::Values(train.outputs),
            },
            test,
        };
        kind::data(&folder.display().to_string(), train, Preprocessing::Arrays(format), seed)
    }

    /// Every example of a folder, but for its own test part, as a model with this format reads them.
    pub(in crate::data) fn own_examples(folder: &Path, format: &ArrayFormat) -> Result<Examples> {
        read(folder, TRAIN, Some(format))
    }

    /// The examples of its own test part, if it has one.
    pub(in crate::data) fn own_test(folder: &Path, format: &ArrayFormat) -> Result<Option<Examples>> {
        has_test(folder)?.then(|| read(folder, TEST, Some(format))).transpose()
    }

    /// Whether there is one of the arrays to train on.
    pub(in crate::data) fn is_folder(folder: &Path) -> bool {
        TRAIN.iter().any(|file| folder.join(file).is_file())
    }

    fn has_test(folder: &Path) -> Result<bool> {
        match TEST.map(|file| folder.join(file).exists()) {
            [true, true] => Ok(true),
            [false, false] => Ok(false),
            [x, _] => {
                let (there, missing) = if x { (TEST[0], TEST[1]) } else { (TEST[1], TEST[0]) };
                let problem = format!("it has {there} but no {missing}: a test part is both");
                Err(Error::format(folder.display().to_string(), problem))
            }
        }
    }

    fn read(folder: &Path, files: [&str; 2], format: Option<&ArrayFormat>) -> Result<Examples> {
        let paths = files.map(|file| folder.join(file));
        if let Some(missing) = paths.iter().position(|path| !path.is_file()) {
            let problem = format!("it has {} but no {}: examples are both", files[1 - missing], files[missing]);
            return Err(Error::format(folder.display().to_string(), problem));
        }
        let [x, y] = paths.map(|path| {
            let file = File::open(&path).map_err(Error::io("read", &path))?;
            Array::read(&path.display().to_string(), BufReader::new(file))
        });
        examples(x?, y?, format)
    }
}
