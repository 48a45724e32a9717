//! `softstep doctor` and `softstep train --verify` as a person runs them.

use std::path::Path;

use crate::binary::{Run, command, finished, softstep};

/// A bug in one element of the weight gradient, and one in another kernel's loss.
const BUG: &str =
    "update(at, sums[0]);=>update(at, sums[0] + select(0.0, 0.001, row_block == 3u && column_block == 1u));";

fn with_bug(folder: &Path, arguments: &[&str]) -> Run {
    finished(command(folder, arguments).env("SOFTSTEP_ALTER_SHADERS", BUG).output().unwrap())
}

#[test]
fn doctor_finds_this_machine_fit_on_one_page_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let run = softstep(folder.path(), &["doctor"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    for part in [
        "processor",
        "CPU bits",
        "auto",
        "limits",
        "kernels",
        "costs",
        "training",
        "data",
        "runs",
        "training works here",
    ] {
        assert!(run.stdout.contains(part), "{part:?} is not in\n{}", run.stdout);
    }
    assert!(run.stdout.lines().count() <= 40, "{}", run.stdout);

    let found = softstep(folder.path(), &["doctor", "--json"]).last_json();
    assert_eq!(found["problems"], serde_json::json!([]));
    assert!(!found["adapters"].as_array().unwrap().is_empty());
    let device = &found["device"];
    let kernels = device["kernels"].as_array().unwrap();
    assert!(kernels.len() >= 10 && kernels.iter().all(|kernel| kernel["passed"] == true), "{kernels:?}");
    for choice in device["matmul_choices"].as_array().unwrap() {
        assert!(kernels.iter().any(|kernel| &kernel["matmul"] == choice), "{choice} was not tested");
    }
    assert!(device["limits"]["binding_bytes"].as_u64() > Some(1 << 20), "{device}");
    assert!(device["costs"]["readback_seconds"].as_f64() > Some(1e-7), "{device}");
    assert!(found["training"]["verified"].as_u64() >= Some(3), "{found}");
    let folders = found["folders"].as_array().unwrap();
    assert!(folders.iter().all(|folder| folder["writable"] == true && folder["free_bytes"].as_u64() > Some(0)));
    assert!(!folder.path().join("runs").exists(), "it left something behind");
}

#[test]
fn doctor_without_an_adapter_says_that_training_works_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let blind = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        finished(command.env("VK_DRIVER_FILES", "none").env("VK_ICD_FILENAMES", "none").output().unwrap())
    };
    let run = blind(&["doctor"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("takes the CPU: no GPU adapter found") && run.stdout.contains("training works here"));
    let run = blind(&["doctor", "--adapter", "0", "--json"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.contains("no GPU adapter found"), "{run:?}");
}

#[test]
fn doctor_fails_where_runs_cannot_be_written_and_for_an_adapter_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let run = softstep(folder.path(), &["doctor", "--out", "file/runs"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.contains("training would fail") && run.stdout.contains("cannot write to"), "{run:?}");

    let run = softstep(folder.path(), &["doctor", "--adapter", "no such thing"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.contains("no adapter matches"), "{run:?}");
}

#[test]
fn verify_reports_the_worst_numbers_of_an_honest_run() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "--data", "digits", "--backend", "gpu", "--hidden", "16", "--epochs", "3", "--verify=20"];
    let run = softstep(folder.path(), &train);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("verified  4 of 69 steps") && run.stdout.contains("worst in step"), "{}", run.stdout);

    let run = softstep(folder.path(), &[&train[..], &["--json"]].concat());
    let lines = run.json_lines();
    let found = lines.iter().find(|line| line["event"] == "verification").expect("a verification");
    assert_eq!(found["steps"], 4);
    let worst = found["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 3);
    assert!(worst.iter().all(|worst| worst["error"].as_f64() <= worst["tolerance"].as_f64()), "{found}");

    // N may be left out; 0 is none.
    let default = ["train", "--data", "digits", "--backend", "gpu", "--epochs", "6", "--json", "--verify"];
    let run = softstep(folder.path(), &default);
    assert!(run.stdout.contains("\"event\":\"verification\",\"steps\":2"), "{run:?}");
    let run = softstep(folder.path(), &["train", "--data", "digits", "--verify=0"]);
    assert!(run.code == 2 && run.stderr.contains("--verify"), "{run:?}");
    let run = softstep(folder.path(), &["train", "--data", "digits", "--backend", "cpu", "--verify"]);
    assert!(run.code == 1 && run.stderr.contains("--verify has the CPU check the GPU"), "{run:?}");
}

#[cfg(debug_assertions)] // a release build has no way to plant one
#[test]
fn a_planted_bug_fails_doctor_and_stops_a_verified_run_and_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let run = with_bug(folder.path(), &["doctor"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("not those of softstep"), "{run:?}");
    for part in ["kernel weight_gradient_sgd is wrong", "[12, ", "step 1 is wrong", "training would fail"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }

    let train = ["train", "--data", "digits", "--backend", "gpu", "--epochs", "1", "--out", "run", "--verify=5"];
    let run = with_bug(folder.path(), &train);
    assert_eq!(run.code, 1, "{run:?}");
    for part in ["error: step 1 is wrong", "the gradient of layer 1 of 1 [12, ", "is not", "softstep doctor"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert!(!folder.path().join("run/model.safetensors").exists());
}
