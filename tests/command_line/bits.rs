//! The CPU backend's bits on other machines: with vectors of another width, and with any number of threads.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::Path;

use crate::binary::{command, finished};
use crate::skip;

/// What a run leaves: its model and its losses.
fn run(folder: &Path, arguments: &[&str], set: &str, threads: usize) -> Option<[Vec<u8>; 2]> {
    let out = folder.join("run");
    let _ = fs::remove_dir_all(&out);
    let mut command = command(folder, &["train", "-q", "--backend=cpu", "--out=run", "--seed=3"]);
    command.args(arguments).env("SOFTSTEP_INSTRUCTION_SET", set).env("RAYON_NUM_THREADS", threads.to_string());
    let run = finished(command.output().unwrap());
    if run.code == 1 && run.stderr.contains("this processor has ") {
        return None;
    }
    assert_eq!(run.code, 0, "{run:?}");
    Some(["model.safetensors", "metrics.jsonl"].map(|name| fs::read(out.join(name)).unwrap()))
}

#[test]
fn vectors_of_any_width_and_any_number_of_threads_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let row = |row: usize| format!("{},{},{}\n", row % 7, row * 31 % 11, ["a", "b"][row % 3 / 2]);
    fs::write(folder.join("two.csv"), "x,y,kind\n".to_string() + &(0..300).map(row).collect::<String>()).unwrap();
    for arguments in [
        // Sums of more terms than a block has, and steps that are shared among threads.
        &["--data=digits", "--epochs=1", "--hidden=600,513", "--batch-size=500"][..],
        // Products so small that the library has paths of their own for them.
        &["--data=digits", "--epochs=1", "--hidden=7,3,9", "--batch-size=5", "--optimizer=adamw", "--clip-norm=1"],
        &["--data=two.csv", "--target=kind", "--epochs=3", "--loss=bce", "--hidden=5", "--batch-size=16"],
        &["--data=two.csv", "--target=kind", "--epochs=2", "--loss=bce", "--batch-size=1"],
        &[
            "--data=digits",
            "--epochs=1",
            "--layers=conv:9x3,batchnorm,gelu,pool:2,conv:20x3s2,tanh,dropout:0.2,linear:33,sigmoid",
            "--batch-size=300",
            "--augment=shift=1,rotate=10",
            "--loss=mse",
        ],
    ] {
        let Some(expected) = run(folder, arguments, "avx2", 1) else {
            skip::skipped("this processor has no AVX2");
            return;
        };
        for set in ["avx2", "avx512"] {
            for threads in [1, 2, 3, 8, 16, 32] {
                let Some(actual) = run(folder, arguments, set, threads) else {
                    skip::skipped("this processor has no AVX-512");
                    continue;
                };
                assert!(actual == expected, "{arguments:?}: other bits with {set} on {threads} threads");
            }
        }
    }
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &["train", "--data=digits", "--backend=cpu"]);
    let run = finished(command.env("SOFTSTEP_INSTRUCTION_SET", "neon\u{1b}").output().unwrap());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("SOFTSTEP_INSTRUCTION_SET") && run.stderr.contains("this processor has "), "{run:?}");
    assert!(!run.stderr.contains('\u{1b}'), "{run:?}");
}
