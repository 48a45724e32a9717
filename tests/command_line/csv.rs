//! Tables: from a CSV file to a model and its report, and every mistake in one refused with file and line.

use std::fs;

use crate::binary::softstep;
use softstep::Error;
use softstep::data::csv::{self, TableOptions, Task};
use softstep::data::{Encoding, Features, Preprocessing, TableFormat, TargetEncoding, Targets, TestPart};
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::model_file::{Metadata, from_safetensors, to_safetensors};

fn options(target: &str) -> TableOptions {
    TableOptions { target: target.into(), ..TableOptions::default() }
}

/// 200 flowers: `size` tells the kinds apart, `colour` and the quoted column say nothing.
fn flowers() -> String {
    let mut text = String::from("size,colour,\"odd, quoted\",kind\n");
    for index in 0..200 {
        let (size, kind) = if index % 2 == 0 { (10.0, "rose") } else { (14.0, "tulip") };
        let colour = ["red", "\"deep, dark \"\"blue\"\"\"", "white"][index % 3];
        text += &format!("{},{colour},{},{kind}\n", size + (index % 7) as f64 / 7.0, index % 5);
    }
    text
}

fn read(text: &str, options: &TableOptions) -> softstep::Result<softstep::data::Data> {
    csv::read("some.csv", text.as_bytes(), options, 3)
}

fn format(data: &softstep::data::Data) -> &TableFormat {
    match data.preprocessing.as_ref().unwrap() {
        Preprocessing::Table(format) => format,
        other => panic!("{other:?}"),
    }
}

fn values(data: &softstep::data::Data) -> (&[f32], &[f32]) {
    match (&*data.train.inputs, &*data.test.inputs) {
        (Features::Floats(train), Features::Floats(test)) => (train, test),
        _ => panic!("no floats"),
    }
}

#[test]
fn numbers_are_standardised_by_the_training_part_and_texts_are_one_hot() {
    let data = read(&flowers(), &options("kind")).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.train.features, data.train.outputs), (160, 40, 5, 2));
    let (preprocessing, format) = (data.preprocessing.as_ref().unwrap(), format(&data));
    let blue = "deep, dark \"blue\"".to_string();
    assert_eq!(format.columns[1].encoding, Encoding::OneHot(vec![blue, "red".into(), "white".into()]));
    assert_eq!(preprocessing.class_names().unwrap(), ["rose", "tulip"]);
    let (train, test) = values(&data);
    for feature in [0, 4] {
        let column: Vec<f64> = train.iter().skip(feature).step_by(5).map(|&value| f64::from(value)).collect();
        let mean = column.iter().sum::<f64>() / 160.0;
        let variance = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 160.0;
        assert!(mean.abs() <= 1e-6 && (variance - 1.0).abs() <= 1e-5, "feature {feature}: {mean}, {variance}");
        // The test part has other rows, so another mean: it was not looked at.
        let mean = test.iter().skip(feature).step_by(5).map(|&value| f64::from(value)).sum::<f64>() / 40.0;
        assert!(mean.abs() >= 1e-4, "feature {feature} of the test part has mean {mean}");
    }
    for row in train.chunks(5).chain(test.chunks(5)) {
        assert_eq!(row[1..4].iter().sum::<f32>(), 1.0, "{row:?}");
    }
    // Small flowers are roses.
    let labels = data.train.labels().unwrap();
    assert!(train.chunks(5).zip(labels).all(|(row, &label)| (row[0] > 0.0) == (label == 1)));
}

