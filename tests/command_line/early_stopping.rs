//! Runs that end when the validation loss falls no more, and keep their best parameters.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::binary::{metrics, softstep};
use pollster::block_on;
use serde_json::Value;
use softstep::backend::{Backend, Inference, Training};
use softstep::checkpoint::{self, Metadata};
use softstep::cpu::CpuBackend;
use softstep::data;
use softstep::model::Parameters;
use softstep::trainer::{self, Event, Keep, Position, RunOptions, Summary, TrainingConfig};

/// It learns the training part by heart, and the validation loss soon rises.
const TRAIN: [&str; 14] = [
    "train",
    "-q",
    "--json",
    "--data=digits",
    "--backend=cpu",
    "--hidden=32",
    "--lr=0.3",
    "--schedule=constant",
    "--batch-size=16",
    "--validation=0.3",
    "--seed=1",
    "--epochs=60",
    "--out",
    "run",
];

/// The epochs of a run, from `metrics.jsonl`.
fn epochs(run: &Path) -> Vec<Value> {
    metrics(run).into_iter().filter(|line| line.get("test_loss").is_some()).collect()
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[test]
fn patience_ends_a_run_that_long_after_its_best_epoch_and_keeps_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let done = softstep(folder.path(), &[&TRAIN[..], &["--patience=3"]].concat()).last_json();
    let epochs = epochs(&folder.path().join("run"));
    let losses: Vec<f64> = epochs.iter().map(|epoch| number(epoch, "validation_loss")).collect();
    let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
    assert!(best + 1 < 50, "the run does not test what it should: {losses:?}");
    assert_eq!(losses.len(), best + 1 + 3);
    assert_eq!((&done["epochs"], &done["best_epoch"]), (&losses.len().into(), &(best + 1).into()));
    for name in ["validation_loss", "validation_accuracy", "test_loss", "test_accuracy"] {
        assert_eq!(done[name], epochs[best][name], "{name}");
    }
    assert_eq!(done["best_validation_loss"], epochs[best]["validation_loss"]);
    let eval =
        softstep(folder.path(), &["eval", "--model=run", "--data=digits", "--backend=cpu", "--json"]).last_json();
    assert_eq!(eval["loss"], done["test_loss"]);

    // A run that has ended early has ended.
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!((&again["event"], &again["step"]), (&"finished".into(), &done["steps"]));
}

#[test]
fn the_last_parameters_are_kept_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let done = softstep(folder.path(), &[&TRAIN[..], &["--patience=3", "--keep=last"]].concat()).last_json();
    let epochs = epochs(&folder.path().join("run"));
    assert_eq!(done["test_loss"], epochs.last().unwrap()["test_loss"]);
    assert_ne!(done["test_loss"], epochs[done["best_epoch"].as_u64().unwrap() as usize - 1]["test_loss"]);
}

#[test]
fn both_need_a_validation_part_and_label_smoothing_its_loss() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["--patience=3"][..], &["--patience", "--validation"][..]),
        (&["--keep=best"], &["--keep best", "--validation"]),
        (&["--patience=0", "--validation=0.1"], &["--patience"]),
        (&["--loss=bce", "--data=digits"], &["--loss bce", "10"]),
        (&["--loss=mse", "--label-smoothing=0.1"], &["--label-smoothing", "cross-entropy"]),
        (&["--loss=mse", "--class-weights=balanced"], &["--class-weights", "mse"]),
        (&["--class-weights=1,2", "--data=digits"], &["--class-weights", "10 classes"]),
        (&["--class-weights=1,0"], &["--class-weights"]),
    ] {
        let run = softstep(folder.path(), &[&["train", "--backend=cpu"], arguments].concat());
        assert!(run.code != 0, "{arguments:?}: {run:?}");
        for word in words {
            assert!(run.stderr.contains(word), "{arguments:?}, {word}: {}", run.stderr);
        }
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a refused run leaves nothing behind");
}

#[test]
fn mean_squared_error_of_classes_learns_the_digits_and_evaluates_as_it_trained() {
    let folder = tempfile::tempdir().unwrap();
    for backend in ["cpu", "gpu"] {
        let train = ["train", "-q", "--json", "--data=digits", "--loss=mse", "--backend"];
        let done = softstep(folder.path(), &[&train[..], &[backend, "--out", backend]].concat()).last_json();
        assert!(number(&done, "test_accuracy") > 0.9, "{done}");
        let eval = ["eval", "--data=digits", "--json", "--backend", backend, "--model", backend];
        let eval = softstep(folder.path(), &eval).last_json();
        assert_eq!((&eval["loss"], &eval["accuracy"]), (&done["test_loss"], &done["test_accuracy"]));
    }
}

