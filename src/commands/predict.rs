//! `softstep predict`: predictions of a trained model for files.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read as _, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use comfy_table::Cell;
use serde_json::{Value, json};
use softstep::Error;
use softstep::backend::Inference;
use softstep::data::predict_inputs::{Fit, Inputs, Place, Reading, is_no_digit};
use softstep::data::{Examples, Features, Preprocessing, Targets, in_own_units};
use softstep::loss::{Link, Loss};
use softstep::reference::attribution;

use crate::device;
use crate::format::{no_formula, percent, significant};
use crate::html::picture::{SOFTWARE, attribution_sheet};
use crate::options::{DeviceArgs, at_least_1};
use crate::run::error_analysis::of_pixels;
use crate::run::files::write_named;
use crate::run::model::{self, Model};
use crate::terminal::{self, print, print_json, printable, printable_end, right, table};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep predict --model runs/mlp seven.png photo.jpg
  softstep predict --model runs/plants new.csv --out predictions.csv
  softstep predict --model runs/mlp pictures/
  softstep predict --model runs/mlp --top 1 --json t10k-images-idx3-ubyte
  softstep predict --model runs/mlp < seven.png
  softstep predict --model runs/mlp seven.png --why why.png

A file that cannot be read is an error: the others are still predicted, and the exit code is 1.

A model trained on images reads images (PNG, JPEG, WebP, BMP, GIF, TIFF); one trained on a table reads CSV files with its \
columns, with or without the target; one trained on arrays reads .npy files; and any model whose inputs are bytes also reads \
IDX files and .npy arrays of bytes. A picture for a model that was trained on IDX files is fitted: with --fit digit it is \
brought to the form of MNIST's digits, dark ink on light or light on dark, in any place and size, on plain, ruled or squared \
paper; with --fit whole the picture is made grey and resized as it is. Several digits are read row by row, each on a line of \
its own; --one reads only the largest.

--json prints one JSON object a line: input (the file, with a row's line or an array's index), and classes, the most \
probable first, each with class and probability (output where the model was trained with mse or huber); or values, \
where the targets are real values. In a picture with several digits each of them also has digit (its number in reading \
order), row and box ([x, y, width, height] in pixels); a shape that is probably not a digit has no_digit: true.

--why draws a PNG with a row for each picture: on the left the picture as the model read it, on the right the pixels that \
speak for the prediction (orange) and against it (blue): the gradient of the predicted class's score times the pixel.";

/// Options of `softstep predict`.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// The model: a model.safetensors, or a run folder that holds one
    #[arg(long, value_name = "FILE|FOLDER")]
    pub model: PathBuf,
    /// Images, tables, .npy arrays or IDX files, or folders of them; - is standard input
    #[arg(value_name = "FILES", default_value = "-")]
    pub files: Vec<PathBuf>,
    /// Classes to show, the most probable first
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = at_least_1)]
    pub top: usize,
    /// Fit of pictures to the images of a model [default: digit for models of 28x28 and 8x8 images from IDX files,
    /// except fashion-mnist and kmnist; else whole]
    #[arg(long, value_enum)]
    pub fit: Option<FitChoice>,
    /// Read only the largest digit of a picture
    #[arg(long)]
    pub one: bool,
    /// Write the predictions to this CSV file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Draw which pixels of pictures speak for and against the predictions, as this PNG file
    #[arg(long, value_name = "FILE")]
    pub why: Option<PathBuf>,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print JSON Lines for programs
    #[arg(long)]
    pub json: bool,
}

/// Values of `--fit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FitChoice {
    /// The ink alone, as MNIST has its digits
    Digit,
    /// The whole picture
    Whole,
}

/// Upper limit of the size of a file, as for IDX files.
const MAX_BYTES: u64 = softstep::data::idx::MAX_BYTES;
/// Standard input.
const STDIN: &str = "-";