#[test]
fn a_value_of_the_test_part_changes_no_statistic() {
    let text = |last: &str| {
        let rows: String = (0..50).map(|row| format!("{row},a,{}\n", row % 2)).collect();
        format!("x,y,class\n{rows}{last}")
    };
    // Under some seed the last row is a test row; its value and its category are like no other's.
    let with = |seed, last: &str| csv::read("some.csv", text(last).as_bytes(), &options("class"), seed).unwrap();
    let is_test = |seed: &u64| values(&with(*seed, "1e6,a,0\n")).1.iter().any(|&value| value > 100.0);
    let seed = (0..100).find(is_test).unwrap();
    let (plain, odd) = (with(seed, "7,a,0\n"), with(seed, "1e6,odd,0\n"));
    assert_eq!(plain.preprocessing, odd.preprocessing);
    assert_eq!(values(&plain).0, values(&odd).0);
    assert_eq!(values(&odd).1.chunks(2).filter(|row| row[1] == 0.0).count(), 1, "an unknown category is all 0");
}

#[test]
fn the_seed_decides_the_test_part() {
    let tests = |seed| values(&csv::read("f", flowers().as_bytes(), &options("kind"), seed).unwrap()).1.to_vec();
    assert_eq!(tests(5), tests(5));
    assert_ne!(tests(5), tests(6));
}

#[test]
fn a_target_of_many_numbers_is_a_number_unless_the_task_says_otherwise() {
    let table = |count: usize| -> String {
        let rows: String = (0..3 * count).map(|row| format!("{row},{}.5\n", 100 - row as i64 % count as i64)).collect();
        format!("x,y\n{rows}")
    };
    let told = |task, count| read(&table(count), &TableOptions { task: Some(task), ..options("y") }).unwrap();
    let classes = told(Task::Classification, 20);
    let names = classes.preprocessing.as_ref().unwrap().class_names().unwrap();
    assert_eq!((names.len(), &*names[0], &*names[19]), (20, "81.5", "100.5"), "numbers are sorted as numbers");

    let numbers = read(&table(21), &options("y")).unwrap();
    let Targets::Values(targets) = &*numbers.train.targets else { panic!("no numbers") };
    let TargetEncoding::Standardised(scale) = format(&numbers).encoding else { panic!() };
    let original = f64::from(targets[0]) * scale.deviation + scale.mean;
    assert!((original * 2.0 - (original * 2.0).round()).abs() <= 1e-4, "{original}");
    assert_eq!((numbers.train.outputs, targets.len()), (1, numbers.train.len()));

    assert_eq!(told(Task::Classification, 21).train.outputs, 21);
    assert_eq!(told(Task::Regression, 3).train.outputs, 1);
}

#[test]
fn columns_can_be_left_out_or_taken_for_categories() {
    let options =
        TableOptions { categorical: vec!["odd, quoted".into()], ignore: vec!["size".into()], ..options("kind") };
    let data = read(&flowers(), &options).unwrap();
    assert_eq!(data.train.features, 3 + 5);
}

