//! Many runs by one command: seeds, folds and sweeps. Each run has the bits that it has alone, whatever ran beside it,
//! was stopped or was killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::binary::{self, command, end, finished, results, signal, softstep, start, succeeds, with};
use serde_json::Value;

const DIGITS: [&str; 4] = ["--data=digits", "--backend=cpu", "--epochs=3", "--batch-size=32"];

/// SHA-256 of the parameters of a run that is trained alone.
fn alone(folder: &Path, arguments: &[&str]) -> Value {
    let run = [&["train", "-q", "--json"], arguments].concat();
    softstep(folder, &run).last_json()["parameters_sha256"].clone()
}

/// The table of a sweep without the times.
fn table(sweep: &Path) -> Vec<String> {
    let text = fs::read_to_string(sweep.join("runs.csv")).unwrap();
    text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A table of 90 flowers of three kinds, 60, 24 and 6 of each.
fn flowers(folder: &Path) {
    let mut text = String::from("length,width,kind\n");
    for row in 0..90u32 {
        let kind = if row < 60 { 0 } else { 1 + u32::from(row >= 84) };
        let noise = f64::from(row * 7919 % 101) / 100.0;
        text += &format!("{},{},kind{kind}\n", f64::from(kind) + noise, f64::from(kind * 2) - noise);
    }
    fs::write(folder.join("flowers.csv"), text).unwrap();
}

#[test]
fn runs_with_several_seeds_have_the_bits_that_they_have_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let arguments = with(&DIGITS, &["--validation=0.2", "--keep=best"]);
    let several = ["train", "-q", "--json", "--seeds=3", "--seed=7", "--jobs=2", "--out=several"];
    let run = softstep(path, &[&several[..], &arguments].concat());
    let done = run.last_json();
    let lines: Vec<Value> = run.json_lines().into_iter().filter(|line| line["event"] == "run").collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    let mut accuracies = Vec::new();
    for seed in 7..10 {
        let of_seed = format!("--seed={seed}");
        let sha256 = alone(path, &[&arguments[..], &[&of_seed, "--out", &format!("alone-{seed}")]].concat());
        let results = results(&path.join(format!("several/seed-{seed}")));
        assert_eq!(results["parameters_sha256"], sha256, "seed {seed}");
        accuracies.push(results["test"]["accuracy"].as_f64().unwrap());
    }
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    let found = &done["test_accuracy"];
    assert!((found["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{done}");
    let [low, high] = [0, 1].map(|at| found["interval"][at].as_f64().unwrap());
    assert!(low < mean && mean < high && found["sd"].as_f64().unwrap() > 0.0, "{done}");

    // The model to use is that of the lowest validation loss.
    let loss = |line: &&Value| line["validation_loss"].as_f64().unwrap();
    let best = lines.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
    assert_eq!(done["chosen"], best["run"]);
    let name = best["run"].as_str().unwrap();
    let model = |place: &str| fs::read(path.join(place).join("model.safetensors")).unwrap();
    assert_eq!(model("several"), model(&format!("several/{name}")));
    let page = fs::read_to_string(path.join("several/report.html")).unwrap();
    assert!(page.contains("3 runs with different seeds") && page.contains("standard deviation"));
    let eval = softstep(path, &["eval", "--model=several", "--data=digits", "--backend=cpu", "--json"]).last_json();
    assert!(accuracies.contains(&eval["accuracy"].as_f64().unwrap()), "{eval}");

    // The same command does nothing again; another one leaves the folder alone.
    let before = results_time(&path.join("several/seed-8"));
    let again = softstep(path, &[&several[..], &arguments].concat()).last_json();
    assert_eq!((&again["test_accuracy"], before), (&done["test_accuracy"], results_time(&path.join("several/seed-8"))));
    let other = softstep(path, &[&["train", "--seeds=2", "--out=several"][..], &DIGITS].concat());
    assert!(other.code == 1 && other.stderr.contains("--out several") && other.stderr.contains("seed-9"), "{other:?}");
    assert!(other.stderr.contains("--seeds=3"), "the command of the folder: {other:?}");
}

fn results_time(run: &Path) -> std::time::SystemTime {
    fs::metadata(run.join("results.json")).unwrap().modified().unwrap()
}

#[test]
fn folds_share_out_every_row_with_equal_shares_of_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    flowers(path);
    let data = ["--data=flowers.csv", "--target=kind", "--backend=cpu", "--epochs=20", "--validation=0.1", "--seed=3"];
    let several = ["train", "-q", "--json", "--folds=3", "--out=folds"];
    let done = softstep(path, &[&several[..], &data].concat()).last_json();
    assert_eq!((&done["runs"], &done["test_accuracy"]["runs"]), (&3.into(), &3.into()));
    for fold in 1..=3 {
        let run = path.join(format!("folds/fold-{fold}"));
        let out = format!("--out=alone-{fold}");
        let sha256 = alone(path, &[&data[..], &[&format!("--test=fold={fold}/3"), &out]].concat());
        let results = results(&run);
        assert_eq!(results["parameters_sha256"], sha256, "fold {fold}");
        // 60, 24 and 6 rows of the classes in three folds.
        let mut of_class = [0; 3];
        for cell in results["test"]["confusion"].as_array().unwrap() {
            of_class[cell[0].as_u64().unwrap() as usize] += cell[2].as_u64().unwrap();
        }
        assert_eq!(of_class, [20, 8, 2], "fold {fold}");
        succeeds(path, &["reproduce", &format!("folds/fold-{fold}")]);
        let model = format!("--model=folds/fold-{fold}");
        let eval = softstep(path, &["eval", &model, "--data=flowers.csv", "--backend=cpu", "--json"]).last_json();
        assert_eq!(eval["accuracy"], results["test"]["accuracy"], "the model knows its test part");
    }
}

#[test]
fn several_runs_that_are_stopped_go_on_to_the_same_bits() {
    let folder = binary::folder_with_places();
    let path = folder.path();
    let long = ["--data=digits", "--backend=cpu", "--hidden=64", "--epochs=200", "--batch-size=8"];
    let several = [&["train", "--seed=1,5", "--jobs=2", "--out=several"][..], &long].concat();
    let child = start(path, &several);
    for seed in [1, 5] {
        binary::wait_for_checkpoint(&path.join(format!("several/seed-{seed}")), 180);
    }
    signal(&child, "-INT");
    let run = end(child, path);
    assert_eq!(run.code, 130, "{run:?}");
    assert!(run.stderr.contains("softstep train ") && run.stderr.contains("--out several"), "{run:?}");
    succeeds(path, &several);
    for seed in [1, 5] {
        let (of_seed, out) = (format!("--seed={seed}"), format!("--out=alone-{seed}"));
        let sha256 = alone(path, &[&long[..], &[&of_seed, &out]].concat());
        assert_eq!(results(&path.join(format!("several/seed-{seed}")))["parameters_sha256"], sha256);
    }
}

#[test]
fn a_sweep_names_the_command_of_its_best_run_and_measures_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let settings = ["--lr=0.01/0.1/0.4", "--hidden=none/16", "--seed=2"];
    let sweep = [&["sweep", "--json", "--out=s"][..], &DIGITS, &settings].concat();
    let run = softstep(path, &sweep);
    let done = run.last_json();
    assert_eq!(run.json_lines().iter().filter(|line| line["event"] == "run").count(), 6);
    assert!(run.json_lines().iter().all(|line| line.get("test_accuracy").is_none()), "no run but the best is tested");
    let best = &done["best"];
    let arguments: Vec<&str> = best["command"].as_str().unwrap().split(' ').skip(1).collect();
    let trained = softstep(path, &with(&arguments, &["-q", "--json", "--out=best"])).last_json();
    for (of_sweep, of_run) in [
        ("parameters_sha256", "parameters_sha256"),
        ("test_accuracy", "test_accuracy"),
        ("test_loss", "test_loss"),
        ("validation_loss", "validation_loss"),
    ] {
        assert_eq!(best[of_sweep], trained[of_run], "{of_sweep}");
    }
    let rows = table(&path.join("s"));
    assert_eq!(rows.len(), 7);
    assert!(rows[0].starts_with("place,run,state,validation_loss") && rows[0].contains("learning_rate"), "{rows:?}");
    let losses: Vec<f64> = rows[1..].iter().map(|row| row.split(',').nth(3).unwrap().parse().unwrap()).collect();
    assert!(losses.is_sorted(), "{losses:?}");
    let page = fs::read_to_string(path.join("s/report.html")).unwrap();
    for words in ["Settings and loss of each run", "Validation loss against lr", "best", "--validation=0.2"] {
        assert!(page.contains(words), "{words}");
    }
    let eval = softstep(path, &["eval", "--model=s", "--data=digits", "--backend=cpu", "--json"]).last_json();
    assert_eq!(eval["accuracy"], best["test_accuracy"]);
}

