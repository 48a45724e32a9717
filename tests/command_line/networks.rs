//! Networks of any layers as people and programs use them: `--layers` and what goes with it, in every command.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::binary::{Run, finished, good, softstep};
use crate::skip::skipped_outside_ci;
use serde_json::json;

/// Every kind of layer.
const LAYERS: &str =
    "conv:8x3s2p1,batchnorm,gelu,conv:6x2p1,relu,pool:3s1,dropout:0.25,linear:20,tanh,linear:16,leaky_relu";

fn train(folder: &Path, more: &[&str]) -> Run {
    softstep(folder, &[&["train", "-q", "--data=digits", "--backend=cpu", "--epochs=2"], more].concat())
}

#[test]
fn a_convolutional_run_says_its_architecture_wherever_a_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let layers = ["--layers", LAYERS, "--augment=shift=1", "--schedule=one-cycle", "--json", "--out=run"];
    let lines = good(train(here, &layers)).json_lines();
    let all: Vec<&str> = LAYERS.split(',').collect();
    // With the size's own padding left out, flatten and the last layer added.
    let all = [&["conv:8x3s2"], &all[1..7], &["flatten"], &all[7..], &["linear:10"]].concat();
    let architecture = json!({ "input": [8, 8, 1], "layers": all });
    for line in [&lines[0], &lines[lines.len() - 1]] {
        assert_eq!(line["architecture"], architecture);
        assert!(line.get("sizes").is_none(), "{line}");
    }
    let config = fs::read_to_string(here.join("run/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["architecture"], architecture);
    assert_eq!((&config["augment"], &config["schedule"]), (&json!("shift=1"), &json!("one-cycle")));

    let page = fs::read_to_string(here.join("run/report.html")).unwrap();
    for part in ["model 8x3s2-bn-6x2p1-pool3s1-20-16-10, ", " parameters", "conv:8x3s2, batchnorm, gelu"] {
        assert!(page.contains(part), "{part}");
    }
    good(softstep(here, &["report", "run"]));
    let eval = ["eval", "--backend=cpu", "--data=digits", "--model=run", "--json"];
    let (measured, done) = (good(softstep(here, &eval)).last_json(), &lines[lines.len() - 1]);
    assert_eq!((&measured["loss"], &measured["accuracy"]), (&done["test_loss"], &done["test_accuracy"]));
    good(train(here, &["--layers", LAYERS, "--init=run", "--out=next"]));
}

#[test]
fn the_summary_shows_every_layer_within_80_columns_and_deep_models_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let summary = |layers: &[&str]| {
        let arguments = ["train", "--data=digits", "--backend=cpu", "--epochs=1", "--batch-size=1438"];
        let run = good(softstep(folder.path(), &[&arguments, layers].concat()));
        let lines = run.stdout.lines().skip_while(|line| !line.starts_with("model"));
        let lines: Vec<String> = lines.take_while(|line| !line.starts_with("training")).map(String::from).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        lines.iter().map(|line| line[8..].split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(
        summary(&["--layers=conv:8x3,relu,batchnorm,pool:2,dropout:0.1,linear:32,gelu"]),
        [
            "layer output parameters operations",
            "conv:8x3, relu 8×8×8 80 9,216",
            "batchnorm 8×8×8 16 –",
            "pool:2 4×4×8 – –",
            "dropout:0.1 4×4×8 – –",
            "linear:32, gelu 32 4,128 8,192",
            "linear:10, softmax 10 330 640",
            "in total, per example 4,554 18,048",
        ]
    );
    assert_eq!(summary(&["--hidden=16"])[1..3], ["linear:16, relu 16 1,040 2,048", "linear:10, softmax 10 170 320"]);
    let deep = ["4"; 100].join(",");
    let deep = summary(&["--hidden", &deep]);
    assert_eq!(deep.len(), 23);
    assert_eq!(deep[16], "… 81 more");
    assert_eq!(deep[21], "linear:10, softmax 10 50 80");
}

#[test]
fn what_does_not_fit_is_refused_in_one_line_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("t.csv"), "a,b,y\n1,2,p\n2,1,q\n3,1,q\n1,4,p\n2,2,p\n").unwrap();
    let table = ["train", "-q", "--data=t.csv", "--target=y", "--backend=cpu", "--out=out"];
    let digits = ["train", "-q", "--data=digits", "--backend=cpu", "--out=out"];
    let (table, digits) = (&table[..], &digits[..]);
    for (arguments, more, code, told) in [
        (table, &["--layers=conv:4x3,relu"][..], 1, "--layers: layer 1, conv:4x3: needs an image"),
        (table, &["--layers=cnn"], 1, "--layers cnn: it needs images, and an example of this data is 2 features"),
        (table, &["--augment=rotate=5"], 1, "--augment rotate=5: it changes images"),
        (digits, &["--layers=pool:2,pool:2,pool:2,pool:2"], 1, "--layers: layer 4, pool:2: its input is 1×1×1"),
        (digits, &["--layers=swish"], 2, "'--layers <LAYERS|cnn>': layer \"swish\" is unknown"),
        (digits, &["--layers=relu", "--hidden=3"], 2, "'--layers <LAYERS|cnn>' cannot be used with '--hidden <SIZES>'"),
        (digits, &["--layers=relu", "--activation=tanh"], 2, "cannot be used with '--activation"),
        (digits, &["--warmup=2000"], 1, "--warmup 2000: must be fewer than the 1518 steps of the run"),
        (digits, &["--warmup=1.5"], 2, "'1.5' for '--warmup"),
        (digits, &["--augment=flip=1"], 2, "the parts are shift=PIXELS, rotate=DEGREES and scale=SHARE"),
    ] {
        let run = softstep(here, &[arguments, more].concat());
        assert!(run.code == code && run.stderr.contains(told), "{more:?}: {run:?}");
        assert!(run.stderr.starts_with("error: ") && !here.join("out").exists(), "{more:?}: {run:?}");
    }
}

