//! How sound a model is: mistakes, means over classes, thresholds, important columns, and comparisons of runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::binary::{end, folder_with_places, good, results, signal, softstep, start, succeeds, with};
use serde_json::Value;
use tempfile::TempDir;

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A table in which `height` tells the two kinds apart, but for every ninth row, and `noise` says nothing.
fn folder_with_plants() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::from("height,noise,kind\n");
    for row in 0..300 {
        let is_lily = (row % 3 == 0) != (row % 9 == 0);
        table += &format!(
            "{}.5,{},{}\n",
            if row % 3 == 0 { 30 } else { 10 } + row % 17,
            row * 37 % 101,
            ["=daisy", "lily"][usize::from(is_lily)]
        );
    }
    fs::write(folder.path().join("plants.csv"), table).unwrap();
    folder
}

const TRAIN: [&str; 6] = ["train", "-q", "--data=plants.csv", "--target=kind", "--backend=cpu", "--out"];

fn rows(path: impl AsRef<Path>) -> (Vec<String>, Vec<Vec<String>>) {
    let mut table = csv::Reader::from_path(path).unwrap();
    let header = table.headers().unwrap().iter().map(String::from).collect();
    let text = |row: csv::StringRecord| row.iter().map(String::from).collect();
    (header, table.records().map(|row| text(row.unwrap())).collect())
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

#[test]
fn mistakes_name_the_row_of_each_wrong_example() {
    let folder = folder_with_plants();
    succeeds(folder.path(), &with(&TRAIN, &["run"]));
    let eval = ["eval", "--model=run", "--backend=cpu", "--mistakes=wrong.csv"];
    let run = good(softstep(folder.path(), &eval));
    assert!(run.stdout.contains("mistakes in wrong.csv"), "{run:?}");
    let evaluated = softstep(folder.path(), &with(&eval, &["--json"])).last_json();
    let (header, wrong) = rows(folder.path().join("wrong.csv"));
    assert_eq!(header, ["input", "label", "predicted", "probability"]);
    let count = |name: &str| evaluated[name].as_u64().unwrap() as usize;
    assert_eq!(wrong.len(), count("examples") - count("correct"));
    assert!(!wrong.is_empty());
    let table: Vec<String> = read(folder.path().join("plants.csv")).lines().map(String::from).collect();
    for row in &wrong {
        let line = row[0].strip_prefix("plants.csv:").unwrap().parse::<usize>().unwrap();
        let label = table[line - 1].split(',').next_back().unwrap();
        // A name that a spreadsheet would compute is marked as text.
        assert_eq!(row[1], label.replace("=daisy", "'=daisy"));
        assert_ne!(row[1], row[2]);
    }
    assert!(wrong.iter().map(|row| number(&row[3])).is_sorted_by(|a, b| a >= b), "{wrong:?}");

    let over = softstep(folder.path(), &["eval", "--model=run", "--backend=cpu", "--mistakes=plants.csv"]);
    assert!(over.code == 1 && over.stderr.contains("--mistakes plants.csv"), "{over:?}");
}

#[test]
fn mistakes_of_pictures_name_files_and_those_of_values_are_all_errors() {
    let folder = folder_with_plants();
    // One picture in four is of the other class.
    for part in ["train", "test"] {
        for at in 0..24 {
            let (class, shade) = (at % 2, if at % 4 == 3 { 1 - at % 2 } else { at % 2 });
            let path = folder.path().join(format!("pictures/{part}/{}/{at}.png", ["-dark", "light"][class as usize]));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let grey = image::Luma([30 + 190 * shade as u8 + at as u8]);
            image::GrayImage::from_pixel(6, 6, grey).save(path).unwrap();
        }
    }
    let train = ["train", "-q", "--data=pictures", "--image-size=6", "--backend=cpu", "--epochs=20", "--out=run"];
    succeeds(folder.path(), &train);
    succeeds(folder.path(), &["eval", "--model=run", "--backend=cpu", "--mistakes=wrong.csv"]);
    let (_, wrong) = rows(folder.path().join("wrong.csv"));
    assert!(!wrong.is_empty());
    for row in &wrong {
        assert!(row[0].starts_with("pictures/test/") && folder.path().join(&row[0]).is_file(), "{row:?}");
        let of_file = Path::new(&row[0]).parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert_eq!(row[1], of_file.replace("-dark", "'-dark"));
    }

    let table = "x,y\n".to_string() + &(0..200).map(|row| format!("{row},{}\n", 3 * row + row % 5)).collect::<String>();
    fs::write(folder.path().join("line.csv"), table).unwrap();
    succeeds(
        folder.path(),
        &["train", "-q", "--data=line.csv", "--target=y", "--task=regression", "--backend=cpu", "--out=line"],
    );
    succeeds(folder.path(), &["eval", "--model=line", "--backend=cpu", "--mistakes=errors.csv"]);
    let (header, errors) = rows(folder.path().join("errors.csv"));
    assert_eq!((header.join(","), errors.len()), ("input,actual,predicted,error".into(), 40));
    let sizes: Vec<f64> = errors.iter().map(|row| number(&row[3]).abs()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    for row in &errors {
        let x = number(row[0].strip_prefix("line.csv:").unwrap()) - 2.0;
        assert!((number(&row[1]) - (3.0 * x + x % 5.0)).abs() < 1e-3, "{row:?}");
        assert!((number(&row[2]) - number(&row[1]) - number(&row[3])).abs() < 1e-9, "{row:?}");
    }

    succeeds(folder.path(), &["train", "-q", "--data=digits", "--backend=cpu", "--epochs=1", "--out=digits"]);
    succeeds(folder.path(), &["eval", "--model=digits", "--backend=cpu", "--mistakes=digits.csv"]);
    let (_, wrong) = rows(folder.path().join("digits.csv"));
    assert!(wrong.iter().all(|row| row[0].starts_with("digits[") && row[0].ends_with(']')), "{wrong:?}");
}

#[test]
fn means_over_classes_and_areas_agree_between_eval_results_and_the_page() {
    let folder = folder_with_plants();
    succeeds(folder.path(), &with(&TRAIN, &["run", "--validation=0.25"]));
    let eval = ["eval", "--model=run", "--backend=cpu"];
    let evaluated = softstep(folder.path(), &with(&eval, &["--json"])).last_json();
    let recalls: Vec<f64> =
        evaluated["per_class"].as_array().unwrap().iter().map(|class| class["recall"].as_f64().unwrap()).collect();
    let balanced = evaluated["balanced_accuracy"].as_f64().unwrap();
    assert!((balanced - (recalls[0] + recalls[1]) / 2.0).abs() < 1e-12);
    let test = &results(&folder.path().join("run"))["test"];
    assert_eq!(test["balanced_accuracy"], evaluated["balanced_accuracy"]);
    assert_eq!(test["macro_f1"], evaluated["macro_f1"]);
    assert_eq!(test["two_classes"]["roc_auc"], evaluated["roc_auc"]);
    assert_eq!(test["two_classes"]["threshold"], evaluated["threshold"]);
    assert_eq!(test["calibration"]["error"], evaluated["calibration_error"]);
    assert_eq!(evaluated["threshold"]["chosen_on"], "validation part");
    let text = good(softstep(folder.path(), &eval)).stdout;
    assert!(text.contains("balanced accuracy") && text.contains("macro F1") && text.contains("ROC AUC"), "{text}");
    assert!(text.contains("chosen on the validation part"), "{text}");
    let page = read(folder.path().join("run/report.html"));
    for part in
        ["ROC curve, area", "Precision over recall", "Reliability", "expected calibration error", "Columns that matter"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("the best one for the validation part"));

    // Without a validation part the threshold is one for the test part, and that is said.
    succeeds(
        folder.path(),
        &[
            "train",
            "-q",
            "--data=plants.csv",
            "--target=kind",
            "--backend=cpu",
            "--epochs=3",
            "--validation=0",
            "--keep=last",
            "--out=plain",
        ],
    );
    let text = good(softstep(folder.path(), &["eval", "--model=plain", "--backend=cpu"])).stdout;
    assert!(text.contains("optimistic, as it was chosen on the test part"), "{text}");
}

#[test]
fn the_column_that_tells_the_classes_matters_most_and_again() {
    let folder = folder_with_plants();
    succeeds(folder.path(), &with(&TRAIN, &["run"]));
    let eval = ["eval", "--model=run", "--backend=cpu", "--importance", "--json"];
    let importance = softstep(folder.path(), &eval).last_json()["importance"].clone();
    let names: Vec<&str> = importance.as_array().unwrap().iter().map(|one| one["column"].as_str().unwrap()).collect();
    assert_eq!(names, ["height", "noise"]);
    let loss = |at: usize| importance[at]["loss"].as_f64().unwrap();
    assert!(loss(0) > 0.15 && loss(1).abs() < 0.1, "{importance}");
    assert_eq!(softstep(folder.path(), &eval).last_json()["importance"], importance);
    assert_eq!(results(&folder.path().join("run"))["test"]["importance"], importance);
    succeeds(folder.path(), &["train", "-q", "--data=digits", "--backend=cpu", "--epochs=1", "--out=digits"]);
    let refused = softstep(folder.path(), &["eval", "--model=digits", "--backend=cpu", "--importance"]);
    assert!(refused.code == 1 && refused.stderr.contains("--importance"), "{refused:?}");
}

fn comparison(folder: &Path, runs: &[&str]) -> String {
    succeeds(folder, &with(&["report"], runs));
    read(folder.join("comparison.html"))
}

#[test]
fn a_run_is_called_better_only_where_a_paired_test_says_so() {
    let folder = folder_with_plants();
    for (out, more) in [("good", "--epochs=30"), ("alike", "--epochs=29"), ("poor", "--epochs=1")] {
        let train = ["train", "-q", "--data=digits", "--backend=cpu", "--validation=0", "--keep=last"];
        let rate = if out == "poor" { "--lr=0.0001" } else { "--lr=0.05" };
        succeeds(folder.path(), &with(&train, &[more, rate, "--out", out]));
    }
    let page = comparison(folder.path(), &["good", "alike", "poor"]);
    let verdict = |label: &str| {
        let row = page.split(&format!("<th scope=\"row\">{label}</th>")).nth(2).map(|row| row.split("</tr>").next());
        row.flatten().unwrap_or_else(|| panic!("{label}: {page}")).to_string()
    };
    assert!(verdict("poor").contains("<td>better</td>"), "{}", verdict("poor"));
    // One of these may be the best, and the other is no worse.
    let equal = page.contains("Equal, and the highest");
    assert!(equal || page.contains("may be chance"), "{page}");

    // Other seeds have other test rows: no pairs.
    for seed in ["1", "2"] {
        succeeds(
            folder.path(),
            &with(&TRAIN, &[&format!("seed{seed}"), "--seed", seed, "--lr=0.0001", "--epochs", seed]),
        );
    }
    let parts: BTreeSet<String> = ["seed1", "seed2"]
        .map(|run| results(&folder.path().join(run))["test"]["paired"]["part"].as_str().unwrap().to_string())
        .into();
    assert_eq!(parts.len(), 2);
}

#[test]
fn regressions_are_compared_by_their_squared_errors() {
    let folder = folder_with_plants();
    let table = "x,y\n".to_string() + &(0..400).map(|row| format!("{row},{}\n", 3 * row + row % 5)).collect::<String>();
    fs::write(folder.path().join("line.csv"), table).unwrap();
    for (out, rate) in [("good", "0.05"), ("poor", "0.0001")] {
        let train =
            ["train", "-q", "--data=line.csv", "--target=y", "--task=regression", "--backend=cpu", "--epochs=3"];
        succeeds(folder.path(), &with(&train, &["--lr", rate, "--out", out]));
    }
    let page = comparison(folder.path(), &["good", "poor"]);
    assert!(page.contains("Wilcoxon") && page.contains("<td>better</td>"), "{page}");
    let paired: &Value = &results(&folder.path().join("good"))["test"]["paired"];
    assert_eq!(paired["squared_errors"].as_array().unwrap().len(), 80);
}

#[test]
fn the_page_of_a_run_in_progress_refreshes_itself_until_the_run_ends() {
    let folder = folder_with_places();
    let long = ["train", "-q", "--data=digits", "--backend=cpu", "--hidden=64", "--epochs=100000"];
    let child = start(folder.path(), &with(&long, &["--out=run"]));
    let page = folder.path().join("run/report.html");
    let started = Instant::now();
    while !page.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "no page of a run in progress");
        std::thread::sleep(Duration::from_millis(5));
    }
    let live = read(&page);
    assert!(live.contains("<meta http-equiv=\"refresh\" content=\"4\">"), "{live}");
    assert!(live.contains("This run is under way: epoch ") && live.contains("Loss of every step"), "{live}");
    signal(&child, "-INT");
    let ended = end(child, folder.path());
    assert!(ended.code == 130 && ended.stderr.matches("note:").count() == 1, "{ended:?}");
    let stopped = read(&page);
    assert!(!stopped.contains("http-equiv=\"refresh\"") && stopped.contains("was stopped after step"), "{stopped}");

    succeeds(folder.path(), &["train", "-q", "--data=digits", "--backend=cpu", "--epochs=2", "--out=ended"]);
    let ended = read(folder.path().join("ended/report.html"));
    let sentence = ended.split("<p class=\"summary\">").nth(1).unwrap().split("</p>").next().unwrap();
    assert!(sentence.starts_with("After 2 epochs in ") && sentence.contains("of 359 test examples"), "{sentence}");
    assert!(!ended.contains("http-equiv=\"refresh\""));
}

