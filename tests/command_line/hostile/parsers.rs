//! What every parser owes to any bytes at all: no panic, and an error that can be printed or a result that agrees with
//! the bytes. One function for each parser; the property tests and the fuzz targets call the same.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};
use softstep::data::csv::{self, TableOptions, Task};
use softstep::data::idx::{self, Idx, MAX_BYTES};
use softstep::data::npy::{self, Array, Values};
use softstep::data::predict_inputs::{Fit, Inputs, Reading};
use softstep::data::{Missing, Preprocessing, TestPart};
use softstep::model_file;
use softstep::optimizer::TrainingState;
use softstep::{Error, Result, checkpoint};

/// What messages call the file.
const FILE: &str = "some/file";

/// A parser under its fuzz target's name.
pub type Parser = (&'static str, fn(&[u8]));

/// Every parser.
#[allow(dead_code)] // a fuzz target calls its one
pub const PARSERS: [Parser; 11] = [
    ("csv", csv),
    ("csv_again", csv_again),
    ("idx", idx),
    ("idx_folder", idx_folder),
    ("npy", npy),
    ("npy_pair", npy_pair),
    ("npy_stored", npy_stored),
    ("npz", npz),
    ("picture", picture),
    ("model_file", model_file),
    ("checkpoint", checkpoint),
];

/// The bytes of a table with the target `y`; another task for the first byte's lowest bit, other options for the length's.
pub fn csv(bytes: &[u8]) {
    let task = bytes.first().filter(|&byte| byte & 1 == 1).map(|_| Task::Classification);
    let missing = [Missing::Fill, Missing::Fill, Missing::Drop, Missing::Refuse][bytes.len() % 4];
    let options =
        TableOptions { target: "y".into(), task, missing, test: TestPart::Share(0.5), ..TableOptions::default() };
    let data = match csv::read(FILE, bytes, &options, 1) {
        Err(Error::Invalid(problem)) => return assert!(problem.starts_with("some/file: `test` 0.5 of 1 examples")),
        result => sound(result),
    };
    let Some(mut data) = data else { return };
    check_table(&data);
    // A model of these data reads the same bytes, in as many rows or more: some may have no target.
    let preprocessing = data.preprocessing.clone().expect("how it was made");
    let without_target = data.notices.iter().any(|notice| notice.contains(" no y and "));
    match sound(read_again(bytes, &preprocessing)) {
        Some(inputs) => assert!(inputs.names.len() >= data.train.len() + data.test.len()),
        // Such a row may have a gap that is refused, or a number that is too far from those that were trained on; and a row
        // without values, which is left out in training, is nothing but gaps.
        None => assert!(without_target || missing == Missing::Refuse, "what was trained on"),
    }
    // Fewer rows have other means, and a value may be too far from them.
    if let Some(()) = sound(data.refit(0.5, 3)) {
        check_table(&data);
    }
}

fn check_table(data: &softstep::data::Data) {
    let preprocessing = data.preprocessing.as_ref().expect("how it was made");
    preprocessing.check().expect("it can be kept");
    for examples in [&data.train, &data.test] {
        assert!(!examples.is_empty());
        assert_eq!([examples.features, examples.outputs], [preprocessing.features(), preprocessing.outputs()]);
        assert!((0..examples.len()).flat_map(|example| examples.input(example)).all(f64::is_finite));
    }
}

fn read_again(bytes: &[u8], preprocessing: &Preprocessing) -> Result<Inputs> {
    let features = preprocessing.features();
    Reading { features, image: None, preprocessing: Some(preprocessing), fit: Fit::Whole, shapes: None, strict: false }
        .read(FILE, bytes)
}

/// Formats of models that read tables in every form.
pub const FORMATS: [&str; 3] = [
    r#"{"columns":[{"name":"a","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"form":"decimal_comma",
        "marks_gaps":true},{"name":"b","encoding":{"one_hot":["","u","v"]}},
        {"name":"c","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"form":"day_month_year"}],
        "target":"y","encoding":{"classes":["x","z"]},"test":0.2}"#,
    r#"{"columns":[{"name":"1","encoding":{"standardised":{"mean":0.5,"deviation":1e-30}}},
        {"name":"3","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"form":"boolean"}],
        "target":"2","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"test":0.2,"missing":"drop","positions":3}"#,
    r#"{"columns":[{"name":"a","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"form":"month_day_year"},
        {"name":"b","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"form":"year_month_day"}],
        "target":"y","encoding":{"classes":["1","2"]},"test":0.2,"missing":"refuse"}"#,
];

/// The bytes of a table that models of three formats read.
pub fn csv_again(bytes: &[u8]) {
    for format in FORMATS {
        let format: Preprocessing = serde_json::from_str(format).expect("a format");
        let inputs = match read_again(bytes, &format) {
            // Bytes of other kinds of files are not taken for a table.
            Err(error) if error.to_string().contains("the model reads tables") => continue,
            result => sound(result),
        };
        let Some(Inputs { names, features, .. }) = inputs else { continue };
        assert_eq!(features.len(), names.len() * format.features());
        let softstep::data::Features::Floats(features) = features else { panic!("bytes") };
        assert!(features.iter().all(|value| value.is_finite()));
        assert!(names.len() <= bytes.len().max(1_000_000));
    }
}

/// The bytes of an IDX file, gzipped or not.
pub fn idx(bytes: &[u8]) {
    let Some(idx) = sound(Idx::new(FILE, bytes)) else { return };
    let (shape, header, features) = (idx.shape().to_vec(), idx.header().to_vec(), idx.features());
    let size: u64 = shape.iter().map(|&size| size as u64).product(); // a wrong header would overflow here
    assert!((1..=MAX_BYTES).contains(&size));
    assert_eq!((features * shape[0]) as u64, size);
    assert_eq!(header.len(), 4 + 4 * shape.len());

    let gzipped = idx.is_gzipped();
    let Some(elements) = sound(idx.read()) else { return };
    assert_eq!(elements.len() as u64, size);
    let whole = [header, elements].concat();
    if gzipped {
        let mut inflated = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut inflated).expect("it was read");
        assert!(inflated == whole);
    } else {
        assert!(bytes == whole);
    }
}