#[test]
fn label_smoothing_and_class_weights_train_by_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for backend in ["cpu", "gpu"] {
        let train = ["train", "-q", "--json", "--data=digits", "--epochs=10", "--backend", backend];
        let settings = ["--label-smoothing=0.1", "--class-weights=balanced", "--verify=50"];
        let settings = &settings[..if backend == "cpu" { 2 } else { 3 }];
        let done = softstep(folder.path(), &[&train[..], settings].concat()).last_json();
        assert!(number(&done, "test_accuracy") > 0.9, "{done}");
        // Whose loss is not 0 even where all is right.
        assert!(number(&done, "train_loss") > 0.5, "{done}");
    }
}

/// A run in this process, from its start or from a checkpoint: what it came to, its last checkpoint and that at the
/// end of epoch `stop_after`, where it stops.
fn run(config: &TrainingConfig, from: Option<&[u8]>, stop_after: usize) -> (Option<Summary>, Vec<u8>, Parameters) {
    let data = data::digits().unwrap();
    let architecture = config.architecture(data.shape(), 10).unwrap();
    let (train, validation) = data.train.split(config.validation, config.seed).unwrap();
    let training = Training { optimizer: config.optimizer, ..Training::new(&train, config.batch_size) };
    let stop = AtomicBool::new(false);
    let mut backend = CpuBackend::new(&Parameters::initialize(&architecture, 1).unwrap(), &training).unwrap();
    let (mut position, mut best) = (Position::START, None);
    if let Some(bytes) = from {
        let (metadata, state) = checkpoint::from_safetensors("c", bytes).unwrap();
        backend.restore(&state).unwrap();
        (position, best) = (metadata.position, state.best);
    }
    let (validation, test) = (backend.upload(&validation).unwrap(), backend.upload(&data.test).unwrap());
    let mut file = Vec::new();
    let options = RunOptions { from: position, best: best.as_ref(), checkpoint_every: None, stop: &stop, weights: &[] };
    let ended =
        block_on(trainer::train(&mut backend, config, train.len(), Some(&validation), &test, &options, |event| {
            match event {
                Event::EpochTrained { epoch } => stop.store(epoch == stop_after, Ordering::Relaxed),
                Event::Checkpoint { position, state } => {
                    let metadata = Metadata {
                        format: Metadata::FORMAT,
                        version: "0.1.0".into(),
                        architecture: architecture.clone(),
                        position,
                        step: position.step(config, train.len()),
                        config: config.clone(),
                        chosen: None,
                        checkpoint_every: None,
                        data: "digits".into(),
                        data_sha256: String::new(),
                        train_sha256: None,
                        shapes: None,
                        preprocessing: None,
                        image: None,
                        backend: "cpu".into(),
                        adapter: String::new(),
                        driver: String::new(),
                        metrics_bytes: 0,
                    };
                    file = checkpoint::to_safetensors(&metadata, state)?;
                }
                _ => {}
            }
            Ok(())
        }))
        .unwrap();
    (ended, file, block_on(backend.parameters()).unwrap())
}

#[test]
fn a_run_that_goes_on_from_a_checkpoint_stops_at_the_same_epoch_with_the_same_best_parameters() {
    let config = TrainingConfig::default()
        .hidden(vec![32])
        .epochs(60)
        .batch_size(16)
        .learning_rate(0.3)
        .schedule(softstep::optimizer::Schedule::Constant)
        .seed(1)
        .validation(0.3)
        .patience(std::num::NonZeroUsize::new(3))
        .keep(Keep::Best);
    let expected = run(&config, None, usize::MAX);
    let summary = expected.0.clone().unwrap();
    let best = summary.best.unwrap();
    assert!(summary.epochs == best.epoch + 3 && summary.epochs < 60, "{:?}", summary.best);
    for stop_after in [1, best.epoch, best.epoch + 2] {
        let (ended, file, _) = run(&config, None, stop_after);
        assert!(ended.is_none());
        assert!(run(&config, Some(&file), usize::MAX) == expected, "stopped after epoch {stop_after}");
    }
}
