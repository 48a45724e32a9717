//! A data set in a folder of four IDX files.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::Data;
use super::files::{self, File};
use super::idx::{self, Idx};
use crate::error::{Error, Result};

/// The four files: images and labels to train on, images and labels to test with.
pub(super) const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Returns the path of one of the [`FILES`] in a folder: under that name or with a dot (`train-images.idx3-ubyte`),
/// either with or without `.gz`.
pub(super) fn find_file(folder: &Path, file: &str) -> Option<PathBuf> {
    names(file).into_iter().map(|name| folder.join(name)).find(|path| files::is_file(path))
}

fn names(file: &str) -> [String; 4] {
    let dotted = file.replace("-idx", ".idx");
    [file.into(), format!("{file}.gz"), dotted.clone(), format!("{dotted}.gz")]
}

/// Returns the paths of the four files in a folder.
pub(super) fn find(folder: &Path) -> Result<[PathBuf; 4]> {
    let found = FILES.map(|file| find_file(folder, file).ok_or(file));
    let missing: Vec<_> = found.iter().filter_map(|path| path.as_ref().err().copied()).collect();
    if let Some(first) = missing.first() {
        return Err(Error::format(
            folder.display().to_string(),
            format!("this folder has no {} (looked for {})", missing.join(", no "), names(first).join(", ")),
        ));
    }
    Ok(found.map(|path| path.expect("none is missing")))
}

/// Reads a data set of any size from its four files; the number of classes is the highest label plus 1.
pub(super) fn read_any(name: &str, paths: &[PathBuf; 4]) -> Result<Data> {
    let [train_images, train_labels, test_images, test_labels] = paths.each_ref().map(|path| open(path));
    data(name, [train_images?, train_labels?, test_images?, test_labels?], paths)
}

/// Builds a data set of files of any size; images of large files stay in them.
fn data(name: &str, idx: [Idx<'static>; 4], paths: &[PathBuf; 4]) -> Result<Data> {
    #[cfg(target_arch = "wasm32")]
    let _ = paths;
    #[cfg(not(target_arch = "wasm32"))]
    let idx = {
        let stay = |idx: Idx<'static>, path: &Path| {
            let file = File::open(path).map_err(Error::io("read", path))?;
            let there = file.metadata().map_err(Error::io("read", path))?;
            let stays = !idx.is_gzipped() && there.is_file() && there.len() > super::stored::in_memory_bytes();
            if stays { idx.staying_in(file) } else { Ok(idx) }
        };
        let [train_images, train_labels, test_images, test_labels] = idx;
        let [train_images, test_images] = [stay(train_images, &paths[0])?, stay(test_images, &paths[2])?];
        [train_images, train_labels, test_images, test_labels]
    };
    idx::data(name, idx)
}

fn open(path: &Path) -> Result<Idx<'static>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    Idx::new(path.display().to_string(), BufReader::new(file))
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) use standard::read;

/// The standard sets, and reading that is as fast for files of their sizes.
#[cfg(not(target_arch = "wasm32"))]
mod standard {
    use std::path::{Path, PathBuf};

    use mnist::{Mnist, MnistBuilder};
    use sha2::{Digest, Sha256};

    use super::open;
    use crate::data::catalog::Set;
    use crate::data::idx::{Idx, Part, assemble, check_together, shape_text};
    use crate::data::{Data, hexadecimal};
    use crate::error::{Error, Result};

    /// Shapes of the files of MNIST and of the sets made in its likeness; the `mnist` crate knows no other size.
    const STANDARD_SHAPES: [&[usize]; 4] = [&[60_000, 28, 28], &[60_000], &[10_000, 28, 28], &[10_000]];
    const STANDARD_CLASSES: usize = 10;

    /// Reads a data set from its four files. For a standard `set` they must be that set's, otherwise any size will do
    /// and the number of classes is the highest label plus 1.
    pub(in crate::data) fn read(name: &str, paths: &[PathBuf; 4], set: Option<&Set>) -> Result<Data> {
        read_checked(name, paths, set).map_err(|error| match (error, set) {
            (Error::Format { file, problem }, Some(_)) => {
                Error::Format { file, problem: format!("{problem}; to have it downloaded again, delete it") }
            }
            (other, _) => other,
        })
    }

