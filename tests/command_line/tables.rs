//! Tables as people have them: gaps, indices, separators, encodings, dates and prices, from the file to the prediction.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::binary::softstep;
use flate2::Compression;
use flate2::write::GzEncoder;
use softstep::data::csv::{self, TableOptions, Task};
use softstep::data::predict_inputs::{Fit, Inputs, Reading};
use softstep::data::{
    Column, Data, Encoding, Features, Form, Missing, Preprocessing, Scale, TableFormat, TargetEncoding, Targets,
    TestPart,
};

fn options(target: &str) -> TableOptions {
    TableOptions { target: target.into(), ..TableOptions::default() }
}

fn read(bytes: impl AsRef<[u8]>, options: &TableOptions) -> Data {
    csv::read("some.csv", bytes.as_ref(), options, 3).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(bytes: impl AsRef<[u8]>, options: &TableOptions) -> String {
    match csv::read("some.csv", bytes.as_ref(), options, 3) {
        Ok(data) => panic!("{:?}", data.notices),
        Err(error) => error.to_string(),
    }
}

fn format(data: &Data) -> &TableFormat {
    match &data.preprocessing {
        Some(Preprocessing::Table(format)) => format,
        other => panic!("{other:?}"),
    }
}

fn column<'a>(data: &'a Data, name: &str) -> &'a Column {
    let column = format(data).columns.iter().find(|column| column.name == name);
    column.unwrap_or_else(|| panic!("no {name} in {:?}", names(data)))
}

fn names(data: &Data) -> Vec<&str> {
    format(data).columns.iter().map(|column| &*column.name).collect()
}

fn scale(data: &Data, name: &str) -> Scale {
    match column(data, name).encoding {
        Encoding::Standardised(scale) => scale,
        _ => panic!("{name} has categories"),
    }
}

fn categories<'a>(data: &'a Data, name: &str) -> &'a [String] {
    match &column(data, name).encoding {
        Encoding::OneHot(texts) => texts,
        other => panic!("{name}: {other:?}"),
    }
}

fn floats(features: &Features) -> &[f32] {
    match features {
        Features::Floats(values) => values,
        Features::Bytes(_) | Features::Stored(_) => panic!("no floats in memory"),
    }
}

fn classes(data: &Data) -> Vec<&str> {
    data.preprocessing.as_ref().unwrap().class_names().expect("classes").iter().map(String::as_str).collect()
}

fn says(data: &Data, parts: &[&str]) {
    let said = data.notices.iter().any(|notice| parts.iter().all(|part| notice.contains(part)));
    assert!(said, "{:?} lack {parts:?}", data.notices);
}

/// What a model of these data makes of a file.
fn again(data: &Data, bytes: impl AsRef<[u8]>) -> softstep::Result<Inputs> {
    let reading = Reading {
        features: data.train.features,
        image: None,
        preprocessing: data.preprocessing.as_ref(),
        fit: Fit::Whole,
        shapes: None,
        strict: false,
    };
    reading.read("new.csv", bytes.as_ref())
}

/// 60 rows of `a,b,y`: what `a` and `b` are for each row, and a class that has nothing to do with them.
fn rows(row: impl Fn(usize) -> String) -> String {
    let rows: String = (0..60).map(|index| format!("{},{}\n", row(index), ["p", "q"][index * 7 % 5 % 2])).collect();
    format!("a,b,y\n{rows}")
}

/// Numbers without an order.
fn some(index: usize) -> usize {
    index * 37 % 60
}

#[test]
fn gaps_of_numbers_are_filled_with_the_mean_and_marked() {
    for gap in ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "?", "-", "<NA>", "#N/A", ".", "None", " "] {
        let text = rows(|index| match index % 6 {
            0 => format!("{},{gap}", some(index)),
            _ => format!("{},{}", some(index), 10 + index % 6),
        });
        let data = read(&text, &options("y"));
        let gaps_trained = floats(&data.train.inputs).chunks(3).filter(|row| row[2] == 1.0).count();
        assert!(column(&data, "b").marks_gaps && data.train.features == 3, "{gap:?}");
        let Scale { mean, .. } = scale(&data, "b");
        assert!((12.5..13.5).contains(&mean) && (5..=10).contains(&gaps_trained), "{gap:?}: {mean}, {gaps_trained}");
        for row in floats(&data.train.inputs).chunks(3).chain(floats(&data.test.inputs).chunks(3)) {
            assert!(row[2] == 0.0 || row[1..] == [0.0, 1.0], "{gap:?}: {row:?}");
        }
        says(&data, &["missing values in b (10)", "`missing` drop"]);

        let inputs = again(&data, format!("a,b\n1,{gap}\n1,12\n")).unwrap();
        assert_eq!(floats(&inputs.features)[1..3], [0.0, 1.0], "{gap:?}");
        assert_eq!(floats(&inputs.features)[5], 0.0);
        // No training row lacks an `a`: its mean takes its place, and that is said.
        let inputs = again(&data, format!("a,b\n{gap},11\n")).unwrap();
        assert_eq!(floats(&inputs.features)[0], 0.0, "{gap:?}");
        assert!(inputs.notices[0].contains("a (1)"), "{:?}", inputs.notices);
    }
}

