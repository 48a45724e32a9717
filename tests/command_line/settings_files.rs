//! `--config`: options from TOML, and from the `config.json` of a run.

use std::fs;
use std::path::Path;

use crate::binary::softstep;
use serde_json::Value;

fn train(folder: &Path, arguments: &[&str]) -> Value {
    let common = ["train", "--backend", "cpu", "--json", "--quiet"];
    softstep(folder, &[&common[..], arguments].concat()).last_json()
}

fn config(folder: &Path, run: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(run).join("config.json")).unwrap()).unwrap()
}

/// Settings of a run whose defaults depend on its data.
fn chosen(config: &Value) -> [Value; 4] {
    ["optimizer", "learning_rate", "schedule", "epochs"].map(|name| config[name].clone())
}

#[test]
fn a_run_s_config_trains_the_same_model_and_the_command_line_comes_first() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let first = ["--data", "digits", "--hidden", "16", "--epochs", "2", "--seed", "5", "--out", "first"];
    let first = train(folder, &first);
    for place in ["first", "first/config.json"] {
        let out = format!("again {}", place.len());
        let again = train(folder, &["--config", place, "--out", &out]);
        assert_eq!(again["parameters_sha256"], first["parameters_sha256"], "{place}");
    }
    let other = train(folder, &["--config=first", "--seed", "6", "--lr", "0.05", "--out", "other"]);
    assert_ne!(other["parameters_sha256"], first["parameters_sha256"]);
    let other = config(folder, "other");
    assert_eq!([&other["seed"], &other["learning_rate"]].map(Value::as_f64), [Some(6.0), Some(0.05)]);
    assert_eq!((&other["epochs"], &other["hidden"]), (&2.into(), &serde_json::json!([16])));
}

#[test]
fn what_a_run_chose_by_its_data_is_chosen_anew_for_another_network_or_optimizer_and_what_it_was_told_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    train(folder, &["--data", "digits", "--hidden", "16", "--batch-size", "100", "--epochs", "1", "--out", "first"]);
    let layers = "conv:4x3,relu,pool:2";
    for (name, more) in [("layers", ["--layers", layers]), ("optimizer", ["--optimizer", "adamw"])] {
        train(folder, &["--config", "first", more[0], more[1], "--out", name]);
        let mut plain = vec!["--data", "digits", "--batch-size", "100", "--epochs", "1", more[0], more[1]];
        if name == "optimizer" {
            plain.extend(["--hidden", "16"]);
        }
        let name_of_plain = format!("plain {name}");
        train(folder, &[&plain[..], &["--out", &name_of_plain]].concat());
        let [with, without] = [config(folder, name), config(folder, &name_of_plain)];
        assert_eq!((chosen(&with), &with["batch_size"]), (chosen(&without), &without["batch_size"]), "{name}");
        // Also in a run of that run's own config.
        train(folder, &["--config", name, "--hidden", "8", "--out", &format!("second {name}")]);
        let second = config(folder, &format!("second {name}"));
        let is_chosen_anew = second["learning_rate"] != with["learning_rate"];
        assert_eq!(is_chosen_anew, name == "layers", "{second}");
    }
}

