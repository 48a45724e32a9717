//! Reports, and the metrics as other programs read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{checkpoints, command, finished, metrics, results, softstep, succeeds};
use crate::skip::skipped_outside_ci;
use serde_json::{Value, json};
use tempfile::TempDir;

const DIGITS: [&str; 6] = ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=3", "--validation=0.1"];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A run that takes long, to be stopped.
fn start(folder: &Path, out: &str, more: &[&str]) -> Child {
    let long = ["train", "-q", "--data=digits", "--backend=cpu", "--hidden=16", "--checkpoint-every=9"];
    let mut command = command(folder, &[&long, more, &["--out", out]].concat());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn last_checkpoint(run: &Path) -> usize {
    checkpoints(run).last().map_or(0, |(step, _)| *step)
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(60), "no {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_report_has_the_confusion_matrix_of_eval_and_the_mistakes_that_were_most_sure() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    let run = folder.path().join("run");
    let eval = ["eval", "--data=digits", "--backend=cpu", "--json", "--model", "run"];
    let eval = softstep(folder.path(), &eval).last_json();
    let results = results(&run);
    let test = &results["test"];
    assert_eq!((&results["outcome"], &results["step"], &results["steps"]), (&json!("ended"), &json!(63), &json!(63)));
    assert_eq!((&test["loss"], &test["accuracy"]), (&eval["loss"], &eval["accuracy"]));
    let mut counts = vec![vec![0; 10]; 10];
    for cell in test["confusion"].as_array().unwrap() {
        let [label, prediction, count] = [0, 1, 2].map(|at| cell[at].as_u64().unwrap() as usize);
        counts[label][prediction] = count;
    }
    assert_eq!(json!(counts), eval["confusion"]);

    let mistakes = test["mistakes"].as_array().unwrap();
    let wrong = 359 - eval["correct"].as_u64().unwrap() as usize;
    assert_eq!(mistakes.len(), wrong.min(24));
    let gap = |mistake: &Value| {
        let of = |class: &Value| {
            let outputs = mistake["outputs"].as_array().unwrap();
            outputs.iter().find(|output| output[0] == *class).unwrap()[1].as_f64().unwrap()
        };
        of(&mistake["predicted"]) - of(&mistake["label"])
    };
    let gaps: Vec<f64> = mistakes.iter().map(gap).collect();
    assert!(gaps.iter().all(|&gap| gap > 0.0) && gaps.is_sorted_by(|a, b| a >= b), "{gaps:?}");
    assert!(mistakes.iter().all(|mistake| mistake["input"]["picture"].as_str().unwrap().starts_with("data:image/png")));

    let page = read(run.join("report.html"));
    for part in
        ["Loss of every step", "Confusion matrix", "What the model looks for", "learning rate", "steps in a second"]
    {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["<script", "http:", "https:", "<link", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_report_is_made_again_from_the_folder_alone() {
    let folder = folder();
    let table = "x,y\n".to_string() + &(0..200).map(|row| format!("{row},{}\n", 3 * row + row % 5)).collect::<String>();
    fs::write(folder.path().join("line.csv"), table).unwrap();
    let arguments = ["train", "-q", "--data=line.csv", "--target=y", "--backend=cpu", "--lr=0.05", "--out", "run"];
    succeeds(folder.path(), &arguments);
    fs::remove_file(folder.path().join("line.csv")).unwrap();
    let page = folder.path().join("run/report.html");
    let first = read(&page);
    assert!(first.contains("Predicted y over the actual") && first.contains("R²"), "{first}");
    fs::remove_file(&page).unwrap();
    let run = softstep(folder.path(), &["report", "run"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "report in run/report.html\n", ""));
    assert_eq!(read(&page), first);

    // In the target's own units: numbers from 0 to 600.
    let test = &results(&folder.path().join("run"))["test"];
    let pairs = test["values"]["pairs"].as_array().unwrap();
    assert_eq!((pairs.len(), &test["values"]["every"]), (40, &json!(1)));
    let errors = pairs.iter().map(|pair| (pair[0].as_f64().unwrap() - pair[1].as_f64().unwrap()).powi(2));
    let rmse = (errors.sum::<f64>() / 40.0).sqrt();
    assert!((rmse - test["rmse"].as_f64().unwrap()).abs() <= 1e-4 * rmse, "{rmse} {test}");
    assert!(pairs.iter().any(|pair| pair[0].as_f64().unwrap() > 300.0));
}

#[test]
fn a_run_that_was_stopped_killed_or_diverged_has_a_report_that_says_so() {
    let folder = folder();
    let run = folder.path().join("run");
    let child = start(folder.path(), "run", &["--epochs=3000"]);
    wait_for("checkpoint", || last_checkpoint(&run) > 50);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = finished(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 130, "{ended:?}");
    let page = read(run.join("report.html"));
    let step = last_checkpoint(&run);
    assert!(page.contains(&format!("This run was stopped after step {step} of ")) || step > 999, "{page}");
    assert!(page.contains("may go on") && page.contains("Confusion matrix") && !page.contains("Worst mistakes"));
    assert_eq!(results(&run)["outcome"], "stopped");

    // It goes on, and is killed: what results.json says is of an earlier part.
    let mut child = command(folder.path(), &["train", "-q", "--resume", "run"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for("later checkpoint", || last_checkpoint(&run) > step + 100);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
    let page = read(run.join("report.html"));
    assert!(
        page.contains("or it was killed") && page.contains("of an earlier part") && !page.contains("Confusion matrix")
    );

    // A comparison does not take it for the whole run either, though its best epoch and timings are there to be read.
    let mut stale = results(&run);
    stale["best"] = json!({ "epoch": 4321, "loss": 0.5 });
    fs::write(run.join("results.json"), stale.to_string()).unwrap();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "short"]].concat());
    assert_eq!(softstep(folder.path(), &["report", "run", "short"]).code, 0);
    let page = read(folder.path().join("comparison.html"));
    assert!(page.contains(", not ended") && !page.contains(", stopped") && !page.contains("4321"), "{page}");
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
    assert!(!read(run.join("report.html")).contains("4321"));

    let diverged = [&DIGITS[..], &["--hidden=16", "--lr=1e30", "--schedule=constant", "--out", "high"]].concat();
    assert_eq!(softstep(folder.path(), &diverged).code, 1);
    let page = read(folder.path().join("high/report.html"));
    assert!(page.contains("This run failed: the loss of step") && page.contains("not finite"), "{page}");
}

#[test]
fn the_time_of_a_resumed_run_is_said_to_be_that_since_then() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    let run = folder.path().join("run");
    let mut resumed = results(&run);
    resumed["timings"]["resumed_from"] = json!(40);
    resumed["timings"]["steps"] = json!(23);
    resumed["timings"]["seconds"] = json!(12);
    fs::write(run.join("results.json"), resumed.to_string()).unwrap();
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
    let page = read(run.join("report.html"));
    assert!(page.contains("12 s since step 40") && page.contains("in training steps since then"), "{page}");
}

#[test]
fn a_folder_of_an_older_version_is_shown_with_what_there_is() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    let run = folder.path().join("run");
    fs::remove_file(run.join("results.json")).unwrap();
    let mut config: Value = serde_json::from_str(&read(run.join("config.json"))).unwrap();
    for new in ["architecture", "sizes", "train_examples", "validation_examples", "test_examples", "image"] {
        assert!(config.as_object_mut().unwrap().remove(new).is_some(), "{new}");
    }
    fs::write(run.join("config.json"), config.to_string()).unwrap();
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
    let page = read(run.join("report.html"));
    for part in ["no results.json", "older version", "Loss of every step", "Accuracy after each epoch"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn damaged_lines_of_the_metrics_are_left_out_and_named() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    let metrics = folder.path().join("run/metrics.jsonl");
    let whole = read(&metrics);
    for (damaged, line) in [
        (whole.replacen("{\"step\":5,", "{\"step\":,", 1), "line 5"),
        (whole.replacen("{\"step\":7,", "{\"step\":6,", 1), "line"),
        (whole.clone() + &"x".repeat(100_000), "line 67"),
    ] {
        fs::write(&metrics, damaged).unwrap();
        let ended = softstep(folder.path(), &["report", "run", "--csv", "out.csv"]);
        let named = [line, "metrics.jsonl", "left out"].iter().all(|part| ended.stderr.contains(part));
        assert!(ended.code == 0 && named && ended.stderr.len() < 1000, "{ended:?}");
        let steps = read(folder.path().join("out.csv")).lines().count() - 1;
        assert!((62..=63).contains(&steps), "{line}: {steps} steps");
    }
}

#[test]
fn a_damaged_file_is_named_and_nothing_is_written() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    let run = folder.path().join("run");
    fs::remove_file(run.join("report.html")).unwrap();
    let with = |file: &str, change: &dyn Fn(String) -> String, part: &str| {
        let before = read(run.join(file));
        fs::write(run.join(file), change(before.clone())).unwrap();
        let ended = softstep(folder.path(), &["report", "run", "--csv", "out.csv"]);
        assert!(ended.code == 1 && ended.stderr.contains(file) && ended.stderr.contains(part), "{ended:?}");
        assert!(!run.join("report.html").exists() && !folder.path().join("out.csv").exists());
        fs::write(run.join(file), before).unwrap();
    };
    with("results.json", &|text| text[..text.len() / 2].into(), "damaged");
    with("results.json", &|text| text.replacen("\"classes\":10", "\"classes\":3", 1), "confusion");
    with("results.json", &|text| text.replacen("data:image/png", "http://example.org/", 1), "pictures");
    fs::rename(run.join("metrics.jsonl"), run.join("metrics")).unwrap();
    let ended = softstep(folder.path(), &["report", "run"]);
    assert!(ended.code == 1 && ended.stderr.contains("metrics.jsonl"), "{ended:?}");
    fs::rename(run.join("metrics"), run.join("metrics.jsonl")).unwrap();

    for (arguments, part) in [
        (&["report", "nowhere"][..], "nowhere"),
        (&["report", "."], "config.json"),
        (&["report", "run", "run/../run"], "twice"),
        (&["report", "run", "--out", "run"], "--out run is a folder"),
        (&["report"], "RUN"),
    ] {
        let ended = softstep(folder.path(), arguments);
        assert!(ended.code > 0 && ended.stderr.contains(part), "{ended:?}");
    }
    // What a killed run leaves behind is no damage.
    fs::write(run.join("metrics.jsonl"), read(run.join("metrics.jsonl")) + "{\"step\":64,\"ep").unwrap();
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
}

#[test]
fn a_report_that_cannot_be_written_is_a_notice_and_the_model_is_there() {
    let folder = folder();
    let run = folder.path().join("run");
    let train = ["train", "-q", "--data=digits", "--backend=cpu", "--hidden=16", "--epochs=400", "--out=run"];
    let child = command(folder.path(), &train).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("folder", || run.join("metrics.jsonl").exists());
    fs::create_dir(run.join("report.html")).unwrap();
    let ended = finished(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("no report") && ended.stderr.contains("report.html"), "{ended:?}");
    assert!(run.join("model.safetensors").exists() && run.join("results.json").exists());
}

#[test]
fn pages_and_metrics_take_the_place_of_nothing_else() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    fs::write(folder.path().join("thesis.html"), "<html>years of work").unwrap();
    let config = read(folder.path().join("run/config.json"));
    for (flag, path) in [
        ("--out", "run/config.json"),
        ("--out", "run/model.safetensors"),
        ("--out", "thesis.html"),
        ("--csv", "run/metrics.jsonl"),
        ("--csv", "run/report.html"),
        ("--csv", "run"),
    ] {
        let run = softstep(folder.path(), &["report", "run", flag, path]);
        assert!(run.code == 1 && run.stderr.contains(&format!("{flag} {path}")), "{run:?}");
    }
    let both = softstep(folder.path(), &["report", "run", "--out", "both", "--csv", "both"]);
    assert!(both.code == 1 && both.stderr.contains("--csv both"), "{both:?}");
    assert_eq!(read(folder.path().join("run/config.json")), config);
    assert_eq!(read(folder.path().join("thesis.html")), "<html>years of work");
    // What it wrote itself it writes anew, and through a link where that leads.
    for _ in 0..2 {
        succeeds(folder.path(), &["report", "run", "--out", "page.html", "--csv", "metrics.csv"]);
    }
    #[cfg(unix)]
    {
        fs::write(folder.path().join("metrics.csv"), "").unwrap();
        std::os::unix::fs::symlink("metrics.csv", folder.path().join("link.csv")).unwrap();
        succeeds(folder.path(), &["report", "run", "--csv", "link.csv"]);
        assert!(read(folder.path().join("metrics.csv")).starts_with("run,step,loss,"));
        assert!(fs::symlink_metadata(folder.path().join("link.csv")).unwrap().is_symlink());
    }
}