#[test]
fn gaps_of_texts_are_a_category_and_unknown_texts_are_counted() {
    let text = rows(|index| format!("{},{}", some(index), ["red", "NA", "blue", "", "?"][index % 5]));
    let data = read(&text, &options("y"));
    assert_eq!(categories(&data, "b"), ["", "blue", "red"]);
    says(&data, &["missing values in b (36)", "a category of their own"]);
    let inputs = again(&data, "b,a\nnull,3\ngreen,3\nred,4\n").unwrap();
    let features: Vec<&[f32]> = floats(&inputs.features).chunks(4).map(|row| &row[1..]).collect();
    assert_eq!(features, [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
    assert!(inputs.notices[0].contains("no category") && inputs.notices[0].contains("b (1)"), "{:?}", inputs.notices);
    // A minus beside a plus is no gap.
    let signs = read(rows(|index| format!("{},{}", some(index), ["+", "-"][index % 2])), &options("y"));
    assert_eq!(categories(&signs, "b"), ["+", "-"]);
    let signs = read(
        rows(|index| format!("{},{}", some(index), ["x", "y"][index % 2]))
            .replace(",p\n", ",-\n")
            .replace(",q\n", ",+\n"),
        &options("y"),
    );
    assert_eq!(classes(&signs), ["+", "-"]);
}

#[test]
fn rows_with_gaps_are_left_out_or_refused_where_that_is_asked_for() {
    let text = rows(|index| match index {
        4 => format!("?,{}", some(index)),
        7 | 9 => format!("{},", some(index)),
        _ => format!("{},{}", some(index), index % 7),
    });
    let with = |missing| TableOptions { missing, ..options("y") };
    let data = read(&text, &with(Missing::Drop));
    assert_eq!((data.train.len() + data.test.len(), data.train.features), (57, 2));
    says(&data, &["3 of 60 rows", "a (1), b (2)", "`missing` drop"]);
    let inputs = again(&data, "a,b\n1,\n1,2\n").unwrap();
    assert_eq!((inputs.names, inputs.notices.len()), (vec!["new.csv:3".to_string()], 1));

    let error = refused(&text, &with(Missing::Refuse));
    assert!(error.contains("a (1, the first in line 6), b (2, the first in line 9)"), "{error}");
    assert!(error.contains("`missing` fill"), "{error}");
    let data = read(rows(|index| format!("{},{}", some(index), index % 7)), &with(Missing::Refuse));
    assert!(again(&data, "a,b\n1,\n").unwrap_err().to_string().contains("`missing` refuse"));
    let error =
        refused(rows(|index| format!("{},{}", ["", "1"][index % 2], ["2", ""][index % 2])), &with(Missing::Drop));
    assert!(error.contains("none is left; fill them with `missing` fill"), "{error}");
}

#[test]
fn rows_without_a_target_are_left_out_and_make_no_classes() {
    let numbers = |gap: &str| {
        let row = |index| match index {
            5 | 40 => format!("{},{gap}\n", some(index)),
            _ => format!("{},{}\n", some(index), 100 + 3 * index),
        };
        let rows: String = (0..60).map(row).collect();
        format!("a,y\n{rows}")
    };
    for gap in ["", "NA", "?", "nan", "-"] {
        let data = read(numbers(gap), &options("y"));
        assert!(matches!(*data.train.targets, Targets::Values(_)), "{gap:?}");
        assert_eq!(data.train.len() + data.test.len(), 58, "{gap:?}");
        let text = if gap.is_empty() { String::new() } else { format!(" (the text {gap} is read as missing)") };
        says(&data, &[&format!("2 of 60 rows have no y{text} and are left out, the first in line 7")]);
        let texts = read(
            numbers(gap).replace("\n0,100", "\n0,200"),
            &TableOptions { task: Some(Task::Classification), ..options("y") },
        );
        assert!(!classes(&texts).contains(&gap), "{gap:?}");
    }
    let texts = rows(|index| format!("{},{}", some(index), index % 3)).replacen(",p\n", ",\n", 3);
    let data = read(&texts, &options("y"));
    assert_eq!((classes(&data), data.train.len() + data.test.len()), (vec!["p", "q"], 57));
    // Another word among many numbers is a mistake.
    let error = refused(numbers("unknown"), &options("y"));
    assert!(error.contains("line 7, column \"y\": \"unknown\" is not a number (nor are 1 more)"), "{error}");
    assert!(error.contains("`task` classification"), "{error}");
}

#[test]
fn columns_that_number_the_rows_are_left_out_unless_they_are_all_there_is() {
    let table = |name: &str, first: usize, step: usize| {
        rows(|index| format!("{},{}", first + step * index, some(index))).replacen('a', name, 1)
    };
    for (name, first, step) in
        [("", 7, 3), ("a", 0, 1), ("a", 1, 1), ("PassengerId", 5, 2), ("Unnamed: 0", 3, 1), ("row_id", 9, 1)]
    {
        let data = read(table(name, first, step), &options("y"));
        assert_eq!(names(&data), ["b"], "{name}");
        says(&data, &["left out", if name.is_empty() { "column 1" } else { name }]);
        if !name.is_empty() {
            let used = read(table(name, first, step), &TableOptions { used: vec![name.into()], ..options("y") });
            assert_eq!(names(&used), [name, "b"]);
        }
        // Prediction does without it.
        assert_eq!(again(&data, "b\n3\n").unwrap().names.len(), 1);
    }
    for (name, first, step) in [("a", 1900, 1), ("a", 0, 2), ("solid", 3, 1)] {
        assert_eq!(names(&read(table(name, first, step), &options("y"))), [name, "b"], "{name}");
    }
    let alone: String = (0..60).map(|index| format!("{index},{}\n", 3 * index)).collect();
    assert_eq!(names(&read(format!("x,y\n{alone}"), &options("y"))), ["x"]);
    // R names no column of row names at all.
    let r: String = (0..60).map(|index| format!("\"row {index}\" {} p{}\n", some(index), index % 2)).collect();
    let data = read(format!("\"b\" \"y\"\n{r}").replace(' ', "\t").replace("row\t", "row "), &options("y"));
    assert_eq!(names(&data), ["b"]);
    says(&data, &["column 1"]);
}

#[test]
fn any_separator_will_do_also_beside_decimal_commas() {
    let rows: Vec<[String; 3]> = (0..40)
        .map(|index| [format!("{}.25", some(index)), format!("word {}", index % 3), ["p", "q"][index % 2].into()])
        .collect();
    let table = |separator: &str, decimal: &str| {
        let lines: String = rows.iter().map(|row| row.join(separator).replace('.', decimal) + "\n").collect();
        format!("{}\n{lines}", ["a", "b", "y"].join(separator))
    };
    let expected = read(table(",", "."), &options("y"));
    for (separator, decimal) in [(";", "."), ("\t", "."), ("|", "."), (";", ","), ("\t", ","), ("|", ",")] {
        let data = read(table(separator, decimal), &options("y"));
        assert_eq!((&data.train, &data.test), (&expected.train, &expected.test), "{separator:?} {decimal:?}");
        if decimal == "," {
            assert_eq!(column(&data, "a").form, Form::DecimalComma);
            says(&data, &["decimal comma", "a"]);
        }
        let header = ["b", "a"].join(separator);
        let inputs = again(&data, format!("{header}\nword 1{separator}3{decimal}25\n")).unwrap();
        assert_eq!(floats(&inputs.features)[0], scale(&expected, "a").apply(3.25), "{separator:?} {decimal:?}");
    }
    // Where commas are decimal, points separate thousands, and "1,234" is no thousand.
    let german: String =
        (0..40).map(|index| format!("{},5;1.{:03};2,{:03};{}\n", some(index), index, index, index % 2)).collect();
    let data = read(format!("a;b;c;y\n{german}"), &options("y"));
    assert!(scale(&data, "b").mean > 1000.0 && scale(&data, "c").mean < 3.0, "{:?}", format(&data).columns);
    let english: String = (0..40).map(|index| format!("{},\"1,{:03}\",{}\n", some(index), index, index % 2)).collect();
    let data = read(format!("a,b,y\n{english}"), &options("y"));
    assert!(scale(&data, "b").mean > 1000.0, "{:?}", format(&data).columns);
    // Without names there may be more commas than separators.
    let decimals: String = (0..40).map(|index| format!("{},5;{},25;{},75\n", some(index), index % 7, index)).collect();
    let data = read(&decimals, &TableOptions { no_header: true, ..options("3") });
    assert_eq!((names(&data), column(&data, "2").form), (vec!["1", "2"], Form::DecimalComma));
    let data = read(german.replace('.', ""), &TableOptions { no_header: true, ..options("4") });
    assert_eq!(names(&data), ["1", "2", "3"]);
}

#[test]
fn a_separator_that_may_be_a_decimal_mark_is_refused_unless_training_had_thousands() {
    let table = |number: &dyn Fn(usize) -> String| {
        let rows: String =
            (0..60).map(|index| format!("{};{};{}\n", number(index), number(index), index % 2)).collect();
        read(format!("x;t;k\n{rows}"), &TableOptions { task: Some(Task::Regression), ..options("t") })
    };
    let comma = table(&|index| format!("{},{}", some(index), index % 10));
    let point = table(&|index| format!("{}.{}", some(index), index % 10));
    let grouped = table(&|index| format!("1,{:03}.5", some(index)));
    assert_eq!(
        (format(&comma).thousands.len(), format(&grouped).thousands.as_slice()),
        (0, &["x".into(), "t".into()][..])
    );
    let problem = |data: &Data, x: &str| again(data, format!("x;k\n{x};0\n")).unwrap().problems.join("\n");
    for (data, x, expected) in [
        (
            &comma,
            "1.234",
            "\"1.234\" has a decimal or a thousands separator: in the training table, this column has decimal commas",
        ),
        (&comma, "1.5", "\"1.5\" has a decimal point, and the training table has decimal commas"),
        (&point, "1,234", "this column has decimal points and no thousands separators; write it so"),
        (&point, "1,5", "\"1,5\" has a decimal comma, and the training table has decimal points"),
        (&point, "one", "\"one\" is not a number, and this column is read as numbers: correct it"),
    ] {
        let problem = problem(data, x);
        assert!(problem.contains("line 2, column \"x\": ") && problem.contains(expected), "{x}: {problem}");
    }
    for (data, x, number) in [
        (&comma, "1,234", 1.234),
        (&comma, "1.234,5", 1234.5),
        (&point, "1.234", 1.234),
        (&point, "1,234,567", 1_234_567.0),
        (&grouped, "1,234", 1234.0),
    ] {
        assert_eq!(problem(data, x), "", "{x}");
        let inputs = again(data, format!("x;k\n{x};0\n")).unwrap();
        assert_eq!(floats(&inputs.features)[0], scale(data, "x").apply(number), "{x}");
    }
    // The target, where it is read, has the same rule.
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "t.csv", "x;t;k\n1,5;1.234;0\n");
    let path = folder.path().join("t.csv");
    let measured = |data: &Data| {
        softstep::data::load_test(path.to_str().unwrap(), data.preprocessing.as_ref().unwrap(), 0, None, true)
    };
    let refused = measured(&comma).unwrap_err().to_string();
    assert!(refused.contains("column \"t\": \"1.234\" has a decimal or a thousands separator"), "{refused}");
}

#[test]
fn the_line_of_excel_names_the_separator_also_where_rows_are_bad() {
    let rows: String = (0..40).map(|index| format!("{};{}\r\n", some(index), ["a", "b"][index % 2])).collect();
    let plain = read(format!("x;k\r\n{rows}"), &options("k"));
    for first in ["sep=;", "SEP=;", "\"sep=;\""] {
        let data = read(format!("\u{feff}{first}\r\nx;k\r\n{rows}"), &options("k"));
        assert_eq!((&data.train, &data.notices), (&plain.train, &plain.notices), "{first}");
    }
    // A separator that none of the usual ones is; and a column that is only called so.
    let data = read(format!("sep=^\nx^k\n{}", rows.replace(';', "^")), &options("k"));
    assert_eq!(data.train, plain.train);
    let data = read(format!("sep=;k\n{rows}"), &options("k"));
    assert_eq!(names(&data), ["sep="]);
    // Every good row is read, with its line; comments before the header are the same kind.
    for before in ["sep=;\n", "# a\n# b\n", ""] {
        let inputs = again(&plain, format!("{before}x;k\n1;a\nbad;a\n3;a\n")).unwrap();
        let line = before.lines().count();
        assert_eq!(inputs.names, [format!("new.csv:{}", line + 2), format!("new.csv:{}", line + 4)], "{before:?}");
        let bad = format!("line {}, column \"x\": \"bad\"", line + 3);
        assert!(inputs.problems.len() == 1 && inputs.problems[0].contains(&bad), "{:?}", inputs.problems);
    }
}

#[test]
fn prices_shares_dates_and_booleans_are_numbers() {
    let table = |b: &dyn Fn(usize) -> String| rows(|index| format!("{},{}", some(index), b(index)));
    let mean_of = |b: &dyn Fn(usize) -> String| {
        let data = read(table(b), &TableOptions { test: TestPart::Share(0.1), ..options("y") });
        (scale(&data, "b").mean, column(&data, "b").form, data.notices.join("; "))
    };
    for (b, low, high, form) in [
        (
            &(|index: usize| format!("\"$1,{:03}.50\"", some(index))) as &dyn Fn(usize) -> String,
            1020.0,
            1040.0,
            Form::Number,
        ),
        (&|index| format!("{}%", some(index)), 20.0, 40.0, Form::Number),
        (&|index| format!("\"{},5\"", some(index)), 20.0, 40.0, Form::DecimalComma),
        (&|index| format!("€ {}", some(index)), 20.0, 40.0, Form::Number),
        (&|index| format!("2020-{:02}-{:02}", 1 + index % 2, 1 + index % 28), 18_262.0, 18_321.0, Form::YearMonthDay),
        (&|index| format!("{}.01.2020", 1 + index % 28), 18_262.0, 18_292.0, Form::DayMonthYear),
        (&|index| format!("1/{}/2020", 1 + index % 28), 18_262.0, 18_292.0, Form::MonthDayYear),
        (&|index| format!("{} Jan 2020", 1 + index % 28), 18_262.0, 18_292.0, Form::YearMonthDay),
        (&|index| format!("2020-01-01 {:02}:30", index % 24), 18_262.0, 18_263.0, Form::YearMonthDay),
        (&|index| ["True", "FALSE"][index % 2].into(), 0.4, 0.6, Form::Boolean),
    ] {
        let (mean, found, notices) = mean_of(b);
        assert!((low..high).contains(&mean) && found == form, "{}: {mean} {found:?} {notices}", b(3));
        assert!(form == Form::Boolean || notices.contains("read as "), "{notices}");
    }
    let (_, form, notices) = mean_of(&|index| format!("{}/{}/2020", 1 + index % 12, 1 + index % 11));
    assert!(form == Form::MonthDayYear && notices.contains("the month first, as no date tells otherwise"), "{notices}");
    let data = read(table(&|index| format!("{}.01.2020", 1 + index % 28)), &options("y"));
    let problems = again(&data, "a,b\n1,soon\n").unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("line 2, column \"b\": \"soon\" is not a date"),
        "{problems:?}"
    );
    // A target of them is a number, in these units; booleans are classes.
    let prices: String = (0..60).map(|index| format!("{},\"$1,{:03}\"\n", some(index), 10 * index)).collect();
    let data = read(format!("a,y\n{prices}"), &options("y"));
    let TargetEncoding::Standardised(scale) = format(&data).encoding else { panic!("classes") };
    assert!((1200.0..1400.0).contains(&scale.mean), "{scale:?}");
    let booleans: String =
        (0..60).map(|index| format!("{},{}\n", some(index), ["True", "true", "False"][index % 3])).collect();
    assert_eq!(classes(&read(format!("a,y\n{booleans}"), &options("y"))), ["False", "true"]);
}