#[test]
fn no_bit_of_a_run_depends_on_the_runs_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let settings = ["sweep", "-q", "--lr=0.01..0.5", "--hidden=none/16/300,20", "--runs=12", "--momentum=0..0.9"];
    let mut tables = Vec::new();
    for jobs in ["1", "2", "5"] {
        succeeds(path, &[&settings[..], &DIGITS, &["--jobs", jobs, "--out", jobs]].concat());
        tables.push(table(&path.join(jobs)));
    }
    assert_eq!(tables[0].len(), 13);
    assert!(tables.iter().all(|table| *table == tables[0]), "{tables:?}");
}

#[test]
fn a_sweep_that_is_killed_or_stopped_goes_on_to_the_same_table() {
    let folder = binary::folder_with_places();
    let path = folder.path();
    let settings = [
        "--data=digits",
        "--backend=cpu",
        "--lr=0.05..0.5",
        "--hidden=32..64",
        "--runs=20",
        "--epochs=20",
        "--batch-size=8",
    ];
    for halving in [&["--halving=2"][..], &[]] {
        let sweep = |out: &'static str| [&["sweep", "-q", "--jobs=2", "--out", out][..], &settings, halving].concat();
        let whole = if halving.is_empty() { "whole" } else { "whole-halved" };
        succeeds(path, &sweep(whole));
        let (killed, mut rounds) = (if halving.is_empty() { "killed" } else { "killed-halved" }, 0);
        loop {
            let mut child = command(path, &sweep(killed)).spawn().unwrap();
            // Some lines more than there were, then no further: in turns by Ctrl-C and by kill -9.
            let lines =
                || fs::read_to_string(path.join(killed).join("runs.jsonl")).map_or(0, |text| text.lines().count());
            let (before, started) = (lines(), Instant::now());
            while lines() < before + 6 && child.try_wait().unwrap().is_none() {
                assert!(started.elapsed() < Duration::from_secs(120), "no run ends");
                std::thread::sleep(Duration::from_millis(1));
            }
            if child.try_wait().unwrap().is_none() {
                if rounds % 2 == 0 { child.kill().unwrap() } else { signal(&child, "-INT") }
            }
            let status = child.wait().unwrap();
            rounds += 1;
            assert!(rounds < 50);
            if status.success() {
                break;
            }
            assert!([None, Some(130)].contains(&status.code()), "{status}");
        }
        assert!(rounds > 1, "it was never stopped");
        assert_eq!(table(&path.join(killed)), table(&path.join(whole)));
        assert_eq!(json(&path.join(killed).join("best.json")), json(&path.join(whole).join("best.json")));
        assert!(!path.join(killed).join("states").exists());
    }
}