/// Four IDX files, one after the other, behind the lengths of the first three as little-endian u16.
pub fn idx_folder(bytes: &[u8]) {
    let mut rest = bytes.get(6..).unwrap_or_default();
    let mut files = [rest; 4];
    for (file, length) in files.iter_mut().zip(bytes.as_chunks().0.iter().take(3)) {
        (*file, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    }
    files[3] = rest;
    let [Some(a), Some(b), Some(c), Some(d)] = files.map(|file| sound(Idx::new(FILE, file))) else { return };
    let Some(data) = sound(idx::data(FILE, [a, b, c, d])) else { return };
    for examples in [&data.train, &data.test] {
        assert!(!examples.is_empty() && examples.features > 0 && (2..=256).contains(&examples.outputs));
        assert_eq!(examples.inputs.len(), examples.len() * examples.features);
        assert!(examples.labels().unwrap().iter().all(|&label| (label as usize) < examples.outputs));
    }
    assert_eq!((data.train.features, data.train.outputs), (data.test.features, data.test.outputs));
}

/// The bytes of a `.npy` file.
pub fn npy(bytes: &[u8]) {
    let Some(array) = sound(Array::read(FILE, bytes)) else { return };
    let size: usize = array.shape.iter().product();
    let (length, width) = match &array.values {
        Values::Bytes(values) => (values.len(), 1),
        Values::Integers(values) => (values.len(), 1),
        Values::Floats(values) => {
            assert!(values.iter().all(|value| value.is_finite()));
            (values.len(), 2) // of float16
        }
        Values::Texts(values) => {
            assert!(values.iter().map(String::len).sum::<usize>() <= 4 * bytes.len());
            (values.len(), 1)
        }
        Values::Stored(_) => panic!("bytes in memory stay there"),
    };
    assert!(length == size && size > 0);
    assert!(size * width < bytes.len());
    if let Values::Bytes(values) = array.values {
        // In any order they are the same bytes, at the end of the file.
        let sorted = |values: &[u8]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values
        };
        assert_eq!(sorted(&values), sorted(&bytes[bytes.len() - size..]));
    }
}

/// Two `.npy` files, features and targets, behind the length of the first as little-endian u16.
pub fn npy_pair(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (x, y) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let [Some(x), Some(y)] = [x, y].map(|file| sound(Array::read(FILE, file))) else { return };
    let rows = y.shape.first().copied();
    let Some(examples) = sound(npy::examples(x, y, None, None)) else { return };
    let examples = examples.examples;
    assert_eq!(rows, Some(examples.len()));
    assert!((0..examples.len()).flat_map(|example| examples.input(example)).all(f64::is_finite));
    if let Ok(labels) = examples.labels() {
        assert!((2..=1000).contains(&examples.outputs));
        assert!(labels.iter().all(|&label| (label as usize) < examples.outputs));
    }
}

/// The bytes of a `.npy` file whose features stay there: what is read row by row is what is read at once.
pub fn npy_stored(bytes: &[u8]) {
    let file = written(bytes, ".npy");
    let at_once = sound(Array::read(FILE, bytes));
    let Some(stored) = sound(npy::store(FILE, file.reopen().expect("it was written"))) else {
        return assert!(at_once.is_none(), "read at once it is sound");
    };
    let Some(stored) = stored else { return };
    let at_once = at_once.expect("read row by row it is sound");
    let rows = stored.shape[0];
    let targets = || Array { file: FILE.into(), shape: vec![rows], values: Values::Floats(vec![0.5; rows]) };
    let of = |x: Array| sound(npy::examples(x, targets(), None, None));
    let (Some(at_once), Some(stored)) = (of(at_once), of(stored)) else { return };
    let (at_once, stored) = (at_once.examples, stored.examples);
    assert_eq!((at_once.len(), at_once.features), (stored.len(), stored.features));
    for row in 0..rows {
        assert!(at_once.input(row).eq(stored.input(row)), "row {row}");
    }
}