#[test]
fn a_file_without_names_is_noticed_and_its_columns_are_called_by_their_places() {
    let lines: String = (0..60).map(|index| format!("{}.5,{},{}\n", some(index), index % 7, index % 2)).collect();
    let data = read(&lines, &options("3"));
    assert_eq!((names(&data), data.train.len() + data.test.len()), (vec!["1", "2"], 60));
    says(&data, &["numbers alone", "`no_header`"]);
    assert_eq!(format(&data).positions, Some(3));
    // With the target or without it.
    for new in ["3.5,1,0\n", "3.5,1\n"] {
        let inputs = again(&data, new).unwrap();
        assert_eq!(
            (inputs.names, floats(&inputs.features)[0]),
            (vec!["new.csv:1".to_string()], scale(&data, "1").apply(3.5))
        );
    }
    // The target first, as in MNIST's tables.
    let first: String = (0..60).map(|index| format!("{},{}.5,{}\n", index % 2, some(index), index % 7)).collect();
    let data = read(&first, &options("1"));
    assert_eq!(floats(&again(&data, "3.5,1\n").unwrap().features)[0], scale(&data, "2").apply(3.5));

    let texts: String =
        (0..60).map(|index| format!("{}.1,{},{}\n", some(index), index % 7, ["q", "p"][index % 2])).collect();
    let error = refused(&texts, &options("y"));
    assert!(error.contains("say `no_header` and `target` 3"), "{error}");
    let data = read(&texts, &options("q"));
    says(&data, &["numbers among its names", "`no_header`"]);
    let data = read(&texts, &TableOptions { no_header: true, ..options("3") });
    assert_eq!((classes(&data), data.train.len() + data.test.len()), (vec!["p", "q"], 60));
    // Names that count up are names, as pandas writes those of an array; and years are, if one is the target.
    let data = read(format!("0,1,2\n{lines}"), &options("2"));
    assert_eq!((names(&data), data.train.len() + data.test.len()), (vec!["0", "1"], 60));
    let years: String = (0..60).map(|index| format!("{}.5,{}.5\n", some(index), index)).collect();
    assert_eq!(names(&read(format!("2019,2020\n{years}"), &options("2020"))), ["2019"]);
}