    fn read_checked(name: &str, paths: &[PathBuf; 4], set: Option<&Set>) -> Result<Data> {
        let [train_images, train_labels, test_images, test_labels] = paths.each_ref().map(|path| open(path));
        let idx = [train_images?, train_labels?, test_images?, test_labels?];
        let odd = idx.iter().zip(STANDARD_SHAPES).find(|(idx, shape)| idx.shape() != *shape);
        if let (Some(set), Some((idx, shape))) = (set, odd) {
            let problem =
                format!("its shape is {}, but {}'s is {}", shape_text(idx.shape()), set.name, shape_text(shape));
            return Err(idx.error(problem));
        }
        let standard = odd.is_none();
        if !standard {
            return super::data(name, idx, paths);
        }
        let features = check_together(&idx)?;
        let image = idx[0].image();
        let data = assemble(name, read_standard(idx, paths, set)?, features, set.map(|_| STANDARD_CLASSES))?;
        Ok(Data { image, ..data })
    }

    /// Checks files of the standard shapes, and reads them in the same pass where they are gzipped. Plain ones are read by
    /// the `mnist` crate, which panics on bad files and trusts lengths and labels, so it comes after every check.
    fn read_standard(idx: [Idx; 4], paths: &[PathBuf; 4], set: Option<&Set>) -> Result<[Part; 2]> {
        // The crate takes names as text.
        let plain_names: Option<Vec<&str>> =
            idx.iter().zip(paths).map(|(idx, path)| path.to_str().filter(|_| !idx.is_gzipped())).collect();
        let mut parts = Vec::new();
        for (index, (idx, path)) in idx.into_iter().zip(paths).enumerate() {
            let sha256 = set.and_then(|set| set.sha256).map(|hashes| hashes[index]);
            let classes = set.filter(|_| STANDARD_SHAPES[index].len() == 1).map(|_| STANDARD_CLASSES);
            let mut elements = Vec::with_capacity(if plain_names.is_none() { idx.shape().iter().product() } else { 0 });
            let keep = plain_names.is_none().then_some(&mut elements);
            check_and_read(idx, path, sha256, classes, keep)?;
            parts.push(elements);
        }
        let Some(names) = plain_names else {
            let [train_images, train_labels, test_images, test_labels] = parts.try_into().expect("four files");
            return Ok([(train_images.into(), train_labels), (test_images.into(), test_labels)]);
        };
        let Mnist { mut trn_img, trn_lbl, tst_img, tst_lbl, .. } = MnistBuilder::new()
            .base_path("")
            .training_images_filename(names[0])
            .training_labels_filename(names[1])
            .test_images_filename(names[2])
            .test_labels_filename(names[3])
            .finalize();
        trn_img.shrink_to_fit(); // the crate held the test images behind them for a while
        Ok([(trn_img.into(), trn_lbl), (tst_img.into(), tst_lbl)])
    }

    /// Checks a file's length, hash and labels in one pass, which appends its elements to `keep`.
    fn check_and_read(
        idx: Idx,
        path: &Path,
        sha256: Option<&str>,
        classes: Option<usize>,
        mut keep: Option<&mut Vec<u8>>,
    ) -> Result<()> {
        let file = path.display().to_string();
        let mut hash = sha256.map(|_| Sha256::new());
        if let Some(hash) = &mut hash {
            hash.update(idx.header());
        }
        let mut example = 0;
        idx.stream(|chunk| {
            let out_of_range =
                classes.and_then(|classes| chunk.iter().position(|&label| usize::from(label) >= classes));
            if let Some(at) = out_of_range {
                let problem =
                    format!("label {} of example {} is not in 0..{STANDARD_CLASSES}", chunk[at], example + at);
                return Err(Error::format(&file, problem));
            }
            example += chunk.len();
            if let Some(hash) = &mut hash {
                hash.update(chunk);
            }
            if let Some(keep) = &mut keep {
                keep.extend_from_slice(chunk);
            }
            Ok(())
        })?;
        let digest = hash.map(|hash| hexadecimal(&hash.finalize()));
        if digest.as_deref() != sha256 {
            return Err(Error::format(
                file,
                "its content is not the published one (by its SHA-256); to use it as it is, name its folder in `data`",
            ));
        }
        Ok(())
    }
}
