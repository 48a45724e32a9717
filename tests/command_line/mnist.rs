//! Real MNIST, trained with the defaults of the command line, end to end through the binary.
//!
//! Needs `$SOFTSTEP_DATA_DIR/mnist`; without it the tests say that they were skipped.

use crate::binary;
use crate::skip;
use serde_json::Value;

/// Trains with these arguments; gives the last line, or `None` where there is no MNIST.
fn train(arguments: &[&str]) -> Option<Value> {
    train_with_losses(arguments).map(|(done, _)| done)
}

/// The same, with the loss of each step.
fn train_with_losses(arguments: &[&str]) -> Option<(Value, Vec<f64>)> {
    let Some(data) =
        std::env::var_os("SOFTSTEP_DATA_DIR").filter(|data| std::path::Path::new(data).join("mnist").is_dir())
    else {
        skip::skipped_outside_ci("MNIST not found, set SOFTSTEP_DATA_DIR");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let arguments = [&["train", "--data", "mnist", "--json", "-q", "--out", "run"], arguments].concat();
    let mut command = binary::command(folder.path(), &arguments);
    let done = binary::finished(command.env("SOFTSTEP_DATA_DIR", data).output().unwrap()).last_json();
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    Some((done, lines.filter(|line| line.get("step").is_some()).map(|line| line["loss"].as_f64().unwrap()).collect()))
}

#[track_caller]
fn reaches(least: f64, arguments: &[&str]) {
    let Some(done) = train(arguments) else { return };
    let accuracy = done["test_accuracy"].as_f64().unwrap();
    assert!(accuracy >= least, "{arguments:?} reached {accuracy}, not {least}: {done}");
}

#[test]
fn softmax_regression_reaches_92_3_percent_on_the_adapter() {
    reaches(0.923, &["--backend", "gpu"]);
}

#[test]
fn a_hidden_layer_of_128_reaches_97_8_percent_on_the_adapter() {
    reaches(0.978, &["--backend", "gpu", "--hidden", "128"]);
}

#[test]
fn hidden_layers_of_512_and_512_reach_98_2_percent_on_the_adapter() {
    reaches(0.982, &["--backend", "gpu", "--hidden", "512,512"]);
}

#[test]
#[ignore = "takes minutes: cargo test --test command_line mnist:: -- --ignored"]
fn adamw_with_hidden_layers_of_512_and_512_reaches_98_4_percent_on_the_adapter() {
    reaches(0.984, &["--backend", "gpu", "--hidden", "512,512", "--optimizer", "adamw", "--epochs", "10"]);
}

#[test]
fn the_cpu_reaches_the_same() {
    reaches(0.923, &["--backend", "cpu"]);
    reaches(0.978, &["--backend", "cpu", "--hidden", "128"]);
    reaches(0.982, &["--backend", "cpu", "--hidden", "512,512"]);
}

/// One epoch on the CPU in CI; the mean of five seeds on both backends, with the preset's own epochs, takes an hour.
#[test]
fn the_convolutional_preset_reaches_98_8_percent_after_one_epoch() {
    reaches(0.988, &["--backend", "cpu", "--layers", "cnn", "--epochs", "1"]);
}

#[test]
#[ignore = "takes an hour: cargo test --release --test command_line mnist:: -- --ignored"]
fn the_convolutional_preset_reaches_99_2_percent_on_both_backends() {
    for backend in ["cpu", "gpu"] {
        let accuracy = |seed: u32| {
            let done = train(&["--backend", backend, "--layers", "cnn", "--seed", &seed.to_string()]);
            done.map(|done| done["test_accuracy"].as_f64().unwrap())
        };
        let Some(accuracies) = (0..5).map(accuracy).collect::<Option<Vec<_>>>() else { return };
        let mean = accuracies.iter().sum::<f64>() / 5.0;
        assert!(mean >= 0.992, "{backend}: {accuracies:?}");
    }
}

#[test]
fn losses_of_the_first_100_steps_agree_between_adapter_and_cpu() {
    for (hidden, tolerance) in [(&[][..], 1e-4), (&["--hidden", "128"], 1e-3)] {
        let run = |backend| train_with_losses(&[&["--epochs", "1", "--backend", backend], hidden].concat());
        let Some((_, gpu)) = run("gpu") else { return };
        let (_, cpu) = run("cpu").unwrap();
        for (step, (gpu, cpu)) in gpu.iter().zip(&cpu).take(100).enumerate() {
            assert!((gpu - cpu).abs() <= tolerance * cpu, "{hidden:?}, step {step}: {gpu} and {cpu}");
        }
    }
}

#[test]
fn the_same_command_gives_the_same_bits_on_the_adapter() {
    let run = |readback| train(&["--backend", "gpu", "--hidden", "32", "--epochs", "1", "--readback", readback]);
    let Some(first) = run("pipelined") else { return };
    for readback in ["pipelined", "blocking"] {
        let second = run(readback).unwrap();
        assert_eq!(first["parameters_sha256"], second["parameters_sha256"], "{readback}");
    }
}