/// Prediction for one input.
pub struct Prediction {
    /// The file, with line or index.
    pub input: String,
    /// Place of the digit in a picture of several digits.
    pub place: Option<Place>,
    /// True if it is probably no digit.
    pub is_no_digit: bool,
    pub predicted: Predicted,
}

/// Predicted classes or values.
pub enum Predicted {
    /// Classes with their probabilities, the most probable first; or with the model's outputs, where it was trained with
    /// mean squared error.
    Classes(Vec<(String, f32)>),
    /// Real values, in the units of the target.
    Values(Vec<f64>),
}

/// Predicts; returns true if every input could be read.
pub async fn run(args: &PredictArgs) -> Result<bool> {
    let model = model::read_model(&args.model)?;
    let Model { parameters, loss, .. } = &model;
    let fit = checked_fit(args.fit, args.one, &model)?;
    let reading = reading(&model, fit, false);
    let Read { names, places, examples, whole } = read(args, &reading, &model)?;
    let Some(examples) = examples else { return Ok(false) };
    if let Some(out) = &args.why {
        write_attribution(out, &examples, &model)?;
    }
    let device = device::open_device(&args.device).await?;
    let mut backend = device.for_inference(parameters, *loss).await?;
    let set = backend.upload(&examples)?;
    let outputs = backend.probabilities(&set).await?;
    let predictions = predictions(names, &places, &outputs, &model, args.top);
    if let Some(out) = &args.out {
        write_named("--out", out, "input,", &csv_of(&predictions, *loss)?)?;
    }
    if let Some(why) = args.why.as_ref().filter(|_| !args.json) {
        terminal::written("attributions", why)?;
    }
    match &args.out {
        Some(out) if !args.json => terminal::written("predictions", out)?,
        _ => print_predictions(&predictions, *loss, args.json)?,
    }
    Ok(whole)
}

/// Most pictures on a sheet of attributions.
const MOST_PICTURES: usize = 64;

/// Draws what the predictions look at.
fn write_attribution(out: &Path, examples: &Examples, model: &Model) -> Result<()> {
    let (Some(image), Features::Bytes(bytes)) = (model.image, &*examples.inputs) else {
        bail!("--why is for models of pictures, and {} was trained on {}", model.path.display(), model.data);
    };
    if examples.len() > MOST_PICTURES {
        bail!("--why draws at most {MOST_PICTURES} pictures, and there are {}: name fewer", examples.len());
    }
    let picture = |(example, pixels): (usize, &[u8])| {
        let inputs: Vec<f64> = examples.input(example).collect();
        let Some(attribution) = attribution(&model.parameters, model.loss.link(), &inputs) else {
            bail!("--why: the numbers of the model are too large for an attribution");
        };
        Ok((pixels.to_vec(), of_pixels(&attribution, image)))
    };
    let pictures = bytes.chunks_exact(examples.features).enumerate().map(picture).collect::<Result<Vec<_>>>()?;
    write_named("--why", out, SOFTWARE, &attribution_sheet(&pictures, image)?)
}

/// Returns how a model reads inputs; if `strict`, no table with a bad row.
pub fn reading(model: &Model, fit: Fit, strict: bool) -> Reading<'_> {
    Reading {
        features: model.parameters.features(),
        image: model.image,
        preprocessing: model.preprocessing.as_ref(),
        fit,
        shapes: model.shapes.as_ref(),
        strict,
    }
}

/// Builds a prediction of each input, with at most `top` classes, from the model's outputs for all of them.
pub fn predictions(
    names: Vec<String>,
    places: &[Option<Place>],
    outputs: &[f32],
    model: &Model,
    top: usize,
) -> Vec<Prediction> {
    let width = outputs.len() / names.len().max(1);
    let prediction = |((input, place), outputs): ((String, &Option<Place>), &[f32])| Prediction {
        input,
        place: place.filter(|place| place.of > 1),
        is_no_digit: place.is_some_and(|place| is_no_digit(&place, outputs, model.loss)),
        predicted: predicted(outputs, model, top),
    };
    names.into_iter().zip(places).zip(outputs.chunks_exact(width.max(1))).map(prediction).collect()
}