#[test]
fn text_comes_in_any_encoding_with_any_line_ends_comments_and_trailing_separators() {
    let text = rows(|index| format!("{},{}", some(index), ["né", "café", "x"][index % 3]));
    let expected = read(&text, &options("y"));
    let same = |bytes: Vec<u8>, notice: Option<&str>| {
        let data = read(&bytes, &options("y"));
        assert_eq!((&data.train, &data.test, format(&data)), (&expected.train, &expected.test, format(&expected)));
        match notice {
            Some(notice) => says(&data, &[notice]),
            None => assert!(data.notices.is_empty(), "{:?}", data.notices),
        }
        let new = again(&expected, &bytes).unwrap();
        assert_eq!(floats(&new.features).len(), 60 * 4);
    };
    let utf_16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    same([b"\xef\xbb\xbf", text.as_bytes()].concat(), None);
    same([&b"\xff\xfe"[..], &utf_16(u16::to_le_bytes)].concat(), None);
    same([&b"\xfe\xff"[..], &utf_16(u16::to_be_bytes)].concat(), None);
    same(utf_16(u16::to_le_bytes), None);
    same(utf_16(u16::to_be_bytes), None);
    same(text.chars().map(|character| character as u8).collect(), Some("Latin-1"));
    same(text.replace('\n', "\r").into(), None);
    same(text.replace('\n', "\r\n").into(), None);
    same(format!("# made by, hand\n#\n\n{text}").into(), Some("2 lines that start with #"));
    same(text.replacen("p\n", "p\n# a comment\n", 1).into(), Some("1 line that starts with #"));
    same(text.replace('\n', ",\n").into(), None);
    same(text.replacen("y\n", "y,\n", 1).into(), None);
    same(text.replace("q\n", "q,,\n").into(), None);
    // Nothing is learned from rows without values; but each gets a prediction.
    let blank = text.replacen("p\n", "p\n,,\n\n , ,\n", 1);
    assert_eq!(read(&blank, &options("y")).train, expected.train);
    assert_eq!(floats(&again(&expected, &blank).unwrap().features).len(), 62 * 4);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    same(gzip.finish().unwrap(), None);

    // numpy.savetxt has its names in a comment; a colour is no comment.
    let lines: String = (0..60).map(|index| format!("{}.5,{},{}\n", some(index), index % 7, index % 2)).collect();
    let data = read(format!("# a,b,y\n{lines}"), &options("y"));
    assert_eq!((names(&data), data.train.len() + data.test.len()), (vec!["a", "b"], 60));
    assert!(data.notices.is_empty(), "{:?}", data.notices);
    let data = read(rows(|index| format!("#{}0,{}", index % 3, some(index))), &options("y"));
    assert_eq!(categories(&data, "a").len(), 3);
    // Lines are counted through all that.
    let error = refused(format!("{text}1\n").replace('\n', "\r"), &options("y"));
    assert!(error.contains("line 62: 1 value"), "{error}");
    let error = refused(format!("# one\n# two\n{}1\n", text.replacen("p\n", "p\n\n# three\n", 1)), &options("y"));
    assert!(error.contains("line 66: 1 value, where the header names 3"), "{error}");
}