#[test]
fn several_runs_are_compared_by_what_differs() {
    let folder = folder();
    for (out, seed) in [("a/run", "1"), ("b/run", "2")] {
        fs::create_dir(folder.path().join(&out[..1])).unwrap();
        succeeds(folder.path(), &[&DIGITS[..], &["--out", out, "--seed", seed]].concat());
    }
    let ended = softstep(folder.path(), &["report", "a/run", "b/run", "--csv", "both.csv"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "metrics in both.csv\nreport in comparison.html\n"),
        "{ended:?}"
    );
    let page = read(folder.path().join("comparison.html"));
    let differing = page.split_once("Settings that differ</h2>").unwrap().1.split_once("Settings that are").unwrap().0;
    assert!(differing.contains("seed") && !differing.contains("momentum"), "{differing}");
    assert!(differing.contains("a/run") && differing.contains("b/run"));
    // In the results and the legends of five plots.
    assert!(["a/run", "b/run"].iter().all(|label| page.matches(label).count() >= 6));

    let mut table = csv::Reader::from_path(folder.path().join("both.csv")).unwrap();
    let columns: Vec<String> = table.headers().unwrap().iter().map(String::from).collect();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let mut lines = metrics(&folder.path().join("a/run"));
    lines.extend(metrics(&folder.path().join("b/run")));
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("step").is_some()).collect();
    assert_eq!((rows.len(), steps.len()), (126, 126));
    for (row, step) in rows.iter().zip(steps) {
        assert_eq!(row[column("step")], step["step"].to_string());
        for (name, field) in [("loss", "loss"), ("learning_rate", "lr")] {
            assert_eq!(row[column(name)].parse::<f64>().unwrap(), step[field].as_f64().unwrap());
        }
        // An epoch is 21 steps.
        assert_eq!(row[column("epoch")].is_empty(), step["step"].as_u64().unwrap() % 21 != 0);
    }
    let epochs: Vec<&Value> = lines.iter().filter(|line| line.get("step").is_none()).collect();
    for (row, epoch) in rows.iter().filter(|row| !row[column("epoch")].is_empty()).zip(&epochs) {
        for name in ["epoch", "train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"] {
            assert_eq!(row[column(name)].parse::<f64>().unwrap(), epoch[name].as_f64().unwrap(), "{name}");
        }
        assert!(row[column("test_r_squared")].is_empty());
    }
    assert_eq!(epochs.len(), 6);
    assert_eq!(rows.iter().filter(|row| &row[0] == "b/run").count(), 63);
}