#[test]
fn halving_goes_on_with_the_best_and_gives_them_the_bits_of_a_whole_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let settings =
        ["--data=digits", "--backend=cpu", "--epochs=9", "--lr=0.01..0.5", "--validation=0.3", "--keep=best"];
    let sweep = [&["sweep", "-q", "--json", "--halving", "--runs=18", "--out=s"][..], &settings].concat();
    let done = softstep(path, &sweep).last_json();
    let rows = table(&path.join("s"));
    let epochs = |row: &String| row.split(',').nth(5).unwrap().parse::<usize>().unwrap();
    let counts = |wanted: usize| rows[1..].iter().filter(|row| epochs(row) == wanted).count();
    // 18 runs for one epoch, 6 for three, 2 to the end.
    assert_eq!([counts(1), counts(3), counts(9)], [12, 4, 2], "{rows:?}");
    let arguments: Vec<&str> = done["best"]["command"].as_str().unwrap().split(' ').skip(2).collect();
    assert_eq!(alone(path, &with(&arguments, &["--out=alone"])), done["best"]["parameters_sha256"]);
    // A larger budget goes further from there, with the runs that it knows.
    let more = [&["sweep", "-q", "--json", "--halving", "--runs=27", "--out=s"][..], &settings].concat();
    softstep(path, &more).last_json();
    assert_eq!(table(&path.join("s")).len(), 28);
}

#[test]
fn a_run_that_diverges_is_told_and_ends_no_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let sweep = ["sweep", "--lr=0.1/1e30", "--optimizer=sgd/adamw", "--momentum=0.5/0.9", "--out=s"];
    let run = succeeds(path, &[&sweep[..], &DIGITS].concat());
    let rows = table(&path.join("s"));
    // Momentum is no setting of AdamW: two rates with it, and two by two without.
    assert_eq!(rows.len(), 7, "{rows:?}");
    assert!(rows[6].contains(",failed,"), "{rows:?}");
    assert!(run.stdout.contains("best is run") && run.stdout.contains("measured once"), "{run:?}");
}

