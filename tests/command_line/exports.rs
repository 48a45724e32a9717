//! Models that leave softstep, and weights that come in: each computes elsewhere what it computes here.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::binary::{self, Run, command, finished, softstep};
use crate::skip::{skipped, skipped_outside_ci};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use softstep::data::{Features, Targets};
use softstep::model::Parameters;
use softstep::plan::{Operation, Plan};

/// Every kind of layer, at a size that a test can train; windows with strides have several places.
const LAYERS: &str = "conv:8x3,batchnorm,relu,conv:6x3s2p0,gelu,pool:2s1,dropout:0.25,linear:16,batchnorm,tanh,linear:12,\
                      sigmoid,linear:12,leaky_relu";

/// A trained model, with the inputs of its test part.
struct Trained {
    name: &'static str,
    folder: PathBuf,
    /// An array or a table in the folder.
    inputs: String,
    /// What `softstep predict` makes of them.
    predicted: Vec<Predicted>,
}

/// What a model makes of an example.
#[derive(Clone, Debug, PartialEq)]
struct Predicted {
    /// The class; empty for values.
    label: String,
    outputs: Vec<f64>,
}

impl Trained {
    fn new(name: &'static str, folder: &Path, inputs: &str, arguments: &[&str]) -> Self {
        let common = ["train", "--backend=cpu", "--quiet", "--epochs=3", "--out=run"];
        good(softstep(folder, &[&common[..], arguments].concat()));
        let inputs = inputs.to_string();
        let mut trained = Self { name, folder: folder.to_path_buf(), inputs, predicted: Vec::new() };
        trained.predict("run/model.safetensors");
        trained
    }

    /// Predicts with a model in the folder.
    fn predict(&mut self, model: &str) {
        let arguments = ["predict", "--backend=cpu", "--model", model, "--top=99", "--json", &self.inputs];
        let names = class_names(&self.folder.join(model));
        let lines = good(softstep(&self.folder, &arguments)).json_lines();
        self.predicted = lines.iter().map(|line| predicted(line, &names)).collect();
    }

    /// Changes the parameters of the model, writes it as `changed.safetensors` and predicts with that.
    fn change(&mut self, change: impl FnOnce(&mut Parameters)) {
        let bytes = fs::read(self.folder.join("run/model.safetensors")).unwrap();
        let (mut parameters, metadata) = softstep::model_file::from_safetensors("model", &bytes).unwrap();
        change(&mut parameters);
        let bytes = softstep::model_file::to_safetensors(&parameters, &metadata).unwrap();
        fs::write(self.folder.join("changed.safetensors"), bytes).unwrap();
        self.predict("changed.safetensors");
    }

    /// Compares what a program printed with the predictions: equal outputs within 1e-5, and equal classes, so that the
    /// accuracy is the same to the last example. Prints the largest difference.
    fn compare(&self, by: &str, theirs: &[Predicted]) {
        assert_eq!(theirs.len(), self.predicted.len(), "{} by {by}", self.name);
        let mut largest = 0f64;
        let mut differing = Vec::new();
        for (index, (ours, theirs)) in self.predicted.iter().zip(theirs).enumerate() {
            assert_eq!(ours.outputs.len(), theirs.outputs.len());
            for (a, b) in ours.outputs.iter().zip(&theirs.outputs) {
                let difference = (a - b).abs() / a.abs().max(1.0);
                assert!(difference <= 1e-5, "{} by {by}, example {index}: {ours:?} here, {theirs:?} there", self.name);
                largest = largest.max(difference);
            }
            if ours.label != theirs.label {
                let mut sorted = ours.outputs.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let margin = sorted[0] - sorted[1];
                differing.push(format!("example {index}: {} here, {} there, by {margin:e}", ours.label, theirs.label));
            }
        }
        assert!(differing.is_empty(), "{} by {by}: {}", self.name, differing.join("; "));
        println!("{} by {by}: {} examples, outputs within {largest:.1e}", self.name, theirs.len());
    }
}

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{run:?}");
    run
}

/// Names of the classes in the order of the outputs; none for digits, whose classes are numbers.
fn class_names(model: &Path) -> Vec<String> {
    let bytes = fs::read(model).unwrap();
    let (parameters, metadata) = softstep::model_file::from_safetensors("model", &bytes).unwrap();
    let names =
        metadata.preprocessing.as_ref().and_then(|preprocessing| preprocessing.class_names().map(<[_]>::to_vec));
    names.unwrap_or_else(|| (0..parameters.outputs()).map(|class| class.to_string()).collect())
}