#[test]
fn mistakes_of_pictures_show_what_the_model_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(folder.path(), &["train", "-q", "--data=digits", "--backend=cpu", "--epochs=2", "--out=run"]);
    let mistakes = results(&folder.path().join("run"))["test"]["mistakes"].as_array().unwrap().clone();
    assert!(!mistakes.is_empty());
    for mistake in &mistakes {
        assert!(mistake["attribution"].as_str().unwrap().starts_with("data:image/png;base64,"), "{mistake}");
    }
    assert!(read(folder.path().join("run/report.html")).contains("what the model looked at"));

    // Ink at the right place speaks for the prediction, and black pixels say nothing.
    let mut picture = image::GrayImage::new(8, 8);
    for y in 1..7 {
        picture.put_pixel(3, y, image::Luma([255]));
        picture.put_pixel(4, y, image::Luma([255]));
    }
    picture.save(folder.path().join("one.png")).unwrap();
    let why = ["predict", "--model=run", "--backend=cpu", "--fit=whole", "one.png", "--why=why.png"];
    let run = good(softstep(folder.path(), &why));
    assert!(run.stdout.contains("attributions in why.png"), "{run:?}");
    let sheet = image::open(folder.path().join("why.png")).unwrap().to_rgb8();
    // 8 pixels of 18 each, and 8 of space.
    assert_eq!(sheet.dimensions(), (2 * (144 + 8), 144 + 8));
    assert_eq!(sheet.get_pixel(4 + 3 * 18 + 9, 4 + 3 * 18 + 9).0, [255; 3]);
    assert_eq!(sheet.get_pixel(4 + 9, 4 + 9).0, [0; 3]);
    let right = 4 + 144 + 8;
    assert_eq!(sheet.get_pixel(right + 9, 4 + 9).0, [255; 3]);
    let inked = (0..8).map(|y| sheet.get_pixel(right + 3 * 18 + 9, 4 + y * 18 + 9).0);
    assert!(inked.clone().any(|[red, _, blue]| red > blue), "{inked:?}");
    good(softstep(folder.path(), &why));

    fs::write(folder.path().join("plants.csv"), "x,y\n1,a\n2,b\n3,a\n4,b\n5,a\n6,b\n7,a\n8,b\n9,a\n10,b\n").unwrap();
    succeeds(folder.path(), &["train", "-q", "--data=plants.csv", "--target=y", "--backend=cpu", "--out=table"]);
    let refused = softstep(folder.path(), &["predict", "--model=table", "--backend=cpu", "plants.csv", "--why=x.png"]);
    assert!(refused.code == 1 && refused.stderr.contains("--why is for models of pictures"), "{refused:?}");
}

