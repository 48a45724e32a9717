//! `softstep predict`: what a trained model makes of files.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read as _, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use softstep::Error;
use softstep::backend::Backend;
use softstep::cpu::CpuBackend;
use softstep::data::inputs::{Fit, Inputs, Place, Reading};
use softstep::data::{Examples, Features, Preprocessing, Targets};
use softstep::gpu::{GpuBackend, Readback};
use softstep::loss::Loss;

use super::report::no_formula;
use crate::cli::{FitChoice, PredictArgs};
use crate::report;
use crate::run_folder::{self, Model, write_named};

/// The most bytes of a file, as of an IDX file's elements.
const MAX_BYTES: u64 = softstep::data::idx::MAX_BYTES;
/// Standard input.
const STDIN: &str = "-";
/// Images of MNIST's size and that of the bundled digits are taken for digits, brought to the same form.
const DIGITS: [[usize; 2]; 2] = [[28, 28], [8, 8]];
/// But not those of these sets.
const NO_DIGITS: [&str; 2] = ["fashion-mnist", "kmnist"];

/// What a model makes of one input.
pub struct Prediction {
    /// The file, with line or index.
    pub input: String,
    /// Where it is in its picture, if that shows several digits.
    pub place: Option<Place>,
    /// True if no class is likely enough for a digit.
    pub is_no_digit: bool,
    pub outcome: Outcome,
}

/// What a model gives.
pub enum Outcome {
    /// Classes with their probabilities, the most probable first; or with the model's outputs, where it was trained with
    /// mean squared error.
    Classes(Vec<(String, f32)>),
    /// Real values, in the units of the target.
    Values(Vec<f64>),
}

/// Predicts; whether every file could be read.
pub async fn run(args: &PredictArgs) -> Result<bool> {
    let model = run_folder::read_model(&args.model)?;
    let Model { parameters, loss, preprocessing, image, .. } = &model;
    if args.fit.is_some() && matches!(preprocessing, Some(Preprocessing::Table(_))) {
        bail!("--fit is for pictures, and the model was trained on a table: leave it away");
    }
    let fit = match fit(args.fit, &model) {
        Fit::Digits if args.one => Fit::Digit,
        Fit::Whole if args.one => {
            bail!("--one is of several digits, and the model takes whole pictures: say --fit digit")
        }
        fit => fit,
    };
    let reading =
        Reading { features: parameters.features(), image: *image, preprocessing: preprocessing.as_ref(), fit };
    let Read { names, places, examples, whole } = read(args, &reading, &model)?;
    let Some(examples) = examples else { return Ok(false) };
    let outputs = match super::open_gpu(&args.device).await? {
        Some(gpu) => {
            let backend = GpuBackend::new(&gpu, parameters, None, Readback::default()).await?;
            outputs(backend.with_loss(*loss), &examples).await?
        }
        None => outputs(CpuBackend::new(parameters, None)?.with_loss(*loss), &examples).await?,
    };
    let predictions: Vec<Prediction> = names
        .into_iter()
        .zip(places)
        .zip(outputs.chunks_exact(outputs.len() / examples.len()))
        .map(|((input, place), outputs)| Prediction {
            input,
            place: place.filter(|place| place.of > 1),
            is_no_digit: place.is_some() && is_no_digit(outputs, *loss),
            outcome: outcome(outputs, &model, args.top),
        })
        .collect();
    if let Some(out) = &args.out {
        write_named("--out", out, "input,", &csv_of(&predictions, *loss)?)?;
    }
    match &args.out {
        Some(out) if !args.json => report::written("predictions", out)?,
        _ => report::predictions(&predictions, *loss, args.json)?,
    }
    Ok(whole)
}

/// How pictures are brought to the images of a model.
pub fn fit(choice: Option<FitChoice>, model: &Model) -> Fit {
    let is_of_digits = || {
        let is_as_large = model.image.is_some_and(|image| DIGITS.contains(&image));
        model.preprocessing.is_none() && is_as_large && !NO_DIGITS.contains(&model.data.as_str())
    };
    match choice {
        Some(FitChoice::Digit) => Fit::Digits,
        None if is_of_digits() => Fit::Digits,
        Some(FitChoice::Whole) | None => Fit::Whole,
    }
}

/// What could be read of the files.
struct Read {
    names: Vec<String>,
    places: Vec<Option<Place>>,
    /// `None` if there are none.
    examples: Option<Examples>,
    /// Whether it is all of them.
    whole: bool,
}

async fn outputs<B: Backend>(mut backend: B, examples: &Examples) -> Result<Vec<f32>> {
    let set = backend.upload(examples)?;
    Ok(backend.probabilities(&set).await?)
}

