//! `softstep export`: a trained model for other programs, with its preprocessing.

mod c;
mod exported;
mod onnx;
mod page;
mod torch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use indicatif::HumanBytes;
use serde_json::{Map, json};
use softstep::any_backend::Device;
use softstep::backend::{Evaluation, Inference};
use softstep::data::{Data, Measured, Part};
use softstep::loss::Loss;
use softstep::model::{Parameters, check_fit};
use softstep::model_file::{self, Metadata};

use self::exported::Export;
use super::eval;
use crate::format::{counted, figure, percent};
use crate::quality::quality;
use crate::run::files::write_named;
use crate::run::model::{self, Model};
use crate::run::results::Results;
use crate::terminal;

/// Options of `softstep export`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("form").required(true).multiple(true).args(["onnx", "torch", "c", "page"]))]
pub struct ExportArgs {
    /// The model: a model.safetensors, or a run folder that holds one
    #[arg(value_name = "FILE|FOLDER")]
    model: PathBuf,
    /// Write an ONNX file, for ONNX Runtime, tract, OpenCV and others
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Leave the names of classes out of the ONNX file's outputs, for programs that cannot read strings, such as OpenCV
    #[arg(long, requires = "onnx")]
    no_labels: bool,
    /// Write a Python module that builds the network in PyTorch, and beside it a safetensors file of its weights
    #[arg(long, value_name = "FILE.py")]
    torch: Option<PathBuf>,
    /// Write a C99 header with the weights and a function that predicts
    #[arg(long, value_name = "FILE.h")]
    c: Option<PathBuf>,
    /// Write the weights of the C header in 8 bits, and measure on the test part what that costs in accuracy
    #[arg(long, requires = "c")]
    int8: bool,
    /// Write a page: one HTML file to draw or drop a picture on, or to fill in the fields of a table, and see the prediction
    #[arg(long, value_name = "FILE.html")]
    page: Option<PathBuf>,
    /// Data to measure --int8 on, as for `softstep train` [default: the data of the model's run]
    #[arg(long, value_name = "SET|FOLDER|FILE", requires = "int8")]
    data: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER", requires = "int8")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Text behind the options of `softstep export --help`.
pub const HELP: &str = "\
Examples:
  softstep export runs/mnist --onnx mnist.onnx              for ONNX Runtime, tract and others
  softstep export runs/mnist --onnx mnist.onnx --no-labels  for OpenCV
  softstep export runs/mnist --torch mnist.py               a PyTorch module, with its weights in mnist.safetensors
  softstep export runs/mnist --c mnist.h --int8             for microcontrollers
  softstep export runs/mnist --page mnist.html              one file to send to somebody: it predicts in their browser

Every form takes the inputs of `softstep predict`, with the same preprocessing inside: bytes of images, the columns of a \
table, numbers. How the forms differ is in src/commands/export.md.";

/// Part of the [`title`](Export::title), by which files are recognised that may be replaced.
const MARK: &str = " that softstep ";

/// Writes the forms that the options ask for.
pub fn run(args: &ExportArgs) -> Result<()> {
    let model = model::read_model(&args.model)?;
    let export = Export::new(&model, accuracy(&args.model));
    let mut lines = Vec::new();
    let mut json = Map::new();
    let mut written = |name: &'static str, what: &str, path: &Path, bytes: usize, seconds: f64| {
        lines.push((name, format!("{}: {what}, {}", path.display(), HumanBytes(bytes as u64))));
        json.insert(
            name.to_lowercase(),
            json!({ "path": path.display().to_string(), "bytes": bytes, "seconds": seconds }),
        );
    };
    if let Some(path) = &args.onnx {
        let started = Instant::now();
        let bytes = onnx::to_onnx(&export, !args.no_labels).with_context(|| format!("--onnx {}", path.display()))?;
        write_named("--onnx", path, onnx::MARK, &bytes)?;
        written("ONNX", "the model with its preprocessing", path, bytes.len(), started.elapsed().as_secs_f64());
    }
    if let Some(path) = &args.torch {
        let started = Instant::now();
        let weights = path.with_extension("safetensors");
        if weights == *path {
            bail!("--torch {}: the weights are written under that name; choose one that ends in .py", path.display());
        }
        let source = torch::to_torch(&export);
        write_weights(&weights, &file_of(&model)?, path)?;
        write_named("--torch", path, MARK, source.as_bytes())?;
        let what = format!("a PyTorch module, weights in {}", weights.display());
        written("torch", &what, path, source.len(), started.elapsed().as_secs_f64());
    }
    let mut cost = None;
    if let Some(path) = &args.c {
        let started = Instant::now();
        let quantised = args.int8.then(|| c::quantise(&model.parameters));
        let name = c::identifier(&path.file_stem().unwrap_or_default().to_string_lossy());
        let header =
            c::to_c(&export, &name, quantised.as_deref()).with_context(|| format!("--c {}", path.display()))?;
        write_named("--c", path, MARK, header.as_bytes())?;
        let size = HumanBytes(c::weight_bytes(&model.parameters, quantised.as_deref()) as u64);
        let what = format!("a C99 header with {name}_predict and {size} of weights");
        written("C", &what, path, header.len(), started.elapsed().as_secs_f64());
        if let Some(quantised) = &quantised {
            cost = Some(int8_cost(args, &model, &c::dequantised(&model.parameters, quantised))?);
        }
    }
    if let Some(path) = &args.page {
        let started = Instant::now();
        let page = page::to_page(&export, &file_of(&model)?).with_context(|| format!("--page {}", path.display()))?;
        write_named("--page", path, MARK, page.as_bytes())?;
        let what = "a page that predicts in any browser, with no network";
        written("page", what, path, page.len(), started.elapsed().as_secs_f64());
    }
    if let Some(cost) = cost {
        json.insert("int8".into(), cost.json());
        lines.push(("int8", cost.text()));
    }
    terminal::print_fields(&lines, &json, args.json)
}