fn predicted(line: &Value, names: &[String]) -> Predicted {
    let Some(classes) = line["classes"].as_array() else {
        let values = line["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
        return Predicted { label: String::new(), outputs: values.collect() };
    };
    let output = |name: &String| {
        let class = classes.iter().find(|class| class["class"] == **name).unwrap();
        class["probability"].as_f64().or(class["output"].as_f64()).unwrap()
    };
    Predicted { label: classes[0]["class"].as_str().unwrap().into(), outputs: names.iter().map(output).collect() }
}

/// A NumPy array of these bytes.
fn npy(dtype: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

/// The test part of the bundled digits as an array.
fn write_digits(path: &Path) -> Vec<u32> {
    let test = softstep::data::digits().unwrap().test;
    let (Features::Bytes(bytes), Targets::Classes(labels)) = (&*test.inputs, &*test.targets) else { unreachable!() };
    fs::write(path, npy("|u1", &[labels.len(), 8, 8], bytes)).unwrap();
    labels.clone()
}

/// Texts that mark a missing value.
const MARKERS: [&str; 5] = ["NA", "nan", "?", "-", "#N/A"];

/// A table with numbers, texts, dates, booleans, and gaps among them, and names that need care. The test part has texts that
/// training never saw, texts with spaces around them, and gaps in columns that had none.
fn table(rows: std::ops::Range<usize>, is_test: bool) -> String {
    let mut text = "\"width */ \"\"cm\"\"\",colour,born,\"alive ??/\",label,sign,kind,two,price\n".to_string();
    for row in rows {
        let at = (row * 7919 + 13) % 101;
        let gap = |every: usize, value: String, marker: &str| if row % every == 3 { marker.into() } else { value };
        let colour = match at % 4 {
            // Unknown, and like a category up to the space.
            _ if is_test && row % 11 == 0 => "grün, dunkel",
            _ if is_test && row % 11 == 4 => " blue ",
            0 => "red",
            1 => "grün, hell",
            2 => "a \"\"b\"\" */ ??/ \\",
            _ => "blue",
        };
        let (year, day) = (1950 + at / 2, 1 + at % 28);
        text += &format!(
            "{},\"{}\",{},{},{},{},{},{},{}\n",
            gap(5, format!("{}", at as f64 * 0.37), ""),
            gap(7, colour.into(), MARKERS[row % MARKERS.len()]),
            gap(9, format!("{year}-03-{day:02}"), ""),
            gap(13, (at % 3 == 0).to_string(), ""),
            if is_test { gap(8, (2000 + at % 9).to_string(), "") } else { (2000 + at % 9).to_string() },
            // Beside a plus, a minus is a value: here an unknown one, since training never saw it.
            if row % 12 == 7 { "" } else { ["+", if is_test { "-" } else { "=" }, "="][at % 3] },
            ["low", "\"mid \"\"x\"\" */ ??/\"", "high"][(at / 34).min(2)],
            if at > 50 { "yes" } else { "no" },
            1000.0 + 25.5 * at as f64 + (at % 4) as f64
        );
    }
    text
}

/// Models of every kind, trained once.
fn all() -> &'static [Trained] {
    static ALL: OnceLock<Vec<Trained>> = OnceLock::new();
    ALL.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exports");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let folder = |name: &str| {
            let folder = root.join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let mut all = Vec::new();
        let digits: [(&str, &[&str]); 3] = [
            ("dense digits", &["--hidden=24"]),
            ("convolutional digits", &["--layers", LAYERS]),
            ("digits by squared error", &["--loss=mse"]),
        ];
        for (name, arguments) in digits {
            let here = folder(name);
            write_digits(&here.join("inputs.npy"));
            all.push(Trained::new(name, &here, "inputs.npy", &[&["--data=digits"], arguments].concat()));
        }
        let tables: [(&str, &[&str]); 3] = [
            ("table of classes", &["--target=kind", "--ignore=two,price", "--hidden=12"]),
            ("table of two classes", &["--target=two", "--ignore=kind,price", "--loss=bce"]),
            ("table of prices", &["--target=price", "--ignore=kind,two", "--hidden=12", "--activation=gelu"]),
        ];
        for (name, arguments) in tables {
            let here = folder(name);
            fs::write(here.join("train.csv"), table(0..300, false)).unwrap();
            fs::write(here.join("test.csv"), table(300..420, true)).unwrap();
            let data = ["--data=train.csv", "--test=test.csv", "--use=label"];
            all.push(Trained::new(name, &here, "test.csv", &[&data[..], arguments].concat()));
        }
        let floats = |count: usize| -> Vec<u8> {
            (0..count).flat_map(|at| (((at * 7919) % 103) as f32 / 37.0 - 1.0).to_le_bytes()).collect()
        };
        let in_own_unit = |at: usize, width: usize| {
            let unit = [3.0, 1e5, 1e-6, 20.0, 1.0, 1e-3][at % width];
            unit * (((at * 7919) % 103) as f32 / 37.0 + (at % width) as f32)
        };
        // Type of the features, their number, and whether there are classes.
        let arrays: [(&str, &str, usize, bool, &[&str]); 3] = [
            ("arrays of classes", "<f4", 6, true, &["--hidden=8"]),
            ("arrays of values", "<f4", 6, false, &["--hidden=8", "--loss=huber"]),
            ("arrays of bytes", "|u1", 6, true, &["--hidden=8"]),
        ];
        for (name, dtype, width, has_classes, arguments) in arrays {
            let here = folder(name);
            fs::create_dir(here.join("data")).unwrap();
            for (suffix, count) in [("", 120), ("_test", 40)] {
                let size = count * width;
                let x = match dtype {
                    "|u1" => (0..size).map(|at| (at * 7919 % 251) as u8).collect(),
                    // Like pictures, which have one scale.
                    _ if has_classes => floats(size),
                    // In units of their own.
                    _ => (0..size).flat_map(|at| in_own_unit(at, width).to_le_bytes()).collect(),
                };
                let x = npy(dtype, &[count, width], &x);
                fs::write(here.join(format!("data/x{suffix}.npy")), x).unwrap();
                let y = if has_classes {
                    npy("<i8", &[count], &(0..count).flat_map(|at| (at as i64 % 3).to_le_bytes()).collect::<Vec<_>>())
                } else {
                    let y = (0..2 * count).flat_map(|at| in_own_unit(at, 2).to_le_bytes()).collect::<Vec<_>>();
                    npy("<f4", &[count, 2], &y)
                };
                fs::write(here.join(format!("data/y{suffix}.npy")), y).unwrap();
            }
            all.push(Trained::new(name, &here, "data/x_test.npy", &[&["--data=data"], arguments].concat()));
        }
        let here = folder("colour images");
        let mut bytes = Vec::new();
        for part in ["train", "test"] {
            for class in ["bright ones", "dark"] {
                let of_class = here.join("data").join(part).join(class);
                fs::create_dir_all(&of_class).unwrap();
                for index in 0..12usize {
                    let level = if class == "dark" { 20 } else { 120 };
                    let pixel = |x: u32, y: u32| {
                        image::Rgb(
                            [0, 1, 2].map(|c| level + ((index as u32 * 31 + x * 17 + y * 23 + c * 41) % 90) as u8),
                        )
                    };
                    let picture = image::RgbImage::from_fn(7, 6, pixel);
                    picture.save(of_class.join(format!("{index:02}.png"))).unwrap();
                    if part == "test" {
                        bytes.extend(picture.into_raw());
                    }
                }
            }
        }
        fs::write(here.join("inputs.npy"), npy("|u1", &[24, 6, 7, 3], &bytes)).unwrap();
        let data = ["--data=data/train", "--test=data/test", "--image-size=7x6", "--layers=conv:4x3s2,relu,pool:2s1"];
        all.push(Trained::new("colour images", &here, "inputs.npy", &data));
        all
    })
}