#[test]
fn a_run_goes_on_with_its_own_network_and_names_both_where_another_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let layers = "conv:4x3,relu,pool:2,dropout:0.5";
    let settings = ["--layers", layers, "--augment=shift=1,rotate=9", "--warmup=0.1"];
    good(train(here, &[&settings[..], &["--checkpoint-every=5", "--out=whole"]].concat()));
    // As if it had been stopped where the checkpoint before the last was saved.
    let stopped = here.join("run");
    fs::create_dir(&stopped).unwrap();
    for file in fs::read_dir(here.join("whole")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = file.to_str().unwrap();
        if name != "checkpoint-46.safetensors" && name != "model.safetensors" {
            fs::copy(here.join("whole").join(name), stopped.join(name)).unwrap();
        }
    }
    let resume = |more: &[&str]| softstep(here, &[&["train", "-q", "--resume=run"], more].concat());
    for (asked, model) in [
        ("--hidden=5", "--hidden makes the model 64: linear:5,relu,linear:10"),
        ("--layers=relu", "--layers makes the model 64: relu,linear:10"),
        ("--layers=cnn", "--layers makes the model 8×8×1: conv:16x3,relu,pool:2,dropout:0.25,flatten,linear:128"),
    ] {
        let run = resume(&[asked]);
        let trains = "the run in run trains 8×8×1: conv:4x3,relu,pool:2,dropout:0.5,flatten,linear:10";
        assert!(run.code == 1 && run.stderr.contains(model) && run.stderr.contains(trains), "{run:?}");
    }
    let other = resume(&["--augment=shift=2"]);
    assert!(
        other
            .stderr
            .contains("--augment \"shift=2\" conflicts with the run in run, which uses --augment \"shift=1,rotate=9\""),
        "{other:?}"
    );
    // Its own settings are no others; and it ends in the same bits, dropout and augmentation among them.
    good(resume(&["--layers", layers, "--warmup=0.1"]));
    let [whole, resumed] = ["whole", "run"].map(|run| fs::read(here.join(run).join("model.safetensors")).unwrap());
    assert!(whole == resumed);
}

#[test]
fn bench_measures_any_network() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ["bench", "--layers=conv:4x3,relu,pool:4", "--batch-size=8", "--seconds=0.01", "--json"];
    let line = good(softstep(folder.path(), &bench)).last_json();
    let layers = json!(["conv:4x3", "relu", "pool:4", "flatten", "linear:10"]);
    assert_eq!(line["architecture"], json!({ "input": [28, 28, 1], "layers": layers }));
    assert!(line["cpu"]["steps_per_second"].as_f64() > Some(0.0), "{line}");
    let wrong = softstep(folder.path(), &["bench", "--layers=pool:29"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("--layers: layer 1, pool:29"), "{wrong:?}");
}

#[test]
fn every_program_is_written_to_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = good(softstep(folder.path(), &["doctor", "--dump-shaders=shaders"]));
    // Losses may share a program, and a file may have two entry points.
    let programs: BTreeSet<String> = softstep::gpu::kernels::programs()
        .iter()
        .map(|program| format!("{} {}", program.name, program.source()))
        .collect();
    let files = fs::read_dir(folder.path().join("shaders")).unwrap().count();
    assert_eq!(files, programs.len());
    assert_eq!(run.stdout, format!("{files} programs in shaders\n"));
    let softmax = fs::read_to_string(folder.path().join("shaders/softmax.wgsl")).unwrap();
    assert!(softmax.starts_with("// softstep ") && softmax.contains("// ---- softmax.wgsl ----"), "{softmax}");
    let again = softstep(folder.path(), &["doctor", "--dump-shaders=shaders"]);
    assert!(again.code == 1 && again.stderr.contains("--dump-shaders shaders: the folder is not empty"), "{again:?}");
}

#[test]
fn numpy_and_pytorch_get_the_outputs_of_predict_from_the_file_alone() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let python = |arguments: &[&str]| std::process::Command::new(&python).args(arguments).output();
    if !python(&["-c", "import numpy, safetensors"]).is_ok_and(|output| output.status.success()) {
        skipped_outside_ci("this needs python3 (or what PYTHON names) with the packages numpy and safetensors");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files-0.1.0/images.npy");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_model.py");
    good(train(here, &["--layers", LAYERS, "--out=run"]));
    let model = here.join("run/model.safetensors");
    let theirs = finished(python(&[script, model.to_str().unwrap(), images]).unwrap()).last_json();
    assert!(theirs["torch"].as_f64().is_none_or(|difference| difference < 1e-9), "{theirs}");
    let predict = ["predict", "--backend=cpu", "--model=run", "--top=10", "--json", images];
    let ours = good(softstep(here, &predict)).json_lines();
    assert_eq!(theirs["examples"], ours.len());
    for (ours, theirs) in ours.iter().zip(theirs["probabilities"].as_array().unwrap()) {
        for class in ours["classes"].as_array().unwrap() {
            let at: usize = class["class"].as_str().unwrap().parse().unwrap();
            let [ours, theirs] = [&class["probability"], &theirs[at]].map(|value| value.as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
        }
    }
}
