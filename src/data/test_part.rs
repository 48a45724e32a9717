//! The split of loaded examples into the training part and the test part.

use std::path::Path;

use super::preprocessing::{Preprocessing, TestPart};
use super::{Data, Examples, choose_test};
use crate::error::{Error, Result};

/// Examples, with notices about their loading.
pub(super) type Loaded = (Examples, Vec<String>);

/// Splits the examples of `spec` into the training part and the test part that the preprocessing specifies.
///
/// A test part that is a path is what `own` loads, the source's own one, or else what `other` loads from the path.
pub(super) fn split(
    spec: &str,
    mut train: Examples,
    preprocessing: Preprocessing,
    seed: u64,
    own: impl FnOnce() -> Result<Option<Loaded>>,
    other: impl FnOnce(&Path) -> Result<Loaded>,
) -> Result<Data> {
    let mut notices = Vec::new();
    let chosen = choose_test(spec, preprocessing.test(), train.labels().ok(), train.len(), seed)?;
    let test = match preprocessing.test() {
        TestPart::Share(_) | TestPart::Fold { .. } => train.take(&chosen.unwrap_or_default()),
        TestPart::Path(path) => match own()? {
            Some((test, of_test)) => {
                notices.extend(of_test);
                test
            }
            None => {
                let (test, of_test) = other(Path::new(path))?;
                notices.extend(of_test.into_iter().map(|notice| format!("{path}: {notice}")));
                test
            }
        },
    };
    train.check_learnable(preprocessing.class_names()).map_err(|problem| Error::format(spec, problem))?;
    let image = preprocessing.image();
    let (name, preprocessing) = (spec.into(), Some(preprocessing));
    Ok(Data { name, train, test, preprocessing, image, notices, target_rule: None, table: None })
}
