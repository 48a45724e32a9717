//! Defaults that follow the data, rates found by trial, and what is said of a run that went wrong.

use std::fs;
use std::path::Path;

use crate::binary::{self, softstep};
use serde_json::Value;

/// Numbers that look random, in -1..1.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// A table of so many columns `x0` … and the `target`, made of each row's columns.
fn table(path: &Path, rows: usize, columns: usize, target: impl Fn(&[f64], f64) -> String) {
    let mut next = noise(7);
    let header: Vec<String> = (0..columns).map(|column| format!("x{column}")).collect();
    let mut text = format!("{},target\n", header.join(","));
    for _ in 0..rows {
        // Columns that go with each other, as those of people's tables do.
        let common = next();
        let row: Vec<f64> = (0..columns).map(|_| common + next()).collect();
        row.iter().for_each(|value| text += &format!("{value:.4},"));
        text += &format!("{}\n", target(&row, next()));
    }
    fs::write(path, text).unwrap();
}

fn train(folder: &Path, more: &[&str]) -> binary::Run {
    let train = ["train", "--data", "table.csv", "--target", "target", "--backend", "cpu", "--json"];
    softstep(folder, &[&train[..], more].concat())
}

fn config(folder: &Path, run: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(run).join("config.json")).unwrap()).unwrap()
}

#[test]
fn a_regression_with_a_hidden_layer_is_learned_at_the_defaults_and_its_settings_are_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let price = |row: &[f64], noise: f64| format!("{:.1}", 50_000.0 + 20_000.0 * (row[0] - row[1] + 0.1 * noise));
    table(&folder.path().join("table.csv"), 400, 12, price);
    let run = train(folder.path(), &["--hidden", "64", "--out", "run"]);
    assert!(run.code == 0 && run.last_json()["test_r_squared"].as_f64().unwrap() >= 0.95, "{run:?}");
    let config = config(folder.path(), "run");
    let settings = ["optimizer", "learning_rate", "weight_decay", "epochs"].map(|name| config[name].clone());
    assert_eq!(settings[0], "adamw");
    assert!(settings[1..].iter().all(|value| value.as_f64().is_some_and(|value| value > 0.0)), "{config}");
    let chosen = config["chosen"].as_str().unwrap();
    assert!(chosen.starts_with("adamw, learning rate 0.003, cosine, weight decay 1, 300 epochs, as "), "{chosen}");
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("By the data: adamw, learning rate 0.003"));
}

#[test]
fn cross_validation_weakens_the_regularisation_where_rows_repeat_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // Thirty places with a value each, which their two coordinates do not explain but tell.
    let mut next = noise(3);
    let places: Vec<[f64; 3]> = (0..30).map(|_| [next(), next(), next()]).collect();
    let rows = (0..300).map(|row| {
        let [x, y, value] = places[row * 7 % 30];
        format!("{x:.4},{y:.4},{:.4}\n", value + 0.1 * next())
    });
    let text = "x,y,target\n".to_string() + &rows.collect::<String>();
    fs::write(folder.path().join("table.csv"), text).unwrap();
    let repeated = train(folder.path(), &["--hidden", "128", "--out", "repeated"]);
    assert_eq!(repeated.code, 0, "{repeated:?}");
    let chosen = config(folder.path(), "repeated");
    assert!(chosen["weight_decay"].as_f64().unwrap() < 0.05, "{chosen}");
    assert!(chosen["chosen"].as_str().unwrap().contains("; 8-fold cross-validation prefers that: R² 0."), "{chosen}");
    let rule = ["--lr", "0.003", "--weight-decay", "1"];
    let rule = train(folder.path(), &[&["--hidden", "128", "--out", "rule"][..], &rule].concat());
    assert!(!config(folder.path(), "rule")["chosen"].to_string().contains("cross-validation"));
    let [repeated, rule] = [repeated, rule].map(|run| run.last_json()["test_r_squared"].as_f64().unwrap());
    assert!(repeated > 0.6 && repeated > rule + 0.2, "{repeated} {rule}");
}

#[test]
fn what_the_command_line_says_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    table(&folder.path().join("table.csv"), 100, 3, |row, _| format!("{:.3}", row[0]));
    for (flags, optimizer, rest, absent) in [
        (&["--lr", "0.02"][..], "adamw", [("learning_rate", 0.02), ("weight_decay", 0.1)], "learning rate"),
        (&["--weight-decay", "0.5"], "adamw", [("learning_rate", 0.01), ("weight_decay", 0.5)], "weight decay"),
        (&["--optimizer", "sgd", "--lr", "0.01"], "sgd", [("learning_rate", 0.01), ("momentum", 0.9)], "sgd"),
        (&["--momentum", "0.5"], "sgd", [("momentum", 0.5), ("weight_decay", 0.0)], "sgd"),
    ] {
        let out = format!("run{}", flags.join(""));
        let run = train(folder.path(), &[flags, &["--epochs", "2", "--out", &out]].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let config = config(folder.path(), &out);
        assert_eq!((&config["optimizer"], &config["epochs"]), (&optimizer.into(), &2.into()), "{config}");
        for (name, value) in rest {
            assert!((config[name].as_f64().unwrap() - value).abs() < 1e-6, "{flags:?}: {config}");
        }
        assert!(config["chosen"].as_str().is_none_or(|chosen| !chosen.contains(absent)), "{config}");
    }
}