#[test]
fn every_mistake_is_refused_with_file_line_and_column() {
    let refused = |text: &str, options: &TableOptions| {
        let error = read(text, options).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("some.csv: ") && !text.contains(char::is_control), "{text}");
        text
    };
    let many: String = (0..800).map(|row| format!("text {row},{}\n", row % 2)).collect();
    let cases = [
        ("a,b\n1,x\n2,y\n", "c", "`target` c: there is no such column; it has a, b"),
        ("a,b\n1,x\n2,y,z\n", "b", "line 3: 3 values, where the header names 2"),
        ("a,b\n1,x\n2\n", "b", "line 3: 1 value, where the header names 2"),
        ("a,b\n1,x\n2,y\n\nthree,x\n", "b", "line 5, column \"a\": \"three\" is not a number"),
        ("a,b\n1,x\ninf,y\n", "b", "line 3, column \"a\": \"inf\" is not a number"),
        ("a,b\n1,\n2,\"\"\n", "b", "column \"b\" has no value: there is nothing to learn"),
        ("a,b\n1,x\n2,x\n", "b", "one class only, \"x\""),
        (
            &format!("a,b\n{}{}", "-1.7e308,y\n".repeat(8), "1.7e308,x\n".repeat(40)),
            "b",
            "numbers that are too far apart",
        ),
        ("a,b\n1,x\n2,\"y\n3,x\n4,y\n", "b", "line 3: a quote opens here that is never closed"),
        ("a,b\n\"1\n\",x\n2,\"\"\"y\n3,x\n\"\"4,y\n", "b", "line 4: a quote opens here"),
        ("\u{feff}\"a,b\n1,x\n", "b", "line 1: a quote opens here"),
        ("a,\n1,x\n2,y\n", "a", "no column is left to learn \"a\" from; column 2 has no name"),
        ("a,b\n1,x\n2,y\n", "A", "`target` A: there is no such column; it has a, b: did you mean a?"),
        ("a,b\n", "b", "no rows"),
        ("", "b", "no rows"),
        ("b\nx\ny\n", "b", "no column is left to learn \"b\" from"),
        (
            &format!("a,b\n{many}"),
            "b",
            "no column is left to learn \"b\" from; left out, as nearly every row has a text",
        ),
    ];
    for (text, target, expected) in cases {
        let message = refused(text, &TableOptions { test: TestPart::Share(0.5), ..options(target) });
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
    let regression = TableOptions { task: Some(Task::Regression), test: TestPart::Share(0.5), ..options("b") };
    assert!(refused("a,b\n1,2\n2,x\n", &regression).contains("line 3, column \"b\": \"x\" is not a number"));
    assert!(!refused("a,b\n1,2\n2,x\n", &regression).contains("`categorical`"));
    let constant: String = (0..40).map(|row| format!("{row}.5,{}\n", ["5", "5.0"][row % 2])).collect();
    let message = refused(&format!("a,b\n{constant}"), &regression);
    assert!(message.contains("the same target everywhere in its training part"), "{message}");
    for (setting, categorical, ignore) in [("`categorical`", &["kind"][..], &[][..]), ("`ignore`", &[], &["kind"])] {
        let [categorical, ignore] =
            [categorical, ignore].map(|names| names.iter().map(|name| name.to_string()).collect());
        let message = refused(&flowers(), &TableOptions { categorical, ignore, ..options("kind") });
        assert!(message.contains(&format!("{setting} kind: that is the column to learn")), "{message}");
    }
    // Under some seed the only row of another class is a test row.
    let rows = format!("a,b\n{}1,y\n", "1,x\n2,x\n".repeat(10));
    let error = (0..40).find_map(|seed| csv::read("some.csv", rows.as_bytes(), &options("b"), seed).err()).unwrap();
    assert!(error.to_string().contains("one class only, \"x\", in its training part"), "{error}");
    for (bytes, expected) in [
        (&b"a,b\n1,x\n\0,y\n"[..], "holds zero bytes and is not text"),
        (b"PK\x03\x04 and so on", "is a ZIP or Excel file and no text: save the table as CSV"),
        (b"\x1f\x8b\x08\0\0\0\0", "a damaged gzip file"),
        (b"\xff\xfea\0,\0b\0\n\0\0\xd8", "is damaged: no whole UTF-16LE text"),
    ] {
        let not_text = csv::read("some.csv", bytes, &options("b"), 0).unwrap_err().to_string();
        assert!(not_text.contains(expected), "{not_text}");
    }
    for share in [0.0, 1.0, f64::NAN] {
        let error = read(&flowers(), &TableOptions { test: TestPart::Share(share), ..options("kind") })
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("`test` {share} of 200 examples")), "{error}");
    }
}

#[test]
fn quotes_that_are_closed_or_stand_within_a_value_are_no_mistake() {
    for value in ["\"x\"\"\"", "\"\"\"\"", "\"a\nb\"", "5\"", "a \"b", "\"\"\"x\"", "\"x,\"\"y\"\"\"", " \"x"] {
        for end in ["", "\n", "\r\n"] {
            let text = format!("b,a\n{}x,{value}{end}", format!("x,{value}\ny,other\n").repeat(10));
            let data = read(&text, &options("b")).unwrap_or_else(|error| panic!("{value:?}, {end:?}: {error}"));
            assert_eq!((data.train.len() + data.test.len(), data.train.features), (21, 2), "{value:?}, {end:?}");
        }
    }
}