/// All files together; one that cannot be read is reported, and the others are predicted.
fn read(args: &PredictArgs, reading: &Reading<'_>, model: &Model) -> Result<Read> {
    let (mut names, mut places, mut bytes, mut floats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut whole = true;
    let mut files = Vec::new();
    for file in &args.files {
        match file.is_dir() {
            true => files_in(file, 0, &mut files)?,
            false => files.push(file.clone()),
        }
    }
    for file in &files {
        let inputs = read_file(file).and_then(|(file, content)| Ok(reading.read(&file, &content)?));
        let Inputs { names: of_file, features, notices, problems, places: of_digits } = match inputs {
            Ok(inputs) => inputs,
            Err(error) => {
                report::error(&error);
                whole = false;
                continue;
            }
        };
        report::notices(&notices);
        for problem in problems {
            report::error(&anyhow::Error::msg(problem));
            whole = false;
        }
        names.extend(of_file);
        places.extend(of_digits);
        match features {
            Features::Bytes(features) => bytes.extend(features),
            Features::Floats(features) => floats.extend(features),
        }
    }
    if names.is_empty() {
        return Ok(Read { names, places, examples: None, whole });
    }
    // A model reads either the one or the other. The targets are unknown, and nobody looks at them.
    let inputs = if bytes.is_empty() { Features::Floats(floats) } else { Features::Bytes(bytes) };
    let (count, outputs) = (names.len(), model.parameters.outputs());
    let targets = match (model.preprocessing.as_ref().is_none_or(Preprocessing::has_classes), model.loss) {
        (true, Loss::BinaryCrossEntropy) => (Targets::Classes(vec![0; count]), 2),
        (true, _) => (Targets::Classes(vec![0; count]), outputs),
        (false, _) => (Targets::Values(vec![0.0; count * outputs]), outputs),
    };
    let examples = Examples::new(inputs, targets.0, reading.features, targets.1)?;
    Ok(Read { names, places, examples: Some(examples), whole })
}

/// The predictions as a table, a line for each input.
fn csv_of(predictions: &[Prediction], loss: Loss) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let measure = if loss == Loss::MeanSquaredError { "output" } else { "probability" };
    let has_places = predictions.iter().any(|prediction| prediction.place.is_some());
    match predictions.first().map(|first| &first.outcome) {
        Some(Outcome::Values(values)) if values.len() > 1 => {
            let columns = (1..=values.len()).map(|number| format!("value {number}"));
            table.write_record(std::iter::once("input".to_string()).chain(columns))?;
        }
        Some(Outcome::Values(_)) => table.write_record(["input", "value"])?,
        _ if has_places => {
            table.write_record(["input", "class", measure, "digit", "row", "x", "y", "width", "height"])?;
        }
        _ => table.write_record(["input", "class", measure])?,
    }
    for Prediction { input, place, is_no_digit, outcome } in predictions {
        let input = no_formula(input);
        match outcome {
            Outcome::Values(values) => {
                table.write_record(std::iter::once(input).chain(values.iter().map(f64::to_string)))?;
            }
            Outcome::Classes(classes) => {
                let Some((class, value)) = classes.first() else { continue };
                let place = match place {
                    Some(Place { number, row, bounds: [x, y, width, height], .. }) => {
                        let bounds = [x, y, width, height].map(u32::to_string);
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

/// How deep folders in folders are followed; a link may lead back.
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
            true => bail!("{}: folders in folders, {MAX_DEPTH} deep: name those that hold the files", folder.display()),
            false => files.push(entry),
        }
    }
    Ok(())
}

/// A file's content, and what to call it.
fn read_file(path: &Path) -> Result<(String, Vec<u8>)> {
    let (name, input): (_, Box<dyn io::Read>) = if path == Path::new(STDIN) {
        if stdin().is_terminal() {
            bail!("nothing to predict: name images, tables, arrays or IDX files, or give one on standard input");
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

/// Least probability of a digit. Of MNIST's test images a model of them gives 2 % a smaller one.
const LEAST_DIGIT: f32 = 0.8;

/// Whether outputs for a digit that was found in a picture say that it is none.
fn is_no_digit(outputs: &[f32], loss: Loss) -> bool {
    loss == Loss::CrossEntropy && outputs.iter().all(|&probability| probability < LEAST_DIGIT)
}

/// What the outputs for an input say.
fn outcome(outputs: &[f32], model: &Model, top: usize) -> Outcome {
    let preprocessing = model.preprocessing.as_ref();
    if !preprocessing.is_none_or(Preprocessing::has_classes) {
        let scale = preprocessing.and_then(Preprocessing::target_scale);
        let value = |&output: &f32| scale.map_or(f64::from(output), |scale| scale.undo(output));
        return Outcome::Values(outputs.iter().map(value).collect());
    }
    let mut classes: Vec<usize> = (0..outputs.len()).collect();
    // Equal ones in the order of the classes, as the first is predicted.
    classes.sort_by(|&a, &b| outputs[b].total_cmp(&outputs[a]));
    let name = |class: usize| match preprocessing.and_then(Preprocessing::class_names) {
        Some(names) => names[class].clone(),
        None => class.to_string(),
    };
    Outcome::Classes(classes.into_iter().take(top).map(|class| (name(class), outputs[class])).collect())
}