/// Returns the fit of pictures that `--fit` and `--one` ask for.
///
/// # Errors
/// Either of them for a model that it is not for.
pub fn checked_fit(choice: Option<FitChoice>, one: bool, model: &Model) -> Result<Fit> {
    if choice.is_some() && matches!(model.preprocessing, Some(Preprocessing::Table(_))) {
        bail!("--fit is for pictures, and the model was trained on a table: leave it out");
    }
    match fit(choice, model) {
        Fit::Digits if one => Ok(Fit::Digit),
        Fit::Whole if one => {
            bail!("--one chooses among several digits; the model takes whole pictures: add --fit digit")
        }
        fit => Ok(fit),
    }
}

/// Fit of pictures to the images of a model: the choice, or else its default.
pub fn fit(choice: Option<FitChoice>, model: &Model) -> Fit {
    match choice {
        Some(FitChoice::Digit) => Fit::Digits,
        Some(FitChoice::Whole) => Fit::Whole,
        None => Fit::default_for(model.preprocessing.as_ref(), model.image, &model.data),
    }
}

/// The inputs that could be read.
struct Read {
    names: Vec<String>,
    places: Vec<Option<Place>>,
    /// `None` if there are none.
    examples: Option<Examples>,
    /// True if every input could be read.
    whole: bool,
}

/// Reads all files; prints an error for those that cannot be read.
fn read(args: &PredictArgs, reading: &Reading<'_>, model: &Model) -> Result<Read> {
    let (mut names, mut places, mut bytes, mut floats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut whole = true;
    let mut files = Vec::new();
    for file in &args.files {
        match file.is_dir() {
            true => {
                let before = files.len();
                files_in(file, 0, &mut files)?;
                if files.len() == before {
                    terminal::error(&anyhow!("{}: the folder holds no files", file.display()));
                    whole = false;
                }
            }
            false => files.push(file.clone()),
        }
    }
    for file in &files {
        let inputs = read_file(file).and_then(|(file, content)| Ok(reading.read(&file, &content)?));
        let Inputs { names: of_file, features, notices, problems, places: of_digits } = match inputs {
            Ok(inputs) => inputs,
            Err(error) => {
                terminal::error(&error);
                whole = false;
                continue;
            }
        };
        terminal::notices(&notices);
        for problem in problems {
            terminal::error(&anyhow::Error::msg(problem));
            whole = false;
        }
        names.extend(of_file);
        places.extend(of_digits);
        match features {
            Features::Bytes(features) => bytes.extend(features),
            Features::Floats(features) => floats.extend(features),
            Features::Stored(_) => bail!("inputs to predict are read into memory"),
        }
    }
    if names.is_empty() {
        return Ok(Read { names, places, examples: None, whole });
    }
    // A model reads either the one or the other.
    let features = if bytes.is_empty() { Features::Floats(floats) } else { Features::Bytes(bytes) };
    let examples = examples(features, model)?;
    Ok(Read { names, places, examples: Some(examples), whole })
}

/// Examples with these features. The targets are unknown, and nobody looks at them.
pub fn examples(features: Features, model: &Model) -> softstep::Result<Examples> {
    let (width, outputs) = (model.parameters.features(), model.parameters.outputs());
    let count = features.len() / width;
    let targets = match (model.preprocessing.as_ref().is_none_or(Preprocessing::has_classes), model.loss.link()) {
        (true, Link::Sigmoid) => (Targets::Classes(vec![0; count]), 2),
        (true, _) => (Targets::Classes(vec![0; count]), outputs),
        (false, _) => (Targets::Values(vec![0.0; count * outputs]), outputs),
    };
    Examples::new(features, targets.0, width, targets.1)
}

/// Encodes predictions as CSV, a line for each input.
fn csv_of(predictions: &[Prediction], loss: Loss) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let measure = measure(loss);
    let has_places = predictions.iter().any(|prediction| prediction.place.is_some());
    match predictions.first().map(|first| &first.predicted) {
        Some(Predicted::Values(values)) if values.len() > 1 => {
            let columns = (1..=values.len()).map(|number| format!("value {number}"));
            table.write_record(std::iter::once("input".to_string()).chain(columns))?;
        }
        Some(Predicted::Values(_)) => table.write_record(["input", "value"])?,
        _ if has_places => {
            table.write_record(["input", "class", measure, "digit", "row", "x", "y", "width", "height"])?;
        }
        _ => table.write_record(["input", "class", measure])?,
    }
    for Prediction { input, place, is_no_digit, predicted } in predictions {
        let input = no_formula(input);
        match predicted {
            Predicted::Values(values) => {
                table.write_record(std::iter::once(input).chain(values.iter().map(f64::to_string)))?;
            }
            Predicted::Classes(classes) => {
                let Some((class, value)) = classes.first() else { continue };
                let place = match place {
                    Some(Place { number, row, bounds, .. }) => {
                        let bounds = bounds.map(|along| along.to_string());
                        [number, row].map(usize::to_string).into_iter().chain(bounds).collect()
                    }
                    None if has_places => vec![String::new(); 6],
                    None => Vec::new(),
                };
                let class = if *is_no_digit { "no digit" } else { class };
                table.write_record([input, no_formula(class), value.to_string()].into_iter().chain(place))?;
            }
        }
    }
    Ok(table.into_inner()?)
}