#[test]
fn a_wide_table_and_bright_pictures_neither_diverge_nor_die() {
    let folder = tempfile::tempdir().unwrap();
    table(&folder.path().join("table.csv"), 400, 300, |row, _| {
        if row[0] + row[1] > 0.0 { "up" } else { "down" }.into()
    });
    let run = train(folder.path(), &["--hidden", "128", "--out", "wide"]);
    assert!(run.code == 0 && run.last_json()["test_loss"].as_f64().unwrap() < 1.0, "{run:?}");

    // White pictures of 16 x 16 x 3 with a dark stroke, upright or level.
    let pictures = folder.path().join("pictures");
    for class in ["level", "upright"] {
        fs::create_dir_all(pictures.join(class)).unwrap();
        for index in 0..60 {
            let at = 3 + index % 10;
            let is_ink = |x: u32, y: u32| if class == "level" { y.abs_diff(at) < 2 } else { x.abs_diff(at) < 2 };
            let picture = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([if is_ink(x, y) { 40 } else { 255 }; 3]));
            picture.save(pictures.join(class).join(format!("{index}.png"))).unwrap();
        }
    }
    let train = ["train", "--data", "pictures", "--hidden", "64", "--image-size", "16", "--backend", "cpu", "--json"];
    let run = softstep(folder.path(), &[&train[..], &["--out", "bright"]].concat());
    assert!(run.last_json()["test_accuracy"].as_f64().unwrap() >= 0.9 && run.stderr.is_empty(), "{run:?}");
    assert_eq!(config(folder.path(), "bright")["optimizer"], "sgd");
    // At the rate that all data had once, every unit dies, and that is said with a rate that was tried.
    let run = softstep(folder.path(), &[&train[..], &["--lr", "0.15", "--out", "dead"]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("of 64 units of hidden layer 1 are dead"), "{run:?}");
    assert!(run.stderr.contains("no better than always saying"), "{run:?}");
    let advised = run.stderr.split("--lr ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let run = softstep(folder.path(), &[&train[..], &["--lr", advised, "--out", "advised"]].concat());
    assert!(run.last_json()["test_accuracy"].as_f64().unwrap() >= 0.9, "--lr {advised}: {run:?}");
}

#[test]
fn a_class_that_is_never_predicted_and_an_end_no_better_than_the_mean_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let rare = |_: &[f64], noise: f64| if noise > 0.8 { "rare" } else { "common" }.to_string();
    table(&folder.path().join("table.csv"), 300, 2, rare);
    let run = train(folder.path(), &["--out", "rare"]);
    assert!(
        run.stderr.contains("no better than always saying common, the most frequent class of the test part"),
        "{run:?}"
    );
    assert!(run.stderr.contains("class rare is never predicted") && run.stderr.contains("--class-weights balanced"));
    let page = fs::read_to_string(folder.path().join("rare/report.html")).unwrap();
    assert!(page.contains("class rare is never predicted"));

    table(&folder.path().join("table.csv"), 300, 2, |_, noise| format!("{noise:.3}"));
    let run = train(folder.path(), &["--hidden", "64", "--weight-decay", "0", "--epochs", "300", "--out", "mean"]);
    assert!(run.code == 0 && run.stderr.contains("is no better than always saying the mean: "), "{run:?}");

    table(&folder.path().join("table.csv"), 300, 2, |row, _| format!("{:.3}", row[0]));
    let run = train(folder.path(), &["--out", "good"]);
    assert!(run.code == 0 && run.stderr.is_empty(), "{run:?}");
}

#[test]
fn an_end_far_above_the_start_is_said_with_a_rate_that_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    table(&folder.path().join("table.csv"), 300, 8, |row, noise| format!("{:.3}", row[0] + 0.1 * noise));
    let flags = ["--hidden", "32", "--lr", "30", "--weight-decay", "0", "--schedule", "constant", "--epochs", "20"];
    let run = train(folder.path(), &[&flags[..], &["--out", "far"]].concat());
    assert!(run.code == 0 && run.stderr.contains(", far above the "), "{run:?}");
    assert!(run.stderr.contains("which was tried for 100 steps"), "{run:?}");
}

#[test]
fn a_range_test_finds_the_rate_draws_its_curve_and_changes_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let digits = ["train", "--data", "digits", "--epochs", "3", "--backend", "cpu", "--json"];
    let run = |more: &[&str]| softstep(folder.path(), &[&digits[..], more].concat());
    let auto = run(&["--lr", "auto", "--out", "auto"]).last_json();
    let config = config(folder.path(), "auto");
    let rate = config["learning_rate"].as_f64().unwrap();
    assert!((0.01..=2.0).contains(&rate) && auto["test_accuracy"].as_f64().unwrap() > 0.9, "{rate}: {auto}");
    assert!(config["range_test"].as_array().unwrap().len() > 40, "{config}");
    let page = fs::read_to_string(folder.path().join("auto/report.html")).unwrap();
    assert!(page.contains("Loss of a range test"));
    // The same rate, said: the same bits.
    let given = run(&["--lr", &(rate as f32).to_string(), "--out", "given"]).last_json();
    assert_eq!(auto["parameters_sha256"], given["parameters_sha256"]);
    let resumed = softstep(folder.path(), &["train", "--resume", "auto", "--lr", "auto"]);
    assert!(
        resumed.code == 1 && resumed.stderr.contains("--lr auto conflicts with the run in auto, which uses --lr "),
        "{resumed:?}"
    );
    let refused = run(&["--lr", "fast"]);
    assert!(refused.code == 2 && refused.stderr.contains("a rate is a number such as 0.01, or auto"), "{refused:?}");
}
