//! Runs that are trained again from what they recorded, and what they say of a bit that was changed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Run, command, finished, softstep, succeeds};
use serde_json::Value;

const DIGITS: [&str; 6] = ["train", "-q", "--data=digits", "--hidden=16", "--epochs=2", "--out"];

/// What `softstep reproduce --json` says, and its exit code.
fn reproduce(folder: &Path, arguments: &[&str]) -> (Value, Run) {
    let run = softstep(folder, &[&["reproduce", "--json"], arguments].concat());
    (said(&run), run)
}

fn said(run: &Run) -> Value {
    run.json_lines().pop().unwrap_or_default()
}

#[track_caller]
fn gives_the_same_bits(folder: &Path, arguments: &[&str], steps: usize) {
    let (found, run) = reproduce(folder, arguments);
    assert_eq!((run.code, found["verdict"].as_str()), (0, Some("same_bits")), "{run:?}");
    assert_eq!(found["steps"], steps, "{run:?}");
    let [was, now] = [0, 1].map(|at| found["parameters_sha256"][at].as_str().unwrap());
    assert_eq!(was, now);
}

/// A table of three kinds of plants that noise makes hard to tell apart.
fn plants() -> String {
    let mut state = 7u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    let row = |row: usize| {
        let kind = row % 3;
        let [a, b] = [kind as f64 + 2.0 * noise(), 2.0 * noise() - kind as f64];
        format!("{a:.3},{b:.3},{},{}\n", ["red", "blue"][row % 2], ["x", "y", "z"][kind])
    };
    "a,b,color,kind\n".to_string() + &(0..240).map(row).collect::<String>()
}

#[test]
fn runs_of_every_kind_give_the_same_bits_again_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for backend in ["cpu", "gpu"] {
        succeeds(folder, &[&DIGITS[..], &[backend, "--backend", backend]].concat());
        gives_the_same_bits(folder, &[backend], 46);
        let layers = ["--layers=conv:4x3,relu,pool:2,dropout:0.2,linear:8,batchnorm,relu", "--clip-norm=1"];
        let out = format!("conv-{backend}");
        let conv = ["train", "-q", "--data=digits", "--epochs=1", "--backend", backend, "--out", &out];
        succeeds(folder, &[&conv[..], &layers].concat());
        gives_the_same_bits(folder, &[&out], 23);
    }
    fs::write(folder.join("plants.csv"), plants()).unwrap();
    let early = ["--validation=0.2", "--patience=1", "--optimizer=adamw", "--epochs=40", "--lr=0.1", "--batch-size=16"];
    let table = ["train", "-q", "--data=plants.csv", "--target=kind", "--backend=cpu", "--out=table"];
    succeeds(folder, &[&table[..], &early].concat());
    let lines = fs::read_to_string(folder.join("table/metrics.jsonl")).unwrap();
    let steps = lines.lines().filter(|line| line.contains("\"step\"")).count();
    assert!(steps < 40 * 10, "it was to end early");
    // From elsewhere, where the data's relative name leads nowhere.
    fs::create_dir(folder.join("elsewhere")).unwrap();
    gives_the_same_bits(&folder.join("elsewhere"), &["../table"], steps);
    fs::rename(folder.join("plants.csv"), folder.join("elsewhere/moved.csv")).unwrap();
    let (_, run) = reproduce(folder, &["table"]);
    assert!(run.code == 1 && run.stderr.contains("plants.csv") && run.stderr.contains("--data"), "{run:?}");
    gives_the_same_bits(folder, &["table", "--data=elsewhere/moved.csv"], steps);
    // From a model, with data that do not fit the device.
    let from = ["--init=cpu", "--backend=gpu"];
    succeeds(folder, &[&DIGITS[..], &["from"], &from].concat());
    gives_the_same_bits(folder, &["from"], 46);
    let page = fs::read_to_string(folder.join("from/report.html")).unwrap();
    let command = format!("softstep reproduce {}", folder.join("from").canonicalize().unwrap().display());
    assert!(page.contains(&command));
}

#[cfg(debug_assertions)] // a release build has no way to make the device smaller
#[test]
fn a_streamed_run_gives_the_same_bits_again() {
    let folder = tempfile::tempdir().unwrap();
    let streamed = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        let run = finished(command.env("SOFTSTEP_RESIDENT_BYTES", "60000").output().unwrap());
        assert!(run.code == 0 && run.stderr.contains("are streamed"), "{run:?}");
        run
    };
    streamed(&[&DIGITS[..], &["run", "--backend=gpu"]].concat());
    assert_eq!(said(&streamed(&["reproduce", "run", "--json"]))["verdict"], "same_bits");
}

