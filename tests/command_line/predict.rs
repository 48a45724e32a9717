//! `softstep predict`: models of every kind of data, asked about files that they have never seen.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::binary::{command, finished, softstep};
use crate::skip;
use image::imageops::{self, FilterType};
use image::{GrayImage, Luma};
use serde_json::Value;

const DRAWN: [&str; 10] = ["0.png", "1.jpg", "2.png", "3.png", "4.jpg", "5.png", "6.png", "7.png", "8.jpg", "9.png"];

fn drawn(file: &str) -> String {
    format!("{}/tests/digits/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn predict(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let run = softstep(folder, &[&["predict", "--backend", "cpu", "--json"], arguments].concat());
    assert_eq!(run.code, 0, "{run:?}");
    run.json_lines()
}

fn class(line: &Value) -> &str {
    line["classes"][0]["class"].as_str().unwrap_or_else(|| panic!("{line}"))
}

/// How many of the drawn digits the model in `run` recognises, of those and of their negatives.
fn recognised(folder: &Path) -> [usize; 2] {
    let files: Vec<String> = DRAWN.iter().map(|file| drawn(file)).collect();
    let negatives: Vec<String> = (0..10).map(|digit| format!("negative {digit}.png")).collect();
    for (file, negative) in files.iter().zip(&negatives) {
        // What is transparent becomes white first, as predict has it.
        let mut picture = image::open(file).unwrap().into_luma_alpha8();
        picture.pixels_mut().filter(|pixel| pixel[1] < 128).for_each(|pixel| pixel.0 = [255, 255]);
        let mut picture = image::DynamicImage::ImageLumaA8(picture).into_luma8();
        imageops::invert(&mut picture);
        picture.save(folder.join(negative)).unwrap();
    }
    [files, negatives].map(|files| {
        let arguments: Vec<&str> = ["--model", "run"].into_iter().chain(files.iter().map(String::as_str)).collect();
        let lines = predict(folder, &arguments);
        assert_eq!(lines.len(), 10);
        let right = |(digit, line): &(usize, &Value)| class(line) == digit.to_string();
        lines.iter().enumerate().filter(right).count()
    })
}

#[test]
fn nine_of_ten_drawn_digits_are_recognised_by_an_mnist_model_whatever_size_ink_place_and_polarity() {
    let Some(data) = std::env::var_os("SOFTSTEP_DATA_DIR").filter(|data| Path::new(data).join("mnist").is_dir()) else {
        return skip::skipped_outside_ci("MNIST not found, set SOFTSTEP_DATA_DIR");
    };
    let folder = tempfile::tempdir().unwrap();
    let train =
        ["train", "--data", "mnist", "--hidden", "128", "--epochs", "3", "--backend", "cpu", "-q", "--out", "run"];
    let trained = finished(command(folder.path(), &train).env("SOFTSTEP_DATA_DIR", data).output().unwrap());
    assert_eq!(trained.code, 0, "{trained:?}");
    let recognised = recognised(folder.path());
    assert!(recognised.iter().all(|&count| count >= 9), "{recognised:?} of ten and of their negatives");

    // On the adapter, and from standard input.
    let mut child = command(folder.path(), &["predict", "--model", "run", "--backend", "gpu", "--json", "--top", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(drawn("6.png")).unwrap()).unwrap();
    let line = finished(child.wait_with_output().unwrap()).last_json();
    assert_eq!((class(&line), line["input"].as_str()), ("6", Some("standard input")), "{line}");
    let sum: f64 = line["classes"].as_array().unwrap().iter().map(|class| class["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() <= 1e-6, "{line}");
}

#[test]
fn most_drawn_digits_are_recognised_by_a_model_of_the_bundled_digits() {
    let folder = tempfile::tempdir().unwrap();
    let train =
        ["train", "--data", "digits", "--hidden", "128", "--lr", "0.3", "--backend", "cpu", "-q", "--out", "run"];
    assert_eq!(softstep(folder.path(), &train).code, 0);
    let recognised = recognised(folder.path());
    assert!(recognised.iter().all(|&count| count >= 8), "{recognised:?} of ten and of their negatives");

    // A row a picture, with the runners-up; the image of a data set of its own shape is one as it is.
    let (six, seven) = (drawn("6.png"), drawn("7.png"));
    let table = softstep(folder.path(), &["predict", "--backend", "cpu", "--model", "run", &six, &seven]);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].contains("class") && lines[0].contains("probability") && lines[0].contains("next"), "{table:?}");
    assert!(lines[1].contains("6.png") && lines[1].contains(" %") && lines[1].contains(", "), "{table:?}");
    assert_eq!(lines.len(), 3);
    let table = softstep(folder.path(), &["predict", "--backend", "cpu", "--model", "run", "--top", "1", &six]);
    assert!(!table.stdout.contains("next"), "{table:?}");

    let data = softstep::data::digits().unwrap();
    let mut idx = vec![0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 8];
    idx.extend((0..5).flat_map(|example| data.test.input(example).map(|value| (255.0 * value).round() as u8)));
    fs::write(folder.path().join("five"), &idx).unwrap();
    let lines = predict(folder.path(), &["--model", "run", "five"]);
    let names: Vec<_> = lines.iter().map(|line| line["input"].as_str().unwrap()).collect();
    assert_eq!(names, ["five[0]", "five[1]", "five[2]", "five[3]", "five[4]"]);
    let right = lines.iter().zip(data.test.labels().unwrap()).filter(|(line, label)| class(line) == label.to_string());
    assert!(right.count() >= 4, "{lines:?}");
    // The same image as a picture of its size: whole it is what it was, and otherwise much like it.
    let pixels: Vec<u8> = idx[16..80].to_vec();
    GrayImage::from_raw(8, 8, pixels).unwrap().save(folder.path().join("first.png")).unwrap();
    let whole = predict(folder.path(), &["--model", "run", "--fit", "whole", "first.png"]);
    assert_eq!(whole[0]["classes"], lines[0]["classes"]);
    assert_eq!(class(&predict(folder.path(), &["--model", "run", "first.png"])[0]), class(&lines[0]));
}

#[test]
fn pictures_are_fitted_to_the_shape_of_the_images_and_refused_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let save = |data: &str, part: &str, shape: &[u8], count: u8| {
        let size: usize = shape.iter().map(|&size| usize::from(size)).product();
        let header = |sizes: &[u8]| -> Vec<u8> {
            let dimensions = sizes.len() as u8;
            let sizes = sizes.iter().flat_map(|&size| [0, 0, 0, size]);
            [0, 0, 8, dimensions].into_iter().chain(sizes).collect()
        };
        // The first half bright, or the second.
        let images = (0..count)
            .flat_map(|label| (0..size).map(move |at| if (2 * at < size) == (label % 2 == 0) { 255 } else { 0 }));
        let images: Vec<u8> = header(&[&[count], shape].concat()).into_iter().chain(images).collect();
        let labels: Vec<u8> = header(&[count]).into_iter().chain((0..count).map(|label| label % 2)).collect();
        fs::write(folder.path().join(data).join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.path().join(data).join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    };
    for (data, shape) in [("wide", &[4u8, 9][..]), ("square", &[6, 6])] {
        fs::create_dir(folder.path().join(data)).unwrap();
        for part in ["train", "t10k"] {
            save(data, part, shape, 40);
        }
        let out = format!("{data} run");
        let train =
            ["train", "--data", data, "--epochs", "10", "--backend", "cpu", "--batch-size", "8", "-q", "--out", &out];
        let run = softstep(folder.path(), &train);
        assert_eq!(run.code, 0, "{run:?}");
    }
    // Bright above.
    GrayImage::from_fn(30, 20, |_, y| Luma([if y < 10 { 250 } else { 5 }]))
        .save(folder.path().join("top.png"))
        .unwrap();
    for run in ["wide run", "square run"] {
        assert_eq!(class(&predict(folder.path(), &["--model", run, "top.png"])[0]), "0", "{run}");
    }
    refused(
        folder.path(),
        &["--model", "wide run", "--fit", "digit", "top.png"],
        &["--fit digit", "9x4", "--fit whole"],
    );
    // 36 features, but nobody knows of what shape.
    let file = folder.path().join("square run/model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let (parameters, metadata) = softstep::model_file::from_safetensors("m", &bytes).unwrap();
    assert_eq!(metadata.image, Some([6, 6]));
    let shapeless = softstep::model_file::to_safetensors(&parameters, &metadata.clone().with_image(None)).unwrap();
    fs::write(&file, shapeless).unwrap();
    refused(folder.path(), &["--model", "square run", "top.png"], &["top.png", "not trained on grey images"]);
    let wrong = softstep::model_file::to_safetensors(&parameters, &metadata.with_image(Some([7, 5])));
    assert!(wrong.is_err() || softstep::model_file::from_safetensors("m", &wrong.unwrap()).is_err());
}

#[test]
fn rows_of_a_table_are_predicted_with_or_without_their_target_and_named_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::from("height,leaf,kind\n");
    let mut prices = String::from("area,price\n");
    for i in 0..150 {
        table += &format!("{}.5,round,daisy\n{}.5,long,lily\n", i % 9 + 10, i % 9 + 20);
        prices += &format!("{},{}\n", 40 + i, 1000 * (40 + i) + 5000);
    }
    fs::write(folder.path().join("plants.csv"), &table).unwrap();
    fs::write(folder.path().join("prices.csv"), &prices).unwrap();
    fs::write(folder.path().join("new.csv"), "leaf,height\nlong,24\n\nround,12.5\n").unwrap();
    for (data, target, out) in [("plants.csv", "kind", "plants"), ("prices.csv", "price", "prices")] {
        let train =
            ["train", "--data", data, "--target", target, "--epochs", "60", "--backend", "cpu", "--batch-size", "10"];
        let run = softstep(folder.path(), &[&train[..], &["-q", "--lr", "0.05", "--out", out]].concat());
        assert_eq!(run.code, 0, "{run:?}");
    }
    let lines = predict(folder.path(), &["--model", "plants", "new.csv", "plants.csv"]);
    assert_eq!(lines.len(), 302);
    let named = |line: &Value| (line["input"].as_str().unwrap().to_string(), class(line).to_string());
    assert_eq!(named(&lines[0]), ("new.csv:2".into(), "lily".into()));
    assert_eq!(named(&lines[1]), ("new.csv:4".into(), "daisy".into()));
    assert_eq!(named(&lines[2]), ("plants.csv:2".into(), "daisy".into()));
    // A row without values is one, too: predictions belong to rows.
    fs::write(folder.path().join("gap.csv"), "leaf,height\nlong,24\n,\nround,12.5\n").unwrap();
    let gap = predict(folder.path(), &["--model", "plants", "gap.csv"]);
    assert_eq!(gap.iter().map(|line| named(line).0).collect::<Vec<_>>(), ["gap.csv:2", "gap.csv:3", "gap.csv:4"]);
    // A row that is too long is no row with a name before its values, unless all are.
    for (content, read) in [
        ("height,leaf\n24,long\n7,12.5,round\n", vec!["2"]),
        ("height,leaf\na,24,long\nb,12.5,round\n", vec!["2", "3"]),
    ] {
        fs::write(folder.path().join("rows.csv"), content).unwrap();
        let run = softstep(folder.path(), &["predict", "--backend", "cpu", "--json", "--model", "plants", "rows.csv"]);
        let named: Vec<_> = run.json_lines().iter().map(|line| line["input"].as_str().unwrap().to_string()).collect();
        assert_eq!(named, read.iter().map(|line| format!("rows.csv:{line}")).collect::<Vec<_>>(), "{run:?}");
        let is_told = run.code == 1 && run.stderr.contains("line 3: 3 values, where the header names 2");
        assert_eq!(is_told, read.len() == 1, "{run:?}");
    }
    // Real values come in their own units.
    fs::write(folder.path().join("one.csv"), "area\n100\n").unwrap();
    let value = predict(folder.path(), &["--model", "prices", "one.csv"])[0]["values"][0].as_f64().unwrap();
    assert!((value - 105_000.0).abs() <= 2000.0, "{value}");
    let table = softstep(folder.path(), &["predict", "--backend", "cpu", "--model", "prices", "one.csv"]);
    assert!(table.stdout.contains("value") && table.stdout.contains("one.csv:2"), "{table:?}");

    for (content, parts) in [
        ("height\n12\n", ["new.csv", "leaf"]),
        ("height,leaf\ntall,long\n", ["line 2", "tall"]),
        ("height,leaf\n12\n", ["line 2", "1 value"]),
        ("height,leaf\n7,12,long\n", ["line 2", "3 values"]),
    ] {
        fs::write(folder.path().join("new.csv"), content).unwrap();
        refused(folder.path(), &["--model", "plants", "new.csv"], &parts);
    }
}

#[test]
fn models_of_images_and_of_arrays_predict_what_they_were_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (class, at) in [("left", 0), ("right", 8)] {
        fs::create_dir_all(path("halves").join(class)).unwrap();
        for number in 0..30u8 {
            let picture =
                GrayImage::from_fn(16, 16, |x, _| Luma([if (x / 8) * 8 == at { 200 + number } else { number }]));
            picture.save(path("halves").join(class).join(format!("{number}.png"))).unwrap();
        }
    }
    let wide = imageops::resize(&GrayImage::from_fn(2, 1, |x, _| Luma([255 * x as u8])), 64, 40, FilterType::Nearest);
    wide.save(path("wide.jpg")).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (60, 1), }\n".replace("60, 1", "120, 1");
    let npy = |header: &str, elements: Vec<u8>| {
        let mut file = b"\x93NUMPY\x01\0".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        [file, header.as_bytes().to_vec(), elements].concat()
    };
    fs::create_dir(path("arrays")).unwrap();
    let signs: Vec<f32> = (0..120).map(|at| if at % 2 == 0 { -1.0 } else { 1.0 }).collect();
    let x = npy(&header, signs.iter().flat_map(|sign| sign.to_le_bytes()).collect());
    let y = npy(
        &header.replace("<f4", "|u1").replace("120, 1", "120,"),
        signs.iter().map(|&sign| u8::from(sign > 0.0)).collect(),
    );
    fs::write(path("arrays/x.npy"), &x).unwrap();
    fs::write(path("arrays/y.npy"), y).unwrap();
    for data in ["halves", "arrays"] {
        let train = ["train", "--data", data, "--epochs", "20", "--backend", "cpu", "--batch-size", "8", "-q", "--out"];
        let run = softstep(folder.path(), &[&train[..], &[&format!("{data} run")]].concat());
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert_eq!(class(&predict(folder.path(), &["--model", "halves run", "wide.jpg"])[0]), "right");
    let lines = predict(folder.path(), &["--model", "arrays run", "arrays/x.npy"]);
    assert_eq!(lines.len(), 120);
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(
            (line["input"].as_str().unwrap(), class(line)),
            (&*format!("arrays/x.npy[{at}]"), ["0", "1"][at % 2])
        );
    }
    refused(folder.path(), &["--model", "arrays run", "wide.jpg"], &["wide.jpg", "an image", ".npy arrays"]);
    refused(folder.path(), &["--model", "halves run", "arrays/x.npy"], &["x.npy", "uint8"]);
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], parts: &[&str]) {
    let run = softstep(folder, &[&["predict", "--backend", "cpu"], arguments].concat());
    assert!(run.code == 1 && run.stdout.is_empty(), "{run:?}");
    assert!(parts.iter().all(|part| run.stderr.contains(part)), "{parts:?}: {}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{run:?}");
}

