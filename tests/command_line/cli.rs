//! The command as people and programs use it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::binary::{Run, command, finished, metrics, softstep, with};
use crate::server;
use crate::skip::skipped_outside_ci;
use serde_json::Value;
use tempfile::TempDir;

/// A short training run on the CPU.
const TRAIN: [&str; 10] =
    ["train", "--data", "digits", "--backend", "cpu", "--hidden", "16", "--epochs", "3", "--validation=0.1"];
/// Steps of that run: 1,438 examples less 144, in batches of 64.
const STEPS: usize = 3 * 21;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn training_prints_json_lines_and_leaves_a_whole_run_folder() {
    let folder = folder();
    let run = softstep(folder.path(), &with(&TRAIN, &["--json", "--out", "run"]));
    let done = run.last_json();
    assert_eq!(run.stderr, "");
    let events: Vec<_> = run.json_lines().iter().map(|line| line["event"].as_str().unwrap().to_string()).collect();
    assert_eq!(events, ["start", "epoch", "epoch", "epoch", "done"]);
    let expected = "event backend adapter device_type driver data architecture sizes epochs batch_size seed steps seconds \
        steps_per_second images_per_second first_loss_seconds total_seconds train_loss validation_loss \
        validation_accuracy test_loss test_accuracy parameters_sha256 out";
    assert_eq!(keys(&done), expected.split_whitespace().collect());
    assert!(done.as_object().unwrap().values().all(|value| !value.is_null()), "{done}");
    assert_eq!(done["sizes"], serde_json::json!([64, 16, 10]));
    assert_eq!((&done["steps"], &done["backend"], &done["device_type"]), (&STEPS.into(), &"cpu".into(), &"cpu".into()));
    let rate = done["steps_per_second"].as_f64().unwrap() * done["seconds"].as_f64().unwrap();
    assert!((rate - STEPS as f64).abs() < 1e-6, "{done}");
    assert!(done["first_loss_seconds"].as_f64() <= done["total_seconds"].as_f64());
    assert!(done["seconds"].as_f64() <= done["total_seconds"].as_f64());
    assert!(done["test_accuracy"].as_f64().unwrap() > 0.8, "{done}");

    let out = folder.path().join("run");
    let mut files: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    let (checkpoints, others): (Vec<_>, Vec<_>) =
        files.iter().map(|file| file.to_str().unwrap()).partition(|file| file.starts_with("checkpoint-"));
    assert_eq!(others, [".lock", "config.json", "metrics.jsonl", "model.safetensors", "report.html", "results.json"]);
    assert!(checkpoints.len() == 2 && checkpoints.contains(&"checkpoint-63.safetensors"), "{checkpoints:?}");

    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["data"], &config["epochs"], &config["momentum"]), (&"digits".into(), &3.into(), &0.9.into()));

    let metrics = metrics(&out);
    let (steps, epochs): (Vec<_>, Vec<_>) = metrics.iter().partition(|line| line.get("step").is_some());
    assert!(steps.iter().enumerate().all(|(index, line)| line["step"] == index + 1));
    assert_eq!((steps.len(), epochs.len()), (STEPS, 3));
    assert!(steps.iter().all(|line| keys(line) == BTreeSet::from(["step", "epoch", "loss", "lr"])));
    assert_eq!(epochs[2]["test_loss"], done["test_loss"]);
}

#[test]
fn the_same_command_gives_the_same_bits_and_another_seed_gives_others() {
    let folder = folder();
    let train = |out, seed| {
        let run = softstep(folder.path(), &with(&TRAIN, &["--json", "--out", out, "--seed", seed]));
        let file = |name| fs::read(folder.path().join(out).join(name)).unwrap();
        (run.last_json()["parameters_sha256"].clone(), file("metrics.jsonl"), file("model.safetensors"))
    };
    let first = train("a", "3");
    assert_eq!(first, train("b", "3"));
    assert_ne!(first.0, train("c", "4").0);
}

#[test]
fn the_digits_are_learned_to_95_percent_with_the_defaults_and_97_with_a_hidden_layer() {
    let folder = folder();
    for backend in ["cpu", "gpu"] {
        for (least, settings) in [(0.95, &[][..]), (0.97, &["--hidden", "128", "--lr", "0.3"])] {
            let run = with(&["train", "--data", "digits", "--json", "--backend", backend], settings);
            let done = softstep(folder.path(), &run).last_json();
            assert!(done["test_accuracy"].as_f64().unwrap() >= least, "{done}");
        }
    }
}

