//! Data that stay in their files: the bits of data in memory, in bounded memory, and an error where a file changes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::binary::{self, command, end, finished, softstep};
use softstep::data::npy::{self, Values};
use softstep::data::{Examples, Features};

/// The variable that says above which size files stay on disk.
const LIMIT: &str = "SOFTSTEP_IN_MEMORY_BYTES";

fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}\n", sizes.join(" "));
    [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
}

/// Writes `x.npy` with `rows` rows of 8 x 8 numbers, `y.npy` with three classes.
fn arrays(folder: &Path, rows: usize, descr: &str, number: impl Fn(usize) -> Vec<u8>) {
    arrays_of(folder, &[rows, 8, 8], descr, |at| number(value(at)));
}

/// Writes `x.npy` with rows of 64 numbers by their places, `y.npy` with three classes.
fn arrays_of(folder: &Path, shape: &[usize], descr: &str, number: impl Fn(usize) -> Vec<u8>) {
    fs::create_dir_all(folder).unwrap();
    let rows = shape[0];
    let mut x = header(descr, shape);
    (0..rows * 64).for_each(|at| x.extend(number(at)));
    fs::write(folder.join("x.npy"), x).unwrap();
    let y: Vec<u8> = (0..rows).map(class).collect();
    fs::write(folder.join("y.npy"), [header("|u1", &[rows]), y].concat()).unwrap();
}

fn class(row: usize) -> u8 {
    (row * 31 % 3) as u8
}

/// A number below 200, higher in columns of the row's class.
fn value(at: usize) -> usize {
    let (row, column) = (at / 64, at % 64);
    at * 7919 % 100 + if column % 3 == usize::from(class(row)) { 60 } else { 0 }
}

/// Last line of a training run in memory, or with all features left in their files.
fn train(folder: &Path, arguments: &[&str], stored: bool) -> serde_json::Value {
    let mut command = command(folder, &[&["train", "-q", "--json", "--epochs=3"], arguments].concat());
    command.env(LIMIT, if stored { "0" } else { "1000000000" });
    finished(command.output().unwrap()).last_json()
}

#[test]
fn features_that_stay_in_their_file_give_the_bits_of_those_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    arrays(&path.join("bytes"), 500, "|u1", |value| vec![value as u8]);
    arrays(&path.join("floats"), 500, ">f4", |value| (value as f32 / 7.0).to_be_bytes().into());
    arrays(&path.join("doubles"), 400, "<f8", |value| (value as f64 / 3.0).to_le_bytes().into());
    arrays(&path.join("integers"), 400, "<i2", |value| (value as i16 - 90).to_le_bytes().into());
    let in_own_unit = |at: usize| 10f64.powi((at % 64 % 9) as i32 - 4) * value(at) as f64 + (at % 64) as f64;
    arrays_of(&path.join("lists"), &[400, 64], "<f8", |at| in_own_unit(at).to_le_bytes().into());
    let images = |rows: usize| {
        let sizes = [rows, 8, 8].map(|size| (size as u32).to_be_bytes()).concat();
        [&[0, 0, 8, 3][..], &sizes, &(0..rows * 64).map(|at| value(at) as u8).collect::<Vec<u8>>()].concat()
    };
    let labels = |rows: usize| {
        [&[0, 0, 8, 1][..], &(rows as u32).to_be_bytes(), &(0..rows).map(class).collect::<Vec<u8>>()].concat()
    };
    fs::create_dir(path.join("idx")).unwrap();
    for (name, bytes) in [
        ("train-images-idx3-ubyte", images(300)),
        ("train-labels-idx1-ubyte", labels(300)),
        ("t10k-images-idx3-ubyte", images(90)),
        ("t10k-labels-idx1-ubyte", labels(90)),
    ] {
        fs::write(path.join("idx").join(name), bytes).unwrap();
    }
    for data in ["bytes", "floats", "doubles", "integers", "lists", "idx"] {
        for (backend, more) in [("cpu", &["--validation=0.2", "--patience=2"][..]), ("gpu", &["--verify=3"])] {
            let [in_memory, stored] = [false, true].map(|stored| {
                let out = format!("--out={data}-{backend}-{stored}");
                train(path, &[&["--data", data, "--backend", backend, &out], more].concat(), stored)
            });
            for field in ["parameters_sha256", "train_loss", "test_loss", "test_accuracy", "best_validation_loss"] {
                assert_eq!(in_memory[field], stored[field], "{data} on {backend}: {field}");
            }
            // What was trained from a file goes on, is measured and trained again in memory, and the other way round.
            let run = format!("{data}-{backend}-true");
            let reproduced = softstep(path, &["reproduce", &run]);
            assert_eq!(reproduced.code, 0, "{reproduced:?}");
            let eval = |limit: &str| {
                let model = format!("--model={data}-{backend}-false");
                let mut command = command(path, &["eval", &model, "--data", data, "--backend", backend, "--json"]);
                finished(command.env(LIMIT, limit).output().unwrap()).last_json()
            };
            assert_eq!(eval("0")["loss"], stored["test_loss"], "{data}");
        }
    }
}