#[test]
fn what_cannot_be_predicted_is_refused_with_its_name_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "--data", "digits", "--epochs", "1", "--backend", "cpu", "-q", "--out", "run"];
    assert_eq!(softstep(folder.path(), &train).code, 0);
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    write("empty.png", b"");
    write("text.txt", b"seven");
    write("gif.gif", b"GIF89a\x01\0\x01\0\0\0\0;");
    let six = fs::read(drawn("6.png")).unwrap();
    write("cut.png", &six[..six.len() / 2]);
    write("idx", &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]);
    for (name, width, height) in [("blank.png", 30, 20), ("dot.png", 1, 1)] {
        GrayImage::from_pixel(width, height, Luma([250])).save(folder.path().join(name)).unwrap();
    }
    for (file, parts) in [
        ("empty.png", ["empty.png", "empty"]),
        ("text.txt", ["text.txt", "no PNG, JPEG, WebP, BMP, GIF, TIFF, IDX or .npy file"]),
        ("gif.gif", ["gif.gif", "damaged"]),
        ("cut.png", ["cut.png", "damaged"]),
        ("idx", ["idx", "4 features, not 64"]),
        ("blank.png", ["blank.png", "one shade"]),
        ("dot.png", ["dot.png", "one shade"]),
        ("missing.png", ["missing.png", "No such file"]),
        ("-", ["standard input", "empty"]),
    ] {
        refused(folder.path(), &["--model", "run", file], &parts);
    }
    // One that cannot be read does not spoil the others, but shows.
    let six = drawn("6.png");
    let run =
        softstep(folder.path(), &["predict", "--backend=cpu", "--json", "--model=run", "blank.png", &six, "cut.png"]);
    assert!(run.code == 1 && run.stderr.contains("blank.png") && run.stderr.contains("cut.png"), "{run:?}");
    assert_eq!(run.json_lines().len(), 1);
    refused(folder.path(), &["--model", "nowhere", &drawn("6.png")], &["nowhere"]);
    let usage = softstep(folder.path(), &["predict", "--model", "run", "--top", "0", "text.txt"]);
    assert!(usage.code == 2 && usage.stderr.contains("--top"), "{usage:?}");
}