#[test]
fn all_values_decide_whether_a_column_is_numeric() {
    let table = |values: [&str; 4]| {
        let rows: String = (0..20).map(|row| format!("{},{}\n", values[row % 4], row % 2)).collect();
        format!("a,b\n{rows}")
    };
    let encoding = |values| format(&read(&table(values), &options("b")).unwrap()).columns[0].encoding.clone();
    assert!(matches!(encoding(["1", "2.5", "-3e2", "+4"]), Encoding::Standardised(_)));
    assert!(matches!(encoding(["1", "two", "three", "four"]), Encoding::OneHot(_)));
    for (values, line, odd) in [
        (["inf", "1", "2", "3"], 2, "inf"),
        (["1", "1e400", "2", "3"], 3, "1e400"),
        (["1", "2", "3", "four"], 5, "four"),
    ] {
        let error = read(&table(values), &options("b")).unwrap_err().to_string();
        let expected =
            format!("line {line}, column \"a\": {odd:?} is not a number (nor are 4 more), and 15 of 20 values");
        assert!(error.contains(&expected) && error.ends_with("pass with: `categorical` a"), "{error} lacks {expected}");
        let categorical = TableOptions { categorical: vec!["a".into()], ..options("b") };
        assert_eq!(read(&table(values), &categorical).unwrap().train.features, 4);
    }
}

#[test]
fn a_number_that_is_far_beyond_the_training_rows_is_refused_with_its_place() {
    // Under some seed the last row is a test row.
    let rows: String = (0..50).map(|row| format!("{row},{}.5\n", row * 3)).collect();
    for (last, column) in [("1e60,1", "x"), ("1,-1e60", "y")] {
        let text = format!("x,y\n{rows}{last}\n");
        let errors = (0..40).filter_map(|seed| csv::read("some.csv", text.as_bytes(), &options("y"), seed).err());
        let error = errors.map(|error| error.to_string()).next().expect("a seed");
        assert!(error.starts_with(&format!("some.csv: line 52, column {column:?}: ")), "{error}");
        assert!(error.contains("1e60 is too far from the training rows"), "{error}");
    }
}

/// Ten epochs on the CPU.
const TRAIN: [&str; 13] = [
    "train",
    "--data",
    "flowers.csv",
    "--target",
    "kind",
    "--epochs",
    "10",
    "--backend",
    "cpu",
    "--optimizer",
    "sgd",
    "--lr",
    "0.15",
];

#[test]
fn a_table_trains_goes_on_from_a_checkpoint_and_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flowers.csv"), flowers()).unwrap();
    let train = |more: &[&str]| softstep(folder.path(), &[&TRAIN[..], more].concat());
    let done = train(&["--json", "--out", "run"]).last_json();
    assert_eq!(done["test_accuracy"], 1.0, "{done}");

    let eval = |more: &[&str]| {
        softstep(
            folder.path(),
            &[&["eval", "--model", "run", "--data", "flowers.csv", "--backend", "cpu"], more].concat(),
        )
    };
    let evaluated = eval(&["--json"]).last_json();
    assert_eq!((&evaluated["loss"], &evaluated["examples"]), (&done["test_loss"], &40.into()), "the same test part");
    assert_eq!(evaluated["class_names"], serde_json::json!(["rose", "tulip"]));
    assert_eq!(eval(&["--json", "--all"]).last_json()["examples"], 200);
    let text = eval(&[]).stdout;
    assert!(text.contains("rose") && text.contains("tulip"), "{text}");

    // As if the run had been killed in its last epoch: it knows the table's options and ends in the same bits.
    fs::remove_file(folder.path().join("run/model.safetensors")).unwrap();
    let last = format!("run/checkpoint-{}.safetensors", done["steps"]);
    fs::remove_file(folder.path().join(last)).unwrap();
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!(again["parameters_sha256"], done["parameters_sha256"]);
    let refused = softstep(folder.path(), &["train", "--resume", "run", "--target", "size"]);
    assert!(refused.code == 1 && refused.stderr.contains("--target conflicts with --resume"), "{refused:?}");
}