#[test]
fn a_profile_times_every_kernel_of_a_step_and_changes_no_bit() {
    let folder = folder();
    let train = ["train", "--data", "digits", "--backend", "gpu", "--hidden", "9", "--epochs", "2", "--json"];
    let run = softstep(folder.path(), &with(&train, &["--profile"]));
    let done = run.last_json();
    let lines = run.json_lines();
    let profile = lines.iter().find(|line| line["event"] == "profile").expect("a profile");
    let kernels = profile["kernels"].as_array().unwrap();
    let names: Vec<_> = kernels.iter().map(|kernel| kernel["name"].as_str().unwrap()).collect();
    assert!(names.first().unwrap().starts_with("forward"), "{names:?}");
    assert!(names.last().unwrap().starts_with("weight_gradient"), "{names:?}");
    let kernel_seconds: f64 = kernels.iter().map(|kernel| kernel["seconds"].as_f64().unwrap()).sum();
    let seconds = done["seconds"].as_f64().unwrap();
    assert!(kernel_seconds > 0.0 && kernel_seconds <= seconds, "{profile} of {seconds} s");
    assert!(kernels.iter().all(|kernel| kernel["dispatches"] == done["steps"]), "{profile}");
    assert_eq!(softstep(folder.path(), &train).last_json()["parameters_sha256"], done["parameters_sha256"]);

    let refused = softstep(folder.path(), &["train", "--data", "digits", "--backend", "cpu", "--profile"]);
    assert!(refused.code == 1 && refused.stderr.contains("--profile"), "{refused:?}");
}

#[test]
fn results_go_to_stdout_and_quiet_leaves_only_them() {
    let folder = folder();
    let run = softstep(folder.path(), &TRAIN);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    for part in [
        "3 epochs of 21 steps,",
        "digits: 1,294 training and 359 test examples",
        "linear:16, relu",
        "epoch 3/3",
        "validation loss",
        "test accuracy",
        "model in runs",
        "report in runs",
    ] {
        assert!(run.stdout.contains(part), "{part:?} is not in\n{}", run.stdout);
    }
    let run = softstep(folder.path(), &["train", "--data=digits", "--backend=cpu", "--epochs=1", "--batch-size=2000"]);
    assert!(run.stdout.contains("1 epoch of 1 step,") && run.stdout.contains("trained 1 step in"), "{}", run.stdout);
    let run = softstep(folder.path(), &with(&TRAIN, &["-q"]));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.starts_with("test accuracy") && run.stdout.lines().count() == 5, "{}", run.stdout);
}

#[test]
fn runs_without_a_name_get_folders_of_their_own() {
    let folder = folder();
    let train = || softstep(folder.path(), &with(&TRAIN, &["--json"])).last_json()["out"].clone();
    let outs: BTreeSet<_> = (0..3).map(|_| train().as_str().unwrap().to_string()).collect();
    assert_eq!(outs.len(), 3);
    for out in outs {
        assert!(out.contains("-digits"), "{out}");
        assert!(folder.path().join(out).join("model.safetensors").is_file());
    }
}

#[test]
fn a_folder_that_holds_something_is_refused_and_an_empty_one_is_used() {
    let folder = folder();
    fs::create_dir(folder.path().join("run")).unwrap();
    assert_eq!(softstep(folder.path(), &with(&TRAIN, &["--out", "run"])).code, 0);
    let before = fs::read(folder.path().join("run/model.safetensors")).unwrap();
    let run = softstep(folder.path(), &with(&TRAIN, &["--out", "run", "--seed", "9"]));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("--out run: the folder is not empty; name a new one"), "{}", run.stderr);
    assert_eq!(fs::read(folder.path().join("run/model.safetensors")).unwrap(), before);
    let run = softstep(folder.path(), &with(&TRAIN, &["--out", "run/config.json"]));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("--out run/config.json is a file: --out needs a folder"), "{}", run.stderr);
}