/// The bytes of a model file.
fn file_of(model: &Model) -> softstep::Result<Vec<u8>> {
    let metadata = Metadata::new(&model.parameters, &model.data, model.seed, model.loss)
        .with_preprocessing(model.preprocessing.clone())
        .with_image(model.image)
        .with_train_sha256(model.train_sha256.clone())
        .with_shapes(model.shapes.clone());
    model_file::to_safetensors(&model.parameters, &metadata)
}

/// Writes the weights of a PyTorch module. A file that has them already is left alone, as beside the model itself; no other
/// file is replaced.
fn write_weights(weights: &Path, bytes: &[u8], module: &Path) -> Result<()> {
    if !weights.exists() {
        return write_named("--torch", weights, "", bytes);
    }
    let parameters = |name: &Path, bytes: &[u8]| model_file::from_safetensors(&name.display().to_string(), bytes);
    let there = model::read_model(weights).map(|model| model.parameters).ok();
    let is_checkpoint = || std::fs::read(weights).is_ok_and(|bytes| softstep::checkpoint::is_checkpoint(&bytes));
    if there == Some(parameters(weights, bytes)?.0) && !is_checkpoint() {
        return Ok(());
    }
    bail!(
        "--torch {}: the weights go to {}, and that file is there and is another: choose another name",
        module.display(),
        weights.display()
    )
}

/// Accuracy of a run's model on its test part, in words; `None` for a file or a run without results.
fn accuracy(run: &Path) -> Option<String> {
    let test = Results::read(run).ok()??.test?;
    let of = format!("of {}", counted(test.examples, "test example"));
    match (test.accuracy, test.r_squared) {
        (Some(accuracy), _) => Some(format!("{} {of}", percent(accuracy))),
        (None, Some(r_squared)) => Some(format!("R² {} {of}", figure(r_squared))),
        (None, None) => None,
    }
}

/// Accuracy on a test part with and without weights of 8 bits.
struct Cost {
    examples: usize,
    part: Part,
    exact: Evaluation,
    rounded: Evaluation,
}

impl Cost {
    /// Number of predicted classes that differ; `None` for real values.
    fn differing(&self) -> Option<usize> {
        let pairs = self.exact.predictions.iter().zip(&self.rounded.predictions);
        self.exact.accuracy().map(|_| pairs.filter(|(exact, rounded)| exact != rounded).count())
    }

    fn text(&self) -> String {
        let differing = self.differing().map(|count| format!("; {} differ", counted(count, "prediction")));
        format!(
            "{} in 8 bits, {} in f32, on {} ({}){}",
            quality(&self.rounded),
            quality(&self.exact),
            self.part.name(),
            counted(self.examples, "example"),
            differing.unwrap_or_default()
        )
    }