#[test]
fn columns_with_a_name_twice_or_too_many_texts_are_told_apart_or_left_out() {
    let data = read(rows(|index| format!("{},{}", some(index), index % 5)).replacen("a,b", "a,a", 1), &options("y"));
    assert_eq!(names(&data), ["a", "a.1"]);
    says(&data, &["names that an earlier column has: a, read as a.1"]);
    assert_eq!(floats(&again(&data, "a,a\n1,2\n").unwrap().features)[1], scale(&data, "a.1").apply(2.0));

    let data = read(rows(|index| format!("person {index},{}", some(index))), &options("y"));
    assert_eq!(names(&data), ["b"]);
    says(&data, &["nearly every row has a text of its own", "`used` a"]);
    let used = read(
        rows(|index| format!("person {index},{}", some(index))),
        &TableOptions { used: vec!["a".into()], ..options("y") },
    );
    assert_eq!(categories(&used, "a").len(), 48);
    let many: String = (0..2000)
        .map(|index| format!("word {},{},{}\n", (index * index) % 911 % 700, index * 37 % 100, index % 2))
        .collect();
    let data = read(format!("a,b,y\n{many}"), &options("y"));
    assert_eq!(categories(&data, "a").len(), 256);
    says(&data, &["more than 256", "a ("]);
    says(&data, &["texts that are not among the 256 most frequent of the training rows", "a ("]);
    assert!(!data.notices.iter().any(|notice| notice.contains("training rows do not have")), "{:?}", data.notices);
}