/// Upper limit of the depth of nested folders: a link may lead back.
const MAX_DEPTH: usize = 8;

/// Lists the files in a folder and in those in it, sorted by name, but for hidden ones.
fn files_in(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))? {
        let entry = entry.map_err(Error::io("read folder", folder))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            entries.push(entry.path());
        }
    }
    entries.sort();
    for entry in entries {
        match entry.is_dir() {
            true if depth < MAX_DEPTH => files_in(&entry, depth + 1, files)?,
            true => bail!("{}: folders nested {MAX_DEPTH} deep: name those that hold the files", folder.display()),
            false => files.push(entry),
        }
    }
    Ok(())
}

/// Reads a file; returns its display name and content.
fn read_file(path: &Path) -> Result<(String, Vec<u8>)> {
    let (name, input): (_, Box<dyn io::Read>) = if path == Path::new(STDIN) {
        if stdin().is_terminal() {
            bail!("nothing to predict: name images, tables, arrays or IDX files, or pipe one to standard input");
        }
        ("standard input".to_string(), Box::new(stdin().lock()))
    } else {
        let name = path.display().to_string();
        let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
        if is_device(&metadata) {
            bail!("{name} is a device: name files, or pipes");
        }
        // A pipe has no length: it is over when it is.
        if metadata.is_file() {
            check_length(&name, metadata.len())?;
        }
        (name, Box::new(File::open(path).map_err(Error::io("read", path))?))
    };
    let mut content = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(Error::io("read", &name))?;
    check_length(&name, content.len() as u64)?;
    Ok((name, content))
}

