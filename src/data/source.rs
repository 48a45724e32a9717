//! Detection of the kind of a data source, and loading of data for an existing model.

use std::path::Path;

#[cfg(not(target_arch = "wasm32"))]
use super::catalog;
use super::predict_inputs::Reading;
use super::preprocessing::{Preprocessing, TestPart};
use super::{Data, Listed, choose_test, csv, files, idx_dir, images, npy, test_part};
use crate::error::{Error, Result};

/// A kind of data source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A standard set, the bundled digits, or a folder of four IDX files; also the fallback for anything unrecognised.
    Idx,
    /// A table: a delimited text file such as CSV.
    Table,
    /// A folder of images, with one subfolder for each class.
    Images,
    /// A folder of NumPy arrays, or a file of several.
    Arrays,
}

impl Kind {
    /// Detects the kind of data that `spec` names.
    pub fn of(spec: &str) -> Self {
        let path = Path::new(spec);
        if is_set(spec) {
            Self::Idx
        } else if is_table(path) {
            Self::Table
        } else if idx_dir::FILES.iter().any(|file| idx_dir::find_file(path, file).is_some()) {
            Self::Idx
        } else if npy::is_set(path) {
            Self::Arrays
        } else if images::has_classes(path) {
            Self::Images
        } else {
            Self::Idx
        }
    }

    /// Returns true if `spec` is the name of a standard set and so not a path.
    pub fn is_set(spec: &str) -> bool {
        is_set(spec)
    }

    /// Description for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idx => "a standard set or IDX files",
            Self::Table => "a table (file.csv)",
            Self::Images => "a folder of images",
            Self::Arrays => "NumPy arrays (a folder of .npy files, or file.npz)",
        }
    }

    /// The kind of data that a model with this preprocessing reads.
    pub fn of_model(preprocessing: Option<&Preprocessing>) -> Self {
        match preprocessing {
            None => Self::Idx,
            Some(Preprocessing::Table(_)) => Self::Table,
            Some(Preprocessing::Images(_)) => Self::Images,
            Some(Preprocessing::Arrays(_)) => Self::Arrays,
        }
    }
}

/// Returns true if `spec` is the name of a standard set. A page has no such names: all data there are files.
fn is_set(spec: &str) -> bool {
    #[cfg(not(target_arch = "wasm32"))]
    return catalog::is_name(spec);
    #[cfg(target_arch = "wasm32")]
    {
        let _ = spec;
        false
    }
}

/// File name extensions of tables, which `.gz` may follow.
const TABLES: [&str; 6] = [".csv", ".tsv", ".tab", ".txt", ".data", ".dat"];

/// Returns true if the path has an extension of a table and is not a folder.
fn is_table(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    TABLES.iter().any(|end| name.ends_with(end)) && !files::is_dir(path)
}

/// Examples to evaluate a model on.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The examples, as both training and test part.
    pub data: Data,
    /// The part of the source that the examples are.
    pub part: Part,
    /// A warning for the user about the choice of the examples.
    pub notice: Option<String>,
}

/// A part of a data source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The test part, which the model was not trained on.
    Test,
    /// All examples of the data.
    All,
}

impl Part {
    /// Description for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test part",
            Self::All => "all examples",
        }
    }
}

/// Loads a folder of four IDX files.
///
/// # Errors
/// [`Error::Format`] naming the folder that lacks one, or the file that is damaged; [`Error::Io`].
pub fn load_idx(spec: &str) -> Result<Data> {
    let path = Path::new(spec);
    match files::is_dir(path) {
        true => idx_dir::read_any(spec, &idx_dir::find(path)?),
        false => Err(Error::format(spec, "it is neither a table nor a folder of pictures, arrays or IDX files")),
    }
}

/// Loads data with the preprocessing of an earlier run; the same examples and seed give the same parts.
///
/// # Errors
/// [`Error::Format`] with file and position of what cannot be used; [`Error::Invalid`] if the data is of another kind;
/// [`Error::Io`].
pub fn load_again(spec: &str, preprocessing: &Preprocessing, seed: u64) -> Result<Data> {
    check_kind(spec, preprocessing)?;
    let examples = examples(Path::new(spec), preprocessing)?;
    let source = Path::new(spec);
    let own = || own_test(source, preprocessing);
    let other = |path: &Path| self::examples(path, preprocessing);
    test_part::split(spec, examples, preprocessing.clone(), seed, own, other)
}

