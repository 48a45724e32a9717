//! Data sets from folders, from the store and by download.

use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::server;
use crate::skip::skipped_outside_ci;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use softstep::data::predict_inputs::{Place, is_no_digit};
use softstep::data::{Data, DownloadLimits, Examples, Features, Progress, Set, Store};
use softstep::loss::Loss;
use softstep::{Error, Result};
use tempfile::TempDir;

const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

fn idx(shape: &[u32], elements: &[u8]) -> Vec<u8> {
    let sizes = shape.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, shape.len() as u8].into_iter().chain(sizes).chain(elements.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three training images and two test images of 2x2.
fn small() -> [Vec<u8>; 4] {
    [
        idx(&[3, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        idx(&[3], &[0, 1, 0]),
        idx(&[2, 2, 2], &[12, 13, 14, 15, 16, 17, 18, 255]),
        idx(&[2], &[3, 1]),
    ]
}

fn write(names: [&str; 4], contents: &[Vec<u8>; 4]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    names.iter().zip(contents).for_each(|(name, content)| std::fs::write(folder.path().join(name), content).unwrap());
    folder
}

fn quiet(progress: Progress<'_>) {
    panic!("{progress:?}");
}

fn load_folder(folder: &Path) -> Result<Data> {
    no_store().load(folder.to_str().unwrap(), &mut quiet)
}

fn no_store() -> Store {
    store([])
}

/// With a mirror that no one listens on.
fn store<const N: usize>(folders: [&Path; N]) -> Store {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Store {
        folders: folders.map(PathBuf::from).to_vec(),
        mirror: Some(format!("http://{free}")),
        limits: DownloadLimits::default(),
    }
}

/// Loads the small set with its file `index` replaced; what the error says after that file's path.
fn problem_with(index: usize, content: Vec<u8>) -> String {
    let mut contents = small();
    contents[index] = content;
    let folder = write(FILES, &contents);
    let message = load_folder(folder.path()).unwrap_err().to_string();
    let path = folder.path().join(FILES[index]).display().to_string();
    message.strip_prefix(&format!("{path}: ")).unwrap_or_else(|| panic!("{message}")).to_string()
}

#[test]
fn a_folder_of_any_size_is_read_under_all_its_names() {
    let dotted = FILES.map(|name| name.replace("-idx", ".idx"));
    let names = [FILES[0], &dotted[1], &format!("{}.gz", FILES[2]), &format!("{}.gz", dotted[3])];
    let mut contents = small();
    contents[2] = gzip(&contents[2]);
    contents[3] = gzip(&contents[3]);
    let folder = write(names, &contents);
    let data = load_folder(folder.path()).unwrap();
    assert_eq!(data.name, folder.path().to_str().unwrap());
    assert_eq!((data.train.features, data.train.outputs, data.test.outputs), (4, 4, 4));
    assert_eq!(*data.train.inputs, Features::Bytes((0..12).collect()));
    assert_eq!(bytes(&data.test)[4..], [16, 17, 18, 255]);
    assert_eq!((data.train.labels().unwrap(), data.test.labels().unwrap()), (&[0, 1, 0][..], &[3, 1][..]));
}

#[test]
fn images_may_have_any_number_of_dimensions() {
    let contents = [idx(&[2, 3], &[0; 6]), idx(&[2], &[0, 1]), idx(&[1, 1, 3, 1], &[0; 3]), idx(&[1], &[0])];
    assert_eq!(load_folder(write(FILES, &contents).path()).unwrap().test.features, 3);
}

#[test]
fn missing_files_are_named_with_the_names_looked_for() {
    let folder = write(FILES, &small());
    std::fs::remove_file(folder.path().join(FILES[1])).unwrap();
    std::fs::remove_file(folder.path().join(FILES[3])).unwrap();
    let message = load_folder(folder.path()).unwrap_err().to_string();
    assert!(message.starts_with(&folder.path().display().to_string()), "{message}");
    assert!(message.contains("no train-labels-idx1-ubyte, no t10k-labels-idx1-ubyte"), "{message}");
    assert!(message.contains("train-labels.idx1-ubyte.gz"), "{message}");
    assert!(!message.contains("images"), "{message}");
}

#[test]
fn what_is_neither_a_set_nor_a_folder_is_an_error_that_lists_the_choices() {
    let folder = write(FILES, &small());
    let file = folder.path().join(FILES[0]);
    for spec in ["nowhere", "", file.to_str().unwrap()] {
        let message = no_store().load(spec, &mut quiet).unwrap_err().to_string();
        assert!(
            message.contains("auto, mnist, fashion-mnist, kmnist, digits, a table (file.csv), or a folder"),
            "{message}"
        );
    }
}

#[test]
fn every_bad_file_is_refused_by_name() {
    let good = small();
    for (index, content) in good.iter().enumerate() {
        let truncated = content[..content.len() - 1].to_vec();
        assert!(problem_with(index, truncated).starts_with("truncated"));
        assert!(problem_with(index, [content, &[0][..]].concat()).contains("more than"));
        assert!(problem_with(index, b"PK\x03\x04".to_vec()).contains("neither an IDX file nor a gzipped one"));
        assert!(problem_with(index, vec![]).contains("neither an IDX file"));
        let mut damaged = gzip(content);
        let crc = damaged.len() - 8;
        damaged[crc] ^= 1;
        assert!(problem_with(index, damaged).contains("gzip data is damaged"));
    }
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    assert_eq!(problem_with(1, idx(&[4], &[0; 4])), "4 labels for 3 images");
    assert_eq!(problem_with(3, idx(&[1], &[0])), "1 labels for 2 images");
    assert!(problem_with(2, idx(&[2, 3], &[0; 6])).contains("3 features, the training images 4"));
    assert!(problem_with(0, idx(&[3], &[0; 3])).contains("its shape is 3, not [images"));
    assert!(problem_with(1, idx(&[3, 1], &[0; 3])).contains("its shape is 3x1, not [labels]"));
}

#[test]
fn a_set_with_one_class_is_refused() {
    let mut contents = small();
    contents[1] = idx(&[3], &[0; 3]);
    contents[3] = idx(&[2], &[0; 2]);
    let message = load_folder(write(FILES, &contents).path()).unwrap_err().to_string();
    assert!(message.contains("one class only, 0"), "{message}");
}

/// A folder of the standard shapes, without the pixels' disk space: all 0 but the first and last of both parts.
/// Labels are `index % 10`.
fn standard() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (part, count, pixel) in [(0, 60_000u32, 1), (2, 10_000, 3)] {
        let mut images = std::fs::File::create(folder.path().join(FILES[part])).unwrap();
        images.write_all(&idx(&[count, 28, 28], &[pixel])).unwrap();
        images.seek(SeekFrom::Start(16 + u64::from(count) * 784 - 1)).unwrap();
        images.write_all(&[pixel + 1]).unwrap();
        let labels: Vec<u8> = (0..count).map(|index| (index % 10) as u8).collect();
        std::fs::write(folder.path().join(FILES[part + 1]), idx(&[count], &labels)).unwrap();
    }
    folder
}

fn bytes(examples: &Examples) -> &Vec<u8> {
    let Features::Bytes(bytes) = &*examples.inputs else { panic!("no bytes") };
    bytes
}

fn assert_is_standard(data: &Data) {
    assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
    assert_eq!((data.train.features, data.train.outputs), (784, 10));
    for (part, pixel) in [(&data.train, 1), (&data.test, 3)] {
        let bytes = bytes(part);
        assert_eq!((bytes[0], *bytes.last().unwrap()), (pixel, pixel + 1));
        assert!(part.labels().unwrap().iter().enumerate().all(|(index, &label)| label as usize == index % 10));
    }
}

const UNPUBLISHED: Set = Set { name: "mnist", mirrors: &[], gz_sha256: [""; 4], sha256: None };

fn load_standard(folder: &Path) -> Result<Data> {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("mnist");
    std::fs::create_dir(&target).unwrap();
    for file in folder.read_dir().unwrap() {
        let file = file.unwrap();
        std::fs::rename(file.path(), target.join(file.file_name())).unwrap();
    }
    store([parent.path()]).load_set(&UNPUBLISHED, &mut quiet)
}

#[test]
fn files_of_the_standard_shapes_are_read_gzipped_or_not() {
    let folder = standard();
    let name = folder.path().join(FILES[1]);
    std::fs::write(name.with_extension("gz"), gzip(&std::fs::read(&name).unwrap())).unwrap();
    std::fs::rename(name.with_extension("gz"), format!("{}.gz", name.display())).unwrap();
    std::fs::remove_file(name).unwrap();
    assert_is_standard(&load_folder(folder.path()).unwrap());
    assert_is_standard(&load_standard(folder.path()).unwrap());
}

/// Sets of MNIST's form are read from a folder of their name, beside MNIST's.
#[test]
fn fashion_mnist_and_kmnist_are_read_as_images_from_a_folder_of_their_name() {
    for name in ["fashion-mnist", "kmnist"] {
        let parent = tempfile::tempdir().unwrap();
        std::fs::rename(standard().keep(), parent.path().join(name)).unwrap();
        let data = store([parent.path()]).load(name, &mut quiet).unwrap();
        assert_is_standard(&data);
        assert_eq!(data.name, name);
        let image = softstep::model::Shape::Image { height: 28, width: 28, channels: 1 };
        assert_eq!(data.shape(), image, "a convolution reads images");
    }
}

#[test]
fn a_standard_set_of_another_size_is_refused() {
    for count in [60_100u32, 59_900] {
        let folder = standard();
        std::fs::write(folder.path().join(FILES[1]), idx(&[count], &vec![1; count as usize])).unwrap();
        let message = load_standard(folder.path()).unwrap_err().to_string();
        assert!(message.contains("train-labels-idx1-ubyte: "), "{message}");
        assert!(message.contains(&format!("its shape is {count}, but mnist's is 60000")), "{message}");
    }
}

#[test]
fn a_hundred_labels_behind_the_announced_ones_are_refused() {
    // The `mnist` crate would shift all test labels by them.
    let folder = standard();
    std::fs::write(folder.path().join(FILES[1]), idx(&[60_000], &[1; 60_100])).unwrap();
    let message = load_folder(folder.path()).unwrap_err().to_string();
    assert!(message.contains("train-labels-idx1-ubyte: it holds more than the 60000"), "{message}");
}

#[test]
fn a_label_beyond_the_ten_classes_of_a_standard_set_is_refused() {
    let folder = standard();
    let mut labels = vec![0; 10_000];
    labels[8_765] = 10;
    std::fs::write(folder.path().join(FILES[3]), idx(&[10_000], &labels)).unwrap();
    assert_eq!(load_folder(folder.path()).unwrap().train.outputs, 11);
    let message = load_standard(folder.path()).unwrap_err().to_string();
    assert!(message.contains("t10k-labels-idx1-ubyte: label 10 of example 8765"), "{message}");
}

#[test]
fn a_damaged_file_of_a_standard_set_is_refused_with_a_way_out() {
    let folder = standard();
    let path = folder.path().join(FILES[1]);
    let mut labels = gzip(&std::fs::read(&path).unwrap());
    labels.truncate(labels.len() / 2);
    std::fs::write(path, labels).unwrap();
    let message = load_standard(folder.path()).unwrap_err().to_string();
    assert!(message.contains("train-labels-idx1-ubyte: its gzip data is damaged"), "{message}");
    assert!(message.ends_with("; to have it downloaded again, delete it"), "{message}");
}

/// Serves `/mnist/<file>.gz` on localhost.
fn serve(files: Vec<(String, Vec<u8>)>) -> String {
    server::serve(move |path| {
        let name = path.strip_prefix("/mnist/")?;
        files.iter().find(|(file, _)| file == name).map(|(_, body)| body.clone())
    })
}

#[test]
fn a_missing_set_is_downloaded_once_into_the_first_folder() {
    let original = standard();
    let zipped = FILES.map(|file| gzip(&std::fs::read(original.path().join(file)).unwrap()));
    let hashes = zipped
        .each_ref()
        .map(|bytes| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let set = Set { gz_sha256: hashes.each_ref().map(String::as_str), ..UNPUBLISHED };
    let files: Vec<_> = FILES.map(|file| format!("{file}.gz")).into_iter().zip(zipped).collect();

    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = store([&first.path().join("new"), second.path()]);
    store.mirror = Some(serve(files.clone()));
    let download = || {
        let mut downloaded: Vec<String> = Vec::new();
        let data = store.load_set(&set, &mut |progress| match progress {
            Progress::Download { file, received, total } if Some(received) == total => downloaded.push(file.into()),
            Progress::Download { .. } => {}
            other => panic!("{other:?}"),
        });
        assert_is_standard(&data.unwrap());
        downloaded
    };
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(download(), names);
    let target = first.path().join("new/mnist");
    assert_eq!(target.read_dir().unwrap().count(), 4);
    assert_eq!(second.path().read_dir().unwrap().count(), 0);
    // What is there is kept.
    std::fs::remove_file(target.join(&names[1])).unwrap();
    assert_eq!(download(), names[1..2]);
    // Now it is found, with no network, and also behind a folder that lacks it.
    store.mirror = None;
    store.folders.rotate_left(1);
    assert_is_standard(&store.load_set(&set, &mut quiet).unwrap());
}

#[test]
fn a_set_that_cannot_be_downloaded_is_an_error_that_says_where_to_put_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = store([folder.path()]).load("kmnist", &mut quiet).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Download { .. }), "{message}");
    assert!(message.contains(&folder.path().join("kmnist").display().to_string()), "{message}");
    assert!(message.contains("SOFTSTEP_MIRROR"), "{message}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn auto_falls_back_to_the_bundled_digits_and_says_so_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut notices = Vec::new();
    let start = Instant::now();
    let data = store([folder.path()]).load("auto", &mut |progress| match progress {
        Progress::Notice(line) => notices.push(line.to_string()),
        other => panic!("{other:?}"),
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(data.unwrap().name, "digits");
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert!(notice.contains("digits") && !notice.contains('\n'), "{notice}");
    assert!(notice.contains(&folder.path().join("mnist").display().to_string()), "{notice}");
    assert!(notice.contains("train-images-idx3-ubyte.gz: ") && notice.contains("refused"), "{notice}");
}

#[test]
fn auto_names_a_folder_it_cannot_write_to_as_what_keeps_mnist_away() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut store = store([file.path()]);
    store.mirror = Some(serve(vec![(format!("{}.gz", FILES[0]), vec![0])]));
    let mut notice = String::new();
    let data = store.load("auto", &mut |progress| match progress {
        Progress::Notice(line) => notice = line.to_string(),
        other => panic!("{other:?}"),
    });
    assert_eq!(data.unwrap().name, "digits");
    let folder = file.path().join("mnist").display().to_string();
    assert!(notice.contains(&format!("(cannot create folder {folder}: ")) && !notice.contains('\n'), "{notice}");
    assert!(notice.contains("`data_dir`"), "{notice}");
}

#[test]
fn auto_does_not_hide_a_damaged_mnist() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::rename(write(FILES, &small()).keep(), folder.path().join("mnist")).unwrap();
    let message = store([folder.path()]).load("auto", &mut quiet).unwrap_err().to_string();
    assert!(message.contains("its shape is 3x2x2, but mnist's is 60000x28x28"), "{message}");
}

/// The folder of the real MNIST files, where `$SOFTSTEP_DATA_DIR` has them.
fn real_mnist() -> Option<PathBuf> {
    let folder = std::env::var_os("SOFTSTEP_DATA_DIR").map(|folder| Path::new(&folder).join("mnist"));
    let folder = folder.filter(|folder| folder.join(format!("{}.gz", FILES[0])).is_file());
    if folder.is_none() {
        skipped_outside_ci("MNIST not found, set SOFTSTEP_DATA_DIR");
    }
    folder
}

#[test]
fn mnist_is_loaded_and_its_content_verified() {
    let Some(folder) = real_mnist() else { return };
    let data = store([folder.parent().unwrap()]).load("auto", &mut quiet).unwrap();
    assert_eq!(data.name, "mnist");
    assert_eq!((data.train.len(), data.test.len(), data.train.features, data.train.outputs), (60_000, 10_000, 784, 10));
    assert_eq!(data.train.labels().unwrap()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(data.test.labels().unwrap()[..10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    let pixels = bytes(&data.train);
    let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64;
    assert!((mean / 255.0 - 0.1307).abs() < 0.0001, "{mean}"); // the mean that everyone normalizes by
    assert_eq!(pixels.capacity(), pixels.len());
}

#[test]
fn mnist_with_one_changed_label_is_refused_and_a_recompressed_one_is_not() {
    let Some(mnist) = real_mnist() else { return };
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("mnist");
    std::fs::create_dir(&target).unwrap();
    for file in FILES {
        std::fs::copy(mnist.join(format!("{file}.gz")), target.join(format!("{file}.gz"))).unwrap();
    }
    let path = target.join(format!("{}.gz", FILES[1]));
    let mut labels = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()), &mut labels).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, gzip(&labels)).unwrap();
    store([folder.path()]).load("mnist", &mut quiet).unwrap();

    labels[5_000] = (labels[5_000] + 1) % 10;
    std::fs::write(&path, gzip(&labels)).unwrap();
    let message = store([folder.path()]).load("mnist", &mut quiet).unwrap_err().to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(message.contains("not the published one"), "{message}");
}

#[test]
fn what_is_no_digit_is_told_by_its_shape_or_else_by_the_probabilities() {
    let place = |is_familiar| Place { number: 1, of: 1, row: 1, bounds: [0; 4], is_familiar };
    for (is_familiar, highest, loss, expected) in [
        (Some(true), 0.5, Loss::CrossEntropy, false),
        (Some(false), 1.0, Loss::CrossEntropy, true),
        (Some(false), 1.0, Loss::MeanSquaredError, true),
        (None, 0.79, Loss::CrossEntropy, true),
        (None, 0.81, Loss::CrossEntropy, false),
        (None, 0.5, Loss::MeanSquaredError, false),
    ] {
        let outputs = [1.0 - highest, highest];
        assert_eq!(is_no_digit(&place(is_familiar), &outputs, loss), expected, "{is_familiar:?} {highest} {loss:?}");
    }
}