    fn json(&self) -> serde_json::Value {
        let (measure, rounded, exact) = match self.exact.accuracy() {
            Some(exact) => ("accuracy", self.rounded.accuracy(), Some(exact)),
            None => ("r_squared", self.rounded.r_squared, self.exact.r_squared),
        };
        json!({
            "part": self.part.name(),
            "examples": self.examples,
            measure: rounded,
            format!("{measure}_f32"): exact,
            "differing": self.differing(),
        })
    }
}

/// Measures a model and its rounded parameters on its test part.
fn int8_cost(args: &ExportArgs, model: &Model, rounded: &Parameters) -> Result<Cost> {
    let way_out = "--int8 measures what it costs on the test part: say where the data are with --data, or leave --int8 \
                   away; the header is written";
    let measured = eval::load(model, args.data.as_deref(), args.data_dir.as_deref(), None, false, !args.json);
    let Measured { data, part, notice } = measured.context(way_out)?;
    if let Some(notice) = notice {
        terminal::notice(&notice);
    }
    check_fit(model.parameters.features(), model.parameters.outputs(), model.loss, &data.test)
        .with_context(|| format!("{} does not fit {}", model.path.display(), data.name))?;
    let exact = evaluate(&model.parameters, model.loss, &data)?;
    let rounded = evaluate(rounded, model.loss, &data)?;
    Ok(Cost { examples: data.test.len(), part, exact, rounded })
}

/// Measures parameters on the test part on the CPU.
pub fn evaluate(parameters: &Parameters, loss: Loss, data: &Data) -> Result<Evaluation> {
    pollster::block_on(async {
        let mut backend = Device::cpu().for_inference(parameters, loss).await?;
        let test = backend.upload(&data.test)?;
        Ok(backend.evaluate(&test).await?)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use softstep::data::{Column, Encoding, Form, Missing, TargetEncoding, TestPart};
    use softstep::model::{Architecture, Shape, parse_layers};

    use softstep::data::{Preprocessing, Scale, TableFormat};

    use super::*;

    /// A classifier of images with these layers and random weights.
    pub fn model_of([height, width, channels]: [usize; 3], layers: &str) -> Model {
        let shape = Shape::Image { height, width, channels };
        let architecture = Architecture::new(shape, parse_layers(layers).unwrap()).unwrap();
        Model {
            path: "model.safetensors".into(),
            parameters: Parameters::initialize(&architecture, 1).unwrap(),
            seed: 1,
            loss: Loss::CrossEntropy,
            preprocessing: None,
            data: "digits".into(),
            image: Some([height, width]),
            train_sha256: None,
            shapes: None,
        }
    }

    /// A classifier of a table with a number, a text and a date.
    pub fn table_model() -> Model {
        let scale = Scale { mean: 100.0, deviation: 50.0 };
        let column = |name: &str, encoding, form, marks_gaps| Column { name: name.into(), encoding, form, marks_gaps };
        let table = TableFormat {
            columns: vec![
                column("label", Encoding::Standardised(scale), Form::Number, true),
                column("colour", Encoding::OneHot(vec!["".into(), "red".into()]), Form::Number, false),
                column("born", Encoding::Standardised(scale), Form::YearMonthDay, false),
            ],
            target: "kind".into(),
            encoding: TargetEncoding::Classes(vec!["a".into(), "b".into()]),
            test: TestPart::Share(0.2),
            form: Form::Number,
            thousands: Vec::new(),
            missing: Missing::Fill,
            positions: None,
        };
        let architecture = Architecture::dense(&[5, 3, 2], softstep::model::Activation::Relu).unwrap();
        Model {
            path: "model.safetensors".into(),
            parameters: Parameters::initialize(&architecture, 1).unwrap(),
            seed: 1,
            loss: Loss::CrossEntropy,
            preprocessing: Some(Preprocessing::Table(table)),
            data: "plants.csv".into(),
            image: None,
            train_sha256: None,
            shapes: None,
        }
    }

    #[test]
    fn classes_are_numbers_where_they_have_no_names_and_two_of_one_output() {
        let model = model_of([4, 4, 1], "linear:3");
        assert_eq!(Export::new(&model, None).classes().unwrap(), ["0", "1", "2"]);
        let model = Model { loss: Loss::BinaryCrossEntropy, ..model_of([4, 4, 1], "linear:1") };
        let export = Export::new(&model, Some("99 %".into()));
        assert_eq!(export.classes().unwrap(), ["0", "1"]);
        assert!(export.facts().contains(&("accuracy", "99 %".into())));
    }
}
