//! The kinds of data that people bring, told apart by what is there.

use std::path::Path;

use super::preprocessing::Preprocessing;
use super::{Data, csv, folder, images, npy, store};
use crate::error::{Error, Result};

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A standard set by its name, the bundled digits, or a folder of four IDX files; also what is none of the others.
    Idx,
    /// A table: a CSV file.
    Table,
    /// A folder of images, in a folder for each class.
    Images,
    /// A folder of NumPy arrays.
    Arrays,
}

impl Kind {
    /// What `--data` names with this text.
    pub fn of(spec: &str) -> Self {
        let path = Path::new(spec);
        if store::is_name(spec) {
            Self::Idx
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
            Self::Table
        } else if folder::FILES.iter().any(|file| folder::find_file(path, file).is_some()) {
            Self::Idx
        } else if npy::is_folder(path) {
            Self::Arrays
        } else if images::has_classes(path) {
            Self::Images
        } else {
            Self::Idx
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idx => "a standard set or IDX files",
            Self::Table => "a table (file.csv)",
            Self::Images => "a folder of images",
            Self::Arrays => "a folder of .npy arrays",
        }
    }

    /// That a model reads with this preprocessing.
    pub fn of_model(preprocessing: Option<&Preprocessing>) -> Self {
        match preprocessing {
            None => Self::Idx,
            Some(Preprocessing::Table(_)) => Self::Table,
            Some(Preprocessing::Images(_)) => Self::Images,
            Some(Preprocessing::Arrays(_)) => Self::Arrays,
        }
    }
}

/// Loads data as they were for this preprocessing, with the same parts for the same examples and seed.
///
/// # Errors
/// [`Error::Format`] with file and place of what cannot be used; [`Error::Invalid`] where they are of another kind;
/// [`Error::Io`].
pub fn load_again(spec: &str, preprocessing: &Preprocessing, seed: u64) -> Result<Data> {
    check_kind(spec, preprocessing)?;
    let path = Path::new(spec);
    match preprocessing {
        Preprocessing::Table(format) => csv::load_again(path, format, seed),
        Preprocessing::Images(format) => images::load_again(path, format, seed),
        Preprocessing::Arrays(format) => npy::load_again(path, format, seed),
    }
}

/// Loads, as training and as test part, the examples that a model with this preprocessing and seed was not trained on:
/// the share that was set aside, or the data's own test part; every example if `all` are wanted, or where the model was
/// tested with other files and these have no test part of their own.
///
/// # Errors
/// As of [`load_again`].
pub fn load_test(spec: &str, preprocessing: &Preprocessing, seed: u64, all: bool) -> Result<Data> {
    check_kind(spec, preprocessing)?;
    let path = Path::new(spec);
    let test = match preprocessing {
        Preprocessing::Table(format) => csv::load_test(path, format, seed, all)?,
        Preprocessing::Images(format) => images::load_test(path, format, seed, all)?,
        Preprocessing::Arrays(format) => npy::load_test(path, format, seed, all)?,
    };
    let image = preprocessing.image();
    Ok(Data { name: spec.into(), train: test.clone(), test, preprocessing: Some(preprocessing.clone()), image })
}

fn check_kind(spec: &str, preprocessing: &Preprocessing) -> Result<()> {
    let (given, wanted) = (Kind::of(spec), Kind::of_model(Some(preprocessing)));
    if !store::is_name(spec) && !Path::new(spec).exists() {
        return Err(Error::Invalid(format!("--data {spec}: there is no such file or folder")));
    }
    if given != wanted {
        return Err(Error::Invalid(format!(
            "--data {spec} is {}, and the model was trained on {}: choose the --data it was trained on",
            given.name(),
            wanted.name()
        )));
    }
    Ok(())
}