#[test]
fn wrong_options_of_several_runs_are_refused_by_name_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    flowers(path);
    let names = || fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = names();
    for (arguments, words) in [
        ("train --data=digits --folds=3", "--folds 3"),
        ("train --data=flowers.csv --target=kind --folds=1", "2 or more"),
        ("train --data=flowers.csv --target=kind --folds=91", "fold=1/91"),
        ("train --data=flowers.csv --target=kind --test=fold=4/3", "fold=1/5"),
        ("train --data=digits --seed=1,1", "twice"),
        ("train --data=digits --seed=1,2 --seeds=3", "--seeds"),
        ("train --data=digits --keep=first", "--keep first"),
        ("train --data=digits --jobs=2", "--jobs"),
        ("train --data=digits --seeds=2 --optimizer=adamw --momentum=0.5", "--momentum"),
        ("train --data=digits --seeds=2 --loss=bce --backend=cpu", "--loss bce"),
        ("sweep --data=digits --lr=1..0.1", "--lr 1..0.1"),
        ("sweep --data=digits --lr=0.1/0.1", "twice"),
        ("sweep --data=digits --optimizer=sgd..lion", "no range"),
        ("sweep --data=digits --lr=0.1/x --backend=cpu", "a rate is a number"),
        ("sweep --data=digits --lr=0.1/0.2 --for=10", "10m"),
        ("sweep --data=digits --lr=0.1/0.2 --validation=0", "--validation"),
        ("sweep --data=nowhere --lr=0.1/0.2", "nowhere"),
    ] {
        let run = softstep(path, &arguments.split(' ').collect::<Vec<_>>());
        assert!(run.code != 0 && run.stderr.contains(words), "{arguments}: {run:?}");
        assert_eq!(names(), before, "{arguments}");
    }
}

#[test]
fn time_is_a_budget_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let sweep = ["sweep", "-q", "--json", "--lr=0.01..0.5", "--hidden=16..64", "--for=2s", "--out=s"];
    let done = softstep(path, &[&sweep[..], &DIGITS].concat()).last_json();
    let runs = done["runs"].as_u64().unwrap();
    assert!(runs > 2, "{done}");
    // The time is over: the same command has nothing to do.
    let again = softstep(path, &[&sweep[..], &DIGITS].concat()).last_json();
    assert_eq!((&again["runs"], &again["best"]), (&done["runs"], &done["best"]));
}

/// Figures, to be run alone on a machine that does nothing else, with optimised code:
/// `cargo test --release --test command_line sweep:: -- --ignored --nocapture`.
#[test]
#[ignore = "measures times"]
fn the_time_of_many_runs_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let timed = |arguments: &[&str]| {
        let started = Instant::now();
        let run = finished(command(path, arguments).output().unwrap());
        assert_eq!(run.code, 0, "{run:?}");
        started.elapsed().as_secs_f64()
    };
    let settings =
        ["sweep", "-q", "--data=digits", "--backend=cpu", "--lr=0.05..0.5", "--hidden=64..128", "--epochs=60"];
    let (mut one, mut beside) = (0.0, 0.0);
    for round in 0..3 {
        let outs = [format!("--out=one-{round}"), format!("--out=beside-{round}")];
        one += timed(&[&settings[..], &["--runs=32", "--jobs=1", &outs[0]]].concat());
        beside += timed(&[&settings[..], &["--runs=32", &outs[1]]].concat());
    }
    println!("32 runs of the digits, side by side and one after another: {:.2} of the time", beside / one);
    let tiny = ["sweep", "-q", "--data=digits", "--backend=cpu", "--epochs=1", "--lr=0.01..0.5"];
    let few = timed(&[&tiny[..], &["--runs=100", "--jobs=1", "--out=few"]].concat());
    let many = timed(&[&tiny[..], &["--runs=1100", "--jobs=1", "--out=many"]].concat());
    let text = fs::read_to_string(path.join("many/runs.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let trained: f64 = lines.iter().map(|line| line["seconds"].as_f64().unwrap()).sum();
    println!(
        "1,000 tiny runs: {:.2} ms each, of which {:.2} ms in the run itself",
        many - few,
        1e3 * trained / lines.len() as f64
    );
}