#[test]
fn everything_that_is_refused_is_named_at_once_with_flags_that_pass() {
    let table: String = (0..400)
        .map(|index| {
            let odd = |at: usize| if index % 50 == at { "unknown".into() } else { some(index).to_string() };
            let many = if index == 8 { "n.a.".into() } else { format!("{index}.5") };
            format!("{},{},{},{many},{}\n", odd(1), odd(2), some(index), index % 2)
        })
        .collect();
    let table = format!("first one,\"odd, quoted\",b,c,y\n{table}");
    let error = refused(&table, &options("y"));
    for part in [
        "line 3, column \"first one\": \"unknown\"",
        "line 4, column \"odd, quoted\"",
        "line 10, column \"c\": \"n.a.\"",
    ] {
        assert!(error.contains(part), "{error} lacks {part}");
    }
    let (_, flags) = error.split_once("pass with: ").unwrap();
    assert_eq!(flags, "`categorical` 'first one' `categorical` 'odd, quoted' `ignore` c");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), &table).unwrap();
    let train = ["train", "--data", "t.csv", "--target", "y", "--backend", "cpu", "--epochs", "1", "--out", "run"];
    let flags = ["--categorical", "first one", "--categorical", "odd, quoted", "--ignore", "c"];
    let run = softstep(folder.path(), &[&train[..], &flags].concat());
    assert_eq!(run.code, 0, "{run:?}");
    // Names without commas come in one list.
    let both =
        TableOptions { categorical: vec!["odd, quoted".into()], ignore: vec!["first one,c".into()], ..options("y") };
    assert_eq!(names(&read(&table, &both)), ["odd, quoted", "b"]);
}