/// Loads the examples to evaluate a model on: the test part of the source, or the share that was held out of the data
/// that the model was trained on; for other data, or if `all` is set, every example.
///
/// `trained_on` is the [SHA-256](super::Examples::sha256) of the training examples, if the model records it.
///
/// # Errors
/// The errors of [`load_again`]; [`Error::Invalid`] if these are the training examples and `all` is not set.
pub fn load_test(
    spec: &str,
    preprocessing: &Preprocessing,
    seed: u64,
    trained_on: Option<&str>,
    all: bool,
) -> Result<Measured> {
    check_kind(spec, preprocessing)?;
    let path = Path::new(spec);
    let measured = |examples: Listed, part, notice| {
        let (preprocessing, image) = (Some(preprocessing.clone()), preprocessing.image());
        Ok(Measured { data: test_alone(spec, examples, preprocessing, image), part, notice })
    };
    let own = own_test(path, preprocessing)?;
    let own = match own {
        Some(test) if !all => return measured(test, Part::Test, None),
        own => own,
    };
    let examples = examples(path, preprocessing)?;
    if all {
        let examples = match own {
            Some(own) => examples.and(own),
            None => examples,
        };
        return measured(examples, Part::All, None);
    }
    if trained_on.is_some() && trained_on == Some(&examples.examples.sha256()) {
        if let TestPart::Path(test) = preprocessing.test() {
            if files::exists(Path::new(test)) {
                return measured(self::examples(Path::new(test), preprocessing)?, Part::Test, None);
            }
            return Err(Error::Invalid(format!(
                "`data` {spec}: the model was trained on these very examples, and the test part of its run, {test}, is not \
                 there: name it with `data`, or measure the model on {spec} with `all`"
            )));
        }
        return Err(Error::Invalid(format!(
            "`data` {spec}: the model was trained on these very examples: name others, or measure it on them with `all`"
        )));
    }
    if matches!(preprocessing.test(), TestPart::Path(_)) {
        return measured(examples, Part::All, None);
    }
    let chosen =
        choose_test(spec, preprocessing.test(), examples.examples.labels().ok(), examples.examples.len(), seed);
    let set_aside = chosen.ok().flatten().map(|chosen| {
        let mut train = examples.clone();
        let ((examples, origins), notices) = (train.take(&chosen), std::mem::take(&mut train.notices));
        (Listed { examples, origins, notices }, train.examples.sha256())
    });
    match (set_aside, trained_on) {
        (Some((test, train)), Some(sha256)) if train == sha256 => measured(test, Part::Test, None),
        (Some((test, _)), None) => {
            let notice = format!(
                "the model does not say which examples it was trained on: if {spec} has changed since, some of these are \
                 among them"
            );
            measured(test, Part::Test, Some(notice))
        }
        _ => {
            let notice = format!(
                "{spec}: not the data that the model was trained on, or changed since; all of it is measured: examples it \
                 shares with the training data make the result optimistic"
            );
            measured(examples, Part::All, Some(notice))
        }
    }
}

/// Loads a folder of pictures for a model of IDX files: each folder in it is a class, by its number. Its own test part is
/// measured, if it has one.
///
/// # Errors
/// [`Error::Format`] with the path of what is no class of the model, or of pictures none of which can be read;
/// [`Error::Io`].
pub fn load_pictures(spec: &str, reading: &Reading<'_>, outputs: usize) -> Result<Measured> {
    let examples = images::numbered(Path::new(spec), reading, outputs)?;
    Ok(Measured { data: test_alone(spec, examples, None, reading.image), part: Part::All, notice: None })
}

/// Data whose examples are both training and test part.
fn test_alone(spec: &str, examples: Listed, preprocessing: Option<Preprocessing>, image: Option<[usize; 2]>) -> Data {
    let Listed { examples: test, origins: test_origins, notices } = examples;
    Data { preprocessing, image, notices, test_origins, ..Data::of_parts(spec, test.clone(), test) }
}

/// Loads every example outside a separate test part.
fn examples(path: &Path, preprocessing: &Preprocessing) -> Result<Listed> {
    match preprocessing {
        Preprocessing::Table(format) => csv::examples(path, format),
        Preprocessing::Images(format) => images::examples(path, format),
        Preprocessing::Arrays(format) => npy::own_examples(path, format),
    }
}

/// Loads the separate test part of a source, if it has one.
fn own_test(path: &Path, preprocessing: &Preprocessing) -> Result<Option<Listed>> {
    match preprocessing {
        Preprocessing::Table(_) => Ok(None),
        Preprocessing::Images(format) => images::own_test(path, format),
        Preprocessing::Arrays(format) => npy::own_test(path, format),
    }
}

fn check_kind(spec: &str, preprocessing: &Preprocessing) -> Result<()> {
    let (given, wanted) = (Kind::of(spec), Kind::of_model(Some(preprocessing)));
    if !is_set(spec) && !files::exists(Path::new(spec)) {
        return Err(Error::Invalid(format!("`data` {spec}: there is no such file or folder")));
    }
    if given != wanted {
        return Err(Error::Invalid(format!(
            "`data` {spec} is {}, and the model was trained on {}: choose the `data` it was trained on",
            given.name(),
            wanted.name()
        )));
    }
    Ok(())
}