#[test]
fn runs_are_compared_only_as_far_as_they_learned_the_same() {
    let folder = folder();
    for (out, loss) in [("one", "cross-entropy"), ("two", "cross-entropy"), ("squared", "mse")] {
        succeeds(folder.path(), &[&DIGITS[..], &["--out", out, "--loss", loss]].concat());
    }
    let table =
        "x,a,b\n".to_string() + &(0..60).map(|row| format!("{row},{},{}\n", 3 * row, row % 7)).collect::<String>();
    fs::write(folder.path().join("two.csv"), table).unwrap();
    for target in ["a", "b"] {
        let data = ["train", "-q", "--data=two.csv", "--backend=cpu", "--target", target];
        succeeds(
            folder.path(),
            &[&data[..], &["--ignore", if target == "a" { "b" } else { "a" }, "--out", target]].concat(),
        );
    }
    let page = |runs: &[&str]| {
        assert_eq!(softstep(folder.path(), &[&["report"], runs].concat()).code, 0);
        read(folder.path().join("comparison.html"))
    };
    let losses = page(&["one", "two", "squared"]);
    assert!(losses.contains("Training loss (mse)") && losses.contains("Test loss (cross-entropy) after each epoch"));
    assert!(losses.contains("not to be compared"));
    let same = page(&["one", "two"]);
    assert!(same.contains("are those of one, two.") && !same.contains("not to be compared"), "{same}");
    let targets = page(&["a", "b"]);
    let differing =
        targets.split_once("Settings that differ</h2>").unwrap().1.split_once("Settings that are").unwrap().0;
    assert!(targets.contains("No run is best") && differing.contains("learned column"), "{targets}");
}