#[test]
fn what_is_learned_follows_rules_that_are_told() {
    let target = |y: &dyn Fn(usize) -> String| {
        let rows: String = (0..60).map(|index| format!("{},{}\n", some(index), y(index))).collect();
        read(format!("a,y\n{rows}"), &options("y"))
    };
    for (y, is_class, rule) in [
        (&(|index: usize| format!("{}.5", index % 3)) as &dyn Fn(usize) -> String, false, "decimals"),
        (&|index| format!("{}", index % 3), true, "3 whole numbers"),
        (&|index| format!("{}.0", index % 3), true, "3 whole numbers"),
        (&|index| format!("{}", index % 21), false, "more than 20"),
        (&|index| format!("{}", index % 20), true, "20 whole numbers"),
        (&|index| format!("{}e-1", index % 5), false, "decimals"),
    ] {
        let data = target(y);
        let told = data.target_rule.clone().unwrap();
        assert_eq!(data.preprocessing.as_ref().unwrap().has_classes(), is_class, "{told}");
        assert!(told.contains(rule) && told.contains("`task`"), "{told}");
    }
    // One number is one class.
    assert_eq!(classes(&target(&|index| ["1", "1.0", "02"][index % 3].into())), ["1", "02"]);
    let few: String = (0..12).map(|index| format!("{index}.5,{}\n", 10 * (index % 11))).collect();
    let data = read(format!("a,y\n{few}"), &options("y"));
    assert!(data.target_rule.unwrap().contains("11 different whole numbers in 12 rows: regression"));

    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|index| format!("{},{}.5\n", some(index), index % 3)).collect();
    fs::write(folder.path().join("t.csv"), format!("a,y\n{rows}")).unwrap();
    let train = ["train", "--data", "t.csv", "--target", "y", "--backend", "cpu", "--epochs", "1", "--out", "run"];
    let run = softstep(folder.path(), &train);
    assert!(run.stdout.contains("numbers with decimals: regression (--task classification"), "{run:?}");
}

#[test]
fn means_and_deviations_are_those_of_the_rows_that_are_trained_on() {
    let text = rows(|index| format!("{},{}", some(index) * some(index), ["u", "v", "w"][index % 3]));
    let mut data = read(&text, &options("y"));
    let before = scale(&data, "a");
    data.refit(0.25, 7).unwrap();
    let (train, validation) = data.train.clone().split(0.25, 7).unwrap();
    let mean = |inputs: &Features| {
        let values: Vec<f64> = floats(inputs).iter().step_by(4).map(|&value| f64::from(value)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    assert!(mean(&train.inputs).abs() <= 1e-6, "{}", mean(&train.inputs));
    assert!(mean(&validation.inputs).abs() >= 1e-3 && scale(&data, "a") != before);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), &text).unwrap();
    let train = ["train", "--data", "t.csv", "--target", "y", "--backend", "cpu", "--epochs", "3", "--seed", "7"];
    let done = softstep(folder.path(), &[&train[..], &["--validation", "0.25", "--json", "--out", "run"]].concat())
        .last_json();
    let eval = |data: &str| {
        softstep(folder.path(), &["eval", "--model", "run", "--data", data, "--backend", "cpu", "--json"]).last_json()
    };
    assert_eq!((&eval("t.csv")["loss"], &eval("t.csv")["part"]), (&done["test_loss"], &"test part".into()));
    fs::remove_file(folder.path().join("run/model.safetensors")).unwrap();
    fs::remove_file(folder.path().join(format!("run/checkpoint-{}.safetensors", done["steps"]))).unwrap();
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!(again["parameters_sha256"], done["parameters_sha256"]);
}