#[test]
fn a_table_other_than_the_one_that_was_learned_is_measured_whole_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &[&str]| fs::write(folder.path().join(name), lines.join("\n")).unwrap();
    let text = flowers();
    let lines: Vec<&str> = text.lines().collect();
    write("flowers.csv", &lines);
    softstep(folder.path(), &[&TRAIN[..], &["--json", "--out", "run"]].concat()).last_json();
    let reversed: Vec<&str> = lines[..1].iter().chain(lines[1..].iter().rev()).copied().collect();
    write("reversed.csv", &reversed);
    write("longer.csv", &[&lines[..], &["10.5,red,1,rose"]].concat());
    write("one.csv", &lines[..2]);
    fs::copy(folder.path().join("flowers.csv"), folder.path().join("copy.csv")).unwrap();
    let eval = |data: &str, more: &[&str]| {
        let eval = ["eval", "--model", "run", "--data", data, "--backend", "cpu"];
        softstep(folder.path(), &[&eval[..], more].concat())
    };
    let other = "not the data that the model was trained on";
    for (data, more, examples, part, is_other) in [
        ("flowers.csv", &[][..], 40, "test part", false),
        ("copy.csv", &[], 40, "test part", false),
        ("flowers.csv", &["--all"], 200, "all examples", false),
        ("reversed.csv", &[], 200, "all examples", true),
        ("reversed.csv", &["--all"], 200, "all examples", false),
        ("longer.csv", &[], 201, "all examples", true),
        ("one.csv", &[], 1, "all examples", true),
    ] {
        let run = eval(data, &[more, &["--json"]].concat());
        let evaluated = run.last_json();
        assert_eq!((&evaluated["examples"], &evaluated["part"]), (&examples.into(), &part.into()), "{data} {more:?}");
        assert_eq!(run.stderr.contains(other), is_other, "{data} {more:?}: {}", run.stderr);
        assert!(eval(data, more).stdout.contains(&format!("{data}, {part}")), "{data} {more:?}");
    }
}

#[test]
fn a_model_that_does_not_say_what_it_was_trained_on_is_measured_on_the_share_with_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flowers.csv"), flowers()).unwrap();
    softstep(folder.path(), &[&TRAIN[..], &["--json", "--out", "run"]].concat()).last_json();
    let path = folder.path().join("run/model.safetensors");
    let (parameters, metadata) = from_safetensors("model", &fs::read(&path).unwrap()).unwrap();
    assert!(metadata.train_sha256.is_some());
    fs::write(&path, to_safetensors(&parameters, &metadata.with_train_sha256(None)).unwrap()).unwrap();
    let eval = ["eval", "--model", "run", "--data", "flowers.csv", "--backend", "cpu", "--json"];
    let run = softstep(folder.path(), &eval);
    assert_eq!((&run.last_json()["examples"], &run.last_json()["part"]), (&40.into(), &"test part".into()));
    assert!(run.stderr.contains("does not say which examples it was trained on"), "{run:?}");
}

