//! `softstep explain`: what its experiments come to, and that the page says it. How the page looks is in `pages`.

use std::fs;
use std::path::Path;

use crate::binary::softstep;
use serde_json::Value;

/// Runs it with these arguments; gives the numbers and the page.
fn explain(folder: &Path, arguments: &[&str]) -> (Value, String) {
    let run = softstep(folder, &[&["explain", "--json"], arguments].concat());
    let numbers = run.last_json();
    let page = fs::read_to_string(folder.join(numbers["out"].as_str().unwrap())).unwrap();
    (numbers, page)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn last(value: &Value) -> f64 {
    *numbers(value).last().unwrap()
}

fn assert_near(name: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() <= tolerance, "{name}: {actual} is not {expected}");
    }
}

/// What the lesson promises, whatever device computed it.
fn assert_lesson(lesson: &Value) {
    let softmax = &lesson["softmax"];
    let rounded: Vec<String> = numbers(&softmax["probabilities"]).iter().map(|p| format!("{p:.2}")).collect();
    assert_eq!(rounded, ["0.88", "0.12", "0.00"]);
    assert_near("a shift of all scores", &numbers(&softmax["shifted"]), &numbers(&softmax["probabilities"]), 1e-6);
    let sum: f64 = [3.0f64, 1.0, -3.0].map(f64::exp).iter().sum();
    assert_near("cross-entropy", &numbers(&softmax["losses"]), &[3.0, 1.0, -3.0].map(|z| sum.ln() - z), 1e-5);

    let two = &lesson["two_classes"];
    assert!(number(&two["distance"]) <= 1e-5 && number(&two["trained_distance"]) <= 1e-5, "{two}");
    for pair in two["example_probabilities"].as_array().unwrap() {
        assert_near("0.6 and 0.4", &numbers(pair), &[0.4, 0.6], 1e-6);
    }
    let sigmoid = two["sigmoid"].as_array().unwrap();
    assert!(sigmoid.len() > 50);
    for point in sigmoid.iter().map(numbers) {
        assert_near("sigmoid", &point[1..], &[1.0 / (1.0 + (-point[0]).exp())], 1e-6);
    }

    let tumours = &lesson["tumours"];
    let [line, sigmoid] = ["line", "sigmoid"].map(|fit| &tumours[fit]);
    let [off_line, off_sigmoid] = [line, sigmoid].map(|fit| number(&fit["boundary_error"]));
    assert!(off_sigmoid <= 0.4 && off_line >= 3.0 * off_sigmoid, "{off_line} {off_sigmoid}");
    assert!(number(&line["distance"]) >= 3.0 * number(&sigmoid["distance"]));
    assert!(number(&line["outputs"][1]) > 1.2 && number(&sigmoid["outputs"][1]) <= 1.0);
    // The law's own labels are 0 and 1, and the line is that of the normal equations.
    let samples: Vec<Vec<f64>> = tumours["samples"].as_array().unwrap().iter().map(numbers).collect();
    assert!(samples.iter().all(|sample| sample[1] == 0.0 || sample[1] == 1.0));
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&[f64]) -> f64| samples.iter().map(|sample| of(sample)).sum::<f64>() / count;
    let (x, y) = (mean(&|sample| sample[0]), mean(&|sample| sample[1]));
    let slope = mean(&|sample| (sample[0] - x) * (sample[1] - y)) / mean(&|sample| (sample[0] - x).powi(2));
    assert_near("the line's boundary", &[number(&line["boundary"])], &[x + (0.5 - y) / slope], 0.05);

    let [linear, hidden] = [0, 1].map(|model| &lesson["digits"][model]);
    let accuracy = |digits: &Value, loss: &str| last(&digits[loss]["accuracies"]);
    assert!(accuracy(linear, "cross_entropy") >= 0.94 && accuracy(linear, "one_hot") >= 0.9);
    assert!(accuracy(linear, "number") <= accuracy(linear, "cross_entropy") - 0.5);
    assert!(accuracy(hidden, "cross_entropy") >= 0.94 && accuracy(hidden, "one_hot") >= 0.9);
    assert!(accuracy(hidden, "number") <= accuracy(hidden, "cross_entropy") - 0.2);
    for loss in ["number", "one_hot", "cross_entropy"] {
        let run = &linear[loss];
        assert_eq!(run["accuracies"].as_array().unwrap().len(), 31);
        assert_eq!(run["losses"].as_array().unwrap().len() as u64, linear["steps"].as_u64().unwrap());
        assert!(last(&run["test_losses"]) < numbers(&run["test_losses"])[0]);
    }

    let houses = &lesson["houses"];
    assert!(number(&houses["r_squared"]) >= 0.9);
    assert_near("rmse beside the noise", &[number(&houses["rmse"])], &[20.0], 5.0);
    let fitted: Vec<f64> = houses["terms"].as_array().unwrap().iter().map(|term| number(&term["fitted"])).collect();
    assert_near("the law of houses", &fitted, &[2.5, -1.5], 0.3);
    assert_near("the law of houses", &[number(&houses["intercept"]["fitted"])], &[60.0], 20.0);

    assert_step(&lesson["one_step"]);
}