#[test]
fn of_many_classes_the_worst_are_in_the_table() {
    let folder = folder();
    let rows = (0..800).map(|row| format!("{},{},class {:03}\n", row % 80, row % 7, row % 80)).collect::<String>();
    fs::write(folder.path().join("many.csv"), "x,z,name\n".to_string() + &rows).unwrap();
    let data = ["train", "-q", "--data=many.csv", "--target=name", "--backend=cpu", "--epochs=3", "--out=run"];
    succeeds(folder.path(), &data);
    let page = read(folder.path().join("run/report.html"));
    let table = page.split_once("<h3>Classes</h3>").unwrap().1.split_once("</table>").unwrap().0;
    assert!(page.contains("Of 80 classes these are the 50 with the lowest F1."), "{page}");
    assert_eq!(table.matches("scope=\"row\"").count(), 50);
}

#[test]
fn what_a_run_of_several_values_or_of_colours_does_not_show_is_said() {
    let folder = folder();
    let run = folder.path().join("run");
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    // As colours have it: more weights than pixels.
    let mut config: Value = serde_json::from_str(&read(run.join("config.json"))).unwrap();
    config["image"] = json!([4, 8]);
    fs::write(run.join("config.json"), config.to_string()).unwrap();
    let lines = read(run.join("metrics.jsonl")).replace("test_accuracy", "test_r_squared");
    fs::write(run.join("metrics.jsonl"), lines).unwrap();
    let mut several = results(&run);
    several["test"]["mistakes"] = Value::Null;
    fs::write(run.join("results.json"), several.to_string()).unwrap();
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
    let page = read(run.join("report.html"));
    assert!(page.contains("only where a single value is learned"), "{page}");
    assert!(page.contains("only drawn for grey images"), "{page}");
}