/// A Python with these packages (Keras on PyTorch): that of PYTHON, or of a variable for those that have one of their own.
fn python(packages: &str, variable: &str) -> Option<PathBuf> {
    let names = [std::env::var_os(variable), std::env::var_os("PYTHON"), Some("python3".into())];
    names.into_iter().flatten().map(PathBuf::from).find(|python| {
        let import = format!("import {packages}");
        let found = Command::new(python).args(["-c", &import]).env("KERAS_BACKEND", "torch").output();
        found.is_ok_and(|output| output.status.success())
    })
}

/// Lines of JSON that `exported.py` prints of a model.
fn by_python(python: &Path, trained: &Trained, model: &str) -> Vec<Predicted> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/exported.py");
    let output =
        Command::new(python).args([script, model, &trained.inputs]).current_dir(&trained.folder).output().unwrap();
    let lines = good(finished(output)).json_lines();
    let outputs =
        |line: &Value| line["outputs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    lines
        .iter()
        .map(|line| Predicted { label: line["label"].as_str().unwrap_or("").into(), outputs: outputs(line) })
        .collect()
}

#[test]
fn onnx_files_pass_the_checker_and_predict_in_onnx_runtime_what_softstep_does() {
    let Some(python) = python("numpy, onnx, onnxruntime", "PYTHON") else {
        skipped_outside_ci("this needs python3 (or what PYTHON names) with the packages numpy, onnx and onnxruntime");
        return;
    };
    for trained in all() {
        let line = good(softstep(&trained.folder, &["export", "run", "--onnx=model.onnx", "--json"])).last_json();
        assert_eq!(line["onnx"]["bytes"], fs::metadata(trained.folder.join("model.onnx")).unwrap().len());
        trained.compare("ONNX Runtime", &by_python(&python, trained, "model.onnx"));
    }
}