#[test]
fn a_table_s_columns_come_with_its_run_and_are_left_out_for_other_kinds_of_data() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let rows: String = (0..60).map(|row| format!("{},{},{}\n", row * 7 % 60, row, ["p", "q"][row % 2])).collect();
    fs::write(folder.join("table.csv"), format!("a,b,y\n{rows}")).unwrap();
    let table = ["--data", "table.csv", "--target", "y", "--ignore", "b", "--test", "0.3", "--out", "first"];
    let first = train(folder, &table);
    let again = train(&folder.join("first"), &["--config", ".", "--out", "../again"]);
    assert_eq!(again["parameters_sha256"], first["parameters_sha256"], "the data are found from elsewhere");
    let digits = train(folder, &["--config", "first", "--data", "digits", "--epochs", "1", "--out", "digits"]);
    assert_eq!(digits["data"], "digits");
    let run =
        softstep(folder, &["sweep", "--config", "first", "--lr", "0.01/0.1", "--epochs", "1", "--json", "--out", "s"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(fs::read_to_string(folder.join("s/runs.csv")).unwrap().lines().count(), 3);
}

#[test]
fn toml_has_the_names_of_flags_and_what_is_wrong_is_told_in_its_name() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let write = |text: &str| fs::write(folder.join("some.toml"), text).unwrap();
    write("data = 'digits' # bundled\nhidden = [16, 8]\nlr = 0.05\nbatch_size = 32\nnesterov = true\nepochs = 3\n");
    train(folder, &["--config", "some.toml", "--epochs", "1", "--out", "run"]);
    let run = config(folder, "run");
    assert_eq!((&run["hidden"], &run["nesterov"]), (&serde_json::json!([16, 8]), &true.into()));
    let numbers = ["batch_size", "learning_rate", "epochs"].map(|name| run[name].as_f64().unwrap());
    assert_eq!(numbers, [32.0, 0.05, 1.0]);
    for (text, words) in [
        ("lerning-rate = 1", "some.toml: \"lerning-rate\" is no option of `softstep train`"),
        ("lr = \"fast\"", "some.toml: invalid value 'fast' for '--lr"),
        ("epochs = 0", "some.toml: --epochs 0: must be 1 or more"),
        ("epochs = true", "some.toml: \"epochs\" takes a value, not true or false"),
        ("nesterov = 3", "some.toml: \"nesterov\" is true or false"),
        ("lr = [[1]]", "some.toml: \"lr\" is neither a text"),
        ("config = \"x\"", "some.toml: \"config\" is no option"),
        ("lr = \n", "some.toml: TOML parse error at line 1"),
    ] {
        write(text);
        let run = softstep(folder, &["train", "--data", "digits", "--config", "some.toml"]);
        assert!(run.code == 2 && run.stderr.starts_with(&format!("error: {words}")), "{text}: {run:?}");
        assert!(!folder.join("runs").exists(), "{text}");
    }
    for path in ["missing.toml", "missing", "."] {
        let run = softstep(folder, &["train", "--config", path]);
        assert!(run.code == 2 && run.stderr.starts_with("error: ") && run.stderr.contains(path), "{run:?}");
    }
}

#[test]
fn the_commands_at_the_end_of_a_run_work_as_they_are() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let rows: String = (0..60).map(|row| format!("{},{}\n", row * 7 % 60, row % 2)).collect();
    fs::write(folder.join("my table.csv"), format!("a,y\n{rows}")).unwrap();
    let table = ["--data", "my table.csv", "--target", "y", "--out", "my run"];
    for (arguments, step_up) in [(&["--data", "digits", "--epochs", "1"][..], "--layers cnn"), (&table, "--hidden 64")]
    {
        let run = softstep(folder, &[&["train", "--backend", "cpu"], arguments].concat());
        let lines: Vec<&str> = run.stdout.lines().collect();
        let [eval, serve, train] = &lines[lines.len() - 3..] else { panic!("{run:?}") };
        assert!(eval.starts_with("next      softstep eval --model ") && serve.contains(" softstep serve "), "{run:?}");
        assert!(train.contains(" softstep train --config ") && train.ends_with(step_up), "{run:?}");
        for line in [eval, train] {
            let command = line.trim_start_matches("next").trim().strip_prefix("softstep ").unwrap();
            // As a shell takes it apart.
            let words: Vec<&str> = command
                .split('\'')
                .enumerate()
                .flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
                .collect();
            let run = softstep(folder, &[&words[..], &["--backend", "cpu"]].concat());
            assert_eq!(run.code, 0, "{command}: {run:?}");
        }
        assert!(fs::read_to_string(folder.join("wrong.csv")).unwrap().lines().count() >= 1);
        fs::remove_file(folder.join("wrong.csv")).unwrap();
    }
    let quiet = softstep(folder, &["train", "--data", "digits", "--epochs", "1", "--quiet", "--out", "quiet"]);
    assert!(quiet.code == 0 && !quiet.stdout.contains("next"), "{quiet:?}");
}