/// The one step, computed again.
fn assert_step(step: &Value) {
    let matrix = |name: &str| numbers(&step[name]["values"]);
    let (inputs, weights, labels) = (matrix("inputs"), matrix("weights"), numbers(&step["labels"]));
    let rate = number(&step["learning_rate"]);
    let mut gradient = [0.0; 9];
    let (mut all_scores, mut all_probabilities, mut all_errors, mut losses) = (vec![], vec![], vec![], vec![]);
    for (input, &label) in inputs.chunks(2).zip(&labels) {
        let input = [input[0], input[1], 1.0];
        let scores: Vec<f64> =
            (0..3).map(|class| (0..3).map(|row| input[row] * weights[3 * row + class]).sum()).collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        for (class, score) in scores.iter().enumerate() {
            let p = score.exp() / sum;
            let error = p - f64::from(u8::from(class as f64 == label));
            all_probabilities.push(p);
            all_errors.push(error);
            for row in 0..3 {
                gradient[3 * row + class] += input[row] * error / 3.0;
            }
        }
        losses.push(sum.ln() - scores[label as usize]);
        all_scores.extend(scores);
    }
    assert_near("scores", &matrix("scores"), &all_scores, 1e-6);
    assert_near("probabilities", &matrix("probabilities"), &all_probabilities, 1e-6);
    assert_near("p − one-hot", &matrix("errors"), &all_errors, 1e-6);
    assert_near("losses", &numbers(&step["losses"]), &losses, 1e-5);
    assert_near("loss", &[number(&step["loss"])], &[losses.iter().sum::<f64>() / 3.0], 1e-5);
    assert_near("gradient", &matrix("gradient"), &gradient, 1e-5);
    let updated: Vec<f64> = weights.iter().zip(gradient).map(|(weight, gradient)| weight - rate * gradient).collect();
    assert_near("updated weights", &matrix("updated"), &updated, 1e-5);
    assert!(number(&step["next_loss"]) < number(&step["loss"]));
    let curve = numbers(&step["curve"]);
    assert_near("the first two losses", &curve[..2], &[number(&step["loss"]), number(&step["next_loss"])], 1e-5);
}

#[test]
fn the_lesson_keeps_its_promises_on_both_backends_within_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    for backend in ["cpu", "gpu"] {
        let (lesson, _) = explain(folder.path(), &["--backend", backend]);
        assert_eq!(lesson["backend"], backend);
        let seconds = number(&lesson["seconds"]);
        eprintln!("{}: {seconds:.1} s", lesson["adapter"]);
        assert!(seconds <= 60.0, "{seconds} s on {}", lesson["adapter"]);
        assert_lesson(&lesson);
    }
}