#[test]
fn modules_of_pytorch_load_their_weights_and_predict_what_softstep_does() {
    let Some(python) = python("numpy, torch", "PYTHON_TORCH") else {
        skipped("this needs python3 (or what PYTHON_TORCH names) with the packages numpy and torch");
        return;
    };
    for trained in all() {
        good(softstep(&trained.folder, &["export", "run", "--torch=model.py"]));
        trained.compare("PyTorch", &by_python(&python, trained, "model.py"));
    }
}

#[test]
fn modules_of_pytorch_are_python_and_replace_no_other_model() {
    for trained in all() {
        good(softstep(&trained.folder, &["export", "run", "--torch=module.py"]));
        let compiled =
            Command::new("python3").args(["-m", "py_compile", "module.py"]).current_dir(&trained.folder).output();
        match compiled {
            Ok(output) => assert_eq!(good(finished(output)).stderr, ""),
            Err(_) => return skipped_outside_ci("this needs python3"),
        }
    }
    let here = &all()[0].folder;
    // Beside the model itself its own file has the weights.
    let weights = fs::read(here.join("run/model.safetensors")).unwrap();
    good(softstep(here, &["export", "run", "--torch=run/model.py"]));
    assert_eq!(fs::read(here.join("run/model.safetensors")).unwrap(), weights);
    let checkpoint = binary::checkpoints(&here.join("run")).pop().unwrap().1;
    let (kept, module) = (fs::read(&checkpoint).unwrap(), checkpoint.with_extension("py"));
    let refused = softstep(here, &["export", "run", &format!("--torch={}", module.display())]);
    assert!(refused.code == 1 && refused.stderr.contains("that file is there and is another"), "{refused:?}");
    assert_eq!(fs::read(&checkpoint).unwrap(), kept);
    let refused = softstep(here, &["export", "run", "--onnx=run/model.safetensors"]);
    assert!(refused.code == 1 && refused.stderr.contains("was not written by this command"), "{refused:?}");
    assert_eq!(fs::read(here.join("run/model.safetensors")).unwrap(), weights);
    let usage = softstep(here, &["export", "run"]);
    assert!(usage.code == 2 && usage.stderr.contains("--onnx"), "{usage:?}");
}

/// A program that reads a row of values a line and prints the class and the outputs.
const MAIN: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

int main(void)
{
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        INPUT input[MODEL_INPUTS];
        OUTPUT output[MODEL_OUTPUTS];
        char *at = line;
        line[strcspn(line, "\n")] = 0;
        for (int i = 0; i < MODEL_INPUTS; i++) {
            char *end = at + strcspn(at, "\t");
            char *next = *end ? end + 1 : end;
            *end = 0;
#ifdef TEXTS
            if (model_columns[i].categories >= 0) {
                input[i] = model_category(i, at);
                at = next;
                continue;
            }
#endif
            input[i] = (INPUT)(*at ? strtod(at, NULL) : NAN);
            at = next;
        }
#ifdef CLASSES
        fputs(model_classes[model_predict(input, output)], stdout);
#else
        model_predict(input, output);
#endif
        for (int o = 0; o < MODEL_OUTPUTS; o++) {
            printf("\t%.17g", (double)output[o]);
        }
        puts("");
    }
    return 0;
}
"#;