#[test]
fn folders_are_predicted_a_bad_row_does_not_hide_the_others_and_out_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::from("height,kind\n");
    for i in 0..60 {
        table += &format!("{}.5,daisy\n{}.5,lily\n", i % 9 + 10, i % 9 + 30);
    }
    fs::write(folder.path().join("plants.csv"), &table).unwrap();
    let train = ["train", "--data", "plants.csv", "--target", "kind", "--backend", "cpu", "-q", "--out", "run"];
    assert_eq!(softstep(folder.path(), &train).code, 0);
    fs::create_dir_all(folder.path().join("new/more")).unwrap();
    fs::write(folder.path().join("new/a.csv"), "height\n12.5\ntall\n33.5\n\nshort\n11.5\n").unwrap();
    fs::write(folder.path().join("new/more/b.csv"), "height\n34.5\n").unwrap();
    let run = softstep(folder.path(), &["predict", "--backend", "cpu", "--json", "--model", "run", "new"]);
    assert_eq!(run.code, 1, "{run:?}");
    let lines = run.json_lines();
    let read: Vec<_> = lines.iter().map(|line| (line["input"].as_str().unwrap(), class(line))).collect();
    let expected =
        [("new/a.csv:2", "daisy"), ("new/a.csv:4", "lily"), ("new/a.csv:7", "daisy"), ("new/more/b.csv:2", "lily")];
    assert_eq!(read, expected);
    assert!(run.stderr.contains("line 3") && run.stderr.contains("tall") && run.stderr.contains("line 6"), "{run:?}");

    fs::create_dir(folder.path().join("empty")).unwrap();
    let run = softstep(folder.path(), &["predict", "--backend", "cpu", "--model", "run", "empty"]);
    assert!(run.code == 1 && run.stderr.contains("empty: the folder holds no files"), "{run:?}");

    let out = ["predict", "--backend", "cpu", "--model", "run", "new/more/b.csv", "--out", "predictions.csv"];
    let run = softstep(folder.path(), &out);
    assert!(run.code == 0 && run.stdout.contains("predictions in predictions.csv"), "{run:?}");
    let written = fs::read_to_string(folder.path().join("predictions.csv")).unwrap();
    assert!(written.starts_with("input,class,probability\nnew/more/b.csv:2,lily,0."), "{written}");
    assert_eq!(softstep(folder.path(), &out).code, 0, "its own file is written anew");
    let over = softstep(folder.path(), &[&out[..7], &["plants.csv"]].concat());
    assert!(over.code == 1 && over.stderr.contains("--out plants.csv"), "{over:?}");
}