#[test]
fn a_file_that_is_no_sound_array_is_refused_as_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let run = |data: &str, limit: &str| {
        let mut command = command(path, &["train", "--backend=cpu", "--data", data, "--out=run"]);
        finished(command.env(LIMIT, limit).output().unwrap())
    };
    arrays(&path.join("nan"), 50, "<f4", |value| if value == 42 { f32::NAN } else { 1.0 }.to_le_bytes().into());
    arrays(&path.join("short"), 50, "<f4", |value| (value as f32).to_le_bytes().into());
    arrays(&path.join("long"), 50, "<f4", |value| (value as f32).to_le_bytes().into());
    let x = |data: &str| OpenOptions::new().append(true).open(path.join(data).join("x.npy")).unwrap();
    x("long").write_all(b"more").unwrap();
    let short = x("short");
    short.set_len(short.metadata().unwrap().len() - 1).unwrap();
    for (data, words) in [("nan", "] is NaN"), ("short", "truncated"), ("long", "more than its header announces")] {
        let [in_memory, stored] = ["1000000000", "0"].map(|limit| run(data, limit));
        for run in [in_memory, stored] {
            assert!(run.code == 1 && run.stderr.contains(words) && run.stderr.contains("x.npy"), "{data}: {run:?}");
        }
    }
    // A test part too far from the training part.
    for (data, number) in [("sound", 1e-3), ("far", 3e38f32)] {
        arrays(&path.join(data), 50, "<f4", |value| (number * (value % 2) as f32).to_le_bytes().into());
    }
    for array in ["x", "y"] {
        fs::copy(path.join(format!("far/{array}.npy")), path.join(format!("sound/{array}_test.npy"))).unwrap();
    }
    let [in_memory, stored] = ["1000000000", "0"].map(|limit| run("sound", limit));
    assert!(in_memory.code == 1 && in_memory.stderr.contains("sound/x_test.npy: [0, "), "{in_memory:?}");
    assert!(in_memory.stderr.contains("]: 3e38 is too far from the training rows, of mean"), "{in_memory:?}");
    assert_eq!(stored.stderr, in_memory.stderr);
    // What cannot stay in its file is read as before.
    let fortran = fs::read(path.join("nan/x.npy")).unwrap();
    let fortran = String::from_utf8_lossy(&fortran[..80]).replace("False", "True ");
    assert!(fortran.contains("True"));
}

#[test]
fn a_file_that_is_cut_off_or_changed_while_it_is_read_ends_the_run_with_a_sentence() {
    for change in ["cut", "touched"] {
        let folder = binary::folder_with_places();
        let path = folder.path();
        arrays(&path.join("data"), 3000, "|u1", |value| vec![value as u8]);
        let arguments = ["train", "-q", "--backend=cpu", "--data=data", "--epochs=100000", "--out=run"];
        let mut child = binary::in_places(path, &arguments);
        let child = child.env(LIMIT, "0").stdout(File::create(path.join("stdout")).unwrap()).spawn().unwrap();
        binary::wait_for_checkpoint(&path.join("run"), 100);
        let x = OpenOptions::new().write(true).open(path.join("data/x.npy")).unwrap();
        if change == "cut" {
            x.set_len(5000).unwrap();
        } else {
            (&x).write_all(b"\x93NUMPY").unwrap();
        }
        let run = end(child, path);
        assert_eq!(run.code, 1, "{change}: {run:?}");
        let words =
            if change == "cut" { ["it was ", "while it was read"] } else { ["it was changed", "while it was read"] };
        assert!(words.iter().all(|words| run.stderr.contains(words)) && run.stderr.contains("x.npy"), "{run:?}");
        assert!(run.stderr.contains("checkpoint of step") && run.stderr.contains("--resume run"), "{run:?}");
    }
}

#[test]
fn parts_of_a_stored_array_are_rows_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    arrays(folder.path(), 70, "<f4", |value| (value as f32).to_le_bytes().into());
    let file = File::open(folder.path().join("x.npy")).unwrap();
    let array = npy::store("x", file).unwrap().unwrap();
    let Values::Stored(_) = &array.values else { panic!("{array:?}") };
    let classes: Vec<u32> = (0..70).map(|row| u32::from(class(row))).collect();
    let stored = Examples::new(array.into_features().unwrap(), classes.clone(), 64, 3).unwrap();
    let floats: Vec<f32> = (0..70 * 64).map(|at| value(at) as f32).collect();
    let in_memory = Examples::new(Features::Floats(floats), classes, 64, 3).unwrap();
    assert_eq!(stored.sha256(), in_memory.sha256());
    let parts = |examples: &Examples| {
        let (rest, taken) = examples.clone().split(0.3, 5).unwrap();
        let (rest, twice) = rest.split(0.5, 1).unwrap();
        [rest, taken, twice]
            .map(|part| (part.sha256(), part.len(), part.select(&[3, 0, 5]), part.input(4).collect::<Vec<f64>>()))
    };
    assert_eq!(parts(&stored), parts(&in_memory));
    stored.check_read().unwrap();
}

/// Trains in 450 MB of address space, of which the program takes a part, on features of 320 MB.
#[test]
#[cfg(target_os = "linux")]
fn a_set_that_memory_does_not_hold_is_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Zeros, which take no room on most file systems.
    let rows = 5_000_000;
    let file = File::create(path.join("x.npy")).unwrap();
    (&file).write_all(&header("|u1", &[rows, 8, 8])).unwrap();
    let start = file.metadata().unwrap().len();
    file.set_len(start + rows as u64 * 64).unwrap();
    let y: Vec<u8> = (0..rows).map(class).collect();
    fs::write(path.join("y.npy"), [header("|u1", &[rows]), y].concat()).unwrap();
    let binary = env!("CARGO_BIN_EXE_softstep");
    let run = |limit: &str, out: &str| {
        let arguments = "train -q --json --data . --backend cpu --epochs 1 --batch-size 20000 --lr 0.1";
        let script = format!("ulimit -v 450000; exec {binary} {arguments} --out {out}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(path).env("RAYON_NUM_THREADS", "2");
        finished(command.env(LIMIT, limit).output().unwrap())
    };
    assert_eq!(run("268435456", "stored").last_json()["event"], "done");
    let in_memory = run("100000000000", "in-memory");
    assert!(in_memory.code != 0 && in_memory.stderr.contains("no memory"), "{in_memory:?}");
}