#[test]
fn a_numeric_target_is_learned_and_its_error_reported_in_its_own_units() {
    let folder = tempfile::tempdir().unwrap();
    // A law with large units: price = 50,000 + 3,000 · area, and 10,000 more with a garden.
    let mut text = String::from("area,garden,price\n");
    for row in 0..300 {
        let (area, garden) = (row * 37 % 100, row % 3 == 0);
        let price = 50_000 + 3_000 * area + if garden { 10_000 } else { 0 };
        text += &format!("{area},{},{price}\n", if garden { "yes" } else { "no" });
    }
    fs::write(folder.path().join("homes.csv"), &text).unwrap();
    let options = options("price");
    let data = csv::read("homes.csv", text.as_bytes(), &options, 0).unwrap();
    let TargetEncoding::Standardised(scale) = format(&data).encoding else { panic!("no numbers") };
    let variance = data.test.variance().unwrap() * scale.deviation.powi(2);
    assert!(variance.sqrt() >= 50_000.0, "{variance}");

    let train = ["train", "--data", "homes.csv", "--target", "price", "--backend", "cpu", "--seed", "0"];
    let train = [&train[..], &["--optimizer", "sgd"]].concat();
    let done = |more: &[&str]| softstep(folder.path(), &[&train[..], more].concat()).last_json();
    for (more, out, right) in
        [(&["--epochs", "1", "--lr", "0.001"][..], "short", false), (&["--epochs", "60", "--lr", "0.15"], "run", true)]
    {
        let done = done(&[more, &["--batch-size", "16", "--json", "--out", out]].concat());
        let rmse = done["test_rmse"].as_f64().unwrap();
        assert_eq!(rmse <= 100.0, right, "{done}");
        // R² = 1 - MSE / variance holds in any units; so it tells whether these are the target's own.
        let expected = ((1.0 - done["test_r_squared"].as_f64().unwrap()) * variance).sqrt();
        assert!((rmse - expected).abs() <= 1e-3 * expected + 0.1, "{rmse}, expected {expected}");
        let eval = ["eval", "--model", out, "--data", "homes.csv", "--backend", "cpu"];
        let evaluated = softstep(folder.path(), &[&eval[..], &["--json"]].concat()).last_json();
        assert_eq!((&evaluated["rmse"], &evaluated["loss"]), (&done["test_rmse"], &done["test_loss"]));
        let text = softstep(folder.path(), &eval).stdout;
        assert!(text.contains("in the units of price"), "{text}");
    }
    let refused = softstep(folder.path(), &[&train[..], &["--loss", "cross-entropy"]].concat());
    assert!(refused.code == 1 && refused.stderr.contains("--loss mse is for those"), "{refused:?}");
}

#[test]
fn two_classes_of_a_table_train_with_one_sigmoid_output_and_class_weights() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flowers.csv"), flowers()).unwrap();
    let more = ["--loss", "bce", "--class-weights", "balanced", "--json", "--out", "run"];
    let done = softstep(folder.path(), &[&TRAIN[..], &more].concat()).last_json();
    assert_eq!((&done["sizes"], &done["test_accuracy"]), (&serde_json::json!([5, 1]), &1.0.into()), "{done}");
    let eval = ["eval", "--model", "run", "--data", "flowers.csv", "--backend", "cpu", "--json"];
    let evaluated = softstep(folder.path(), &eval).last_json();
    assert_eq!(evaluated["loss"], done["test_loss"]);
    assert_eq!(evaluated["class_names"], serde_json::json!(["rose", "tulip"]));
}