#[test]
fn other_seeds_keep_them_too_and_the_same_seed_gives_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let run = |seed| {
        let (mut lesson, _) = explain(folder.path(), &["--backend", "cpu", "--seed", seed]);
        lesson["seconds"] = Value::Null;
        lesson
    };
    let (one, two) = (run("1"), run("2"));
    assert_lesson(&one);
    assert_lesson(&two);
    assert_ne!(one["tumours"]["samples"], two["tumours"]["samples"]);
    assert_eq!(one, run("1"));
}

#[test]
fn the_page_says_the_numbers_in_both_languages_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut lessons = Vec::new();
    for (lang, code, words) in [
        ("en", "en", ["Every number", "Backward", "percentage points"]),
        ("zh", "zh-CN", ["本页的每个数字", "反向", "个百分点"]),
    ] {
        let out = format!("{lang}.html");
        let (mut lesson, page) = explain(folder.path(), &["--backend", "cpu", "--lang", lang, "--out", &out]);
        for word in words {
            assert!(page.contains(word), "{lang}: {word}");
        }
        assert!(page.contains(&format!("<html lang=\"{code}\">")));
        for wrong in ["for a class it is not", "squared probabilities", "学一个类别，就不行了", "概率的平方"]
        {
            assert!(!page.contains(wrong), "{lang}: {wrong}");
        }
        let digits = &lesson["digits"][0];
        let [of_number, of_classes] = ["number", "cross_entropy"].map(|loss| last(&digits[loss]["accuracies"]));
        let (line, sigmoid) = (&lesson["tumours"]["line"], &lesson["tumours"]["sigmoid"]);
        for said in [
            "0.88, 0.12, 0.00".to_string(),
            format!("{:.1} %", 100.0 * of_number),
            format!("{:.1} %", 100.0 * of_classes),
            format!("{:.1}", 100.0 * (of_classes - of_number)),
            format!(
                "{:.2}\u{a0}cm / {:.2}\u{a0}cm",
                number(&line["boundary_error"]),
                number(&sigmoid["boundary_error"])
            ),
            format!("{:.4}", number(&lesson["one_step"]["loss"])),
            format!("{:.4}", number(&lesson["one_step"]["updated"]["values"][0])),
            lesson["adapter"].as_str().unwrap().to_string(),
            format!("softstep explain{} --seed 0", if lang == "zh" { " --lang zh" } else { "" }),
            env!("CARGO_PKG_VERSION").to_string(),
            "[0,<wbr>0,<wbr>0,<wbr>0,<wbr>0,<wbr>0,<wbr><b>1</b>,<wbr>0,<wbr>0,<wbr>0]".to_string(),
        ] {
            assert!(page.contains(&said), "{lang}: {said}");
        }
        for never in [
            "falls and levels off",
            "from below 0",
            "nine weights",
            "九个权重",
            "一半的",
            "<script",
            "http://",
            "https://",
            "NaN",
            "There are no numbers",
        ] {
            assert!(!page.contains(never), "{lang}: {never}");
        }
        assert_eq!(page.matches("<figure class=\"plot\">").count(), 14, "{lang}");
        for field in ["seconds", "out"] {
            lesson[field] = Value::Null;
        }
        lessons.push(lesson);
    }
    assert_eq!(lessons[0], lessons[1], "the numbers differ by language");
}

/// A table of flats, whose price is 10 · rooms + 40 where they have a garden.
fn flats(folder: &Path) {
    let row = |index: usize| {
        let (rooms, garden) = (index % 7 + 1, index.is_multiple_of(3));
        let price = 10 * rooms + if garden { 40 } else { 0 };
        format!("{rooms},{},1,{price}\n", if garden { "<b>yes</b>" } else { "no" })
    };
    let rows: String = (0..200).map(row).collect();
    fs::write(folder.join("flats.csv"), format!("rooms,garden & lawn,floors,price\n{rows}")).unwrap();
}