#[test]
fn each_curve_of_a_comparison_is_smoothed_by_a_share_of_its_own_run() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "short"]].concat());
    succeeds(folder.path(), &[&DIGITS[..4], &["--validation=0.1", "--epochs=20", "--out", "long"]].concat());
    let losses = |run: &str| -> Vec<f64> {
        metrics(&folder.path().join(run)).iter().filter_map(|line| line["loss"].as_f64()).collect()
    };
    assert_eq!((losses("short").len(), losses("long").len()), (63, 420));
    assert_eq!(softstep(folder.path(), &["report", "short", "long"]).code, 0);
    let page = read(folder.path().join("comparison.html"));
    assert!(page.contains("of its run, in steps: short 1, long 8."), "{page}");
    // To the four digits that are shown.
    let own = losses("short")[62];
    let said = page.split_once("In the end short ").unwrap().1.split_once(',').unwrap().0;
    assert!((said.parse::<f64>().unwrap() - own).abs() <= 6e-4 * own, "{said} {own}");
}

#[test]
fn a_hundred_thousand_steps_make_a_small_page_soon() {
    let folder = folder();
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "run"]].concat());
    let run = folder.path().join("run");
    fs::remove_file(run.join("results.json")).unwrap();
    let mut lines = String::new();
    for step in 1..=100_000 {
        let loss = if step == 54_321 { "null".into() } else { format!("{}", 2.0 / (1.0 + f64::from(step % 977))) };
        lines += &format!("{{\"step\":{step},\"epoch\":1,\"loss\":{loss},\"lr\":0.1}}\n");
    }
    fs::write(run.join("metrics.jsonl"), lines).unwrap();
    let started = Instant::now();
    assert_eq!(softstep(folder.path(), &["report", "run"]).code, 0);
    let (page, seconds) = (read(run.join("report.html")), started.elapsed().as_secs_f64());
    assert!(page.len() < 150_000 && seconds < 10.0, "{} bytes in {seconds} s", page.len());
    assert!(
        page.contains("Of each 209 steps the lowest and the highest") && page.contains("The loss of 1 step is not")
    );
}

#[test]
fn names_from_files_are_text_and_not_markup() {
    let folder = folder();
    let name = "<img src=x onerror=alert(1)>";
    let mut table = format!("\"{name}\",\"</style><script>alert(2)</script>\"\n");
    for row in 0..120 {
        table += &format!("{},\"</title>{} \u{1b}[31m\u{202e}\"\n", row % 17, ["<svg>", "'\"&"][row % 2]);
    }
    let file = "<b>t.csv";
    fs::write(folder.path().join(file), table).unwrap();
    let target = "</style><script>alert(2)</script>";
    succeeds(
        folder.path(),
        &["train", "-q", "--data", file, "--target", target, "--backend=cpu", "--epochs=2", "--out=<i>run"],
    );
    let page = read(folder.path().join("<i>run/report.html"));
    for markup in ["<img src=x", "<script", "<b>t.csv", "<i>run", "</title> ", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(markup), "{markup}");
    }
    for text in ["&lt;b&gt;t.csv", "&lt;i&gt;run", "&lt;img src=x", "&lt;/style&gt;&lt;script&gt;"] {
        assert!(page.contains(text), "{text}");
    }
}