#[test]
fn three_thousand_columns_of_numbers_train_and_predict() {
    let folder = tempfile::tempdir().unwrap();
    let header: String = (0..3000).map(|column| format!("column {column},")).collect();
    let rows: String = (0..60)
        .map(|row| {
            let values: String =
                (0..3000).map(|column| format!("{}.{},", (row * 7 + column * 13) % 101, column % 10)).collect();
            format!("{values}{}\n", row % 2)
        })
        .collect();
    fs::write(folder.path().join("wide.csv"), format!("{header}y\n{rows}")).unwrap();
    let train =
        ["train", "--data", "wide.csv", "--target", "y", "--backend", "cpu", "--epochs", "1", "--out", "run", "--json"];
    let done = softstep(folder.path(), &train).last_json();
    assert_eq!(done["sizes"][0], 3000, "{done}");
    let lines = softstep(folder.path(), &["predict", "--model", "run", "--backend", "cpu", "--json", "wide.csv"]);
    assert_eq!(lines.json_lines().len(), 60, "{lines:?}");
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn the_commands_read_such_tables_and_say_what_they_did() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let table: String = (0..100)
        .map(|index| {
            let (size, kind) = if index % 2 == 0 { (10, "rose") } else { (14, "tulip") };
            let price = if index % 9 == 0 { String::new() } else { format!("{},5", some(index)) };
            format!("{index};{size}.{};{price};{kind}\n", index % 7).replace('.', ",")
        })
        .collect();
    let table = format!(";size;price;kind\n{table}");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(table.as_bytes()).unwrap();
    write(folder, "t.csv.gz", gzip.finish().unwrap());
    for name in ["t.txt", "t.data", "t.tsv", "t.CSV"] {
        write(folder, name, &table);
    }
    let train = |data: &str, out: &str| {
        softstep(
            folder,
            &["train", "--data", data, "--target", "kind", "--backend", "cpu", "--epochs", "20", "--out", out],
        )
    };
    let trained = train("t.csv.gz", "run");
    assert!(
        trained.code == 0
            && trained.stderr.contains("note: column 1 has no name, as the index that pandas and R write: left out"),
        "{trained:?}"
    );
    assert!(trained.stderr.contains("note: missing values in price (12)"), "{trained:?}");
    for (name, out) in [("t.txt", "1"), ("t.data", "2"), ("t.tsv", "3"), ("t.CSV", "4")] {
        let trained = train(name, out);
        assert!(trained.code == 0, "{name}: {trained:?}");
    }
    write(folder, "new.csv", "price;size\n?;10,5\n3,5;14,5\n");
    let predicted = softstep(folder, &["predict", "--model", "run", "--backend", "cpu", "--json", "new.csv"]);
    let classes: Vec<_> = predicted.json_lines().iter().map(|line| line["classes"][0]["class"].clone()).collect();
    assert_eq!(classes, ["rose", "tulip"], "{predicted:?}");
    let eval = softstep(folder, &["eval", "--model", "run", "--data", "t.csv.gz", "--backend", "cpu", "--json"]);
    assert_eq!((&eval.last_json()["accuracy"], &eval.last_json()["part"]), (&1.0.into(), &"test part".into()));
    write(folder, "other.csv", "size;price;kind\n10,5;;rose\n14,5;3;\n");
    let eval = softstep(folder, &["eval", "--model", "run", "--data", "other.csv", "--backend", "cpu", "--json"]);
    assert_eq!(eval.last_json()["examples"], 1);
    assert!(eval.stderr.contains("1 of 2 rows has no kind and is left out"), "{eval:?}");
    let report = fs::read_to_string(folder.join("run/report.html")).unwrap();
    assert!(report.contains("rose"));
}

#[test]
fn formats_of_version_0_1_0_are_read_and_a_plain_table_still_makes_one() {
    let old = r#"{"columns":[{"name":"a","encoding":{"standardised":{"mean":0.5,"deviation":2.0}}},{"name":"b","encoding":{"one_hot":["-","NA"]}}],"target":"y","encoding":{"classes":["?","x"]},"test":0.2}"#;
    let format: Preprocessing = serde_json::from_str(old).unwrap();
    assert_eq!(serde_json::to_string(&format).unwrap(), old);
    let Preprocessing::Table(table) = &format else { panic!("{format:?}") };
    assert_eq!((table.form, table.missing, table.positions), (Form::Number, Missing::Fill, None));
    // Texts that are gaps now were texts then.
    let reading = Reading {
        features: 3,
        image: None,
        preprocessing: Some(&format),
        fit: Fit::Whole,
        shapes: None,
        strict: false,
    };
    let inputs = reading.read("new.csv", b"a,b,y\n2.5,NA,?\n0.5,-,x\n").unwrap();
    assert_eq!(floats(&inputs.features), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "old.csv", "a,b,y\n2.5,NA,?\n0.5,-,x\n");
    let path = folder.path().join("old.csv");
    let all = softstep::data::load_test(path.to_str().unwrap(), &format, 0, None, true).unwrap();
    assert_eq!(all.data.test.labels().unwrap(), [0, 1]);
}

#[test]
fn columns_of_spaces_are_read_as_people_align_them() {
    let row = |row: usize| {
        format!("  {:>4}.{}   {:<6} {}\t\"{} seed\"\n", row * 37 % 60, row % 10, row * 7 % 60, row, row % 2)
    };
    let rows: String = (0..60).map(row).collect();
    let data = read(&rows, &TableOptions { no_header: true, ..options("4") });
    assert_eq!((names(&data), classes(&data)), (vec!["1", "2"], vec!["0 seed", "1 seed"]));
    let data = read(format!("length width number kind\n{rows}"), &options("kind"));
    assert_eq!((names(&data), data.train.len() + data.test.len()), (vec!["length", "width"], 60));
    let inputs = again(&data, "width  length  number\n  5  1.5  7\n  6  2.5  8\n").unwrap();
    assert_eq!(inputs.names, ["new.csv:2", "new.csv:3"]);
    // Spaces within texts separate nothing.
    let texts = rows_of_tabs(|index| format!("{}\t{} big", some(index), ["red", "blue"][index % 2]));
    assert_eq!(categories(&read(texts, &options("y")), "b"), ["blue big", "red big"]);
}

/// 60 rows as of [`rows`], with tabs.
fn rows_of_tabs(row: impl Fn(usize) -> String) -> String {
    rows(row).replace(',', "\t")
}
