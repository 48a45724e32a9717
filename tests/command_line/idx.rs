//! IDX files of any size: from four files to a model and its report, and mistakes in them refused by the command.

use std::fs;
use std::path::Path;

use crate::binary::softstep;

/// The bytes of an IDX file.
pub fn idx(shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let sizes = shape.iter().flat_map(|&size| (size as u32).to_be_bytes());
    [0, 0, 8, shape.len() as u8].into_iter().chain(sizes).chain(elements.iter().copied()).collect()
}

/// Images of 7 rows of 5, in three classes: bright rows, bright columns, or neither.
fn images(count: usize) -> (Vec<u8>, Vec<u8>) {
    let pixel = |at: usize| {
        let (image, row, column) = (at / 35, at % 35 / 5, at % 5);
        let bright = [row % 2 == 0, column % 2 == 0, false][image % 3];
        if bright { 180 + (at * 7 % 70) as u8 } else { (at * 11 % 60) as u8 }
    };
    let labels: Vec<u8> = (0..count).map(|image| (image % 3) as u8).collect();
    (idx(&[count, 7, 5], &(0..35 * count).map(pixel).collect::<Vec<_>>()), idx(&[count], &labels))
}

fn write(folder: &Path, [train, test]: [(Vec<u8>, Vec<u8>); 2]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("train-images-idx3-ubyte"), train.0).unwrap();
    fs::write(folder.join("train-labels.idx1-ubyte"), train.1).unwrap();
    fs::write(folder.join("t10k-images-idx3-ubyte"), test.0).unwrap();
    fs::write(folder.join("t10k-labels-idx1-ubyte"), test.1).unwrap();
}

#[test]
fn idx_files_of_an_odd_size_train_and_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("stripes"), [images(150), images(31)]);
    let train = ["train", "--data", "stripes", "--epochs", "10", "--batch-size", "16", "--backend", "cpu", "--json"];
    let done = softstep(folder.path(), &[&train[..], &["--out", "run"]].concat()).last_json();
    assert_eq!((&done["test_accuracy"], &done["sizes"]), (&1.0.into(), &serde_json::json!([35, 3])), "{done}");
    let eval = ["eval", "--model", "run", "--data", "stripes", "--backend", "cpu", "--json"];
    let evaluated = softstep(folder.path(), &eval).last_json();
    assert_eq!((&evaluated["loss"], &evaluated["examples"]), (&done["test_loss"], &31.into()));
}

#[test]
fn mistakes_in_idx_files_are_refused_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |train: (Vec<u8>, Vec<u8>), test: (Vec<u8>, Vec<u8>), expected: &str| {
        write(&folder.path().join("stripes"), [train, test]);
        let run = softstep(folder.path(), &["train", "--data", "stripes", "--backend", "cpu"]);
        assert!(run.code == 1 && run.stderr.contains(expected), "{run:?} lacks {expected}");
        assert!(!folder.path().join("runs").exists());
    };
    let (sound, labels) = images(12);
    let one = |class: u8| idx(&[12], &[class; 12]);
    for class in [0, 5] {
        let expected =
            format!("stripes: one class only, {class}, in its training part: there is nothing to tell apart");
        refused((sound.clone(), one(class)), (sound.clone(), one(class)), &expected);
        refused((sound.clone(), one(class)), images(12), &expected);
    }
    let cut = sound[..200].to_vec();
    refused(
        (cut, labels.clone()),
        images(12),
        "stripes/train-images-idx3-ubyte: truncated: its shape 12x7x5 needs 420",
    );
    refused(
        (sound.clone(), idx(&[11], &labels[8..19])),
        images(12),
        "train-labels.idx1-ubyte: 11 labels for 12 images",
    );
    refused(images(12), (idx(&[12, 5], &sound[16..76]), labels), "t10k-images-idx3-ubyte: its images have 5 features");
}

#[test]
fn labels_that_leave_classes_out_are_named_and_are_not_for_one_sigmoid() {
    let folder = tempfile::tempdir().unwrap();
    let (sound, _) = images(12);
    let labels = idx(&[12], &[0, 7].repeat(6));
    write(&folder.path().join("stripes"), [(sound.clone(), labels.clone()), (sound, labels)]);
    let train = ["train", "--data", "stripes", "--backend", "cpu", "--epochs", "1", "--json"];
    let run = softstep(folder.path(), &train);
    assert!(
        run.code == 0
            && run.stderr.contains("no example to train on has the classes 1, 2, 3, 4, 5 and 1 more: the model cannot"),
        "{run:?}"
    );
    let run = softstep(folder.path(), &[&train[..], &["--loss", "bce"]].concat());
    assert!(
        run.code == 1 && run.stderr.contains("labels must be 0 and 1, and in this data they are 0 and 7"),
        "{run:?}"
    );
}