fn is_device(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        kind.is_char_device() || kind.is_block_device()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

fn check_length(name: &str, bytes: u64) -> Result<()> {
    if bytes > MAX_BYTES {
        bail!("{name}: more than {MAX_BYTES} bytes, which is the limit");
    }
    if bytes == 0 {
        bail!("{name} is empty");
    }
    Ok(())
}

/// Interprets the outputs for an input.
fn predicted(outputs: &[f32], model: &Model, top: usize) -> Predicted {
    let preprocessing = model.preprocessing.as_ref();
    if !preprocessing.is_none_or(Preprocessing::has_classes) {
        return Predicted::Values(in_own_units(preprocessing, outputs));
    }
    let mut classes: Vec<usize> = (0..outputs.len()).collect();
    // Equal ones in the order of the classes, as the first is predicted.
    classes.sort_by(|&a, &b| outputs[b].total_cmp(&outputs[a]));
    let name = |class: usize| match preprocessing.and_then(Preprocessing::class_names) {
        Some(names) => names[class].clone(),
        None => class.to_string(),
    };
    Predicted::Classes(classes.into_iter().take(top).map(|class| (name(class), outputs[class])).collect())
}

/// A prediction of a model that was trained with `loss` as a JSON object.
pub fn json_of(prediction: &Prediction, loss: Loss) -> Value {
    let Prediction { input, place, is_no_digit, predicted } = prediction;
    let measure = measure(loss);
    let mut line = match predicted {
        Predicted::Values(values) => json!({ "input": input, "values": values }),
        Predicted::Classes(classes) => {
            let classes: Vec<_> =
                classes.iter().map(|(class, value)| json!({ "class": class, measure: value })).collect();
            json!({ "input": input, "classes": classes })
        }
    };
    if *is_no_digit {
        line["no_digit"] = json!(true);
    }
    if let Some(Place { number, row, bounds, .. }) = place {
        line["digit"] = json!(number);
        line["row"] = json!(row);
        line["box"] = json!(bounds);
    }
    line
}

/// Name of the number beside a class.
fn measure(loss: Loss) -> &'static str {
    if loss.link() == Link::Identity { "output" } else { "probability" }
}

/// Prints the predictions of a model that was trained with `loss`.
fn print_predictions(predictions: &[Prediction], loss: Loss, json: bool) -> Result<()> {
    if json {
        return predictions.iter().try_for_each(|prediction| Ok(print_json(&json_of(prediction, loss))?));
    }
    let measure = measure(loss);
    let number = |value: f32| match loss.link() {
        Link::Identity => format!("{value:.4}"),
        Link::Softmax | Link::Sigmoid => percent(value.into()),
    };
    let is_values = |prediction: &Prediction| matches!(prediction.predicted, Predicted::Values(_));
    let others = |prediction: &Prediction| matches!(&prediction.predicted, Predicted::Classes(all) if all.len() > 1);
    let mut header = vec!["input"];
    match predictions.iter().any(is_values) {
        true => header.push("value"),
        false => header.extend(["class", measure]),
    }
    header.extend(predictions.iter().any(others).then_some("next"));
    let has_places = predictions.iter().any(|prediction| prediction.place.is_some());
    if has_places {
        header.splice(1..1, ["digit", "row", "box"]);
    }
    let mut table = table(&header);
    for Prediction { input, place, is_no_digit, predicted } in predictions {
        let mut row = vec![Cell::new(printable_end(input))];
        match place {
            Some(Place { number, row: of_sheet, bounds: [x, y, width, height], .. }) => {
                row.extend(right([number.to_string(), of_sheet.to_string()]));
                row.push(Cell::new(format!("{x},{y} {width}x{height}")));
            }
            None if has_places => row.extend([(); 3].map(|()| Cell::new(""))),
            None => {}
        }
        match predicted {
            Predicted::Values(values) => {
                let values: Vec<String> = values.iter().map(|&value| significant(value, 7)).collect();
                row.push(Cell::new(values.join(", ")));
            }
            Predicted::Classes(classes) => {
                // Where it is none, the digit that it would be comes first among the others.
                let first = usize::from(!is_no_digit);
                match classes.first() {
                    Some((class, value)) if !is_no_digit => {
                        row.push(Cell::new(printable(class)));
                        row.extend(right([number(*value)]));
                    }
                    _ => row.extend(["no digit", ""].map(Cell::new)),
                }
                let next =
                    classes.iter().skip(first).map(|(class, value)| format!("{} {}", printable(class), number(*value)));
                row.push(Cell::new(next.collect::<Vec<_>>().join(", ")));
            }
        }
        table.add_row(row);
    }
    Ok(print(&table.to_string())?)
}
