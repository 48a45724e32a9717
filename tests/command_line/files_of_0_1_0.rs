//! Files that softstep 0.1.0 wrote, in tests/files-0.1.0: models, and run folders that were stopped.
//!
//! `plants.csv` was trained with `--target kind --backend cpu --hidden 4 --activation tanh --optimizer adamw --lr 0.05
//! --batch-size 5 --epochs 8 --checkpoint-every 3 --seed 3`, `digits` with `--backend cpu --hidden 3 --lr 0.05 --epochs 6
//! --batch-size 300 --validation 0.1 --keep best --checkpoint-every 2 --seed 5`. Of each there is the folder as it was after
//! a checkpoint on the way, the model in the end, and what `predict --json` of 0.1.0 made of `plants.csv` and `images.npy`.

use std::fs;
use std::path::Path;

use crate::binary::softstep;
use serde_json::{Value, json};
use softstep::model_file::from_safetensors;
use tempfile::TempDir;

/// The runs, and the `parameters_sha256` of each in the end. Products as small as the table's have been summed in another
/// order since 0.2.0, the same one with vectors of any width.
const RUNS: [(&str, Option<&str>); 2] =
    [("table", None), ("digits", Some("8d12150c61aea0baf21f1e0322187fd075fca8723cef765fbe6b770935237da1"))];

/// A copy of the files, as runs change their folders.
fn files() -> TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files-0.1.0")), folder.path());
    folder
}

fn values(file: &Path) -> Vec<f32> {
    let (parameters, _) = from_safetensors("m", &fs::read(file).unwrap()).unwrap();
    parameters.layers.into_iter().flat_map(|layer| layer.values).collect()
}

#[test]
fn models_of_0_1_0_predict_what_they_did() {
    let folder = files();
    for (model, input) in [("table", "plants.csv"), ("digits", "images.npy")] {
        let file = format!("{model}.safetensors");
        let predict = ["predict", "--backend=cpu", "--json", "--top=10", "--model", &file, input];
        let lines = softstep(folder.path(), &predict).json_lines();
        let expected = fs::read_to_string(folder.path().join(format!("{model}-predictions.jsonl"))).unwrap();
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), expected.len());
        for (line, expected) in lines.iter().zip(&expected) {
            let classes = |line: &Value| -> Vec<(String, f64)> {
                let class = |class: &Value| (class["class"].to_string(), class["probability"].as_f64().unwrap());
                line["classes"].as_array().unwrap().iter().map(class).collect()
            };
            for ((class, probability), (expected_class, expected)) in classes(line).iter().zip(&classes(expected)) {
                assert_eq!(class, expected_class, "{model}, {}", line["input"]);
                assert!((probability - expected).abs() <= 1e-6, "{model}, {}: {probability} {expected}", line["input"]);
            }
        }
    }
}

#[test]
fn runs_of_0_1_0_go_on_and_end_as_they_did() {
    let folder = files();
    for (run, sha256) in RUNS {
        // With --backend the run may go on on another processor.
        let resumed = softstep(folder.path(), &["train", "-q", "--backend=cpu", "--json", "--resume", run]);
        assert_eq!(resumed.code, 0, "{resumed:?}");
        let done = resumed.last_json();
        let files = [format!("{run}/model.safetensors"), format!("{run}.safetensors")];
        let [actual, expected] = files.map(|file| values(&folder.path().join(file)));
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(&expected) {
            assert!((actual - expected).abs() <= 1e-5 * expected.abs().max(0.1), "{run}: {actual} {expected}");
        }
        // To the bits, where the processor rounds as that one did.
        if let Some(sha256) = sha256.filter(|_| is_processor_of_the_files()) {
            assert_eq!(done["parameters_sha256"], sha256, "{run}");
        }
    }
}

/// Returns true for processors with fused multiplication and addition, on x86-64.
fn is_processor_of_the_files() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[test]
fn other_commands_read_what_0_1_0_wrote() {
    let folder = files();
    let run = |arguments: &[&str]| {
        let run = softstep(folder.path(), arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        run
    };
    // A report of a folder without `architecture` in its config.json.
    run(&["report", "table"]);
    let page = fs::read_to_string(folder.path().join("table/report.html")).unwrap();
    assert!(page.contains("model 5-4-3, 39 parameters"), "{page}");
    let eval = ["eval", "--backend=cpu", "--json", "--data=digits", "--model=digits.safetensors"];
    let measured = run(&eval).last_json();
    assert!((measured["loss"].as_f64().unwrap() - 2.217_045_450_705_433_6).abs() < 1e-5, "{measured}");
    let init = ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=1", "--hidden=3", "--json", "--out=next"];
    let done = run(&[&init[..], &["--init=digits"]].concat()).last_json();
    assert_eq!(done["sizes"], json!([64, 3, 10]));
    let other = softstep(folder.path(), &["train", "--data=digits", "--backend=cpu", "--layers=cnn", "--init=digits"]);
    assert!(other.code == 1, "{other:?}");
    for model in
        ["64: linear:3,relu,linear:10", "8×8×1: conv:16x3,relu,pool:2,", "--hidden and --activation or --layers"]
    {
        assert!(other.stderr.contains(model), "{other:?}");
    }
}