#[test]
fn real_values_that_do_not_vary_or_are_huge_leave_a_run_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let table = |target: &dyn Fn(usize) -> String| {
        let rows = (0..60).map(|row| format!("{}.5,{}\n", row * 7 % 13, target(row)));
        "x,y\n".to_string() + &rows.collect::<String>()
    };
    // The test part is 12 rows, here without one of the three that are not 0.
    let few = table(&|row| if [7, 8, 21].contains(&row) { format!("812.{row}") } else { "0.0".into() });
    let few_tested = "x,y\n1.5,0.0\n2.5,0.0\n3.5,0.0\n";
    let huge = table(&|row| format!("{}e39", row * 7 % 13));
    for (name, train, test) in [("few", &*few, few_tested), ("huge", &*huge, "x,y\n1.5,1e39\n2.5,2e39\n")] {
        fs::write(folder.path().join("train.csv"), train).unwrap();
        fs::write(folder.path().join("test.csv"), test).unwrap();
        let data = ["train", "--data=train.csv", "--test=test.csv", "--target=y", "--task=regression", "--backend=cpu"];
        let run = good(softstep(folder.path(), &with(&data, &["--epochs=3", "--out", name])));
        assert!(!run.stderr.contains("damaged") && !run.stdout.contains("inf"), "{run:?}");
        assert!(folder.path().join(name).join("report.html").exists(), "{run:?}");
        assert_eq!(run.stdout.contains("R² –"), name == "few", "{run:?}");
        good(softstep(folder.path(), &["report", name]));
    }
}