#[test]
fn a_table_of_ones_own_takes_the_place_of_the_houses() {
    let folder = tempfile::tempdir().unwrap();
    flats(folder.path());
    let (lesson, page) = explain(
        folder.path(),
        &["--backend", "cpu", "--data", "flats.csv", "--target", "price", "--out", "flats.html"],
    );
    let houses = &lesson["houses"];
    assert_eq!(houses["file"], "flats.csv");
    assert!(number(&houses["r_squared"]) >= 0.999, "{}", houses["r_squared"]);
    let term = |index: usize| number(&houses["terms"][index]["fitted"]);
    assert_near("rooms", &[term(0)], &[10.0], 0.2);
    // A third has a garden, and the mean of the training part is what a category is compared with.
    assert_near("with a garden beside none", &[term(1) - term(2)], &[40.0], 1.0);
    assert_near("with a garden", &[term(1)], &[26.7], 3.0);
    assert_near("without", &[term(2)], &[-13.3], 3.0);
    assert_near("the mean", &[number(&houses["at_means"])], &[40.0 + 40.0 / 3.0], 4.0);
    assert!(houses["terms"][3]["fitted"].is_null(), "floors are the same everywhere: {}", houses["terms"]);
    assert!(page.contains("(mean of the training part)") && !page.contains("(all at 0)"));
    assert!(page.contains("garden &amp; lawn = &lt;b&gt;yes&lt;/b&gt;") && !page.contains("<b>yes"));
    assert!(page.contains("flats.csv") && page.contains("--target price"));
    assert_eq!(page.matches("<figure class=\"plot\">").count(), 13);
}

#[test]
fn values_of_unusual_size_are_said_with_digits_that_mean_something() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|index| format!("{index},{}e-9,{index}e20\n", index % 7 + 1)).collect();
    fs::write(folder.path().join("sizes.csv"), format!("a,small,large\n{rows}")).unwrap();
    for (target, power) in [("small", "10⁻"), ("large", "× 10²")] {
        let (_, page) =
            explain(folder.path(), &["--backend", "cpu", "--data", "sizes.csv", "--target", target, "--out", "s.html"]);
        let found = page.split("examples that it was not trained on").nth(1).unwrap().split("</p>").next().unwrap();
        assert!(found.replace('\u{a0}', " ").contains(power) && !found.contains(" 0.0 "), "{target}: {found}");
        assert!(!found.contains("000"), "{target}: {found}");
    }
}

#[test]
fn what_cannot_become_a_page_is_refused_with_the_reason_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    flats(path);
    fs::write(path.join("same.csv"), format!("a,price\n{}", "1,3\n2,3\n".repeat(20))).unwrap();
    for (arguments, reason) in [
        (&["--out", "."][..], "that is a folder"),
        (&["--out", "missing/lesson.html"], "there is no folder missing"),
        (&["--data", "flats.csv"], "--target"),
        (&["--target", "price"], "--data"),
        (&["--data", "flats", "--target", "price"], "a file.csv"),
        (&["--data", "flats.csv", "--target", "cost"], "no such column"),
        (&["--data", "flats.csv", "--target", "garden & lawn"], "is not a number"),
        (&["--data", "same.csv", "--target", "price"], "nothing to learn"),
        (&["--data", "flats.csv", "--target", "price", "--out", "./flats.csv"], "the table of --data"),
        (&["--data", "none.csv", "--target", "price"], "none.csv"),
        (&["--backend", "cpu", "--adapter", "0"], "--adapter"),
        (&["--lang", "fr"], "--lang"),
        (&["--ignore", "rooms"], "--data"),
    ] {
        let backend = if arguments.contains(&"--backend") { &[][..] } else { &["--backend", "cpu"] };
        let run = softstep(path, &[&["explain"], backend, arguments].concat());
        assert!(run.code != 0 && run.stdout.is_empty() && run.stderr.contains(reason), "{arguments:?}: {run:?}");
        assert!(!run.stderr.contains("panicked"), "{run:?}");
    }
    assert!(fs::read_to_string(path.join("flats.csv")).unwrap().starts_with("rooms,"));
    let mut left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["flats.csv", "same.csv"]);
}