#[test]
fn a_run_that_was_stopped_and_one_that_went_on_give_the_same_bits_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let long = ["train", "-q", "--data=digits", "--backend=cpu", "--hidden=32", "--epochs=400", "--out=run"];
    let mut child = command(folder, &long);
    let mut child = child.args(["--checkpoint-every=20"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let checkpoint = || {
        let files = fs::read_dir(folder.join("run")).into_iter().flatten().flatten();
        let mut names = files.map(|file| file.file_name().into_string().unwrap());
        names.any(|name| name.starts_with("checkpoint-") && name != "checkpoint-0.safetensors")
    };
    while !checkpoint() {
        assert!(child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (found, run) = reproduce(folder, &["run"]);
    assert_eq!((run.code, found["verdict"].as_str()), (0, Some("same_bits")), "{run:?}");
    assert_eq!(found["parameters_sha256"].as_array().map(Vec::len), Some(2), "{run:?}");
    assert!(found["steps"].as_u64().unwrap() < 9200);
    // From the start, and from the checkpoint before the last.
    let (found, run) = reproduce(folder, &["run", "--sample=16"]);
    assert_eq!((run.code, found["verdict"].as_str()), (0, Some("within_bounds")), "{run:?}");
    assert_eq!(found["sampled_from"].as_array().map(Vec::len), Some(2), "{run:?}");
    succeeds(folder, &["train", "-q", "--resume=run"]);
    gives_the_same_bits(folder, &["run"], 9200);
}

/// Changes a bit of a file.
fn change(path: &Path, at: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Where `text` begins, and so many bytes on.
fn behind(text: &str, further: usize) -> impl FnOnce(&[u8]) -> usize {
    let text = text.as_bytes().to_vec();
    move |bytes| bytes.windows(text.len()).position(|window| window == text).unwrap() + further
}

#[test]
fn a_changed_bit_is_told_by_the_name_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("plants.csv"), plants()).unwrap();
    let table = ["train", "-q", "--data=plants.csv", "--target=kind", "--backend=cpu", "--epochs=3", "--out=run"];
    succeeds(folder, &table);
    let keep = |name: &str| fs::read(folder.join("run").join(name)).unwrap();
    // The learning rate, the loss of the second step, a weight, the time it took.
    type Place = Box<dyn FnOnce(&[u8]) -> usize>;
    let places: [(&str, Place); 4] = [
        ("config.json", Box::new(behind("\"learning_rate\": 0.", 20))),
        ("metrics.jsonl", Box::new(behind("\"step\":2,\"epoch\":1,\"loss\":", 31))),
        ("model.safetensors", Box::new(|bytes: &[u8]| bytes.len() - 8)),
        ("results.json", Box::new(behind("\"seconds\":", 12))),
    ];
    for (name, place) in places {
        let good = keep(name);
        change(&folder.join("run").join(name), place);
        let (found, run) = reproduce(folder, &["run"]);
        assert_eq!((run.code, &found["changed"]), (1, &serde_json::json!([name])), "{run:?}");
        assert!(run.stderr.contains(&format!("run/{name} was changed")), "{run:?}");
        match name {
            "metrics.jsonl" => {
                let first = &found["first_difference"];
                assert_eq!((first["what"].as_str(), first["step"].as_u64()), (Some("loss"), Some(2)), "{run:?}");
                assert_eq!(found["verdict"], "differs");
            }
            "model.safetensors" => assert_ne!(found["parameters_sha256"][0], found["parameters_sha256"][1]),
            _ => assert_eq!(found["verdict"], "changed"),
        }
        fs::write(folder.join("run").join(name), good).unwrap();
    }
    gives_the_same_bits(folder, &["run"], 9);
    // Without the digests, the effect is left.
    let results = keep("results.json");
    fs::remove_file(folder.join("run/results.json")).unwrap();
    change(&folder.join("run/metrics.jsonl"), behind("\"step\":2,\"epoch\":1,\"loss\":", 29));
    let (found, run) = reproduce(folder, &["run"]);
    assert_eq!((run.code, found["first_difference"]["step"].as_u64()), (1, Some(2)), "{run:?}");
    let (found, run) = reproduce(folder, &["run", "--sample=9"]);
    assert_eq!((run.code, found["first_beyond"]["step"].as_u64()), (1, Some(2)), "{run:?}");
    change(&folder.join("run/metrics.jsonl"), behind("\"step\":2,\"epoch\":1,\"loss\":", 29));
    fs::write(folder.join("run/results.json"), results).unwrap();
    // The first digit behind a decimal point.
    change(&folder.join("plants.csv"), |bytes| bytes.iter().position(|&byte| byte == b'.').unwrap() + 1);
    let (_, run) = reproduce(folder, &["run"]);
    assert!(run.code == 1 && run.stderr.contains("the data were changed, or are not those of the run"), "{run:?}");
}

#[test]
fn elsewhere_losses_lie_within_bounds_that_a_wrong_kernel_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (was, other) in [("cpu", "gpu"), ("gpu", "cpu")] {
        succeeds(folder, &[&DIGITS[..], &[was, "--backend", was]].concat());
        let (found, run) = reproduce(folder, &[was, "--backend", other]);
        assert_eq!((run.code, found["verdict"].as_str()), (0, Some("within_bounds")), "{run:?}");
        let share = found["largest_share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 0.5, "{run:?}");
        let (found, run) = reproduce(folder, &[was, "--sample=30"]);
        assert_eq!((run.code, found["verdict"].as_str()), (0, Some("within_bounds")), "{run:?}");
        assert_eq!((&found["steps"], &found["sampled_from"][0]), (&30.into(), &0.into()), "{run:?}");
    }
    #[cfg(debug_assertions)] // a release build has no way to plant a bug
    {
        let bug =
            "update(at, sums[0]);=>update(at, sums[0] + select(0.0, 0.001, row_block == 3u && column_block == 1u));";
        let mut wrong = command(folder, &["reproduce", "cpu", "--json", "--backend=gpu"]);
        let run = finished(wrong.env("SOFTSTEP_ALTER_SHADERS", bug).output().unwrap());
        let found = said(&run);
        assert_eq!((run.code, found["verdict"].as_str()), (1, Some("differs")), "{run:?}");
        assert!(found["first_beyond"]["step"].as_u64().is_some(), "{run:?}");
    }
}

/// What `softstep inspect --json` says.
fn inspect(folder: &Path, arguments: &[&str]) -> Value {
    let run = softstep(folder, &[&["inspect", "--json"], arguments].concat());
    assert_eq!(run.code, 0, "{run:?}");
    said(&run)
}

#[test]
fn a_step_is_the_same_again_from_a_checkpoint_and_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let layers = "--layers=conv:4x3,relu,pool:2,dropout:0.2,linear:8,batchnorm,relu";
    let conv = ["train", "-q", "--data=digits", "--epochs=2", "--augment=shift=1", "--backend=gpu", "--out=conv"];
    succeeds(folder, &[&conv[..], &[layers]].concat());
    succeeds(folder, &[&DIGITS[..], &["run", "--backend=cpu", "--momentum=0"]].concat());
    for run in ["conv", "run"] {
        for step in ["1", "17", "24", "46"] {
            let found = inspect(folder, &[run, "--step", step]);
            assert_eq!(found["loss"], found["recorded_loss"], "{run}, step {step}");
            let examples = found["examples"].as_array().unwrap();
            let mean =
                |name: &str| examples.iter().map(|e| e[name].as_f64().unwrap()).sum::<f64>() / examples.len() as f64;
            let loss = found["loss"].as_f64().unwrap();
            assert!(
                (mean("loss_before") - loss).abs() < 1e-5 * loss,
                "{run}, step {step}: {} is not {loss}",
                mean("loss_before")
            );
            assert!(mean("loss_after") < mean("loss_before"), "{run}, step {step}");
            assert!(folder.join(run).join(format!("inspect-{step}.html")).exists());
            // The update of plain gradient descent is the gradient, times the rate.
            if run == "run" {
                for layer in found["layers"].as_array().unwrap() {
                    let [gradient, update] = ["gradient_norm", "update_norm"].map(|name| layer[name].as_f64().unwrap());
                    let expected = gradient * found["learning_rate"].as_f64().unwrap();
                    assert!(
                        (update - expected).abs() <= 2e-3 * expected,
                        "{layer} of step {step}: {update} is not {expected}"
                    );
                }
            }
        }
    }
    // With the rate that it had, the run goes on as it did.
    let rate = fs::read_to_string(folder.join("run/config.json")).unwrap();
    let rate = serde_json::from_str::<Value>(&rate).unwrap()["learning_rate"].to_string();
    for (rate, same) in [(rate.as_str(), true), ("0.01", false)] {
        let what_if = format!("lr={rate}");
        let found = inspect(folder, &["run", "--step=20", "--what-if", &what_if, "--steps=10"]);
        let losses = found["what_if"]["losses"].as_array().unwrap();
        assert_eq!((losses.len(), losses[0][0].as_u64()), (10, Some(20)));
        assert_eq!(losses.iter().all(|loss| loss[1] == loss[2]), same, "{losses:?}");
    }
    // Settings that change nothing change nothing, several at once, from a checkpoint and on another place in an epoch.
    for run in ["run", "conv"] {
        let config = fs::read_to_string(folder.join(run).join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let same = format!("--what-if=lr={},weight-decay={}", config["learning_rate"], config["weight_decay"]);
        let dropout = if run == "conv" { "--what-if=dropout=0.2" } else { "--what-if=momentum=0" };
        let [batch, schedule] = ["batch_size", "schedule"].map(|name| config[name].to_string().replace('"', ""));
        let more = format!("batch-size={batch},label-smoothing=0,schedule={schedule},clip-norm=none");
        let more = ["--what-if", &more, dropout];
        let found = inspect(folder, &[&[run, "--step=20", "--steps=10", &same][..], &more].concat());
        let losses = found["what_if"]["losses"].as_array().unwrap();
        assert!(losses.len() == 10 && losses.iter().all(|loss| loss[1] == loss[2]), "{found}");
    }
    // Each of them changes the run.
    for (run, change) in [
        ("run", "weight-decay=0.5"),
        ("run", "momentum=0.9"),
        ("run", "clip-norm=0.01"),
        ("run", "label-smoothing=0.3"),
        ("run", "schedule=constant"),
        ("conv", "dropout=0.5"),
    ] {
        let found = inspect(folder, &[run, "--step=20", "--steps=10", "--what-if", change]);
        let losses = found["what_if"]["losses"].as_array().unwrap();
        assert!(losses.len() == 10 && losses.iter().any(|loss| loss[1] != loss[2]), "{change}: {found}");
    }
    // Of half the size there are twice as many batches, each beside the step that it begins in.
    let found = inspect(folder, &["run", "--step=20", "--steps=10", "--what-if=batch-size=32"]);
    let steps: Vec<u64> =
        found["what_if"]["losses"].as_array().unwrap().iter().map(|loss| loss[0].as_u64().unwrap()).collect();
    assert_eq!(steps[..7], [20, 20, 21, 21, 22, 22, 23], "{found}");
    assert_eq!(steps.last(), Some(&29));
    for (change, problem) in [
        (
            "optimizer=lion",
            "in this run you can change lr, batch-size, clip-norm, label-smoothing, schedule, dropout, momentum",
        ),
        ("beta1=0.5", "in this run you can change"),
        ("lr=fast", "lr=fast: is not a number"),
        ("lr=nan", "lr=nan: is not a number"),
        ("lr=-1", "must be above 0"),
        ("batch-size=0", "must be 1 or more"),
        ("schedule=\u{1b}[31m", "schedule="),
        ("dropout=0.5", "has no dropout"),
        ("lr", "is a setting and its value"),
    ] {
        let refused = softstep(folder, &["inspect", "run", "--step=20", "--what-if", change]);
        assert!(refused.code != 0 && refused.stderr.contains(problem), "{refused:?}");
        assert!(!refused.stderr.contains('\u{1b}'), "{refused:?}");
    }
    let refused = softstep(folder, &["inspect", "run", "--step=47"]);
    assert!(refused.code == 1 && refused.stderr.contains("has 46 steps"), "{refused:?}");
}

#[test]
fn examples_that_were_labelled_wrong_have_the_highest_loss_over_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Two kinds far apart, and four rows with the label of the other.
    let wrong = [7, 50, 101, 188];
    let row = |row: usize| {
        let kind = row % 2;
        let label = if wrong.contains(&row) { 1 - kind } else { kind };
        let a = kind as f64 * 4.0 + (row * 37 % 101) as f64 / 101.0;
        format!("{a:.3},{:.3},{}\n", (row * 61 % 97) as f64 / 97.0, ["x", "y"][label])
    };
    fs::write(folder.join("t.csv"), "a,b,kind\n".to_string() + &(0..240).map(row).collect::<String>()).unwrap();
    fs::write(folder.join("test.csv"), "a,b,kind\n0.5,0.5,x\n4.5,0.5,y\n").unwrap();
    let table = [
        "train",
        "-q",
        "--data=t.csv",
        "--target=kind",
        "--test=test.csv",
        "--backend=cpu",
        "--epochs=20",
        "--out=run",
    ];
    succeeds(folder, &table);
    let found = inspect(folder, &["run"]);
    let mut first: Vec<u64> =
        found["examples"].as_array().unwrap()[..4].iter().map(|hard| hard["example"].as_u64().unwrap()).collect();
    first.sort_unstable();
    assert_eq!(first, wrong.map(|row| row as u64), "{found}");
    assert!(found["examples"][0]["target"] != found["examples"][0]["predicted"]);
    assert!(folder.join("run/inspect.html").exists());
}
