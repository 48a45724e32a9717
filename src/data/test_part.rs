//! The split of loaded examples into the training part and the test part.

use std::path::Path;

use super::preprocessing::{Preprocessing, TestPart};
use super::{Data, Listed, choose_test};
use crate::error::{Error, Result};

/// Splits the examples of `spec` into the training part and the test part that the preprocessing specifies.
///
/// A test part that is a path is what `own` loads, the source's own one, or else what `other` loads from the path.
pub(super) fn split(
    spec: &str,
    mut train: Listed,
    preprocessing: Preprocessing,
    seed: u64,
    own: impl FnOnce() -> Result<Option<Listed>>,
    other: impl FnOnce(&Path) -> Result<Listed>,
) -> Result<Data> {
    let mut notices = std::mem::take(&mut train.notices);
    let labels = train.examples.labels().ok();
    let chosen = choose_test(spec, preprocessing.test(), labels, train.examples.len(), seed)?;
    let (test, test_origins) = match preprocessing.test() {
        TestPart::Share(_) | TestPart::Fold { .. } => train.take(&chosen.unwrap_or_default()),
        TestPart::Path(path) => match own()? {
            Some(test) => {
                notices.extend(test.notices);
                (test.examples, test.origins)
            }
            None => {
                let test = other(Path::new(path))?;
                notices.extend(test.notices.into_iter().map(|notice| format!("{path}: {notice}")));
                (test.examples, test.origins)
            }
        },
    };
    let train = train.examples;
    train.check_learnable(preprocessing.class_names()).map_err(|problem| Error::format(spec, problem))?;
    let image = preprocessing.image();
    let preprocessing = Some(preprocessing);
    Ok(Data { preprocessing, image, notices, test_origins, ..Data::of_parts(spec, train, test) })
}