/// The rows of a model's inputs as lines for the program, and what it is compiled with.
fn rows(trained: &Trained) -> (Vec<String>, Vec<&'static str>) {
    let path = trained.folder.join(&trained.inputs);
    if trained.inputs.ends_with(".csv") {
        let bytes = fs::read(trained.folder.join("run/model.safetensors")).unwrap();
        let (_, metadata) = softstep::model_file::from_safetensors("model", &bytes).unwrap();
        let Some(softstep::data::Preprocessing::Table(format)) = metadata.preprocessing else { unreachable!() };
        let mut reader = csv::Reader::from_path(path).unwrap();
        let header = reader.headers().unwrap().clone();
        let places: Vec<_> =
            format.columns.iter().map(|column| header.iter().position(|name| name == column.name).unwrap()).collect();
        let is_text = |index: usize| matches!(format.columns[index].encoding, softstep::data::Encoding::OneHot(_));
        let has_minus = |index: usize| format.columns[index].name == "sign";
        let cell = |index: usize, text: &str| match text {
            _ if MARKERS.contains(&text) && !has_minus(index) => String::new(),
            _ if is_text(index) => text.trim().to_string(),
            "true" => "1".into(),
            "false" => "0".into(),
            _ if text.len() == 10 && text.as_bytes()[4] == b'-' => days(text).to_string(),
            _ => text.to_string(),
        };
        let lines = reader.records().map(|row| {
            let row = row.unwrap();
            let cells = places.iter().enumerate().map(|(index, &at)| cell(index, &row[at]));
            cells.collect::<Vec<_>>().join("\t")
        });
        return (lines.collect(), vec!["-DINPUT=double", "-DTEXTS"]);
    }
    let bytes = fs::read(&path).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let is_float = bytes[..start].windows(3).any(|part| part == b"<f4");
    let numbers: Vec<String> = if is_float {
        bytes[start..].as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk).to_string()).collect()
    } else {
        bytes[start..].iter().map(u8::to_string).collect()
    };
    let lines = numbers.chunks(numbers.len() / trained.predicted.len()).map(|row| row.join("\t")).collect();
    (lines, vec![if is_float { "-DINPUT=float" } else { "-DINPUT=unsigned char" }])
}

/// Days from 1970-01-01 to a date, by counting.
fn days(date: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| date[range].parse::<i64>().unwrap();
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (year, day) = (part(0..4), part(8..10));
    assert_eq!(part(5..7), 3);
    let length = |year: i64| 365 + i64::from(is_leap(year));
    let years: i64 = if year >= 1970 { (1970..year).map(length).sum() } else { -(year..1970).map(length).sum::<i64>() };
    years + 31 + 28 + i64::from(is_leap(year)) + day - 1
}

/// Compiles a header and runs it on the inputs; `None` without a compiler.
fn by_c(trained: &Trained) -> Option<Vec<Predicted>> {
    let (lines, mut defines) = rows(trained);
    let has_classes = !trained.predicted[0].label.is_empty();
    if has_classes {
        defines.push("-DCLASSES");
    }
    let is_standardised = ["table of prices", "arrays of values"].contains(&trained.name);
    defines.push(if is_standardised { "-DOUTPUT=double" } else { "-DOUTPUT=float" });
    fs::write(trained.folder.join("main.c"), MAIN).unwrap();
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "main.c", "-o", "program", "-lm"];
    let compiled = Command::new("gcc").args(&defines).args(strict).current_dir(&trained.folder).output();
    let compiled = finished(compiled.ok()?);
    assert_eq!((compiled.code, &*compiled.stderr), (0, ""), "{}", trained.name);
    let mut program =
        Command::new(trained.folder.join("program")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = program.stdin.take().unwrap();
    let writer = std::thread::spawn(move || lines.iter().for_each(|line| writeln!(stdin, "{line}").unwrap()));
    let printed = good(finished(program.wait_with_output().unwrap())).stdout;
    writer.join().unwrap();
    let predicted = |line: &str| {
        let mut parts = line.split('\t');
        let label = parts.next().unwrap().to_string();
        Predicted { label, outputs: parts.map(|number| number.parse().unwrap()).collect() }
    };
    Some(printed.lines().map(predicted).collect())
}

#[test]
fn c_headers_compile_without_a_warning_and_predict_what_softstep_does() {
    for trained in all() {
        good(softstep(&trained.folder, &["export", "run", "--c=model.h"]));
        match by_c(trained) {
            Some(predicted) => trained.compare("C", &predicted),
            None => return skipped_outside_ci("this needs gcc"),
        }
    }
}

#[test]
fn c_headers_predict_what_softstep_does_where_outputs_are_large() {
    let folder = tempfile::tempdir().unwrap();
    write_digits(&folder.path().join("inputs.npy"));
    let mut trained = Trained::new("digits of large outputs", folder.path(), "inputs.npy", &["--data=digits"]);
    // exp(89) is beyond f32.
    trained.change(|parameters| {
        parameters.layers.last_mut().unwrap().values.iter_mut().for_each(|value| *value *= 1000.0)
    });
    good(softstep(folder.path(), &["export", "changed.safetensors", "--c=model.h"]));
    match by_c(&trained) {
        Some(predicted) => trained.compare("C", &predicted),
        None => skipped_outside_ci("this needs gcc"),
    }
}