#[test]
fn a_model_file_whose_loss_or_outputs_are_not_for_its_table_is_refused() {
    let read_back = |data: &softstep::data::Data, outputs: usize, loss: Loss| {
        let parameters = Parameters::new(&[data.train.features, outputs], 0).unwrap();
        let metadata = Metadata::new(&parameters, "some.csv", 3, loss).with_preprocessing(data.preprocessing.clone());
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        from_safetensors("some.safetensors", &bytes).map(|(_, read)| assert_eq!(read, metadata))
    };
    let classes = read(&flowers(), &options("kind")).unwrap();
    let numbers = read(&flowers(), &TableOptions { task: Some(Task::Regression), ..options("size") }).unwrap();
    read_back(&classes, 2, Loss::CrossEntropy).unwrap();
    read_back(&classes, 1, Loss::BinaryCrossEntropy).unwrap();
    read_back(&numbers, 1, Loss::MeanSquaredError).unwrap();
    for (data, outputs, loss, expected) in [
        (&classes, 2, Loss::BinaryCrossEntropy, "[5, 1] features and outputs"),
        (&classes, 1, Loss::MeanSquaredError, "[5, 2] features and outputs"),
        (&numbers, 1, Loss::CrossEntropy, "its loss is not for its preprocessing"),
        (&numbers, 1, Loss::BinaryCrossEntropy, "its loss is not for its preprocessing"),
    ] {
        let error = read_back(data, outputs, loss).unwrap_err().to_string();
        assert!(error.starts_with("some.safetensors: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_test_file_of_its_own_changes_no_statistic_and_is_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("flowers.csv"), flowers()).unwrap();
    // Other columns and another order; values and a colour far from those of the training file.
    let rows: String =
        (0..30).map(|row| format!("{row},tulip,{}.5,0,green\n{row},rose,-{row}.5,1,red\n", 1_000 + row)).collect();
    fs::write(path("new.csv"), format!("number,kind,size,\"odd, quoted\",colour\n{rows}")).unwrap();
    let with = |test: &str| {
        let options = TableOptions { test: TestPart::Path(path(test).display().to_string()), ..options("kind") };
        csv::load(&path("flowers.csv"), &options, 3)
    };
    let data = with("new.csv").unwrap();
    assert_eq!((data.train.len(), data.test.len()), (200, 60));
    let same = with("flowers.csv").unwrap();
    assert_eq!(format(&data).columns, format(&same).columns);
    assert_eq!((&data.train, &same.train), (&same.train, &same.test));
    let (train, test) = values(&data);
    let column: Vec<f64> = train.iter().step_by(5).map(|&value| f64::from(value)).collect();
    assert!(column.iter().sum::<f64>().abs() <= 1e-3, "all rows of the file make its mean");
    assert!(test[0] > 100.0 && test[1..4] == [0.0; 3], "green is unknown: {:?}", &test[..5]);

    let train = [&TRAIN[..], &["--test", "new.csv", "--json", "--out", "run"]].concat();
    let done = softstep(folder.path(), &train).last_json();
    assert_eq!(done["test_accuracy"], 1.0, "{done}");
    let eval = |data: &str| {
        softstep(folder.path(), &["eval", "--model", "run", "--data", data, "--backend", "cpu", "--json"]).last_json()
    };
    assert_eq!((&eval("new.csv")["loss"], &eval("new.csv")["examples"]), (&done["test_loss"], &60.into()));
    assert_eq!(eval("new.csv")["part"], "all examples");
    // The test part of the training file is the other file.
    let own = softstep(folder.path(), &["eval", "--model", "run", "--backend", "cpu", "--json"]).last_json();
    assert_eq!((&own["loss"], &own["part"], &own["examples"]), (&done["test_loss"], &"test part".into(), &60.into()));
    let eval = ["eval", "--model", "run", "--data", "flowers.csv", "--backend", "cpu", "--json"];
    fs::rename(path("new.csv"), path("moved.csv")).unwrap();
    let refused = softstep(folder.path(), &eval);
    assert!(
        refused.code == 1 && refused.stderr.contains("the test part of its run, new.csv, is not there"),
        "{refused:?}"
    );
    fs::rename(path("moved.csv"), path("new.csv")).unwrap();
    let all = softstep(folder.path(), &[&eval[..], &["--all"]].concat()).last_json();
    assert_eq!((&all["examples"], &all["part"]), (&200.into(), &"all examples".into()));
    fs::remove_file(path("run/model.safetensors")).unwrap();
    fs::remove_file(path("run").join(format!("checkpoint-{}.safetensors", done["steps"]))).unwrap();
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!(again["parameters_sha256"], done["parameters_sha256"]);

    for (text, expected) in [
        ("kind,size,colour\nrose,1,red\n", "column odd, quoted: there is no such column; it has kind, size, colour"),
        ("size,colour,\"odd, quoted\"\n1,red,1\n", "`target` kind: there is no such column"),
        (
            "size,colour,\"odd, quoted\",kind\n1,red,1,rose\n1,red,1,lily\n",
            "line 3, column \"kind\": \"lily\" is not one of",
        ),
        (
            "size,colour,\"odd, quoted\",kind\n1,red,1,rose\n\nx,red,1,rose\n",
            "line 4, column \"size\": \"x\" is not a number",
        ),
        ("size,\"odd, quoted\",kind\n1,red,rose\nx,2,lily\n", "column colour: there is no such column"),
        ("kind,size\nrose,1\n", "columns colour, odd, quoted: there are no such columns; it has kind, size"),
        ("size,colour,\"odd, quoted\",kind\n1,red,1\n", "line 2: 3 values, where the header names 4"),
    ] {
        fs::write(path("bad.csv"), text).unwrap();
        let error = with("bad.csv").unwrap_err().to_string();
        assert!(error.contains("bad.csv: ") && error.contains(expected), "{error} lacks {expected}");
    }
    assert!(with("none.csv").unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn the_command_refuses_what_does_not_go_with_a_table() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flowers.csv"), flowers()).unwrap();
    fs::write(folder.path().join("ragged.csv"), "a,b\n1,x\n2\n").unwrap();
    let refused = |arguments: &[&str], expected: &str| {
        let run = softstep(folder.path(), arguments);
        assert_eq!(run.code, 1, "{arguments:?}");
        assert!(run.stderr.contains(expected), "{arguments:?}: {} lacks {expected}", run.stderr);
        assert!(!folder.path().join("runs").exists(), "{arguments:?} left a run");
    };
    refused(&["train", "--data", "flowers.csv"], "name the column to learn with --target");
    refused(&["train", "--data", "flowers.csv", "--target", "sort"], "flowers.csv: --target sort: there is no such");
    refused(&["train", "--data", "ragged.csv", "--target", "b"], "ragged.csv: line 3: 1 value");
    refused(
        &["train", "--data", "digits", "--target", "b"],
        "--target is for a table (file.csv), and --data digits is",
    );
    refused(&["train", "--data", "none.csv", "--target", "b"], "cannot read none.csv");
    refused(&["train", "--data", "none.doc", "--target", "b"], "--data none.doc: there is no such file or folder");
    fs::write(folder.path().join("flowers.doc"), flowers()).unwrap();
    refused(&["train", "--data", "flowers.doc", "--target", "kind"], "rename it, if it is a table");
    fs::write(folder.path().join("book.xlsx"), b"PK\x03\x04 and more").unwrap();
    let save = "--data book.xlsx: it is a ZIP or Excel file and no text: save the table as CSV";
    refused(&["train", "--data", "book.xlsx", "--target", "kind"], save);
    refused(&["train", "--data", "book.xlsx"], save);
    for share in ["0", "1", "1.5", "nan", "-0.1", "inf"] {
        let run = softstep(folder.path(), &["train", "--data", "flowers.csv", "--target", "kind", "--test", share]);
        assert!(run.code == 2 && run.stderr.contains("a share is above 0 and below 1"), "{share}: {run:?}");
    }
}

#[test]
fn training_says_what_it_makes_of_the_columns_and_which_classes_it_sees_no_example_of() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flowers.csv"), flowers()).unwrap();
    let run = softstep(folder.path(), &TRAIN);
    assert!(
        run.stdout.contains("columns   2 numeric, 1 categorical: colour (3)\n") && run.stderr.is_empty(),
        "{run:?}"
    );
    let run = softstep(folder.path(), &[&TRAIN[..], &["--ignore", "colour", "--json"]].concat());
    let columns =
        serde_json::json!([{"name": "size", "categories": null}, {"name": "odd, quoted", "categories": null}]);
    assert_eq!(run.json_lines()[0]["columns"], columns);

    let text = flowers() + "12,red,1,lily\n";
    fs::write(folder.path().join("flowers.csv"), &text).unwrap();
    let is_test = |seed: &u64| {
        let data = csv::read("flowers.csv", text.as_bytes(), &options("kind"), *seed).unwrap();
        data.test.labels().unwrap().contains(&0)
    };
    for (seed, is_said) in [((0..100).find(is_test), true), ((0..100).find(|seed| !is_test(seed)), false)] {
        let run = softstep(folder.path(), &[&TRAIN[..], &["--seed", &seed.unwrap().to_string()]].concat());
        assert_eq!(run.stderr.contains("no example to train on has the class lily"), is_said, "{run:?}");
    }
}