#[test]
fn each_wrong_argument_is_named() {
    let folder = folder();
    for (flag, argument) in [
        ("--hidden", "--hidden=8,0"),
        ("--hidden", "--hidden=x"),
        ("--epochs", "--epochs=0"),
        ("--batch-size", "--batch-size=0"),
        ("--batch-size", "--batch-size=-4"),
        ("--lr", "--lr=0"),
        ("--lr", "--lr=-1"),
        ("--lr", "--lr=inf"),
        ("--lr", "--lr=NaN"),
        ("--momentum", "--momentum=1"),
        ("--weight-decay", "--weight-decay=-0.1"),
        ("--clip-norm 0:", "--clip-norm=0"),
        ("--clip-norm -1:", "--clip-norm=-1"),
        ("--clip-norm NaN:", "--clip-norm=nan"),
        ("--clip-norm inf:", "--clip-norm=inf"),
        ("--clip-norm", "--clip-norm=x"),
        ("--validation", "--validation=1"),
        ("--schedule", "--schedule=linear"),
        ("--readback", "--readback=never"),
        ("--backend", "--backend=tpu"),
        ("--seed", "--seed=-1"),
        ("--nope", "--nope"),
    ] {
        let run = softstep(folder.path(), &["train", "--data=digits", argument]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{argument}: {run:?}");
        let first = run.stderr.lines().next().unwrap();
        assert!(first.starts_with("error: ") && first.contains(flag), "{argument}: {}", run.stderr);
    }
    for (word, arguments) in [
        ("--nesterov", &["train", "--nesterov", "--momentum", "0"][..]),
        ("--lr", &["train", "--lr", "-1"]),
        ("--model", &["eval", "--data", "digits"]),
        ("--adapter", &["eval", "--model", "run", "--backend", "cpu", "--adapter", "0"]),
        ("fly", &["fly"]),
    ] {
        let run = softstep(folder.path(), arguments);
        assert!(run.code == 2 && run.stderr.contains(word), "{arguments:?}: {run:?}");
    }
    let run = softstep(folder.path(), &["train", "--backend", "cpu", "--adapter", "0"]);
    assert!(run.code == 2 && run.stderr.contains("--adapter"), "{run:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a refused run leaves nothing behind");
}

#[test]
fn missing_files_are_named() {
    let folder = folder();
    let run = softstep(folder.path(), &["train", "--data", "no/such/folder", "--backend", "cpu"]);
    assert!(run.code == 1 && run.stderr.starts_with("error: ") && run.stderr.contains("no/such/folder"), "{run:?}");
    let run = softstep(folder.path(), &["eval", "--model", "no.safetensors", "--data", "digits"]);
    assert!(run.code == 1 && run.stderr.contains("cannot read no.safetensors\n  caused by: "), "{run:?}");
    fs::write(folder.path().join("bad.safetensors"), "bad").unwrap();
    let run = softstep(folder.path(), &["eval", "--model", "bad.safetensors", "--data", "digits"]);
    assert!(run.code == 1 && run.stderr.contains("bad.safetensors: not a whole safetensors file"), "{run:?}");
}

#[test]
fn a_download_is_a_line_on_stderr_unless_quiet_and_one_that_fails_is_an_error() {
    let folder = folder();
    // A mirror that has every file, with a wrong content.
    let mirror = server::serve(|_| Some(b"wrong".to_vec()));
    let train = |more: &[&str]| {
        let mut command =
            command(folder.path(), &with(&["train", "--data", "kmnist", "--backend", "cpu", "--data-dir", "d"], more));
        finished(command.env("SOFTSTEP_MIRROR", &mirror).env("XDG_CACHE_HOME", folder.path()).output().unwrap())
    };
    let run = train(&[]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    let lines: Vec<_> = run.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("error: cannot download kmnist"), "{run:?}");
    assert_eq!(lines[0], "downloading train-images-idx3-ubyte.gz");
    let quiet = train(&["-q"]);
    assert_eq!((quiet.code, quiet.stderr.lines().count()), (1, 1), "{quiet:?}");
}

#[test]
fn a_run_that_diverges_says_where_and_keeps_its_metrics() {
    let folder = folder();
    let run = softstep(folder.path(), &with(&TRAIN, &["--lr", "1e30", "--schedule", "constant", "--out", "run"]));
    assert_eq!(run.code, 1);
    let metrics = metrics(&folder.path().join("run"));
    let last = metrics.last().unwrap();
    assert!(last["loss"].is_null() && metrics[..metrics.len() - 1].iter().all(|line| line["loss"].is_f64()));
    assert!(run.stderr.starts_with(&format!("error: the loss of step {} is ", metrics.len())), "{}", run.stderr);
    assert_eq!(last["step"], metrics.len());
    assert!(run.stderr.contains("training diverged at learning rate 1e30"), "{}", run.stderr);
    // The rate that is advised was tried: a run with it does not diverge, and learns.
    let advised = run.stderr.split("start anew with --lr ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let next = softstep(folder.path(), &with(&TRAIN, &["--lr", advised, "--json", "--out", "next"]));
    assert!(next.code == 0 && next.last_json()["test_accuracy"].as_f64().unwrap() > 0.8, "--lr {advised}: {next:?}");
    assert!(!folder.path().join("run/model.safetensors").exists());
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_run() {
    let folder = folder();
    let mut child = command(folder.path(), &with(&TRAIN, &["--out", "run"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = finished(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(folder.path().join("run/model.safetensors").is_file());
}

#[test]
fn eval_measures_what_training_reported() {
    let folder = folder();
    let done = softstep(folder.path(), &with(&TRAIN, &["--json", "--out", "run"])).last_json();
    let eval = ["eval", "--data", "digits", "--backend", "cpu", "--model"];
    let by_folder = softstep(folder.path(), &with(&eval, &["run", "--json"])).last_json();
    let by_file = softstep(folder.path(), &with(&eval, &["run/model.safetensors", "--json"])).last_json();
    assert_eq!(by_folder["confusion"], by_file["confusion"]);
    assert_eq!((&by_file["accuracy"], &by_file["loss"]), (&done["test_accuracy"], &done["test_loss"]));
    let sum = |rows: &Value| -> u64 {
        rows.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum()
    };
    assert_eq!((sum(&by_file["confusion"]), &by_file["examples"]), (359, &359.into()));
    assert_eq!(by_file["per_class"].as_array().unwrap().len(), 10);
    assert!(keys(&by_file["per_class"][0]).is_superset(&BTreeSet::from(["precision", "recall", "f1", "support"])));

    let run = softstep(folder.path(), &with(&eval, &["run"]));
    for part in ["accuracy", "precision", "recall", "F1", "predicted"] {
        assert!(run.stdout.contains(part), "{part:?} is not in\n{}", run.stdout);
    }
}

#[test]
fn eval_refuses_data_of_another_shape_and_names_both() {
    let folder = folder();
    assert_eq!(softstep(folder.path(), &with(&TRAIN, &["--out", "run"])).code, 0);
    let data = folder.path().join("tiny");
    write_idx_folder(&data);
    let run =
        softstep(folder.path(), &["eval", "--model", "run", "--backend", "cpu", "--data", data.to_str().unwrap()]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("64 features") && run.stderr.contains("10 classes"), "{}", run.stderr);
    assert!(run.stderr.contains("4 features") && run.stderr.contains("3 classes"), "{}", run.stderr);
}

/// Six training and three test images of 2×2 in three classes.
fn write_idx_folder(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (part, count) in [("train", 6u8), ("t10k", 3)] {
        let images =
            [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 2][..], &vec![7; 4 * usize::from(count)]].concat();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, count][..], &(0..count).map(|at| at % 3).collect::<Vec<_>>()].concat();
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// Runs without any Vulkan driver.
#[cfg(target_os = "linux")]
fn without_adapter(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = command(folder, arguments);
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nonexistent");
    }
    finished(command.env_remove("VK_ADD_DRIVER_FILES").output().unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_auto_computes_on_the_cpu_and_gpu_says_what_to_install() {
    let folder = folder();
    let train = ["train", "--data", "digits", "--epochs", "1", "--json"];
    let run = without_adapter(folder.path(), &train);
    assert_eq!(run.last_json()["backend"], "cpu");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    let gpu = without_adapter(folder.path(), &with(&train, &["--backend", "gpu"]));
    assert_eq!((gpu.code, gpu.stdout.as_str()), (1, ""));
    let named = without_adapter(folder.path(), &with(&train, &["--adapter", "0"]));
    assert_eq!((named.code, named.stdout.as_str()), (1, ""));
    let bench = without_adapter(folder.path(), &with(&BENCH, &["--json"]));
    let line = bench.last_json();
    assert!(line["gpu"].is_null() && line["gpu_per_cpu"].is_null() && line["use"] == "cpu", "{line}");
    assert!(line["cpu"]["steps_per_second"].as_f64().unwrap() > 0.0, "{line}");
    for run in [run, bench, gpu, named, without_adapter(folder.path(), &["adapters"])] {
        assert!(run.stderr.contains("driver") && run.stderr.contains("mesa-vulkan-drivers"), "{}", run.stderr);
    }
}

/// The shortest benchmark.
const BENCH: [&str; 7] = ["bench", "--batch-size", "64", "--hidden", "16", "--seconds", "0.01"];

#[test]
fn bench_measures_both_backends_and_names_the_faster() {
    let folder = folder();
    let run = softstep(folder.path(), &with(&BENCH, &["--json"]));
    assert_eq!(run.code, 0, "{run:?}");
    let lines = run.json_lines();
    assert_eq!(lines.len(), 1, "{run:?}");
    let line = &lines[0];
    assert_eq!(keys(line), "architecture sizes batch_size gpu cpu gpu_per_cpu use".split(' ').collect());
    assert_eq!((&line["sizes"], &line["batch_size"]), (&serde_json::json!([784, 16, 10]), &64.into()));
    for backend in ["gpu", "cpu"] {
        let speed = &line[backend];
        let expected = "steps_per_second images_per_second gflop_per_second first_loss_seconds rounds backend adapter \
            device_type driver";
        assert_eq!(keys(speed), expected.split_whitespace().collect());
        assert_eq!(speed["backend"], backend);
        let mut rounds: Vec<_> =
            speed["rounds"].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap()).collect();
        rounds.sort_by(f64::total_cmp);
        assert!(rounds.len() == 5 && rounds[0] > 0.0, "{speed}");
        assert_eq!(speed["steps_per_second"], rounds[2]);
        let per_step = |figure: &str| speed[figure].as_f64().unwrap() / rounds[2];
        assert!((per_step("images_per_second") - 64.0).abs() <= 1e-6, "{speed}");
        let gflop = 2.0 * 64.0 * (2.0 * (784.0 * 16.0 + 160.0) + 160.0) / 1e9;
        assert!((per_step("gflop_per_second") - gflop).abs() <= 1e-6 * gflop, "{speed}");
        assert!(speed["first_loss_seconds"].as_f64().unwrap() > 0.0);
    }
    let faster = if line["gpu_per_cpu"].as_f64().unwrap() > 1.0 { "gpu" } else { "cpu" };
    assert_eq!(line["use"], faster);
}

#[test]
fn bench_shows_a_table_and_names_wrong_arguments() {
    let folder = folder();
    let run = softstep(folder.path(), &["bench", "--hidden", "--batch-size", "8,16", "--seconds", "0.01"]);
    assert_eq!(run.code, 0, "{run:?}");
    for part in ["GPU", "CPU", "784-10", "steps/s", "images/s", "GFLOP/s", "first loss", "GPU/CPU"] {
        assert!(run.stdout.contains(part), "{part:?} is not in\n{}", run.stdout);
    }
    assert_eq!(run.stdout.matches("784-10").count(), 2, "{}", run.stdout);
    for argument in ["--hidden=0", "--batch-size=0", "--batch-size=60001", "--seconds=0", "--seconds=NaN"] {
        let run = softstep(folder.path(), &["bench", argument]);
        let flag = argument.split('=').next().unwrap();
        assert!(run.code == 2 && run.stderr.starts_with("error: ") && run.stderr.contains(flag), "{run:?}");
    }
}

#[test]
fn help_teaches_by_example_and_no_arguments_show_the_short_one() {
    let folder = folder();
    let short = softstep(folder.path(), &[]);
    assert!(short.code == 2 && short.stderr.contains("Usage: softstep"), "{short:?}");
    let examples = short.stderr.split("Examples:").nth(1).expect("examples");
    let count = examples.lines().filter(|line| line.starts_with("  softstep ")).count();
    assert!((3..=4).contains(&count), "{short:?}");
    for arguments in [&["--help"][..], &["train", "--help"], &["eval", "--help"], &["bench", "--help"]] {
        let long = softstep(folder.path(), arguments);
        assert!(long.code == 0 && long.stdout.contains("Examples:"), "{long:?}");
    }
}

#[test]
fn completions_and_man_pages_know_every_command_and_option() {
    let folder = folder();
    let help = softstep(folder.path(), &["--help"]).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: BTreeSet<String> =
        listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(String::from)).collect();
    let commands: Vec<String> = commands.into_iter().filter(|name| !name.is_empty() && name != "help").collect();
    assert!(commands.len() > 12 && commands.contains(&"serve".into()), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = softstep(folder.path(), &["completions", shell]);
        assert_eq!((run.code, &*run.stderr), (0, ""));
        for name in commands.iter().map(String::as_str).chain(["learning-rate", "max-body"]) {
            assert!(run.stdout.contains(&name.replace("learning-rate", "lr")), "{shell}: {name}");
        }
    }
    fs::write(folder.path().join("bash"), softstep(folder.path(), &["completions", "bash"]).stdout).unwrap();
    let ask =
        "source ./bash; COMP_WORDS=(softstep ser); COMP_CWORD=1; _softstep softstep ser softstep; echo ${COMPREPLY[*]}";
    if let Ok(output) = std::process::Command::new("bash").args(["-c", ask]).current_dir(folder.path()).output() {
        assert_eq!(finished(output).stdout, "serve\n");
    }
    // Again over what is there, and over nothing of somebody else's.
    for _ in 0..2 {
        let run = softstep(folder.path(), &["man", "pages/man1"]);
        assert_eq!((run.code, &*run.stdout), (0, &*format!("{} pages in pages/man1\n", commands.len() + 1)), "{run:?}");
    }
    let page = |name: &str| fs::read_to_string(folder.path().join(format!("pages/man1/{name}.1"))).unwrap();
    assert!(page("softstep").contains("Train small neural networks"));
    for name in &commands {
        let text = page(&format!("softstep-{name}"));
        assert!(text.contains(&format!("softstep {name}")) || text.contains(&format!("softstep\\-{name}")), "{text}");
    }
    assert!(page("softstep-serve").contains("max\\-connections"));
    fs::write(folder.path().join("pages/man1/softstep.1"), "my own notes").unwrap();
    let run = softstep(folder.path(), &["man", "pages/man1"]);
    assert!(run.code == 1 && run.stderr.contains("choose another name"), "{run:?}");
}

#[test]
fn python_reads_the_model_and_measures_the_same_accuracy() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let python = |arguments: &[&str]| std::process::Command::new(&python).args(arguments).output();
    if !python(&["-c", "import numpy, safetensors"]).is_ok_and(|output| output.status.success()) {
        skipped_outside_ci("this needs python3 (or what PYTHON names) with the packages numpy and safetensors");
        return;
    }
    let folder = folder();
    assert_eq!(softstep(folder.path(), &with(&TRAIN, &["--out", "run"])).code, 0);
    let eval = ["eval", "--data", "digits", "--backend", "cpu", "--json", "--model", "run"];
    let ours = softstep(folder.path(), &eval).last_json();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_model.py");
    let model = folder.path().join("run/model.safetensors");
    let theirs = finished(python(&[script, model.to_str().unwrap()]).unwrap()).last_json();
    assert_eq!((&theirs["accuracy"], &theirs["correct"]), (&ours["accuracy"], &ours["correct"]));
    let (theirs, ours) = (theirs["loss"].as_f64().unwrap(), ours["loss"].as_f64().unwrap());
    assert!((theirs - ours).abs() < 1e-4 * ours, "{theirs} {ours}");
}

#[test]
fn a_result_stands_beside_what_guessing_would_come_to_and_long_runs_have_some_twenty_lines() {
    let folder = folder();
    let mut table = String::from("height,kind\n");
    let mut prices = String::from("area,price\n");
    for i in 0..100 {
        table += &format!("{}.5,daisy\n{}.5,daisy\n{}.5,lily\n", i % 9 + 10, i % 9 + 12, i % 9 + 30);
        prices += &format!("{}.5,{}.5\n", i, 3 * i + (i * 7) % 11);
    }
    fs::write(folder.path().join("plants.csv"), &table).unwrap();
    fs::write(folder.path().join("prices.csv"), &prices).unwrap();
    let train = ["train", "--data", "plants.csv", "--target", "kind", "--backend", "cpu"];
    let run = softstep(folder.path(), &with(&train, &["--epochs", "90", "--out", "run"]));
    for part in [
        "1 feature,",
        "95 % interval",
        "always daisy, the most frequent class of the test part, would be right in",
        "rows/s",
    ] {
        assert!(run.stdout.contains(part), "{part}: {run:?}");
    }
    let epochs = run.stdout.lines().filter(|line| line.starts_with("epoch ")).count();
    assert!((15..=25).contains(&epochs), "{epochs}");
    assert!(run.stdout.contains("epoch  1/90") && run.stdout.contains("epoch 90/90"), "{run:?}");
    // The data of the run, by any name of the command.
    for command in ["eval", "test", "val", "evaluate"] {
        let evaluated = softstep(folder.path(), &[command, "--model", "run", "--backend", "cpu", "--json"]).last_json();
        assert_eq!((&evaluated["examples"], &evaluated["part"]), (&60.into(), &"test part".into()), "{evaluated}");
        let [low, high] = [0, 1].map(|at| evaluated["accuracy_interval"][at].as_f64().unwrap());
        let accuracy = evaluated["accuracy"].as_f64().unwrap();
        assert!(low <= accuracy && accuracy <= high && high - low < 0.3, "{evaluated}");
        let share = evaluated["most_frequent_share"].as_f64().unwrap();
        assert!((0.5..0.85).contains(&share), "{evaluated}");
    }
    fs::rename(folder.path().join("plants.csv"), folder.path().join("moved.csv")).unwrap();
    let gone = softstep(folder.path(), &["eval", "--model", "run", "--backend", "cpu"]);
    assert!(
        gone.code == 1 && gone.stderr.contains("trained on plants.csv") && gone.stderr.contains("--data"),
        "{gone:?}"
    );

    let train =
        ["train", "--data", "prices.csv", "--target", "price", "--backend", "cpu", "--epochs", "3", "--out", "p"];
    let run = softstep(folder.path(), &train);
    assert!(run.stdout.contains("always the mean would have an error of"), "{run:?}");
    let page = fs::read_to_string(folder.path().join("p/report.html")).unwrap();
    assert!(page.contains("error of always the mean"));
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("95 % interval") && page.contains("always the most frequent class"));
}

#[test]
fn auto_is_the_cpu_where_there_is_no_hardware_gpu_and_whole_numbers_are_indices() {
    let folder = folder();
    let adapters = softstep(folder.path(), &["adapters", "--json"]).json_lines();
    let train = ["train", "--data", "digits", "--epochs", "1", "--json"];
    if adapters.iter().all(|adapter| adapter["device_type"] == "software") {
        let run = softstep(folder.path(), &train);
        assert_eq!(run.last_json()["backend"], "cpu");
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains("--backend gpu"), "{run:?}");
    }
    assert_eq!(softstep(folder.path(), &with(&train, &["--backend", "gpu"])).last_json()["backend"], "gpu");
    // Digits that are in an adapter's name or driver, and no index.
    let name = adapters[0]["name"].as_str().unwrap();
    let digits = name
        .split(|c: char| !c.is_ascii_digit())
        .find(|digits| digits.parse::<usize>().is_ok_and(|n| n >= adapters.len()));
    let asked = digits.unwrap_or("99");
    let run = softstep(folder.path(), &with(&train, &["--adapter", asked]));
    assert!(run.code == 1 && run.stderr.contains("no adapter matches"), "{asked}: {run:?}");
}

#[test]
fn what_people_type_is_answered_with_what_to_do() {
    let folder = folder();
    fs::write(folder.path().join("t.csv"), "a,b\n1,2\n").unwrap();
    for (arguments, code, expected) in [
        (&["train", "--hidden", "128 64"][..], 2, "with commas between them, as in 128,64"),
        (&["report", "t.csv"], 1, "t.csv is a file, and a report is of a run"),
    ] {
        let run = softstep(folder.path(), arguments);
        assert!(run.code == code && run.stderr.contains(expected), "{run:?}");
    }
    let help = softstep(folder.path(), &["train", "--help"]).stdout;
    for heading in ["Data:", "Model:", "Training:", "Output:", "Device:", "Expert:"] {
        assert!(help.lines().any(|line| line == heading), "{heading} is not in {help}");
    }
}