/// The numbers of an array in a C header.
fn array(header: &str, name: &str) -> Vec<f32> {
    let (_, rest) = header.split_once(&format!(" model_{name}[")).unwrap_or_else(|| panic!("no {name} in {header}"));
    let (_, rest) = rest.split_once('{').unwrap();
    let (numbers, _) = rest.split_once('}').unwrap();
    let numbers =
        numbers.split(',').map(|number| number.trim().trim_end_matches('f')).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn weights_in_8_bits_predict_as_rounded_ones_with_the_accuracy_that_is_printed() {
    let models: [(&str, &[&str]); 2] =
        [("dense digits", &["--hidden=24"]), ("convolutional digits", &["--layers", LAYERS])];
    for (name, arguments) in models {
        let folder = tempfile::tempdir().unwrap();
        let labels = write_digits(&folder.path().join("inputs.npy"));
        let exact = Trained::new(name, folder.path(), "inputs.npy", &[&["--data=digits"], arguments].concat());
        let cost = good(softstep(folder.path(), &["export", "run", "--c=model.h", "--int8", "--json"])).last_json();
        let header = fs::read_to_string(folder.path().join("model.h")).unwrap();
        assert!(header.contains("static const int8_t model_weight_0["), "{header}");
        let Some(predicted) = by_c(&exact) else { return skipped_outside_ci("this needs gcc") };
        let mut rounded =
            Trained { folder: exact.folder.clone(), inputs: exact.inputs.clone(), name, predicted: Vec::new() };
        rounded.change(|parameters| {
            for node in Plan::new(&parameters.architecture).nodes {
                if let (Some(at), Operation::Linear | Operation::Conv2d(_)) = (node.weights, node.operation) {
                    let index = node.layer - 1;
                    let scales = array(&header, &format!("scale_{index}"));
                    let weights = array(&header, &format!("weight_{index}"));
                    let weights = weights.iter().zip(scales.iter().cycle()).map(|(weight, scale)| weight * scale);
                    let exact = &mut parameters.layers[at].values;
                    for (exact, (rounded, scale)) in exact.iter_mut().zip(weights.zip(scales.iter().cycle())) {
                        assert!((*exact - rounded).abs() <= 0.501 * scale, "{exact} {rounded} {scale}");
                        *exact = rounded;
                    }
                }
            }
        });
        rounded.compare("C in 8 bits", &predicted);
        let right = predicted.iter().zip(&labels).filter(|(predicted, label)| predicted.label == label.to_string());
        let accuracy = right.count() as f64 / labels.len() as f64;
        assert_eq!(cost["int8"]["examples"], labels.len());
        assert!((cost["int8"]["accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-12, "{cost} {accuracy}");
        let differing = predicted.iter().zip(&exact.predicted).filter(|(a, b)| a.label != b.label).count();
        assert_eq!(cost["int8"]["differing"], differing);
    }
}

/// The tensors of a model under other names, with the values of linear weights transposed as Keras has them if asked.
fn renamed(model: &Path, names: &[(&str, &str)], to_keras: bool) -> Vec<u8> {
    let bytes = fs::read(model).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let (from, to) = names.iter().find(|(from, _)| name.starts_with(from)).unwrap();
            let name = name.replacen(from, to, 1);
            let shape = view.shape().to_vec();
            match shape[..] {
                [outputs, inputs] if to_keras => {
                    let at = |index: usize| &view.data()[4 * index..4 * index + 4];
                    let order = (0..inputs * outputs).map(|place| place % outputs * inputs + place / outputs);
                    (name.replace("weight", "kernel"), vec![inputs, outputs], order.flat_map(at).copied().collect())
                }
                _ => (name, shape, view.data().to_vec()),
            }
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.clone(), TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn imported_weights_evaluate_predict_and_train_as_the_model_they_came_from() {
    let trained = &all()[0];
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = trained.folder.join("run/model.safetensors");
    write_digits(&here.join("inputs.npy"));
    let sha256 = {
        let bytes = fs::read(&model).unwrap();
        softstep::model_file::from_safetensors("model", &bytes).unwrap().0.sha256()
    };
    let files = [
        ("fc.safetensors", [("0", "model.fc1"), ("2", "model.fc2")], false),
        ("keras.safetensors", [("0.", "sequential/dense/"), ("2.", "sequential/dense_1/")], true),
        ("odd.safetensors", [("0", "body"), ("2", "head")], false),
    ];
    for (name, names, to_keras) in files {
        fs::write(here.join(name), renamed(&model, &names, to_keras)).unwrap();
        let import = ["import", name, "--data=digits", "--hidden=24", "--out=imported.safetensors", "--json"];
        let line = good(softstep(here, &import)).last_json();
        assert_eq!(line["parameters_sha256"], *sha256, "{name}");
        let eval = ["eval", "--backend=cpu", "--model=imported.safetensors", "--json"];
        assert_eq!(good(softstep(here, &eval)).last_json()["accuracy"], line["accuracy"]);
    }
    let predict = ["predict", "--backend=cpu", "--model=imported.safetensors", "--top=99", "--json", "inputs.npy"];
    let names: Vec<String> = (0..10).map(|class: u32| class.to_string()).collect();
    let lines = good(softstep(here, &predict)).json_lines();
    let theirs: Vec<_> = lines.iter().map(|line| predicted(line, &names)).collect();
    assert_eq!(theirs, trained.predicted);
    let train = ["train", "--backend=cpu", "--data=digits", "--hidden=24", "--init=imported.safetensors", "--epochs=1"];
    good(softstep(here, &[&train[..], &["--out=run"]].concat()));

    let wrong = ["import", "fc.safetensors", "--data=digits", "--hidden=32", "--out=wrong.safetensors"];
    let run = softstep(here, &wrong);
    let told = "tensor model.fc1.weight is [24, 64]: layer 0, linear:32, wants [32, 64]; tensor model.fc2.weight is \
                [10, 24]: layer 2, linear:10, wants [10, 32]";
    assert!(run.code == 1 && run.stderr.contains(told) && run.stderr.contains("--map"), "{run:?}");
    assert!(!here.join("wrong.safetensors").exists());
    let onto = softstep(here, &["import", "fc.safetensors", "--data=digits", "--hidden=24", "--out=fc.safetensors"]);
    assert!(onto.code == 1 && onto.stderr.contains("is the file of the weights"), "{onto:?}");
    // An imported model may be imported anew, and a trained one stays.
    let import = ["import", "fc.safetensors", "--data=digits", "--hidden=24", "--out"];
    good(softstep(here, &[&import[..], &["imported.safetensors"]].concat()));
    let trained = fs::read(here.join("run/model.safetensors")).unwrap();
    let over = softstep(here, &[&import[..], &["run/model.safetensors"]].concat());
    assert!(over.code == 1 && over.stderr.contains("was not written by this command"), "{over:?}");
    assert_eq!(fs::read(here.join("run/model.safetensors")).unwrap(), trained);
}

#[test]
fn a_network_of_pytorch_with_names_of_its_own_computes_the_same_here() {
    let Some(python) = python("numpy, torch", "PYTHON_TORCH") else {
        skipped("this needs python3 (or what PYTHON_TORCH names) with the packages numpy and torch");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_digits(&here.join("inputs.npy"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/torch_weights.py");
    let arguments = [script, "inputs.npy", "weights.safetensors"];
    let theirs = good(finished(Command::new(python).args(arguments).current_dir(here).output().unwrap())).json_lines();
    let layers = "--layers=conv:4x3,batchnorm,relu,conv:6x3s2,relu,linear:16,tanh";
    good(softstep(here, &["import", "weights.safetensors", "--data=digits", layers, "--out=model.safetensors"]));
    let predict = ["predict", "--backend=cpu", "--model=model.safetensors", "--top=99", "--json", "inputs.npy"];
    let ours = good(softstep(here, &predict)).json_lines();
    let names: Vec<String> = (0..10).map(|class: u32| class.to_string()).collect();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let logits: Vec<f64> = theirs.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        for (ours, logit) in predicted(ours, &names).outputs.iter().zip(&logits) {
            assert!((ours - logit.exp() / sum).abs() < 1e-5, "{ours} {logits:?}");
        }
    }
}

#[test]
fn a_network_of_keras_by_its_own_names_and_by_a_map_computes_the_same_here() {
    let Some(python) = python("numpy, torch, keras", "PYTHON_KERAS") else {
        skipped("this needs python3 (or what PYTHON_KERAS names) with the packages numpy, keras and torch");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_digits(&here.join("inputs.npy"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/keras_weights.py");
    let arguments = [script, "inputs.npy", "weights.safetensors", "others.safetensors"];
    let made = Command::new(python).args(arguments).current_dir(here).env("KERAS_BACKEND", "torch").output().unwrap();
    let made = good(finished(made));
    let theirs = made.json_lines();
    let map: String = serde_json::from_str(made.stderr.lines().last().unwrap()).unwrap();
    let layers = "--layers=conv:4x3,batchnorm,relu,conv:6x3,relu,pool:2,linear:16,tanh,linear:16,tanh";
    let import = |weights: &str, more: &[&str]| {
        let arguments = ["import", weights, "--data=digits", layers, "--epsilon=0.001", "--out=model.safetensors"];
        softstep(here, &[&arguments, more].concat())
    };
    let names: Vec<String> = (0..10).map(|class: u32| class.to_string()).collect();
    let predict = ["predict", "--backend=cpu", "--model=model.safetensors", "--top=99", "--json", "inputs.npy"];
    for (weights, more) in [("weights.safetensors", vec![]), ("others.safetensors", vec!["--map", &map])] {
        good(import(weights, &more));
        let ours = good(softstep(here, &predict)).json_lines();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let theirs = theirs.as_array().unwrap().iter().map(|probability| probability.as_f64().unwrap());
            for (ours, theirs) in predicted(ours, &names).outputs.iter().zip(theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{weights}: {ours} {theirs}");
            }
        }
        fs::remove_file(here.join("model.safetensors")).unwrap();
    }
    // Of two layers that fit in either place, each goes where the map says, and no map is no guess.
    let wrong = map.replace("alpha=0", "alpha=3").replace("delta=3", "delta=0");
    let refused = import("others.safetensors", &["--map", &wrong]);
    assert!(refused.code == 1 && refused.stderr.contains("alpha/kernel"), "{refused:?}");
}

#[test]
fn opencv_reads_onnx_files_without_labels_and_predicts_what_softstep_does() {
    let Some(python) = python("numpy, cv2", "PYTHON") else {
        skipped_outside_ci(
            "this needs python3 (or what PYTHON names) with the packages numpy and opencv-python-headless",
        );
        return;
    };
    let of_opencv = |trained: &&Trained| !trained.inputs.ends_with(".csv");
    let mut read = 0;
    for trained in all().iter().filter(of_opencv) {
        good(softstep(&trained.folder, &["export", "run", "--onnx=opencv.onnx", "--no-labels"]));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/opencv.py");
        let output =
            Command::new(&python).args([script, "opencv.onnx", &trained.inputs]).current_dir(&trained.folder).output();
        let lines = good(finished(output.unwrap())).json_lines();
        assert_eq!(lines.len(), trained.predicted.len());
        let theirs = lines.iter().zip(&trained.predicted).map(|(line, ours)| Predicted {
            label: ours.label.clone(),
            outputs: line.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect(),
        });
        trained.compare("OpenCV", &theirs.collect::<Vec<_>>());
        read += 1;
    }
    assert_eq!(read, 7);
}

/// `--page` puts the model into the page that `src/web/build` makes; a page like it is enough here.
#[test]
fn a_page_has_the_model_in_it_and_other_files_are_not_taken_for_one() {
    use base64::Engine;
    const PLACE: &str = "<script type=\"application/gzip\" id=\"softstep-model\"></script>";
    let folder = tempfile::tempdir().unwrap();
    let (folder, path) = (folder.path(), |name: &str| folder.path().join(name));
    let arguments = ["train", "--data", "digits", "--backend", "cpu", "--epochs", "1", "--out", "run"];
    good(softstep(folder, &arguments));
    fs::write(path("predict.html"), format!("<!doctype html><head><title>softstep</title></head>{PLACE}")).unwrap();
    fs::write(path("other.html"), "<!doctype html><head></head>").unwrap();
    let exported = |page: Option<&str>| {
        let mut export = command(folder, &["export", "run", "--page", "out.html"]);
        match page {
            Some(page) => export.env("SOFTSTEP_PAGE", page),
            None => export.env_remove("SOFTSTEP_PAGE"),
        };
        finished(export.output().unwrap())
    };
    let whole = || fs::read_to_string(path("out.html"));
    for (page, problem) in [("other.html", "no predict.html"), ("missing.html", "SOFTSTEP_PAGE=missing.html")] {
        let run = exported(Some(page));
        assert!(run.code == 1 && run.stderr.contains(problem) && whole().is_err(), "{run:?}");
    }
    good(exported(Some("predict.html")));
    let page = whole().unwrap();
    assert!(page.starts_with("<!doctype html><head>\n<meta name=\"generator\" content=\""), "{page}");
    let packed = page.split("id=\"softstep-model\" data-name=\"model.safetensors\">").nth(1).unwrap();
    let packed = base64::engine::general_purpose::STANDARD.decode(packed.split('<').next().unwrap()).unwrap();
    let mut model = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut model).unwrap();
    assert_eq!(model, fs::read(path("run/model.safetensors")).unwrap());
    // Without such a page, a build with the feature `page` has its own, and another says how to get one.
    fs::remove_file(path("out.html")).unwrap();
    let run = exported(None);
    if cfg!(feature = "page") {
        assert!(run.code == 0 && whole().unwrap().contains("data-name=\"model.safetensors\""), "{run:?}");
    } else {
        assert!(run.code == 1 && run.stderr.contains("src/web/build") && whole().is_err(), "{run:?}");
    }
}