/// The bytes of an `.npz` archive.
pub fn npz(bytes: &[u8]) {
    let file = written(bytes, ".npz");
    let data = match npy::load(file.path(), Some(&TestPart::Share(0.5)), None, 1) {
        // The archive has a test part, or too few examples for two parts.
        Err(Error::Invalid(problem)) => {
            return assert!(problem.starts_with("`test` 0.5") || problem.contains(": `test` 0.5"));
        }
        result => sound_at(&file.path().display().to_string(), result),
    };
    let Some(data) = data else { return };
    for examples in [&data.train, &data.test] {
        assert!(!examples.is_empty());
        assert!((0..examples.len()).flat_map(|example| examples.input(example)).all(f64::is_finite));
    }
}

/// The bytes of a picture, of which a model of whole pictures and one of digits make features.
pub fn picture(bytes: &[u8]) {
    for fit in [Fit::Whole, Fit::Digit, Fit::Digits] {
        let reading =
            Reading { features: 64, image: Some([8, 8]), preprocessing: None, fit, shapes: None, strict: false };
        // Other kinds of files are not taken for a picture, and have parsers of their own.
        let Some(Inputs { names, features, .. }) = sound(reading.read(FILE, bytes)) else { continue };
        let softstep::data::Features::Bytes(features) = features else { panic!("pixels are bytes") };
        assert_eq!(features.len(), 64 * names.len());
    }
}

/// A file with these bytes, which is deleted when it is dropped.
fn written(bytes: &[u8], end: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(end).tempfile().expect("a folder for temporary files");
    file.write_all(bytes).expect("room for a small file");
    file
}

/// The bytes of a model file.
pub fn model_file(bytes: &[u8]) {
    let Some((parameters, metadata)) = sound(model_file::from_safetensors(FILE, bytes)) else { return };
    parameters.check().expect("a model");
    assert_eq!(parameters.architecture, metadata.architecture);
    assert!(4 * parameters.count() <= bytes.len());
    assert!(parameters.layers.iter().flat_map(|layer| &layer.values).all(|value| value.is_finite()));
    let again = model_file::to_safetensors(&parameters, &metadata).expect("what was read can be written");
    let (same, same_metadata) = model_file::from_safetensors(FILE, &again).expect("and read again");
    assert_eq!((same.sha256(), same_metadata), (parameters.sha256(), metadata));
}

/// The bytes of a checkpoint: as they are, and with the SHA-256 that lets the parser believe them.
pub fn checkpoint(bytes: &[u8]) {
    whole_checkpoint(bytes);
    if let Some((content, _)) = bytes.split_last_chunk::<32>() {
        whole_checkpoint(&[content, &Sha256::digest(content)[..]].concat());
    }
}

fn whole_checkpoint(bytes: &[u8]) {
    let Some((metadata, state)) = sound(checkpoint::from_safetensors(FILE, bytes)) else { return };
    assert!(checkpoint::is_checkpoint(bytes));
    state.check(&metadata.architecture, metadata.config.optimizer.moments()).expect("its own architecture");
    assert!(state.non_finite().is_none());
    let values = state.parameters.count() * (1 + state.moments.len());
    assert!(4 * values <= bytes.len());
    metadata.config.check().expect("settings");
    // A run that would go on from here finds its place, whatever the data.
    for examples in [1, 1000, u32::MAX as usize] {
        assert!(metadata.position.step(&metadata.config, examples) >= metadata.position.steps);
    }
    let again = checkpoint::to_safetensors(&metadata, &state).expect("what was read can be written");
    let (same_metadata, same) = checkpoint::from_safetensors(FILE, &again).expect("and read again");
    assert_eq!(same_metadata, metadata);
    let bits = |state: &TrainingState| {
        let layers = std::iter::once(&state.parameters).chain(&state.moments).flat_map(|values| &values.layers);
        layers.flat_map(|layer| &layer.values).map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    assert!(bits(&same) == bits(&state));
}

/// The result, if there is one. An error must name the file and be fit to print.
fn sound<T>(result: Result<T>) -> Option<T> {
    sound_at(FILE, result)
}

fn sound_at<T>(file: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, Error::Format { .. }), "{text}");
            assert!(text.starts_with(file) && text.len() <= 16_100, "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
            None
        }
    }
}