/// What TensorBoard reads in a run folder; `None` without TensorBoard.
fn events(run: &Path) -> Option<Value> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let python = |arguments: &[&str]| Command::new(&python).args(arguments).output();
    if !python(&["-c", "import tensorboard"]).is_ok_and(|output| output.status.success()) {
        skipped_outside_ci("this needs python3 (or what PYTHON names) with the package tensorboard");
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/read_events.py");
    let output = python(&[script, run.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Checks that TensorBoard has what `metrics.jsonl` has, everything once.
fn assert_events(run: &Path, events: &Value) {
    let lines = metrics(run);
    let (mut expected, mut last) = (serde_json::Map::new(), 0);
    let mut add = |tag: &str, step: u64, value: &Value| {
        if let Some(value) = value.as_f64() {
            let list = expected.entry(tag).or_insert_with(|| json!([])).as_array_mut().unwrap();
            list.push(json!([step, f64::from(value as f32)]));
        }
    };
    for line in &lines {
        if let Some(step) = line["step"].as_u64() {
            last = step;
            add("train/loss", step, &line["loss"]);
            add("train/learning_rate", step, &line["lr"]);
        } else {
            add("train/epoch_loss", last, &line["train_loss"]);
            for (tag, field) in [
                ("validation/loss", "validation_loss"),
                ("validation/accuracy", "validation_accuracy"),
                ("test/loss", "test_loss"),
                ("test/accuracy", "test_accuracy"),
            ] {
                add(tag, last, &line[field]);
            }
        }
    }
    let expected = Value::Object(expected);
    for (tag, values) in expected.as_object().unwrap() {
        let read = events[tag].as_array().unwrap_or_else(|| panic!("no {tag}"));
        let wrong = values.as_array().unwrap().iter().zip(read).find(|(expected, read)| expected != read);
        assert!(wrong.is_none() && read.len() == values.as_array().unwrap().len(), "{tag}: {wrong:?}, {}", read.len());
    }
    assert_eq!(events.as_object().unwrap().len(), expected.as_object().unwrap().len());
}

fn event_files(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    files.sort();
    files
}

#[test]
fn tensorboard_reads_equal_values_after_kills_at_any_moment() {
    let folder = folder();
    let run = folder.path().join("run");
    succeeds(folder.path(), &[&DIGITS[..], &["--out", "short", "--tensorboard"]].concat());
    let Some(read) = events(&folder.path().join("short")) else { return };
    assert_events(&folder.path().join("short"), &read);

    // An epoch of digits has 23 steps: with these checkpoints one comes after its last step, before its evaluation.
    let train = [
        "train",
        "-q",
        "--data=digits",
        "--backend=cpu",
        "--hidden=128",
        "--epochs=4000",
        "--checkpoint-every=23",
        "--out",
        "run",
        "--tensorboard",
    ];
    let mut child = command(folder.path(), &train).stdout(Stdio::null()).spawn().unwrap();
    for kill in 1..=4 {
        wait_for("checkpoint", || last_checkpoint(&run) > 700 * kill && event_files(&run).len() >= kill);
        child.kill().unwrap();
        child.wait().unwrap();
        // What the system had not taken yet when the machine lost its power.
        let last = event_files(&run).pop().unwrap();
        if kill == 2 {
            let bytes = fs::read(&last).unwrap();
            fs::write(&last, [&bytes[..], &[24, 0, 0, 0, 0]].concat()).unwrap();
        }
        child = command(folder.path(), &["train", "-q", "--resume", "run"]).stdout(Stdio::null()).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(event_files(&run).len(), 5);
    assert_events(&run, &events(&run).unwrap());
}

#[test]
fn a_resumed_run_gives_tensorboard_its_earlier_steps_too() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut child = start(folder.path(), "run", &["--epochs=6000"]);
    wait_for("checkpoint", || last_checkpoint(&run) > 100);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(event_files(&run).len(), 0);
    succeeds(folder.path(), &["train", "-q", "--resume", "run", "--tensorboard"]);
    let Some(read) = events(&run) else { return };
    assert_events(&run, &read);
}
