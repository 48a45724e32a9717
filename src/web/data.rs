//! Data sets of a page.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use image::RgbaImage;
use js_sys::Float32Array;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::{Answer, answer, floats, object, parsed, set, throw};
use crate::data::csv::{self, TableOptions, Task};
use crate::data::files::Given;
use crate::data::images::{self, ImageOptions, of_page};
use crate::data::{
    self, Color, Data, Examples, ImageFormat, Kind, Missing, Preprocessing, Targets, TestPart, in_own_units, npy,
};
use crate::error::{Error, Result};
use crate::model::Shape;
use crate::trained::Model;

/// A data set: a training part and a test part.
#[wasm_bindgen(js_name = Data)]
pub struct WebData {
    pub(super) data: Rc<Data>,
}

impl From<Data> for WebData {
    fn from(data: Data) -> Self {
        Self { data: Rc::new(data) }
    }
}

#[wasm_bindgen(js_class = Data)]
impl WebData {
    /// The bundled digits.
    ///
    /// # Errors
    /// Throws if they were damaged when softstep was built.
    pub fn digits() -> Answer<Self> {
        answer(data::digits()).map(Self::from)
    }

    /// Reads files by their names, which hold the names of their folders: four IDX files, a table, a folder of pictures
    /// for each class, or NumPy arrays, as `softstep train` does. The options are a JSON object with the names of its
    /// flags: `target`, `task`, `categorical`, `ignore`, `use`, `missing`, `no_header`, `image_size`, `color`, `strict`,
    /// `test` (a share) and `seed`.
    ///
    /// # Errors
    /// Throws what is wrong with a file or an option, in one sentence.
    pub fn from_files(names: Vec<String>, bytes: Vec<js_sys::Uint8Array>, options: &str) -> Answer<Self> {
        let options = parsed(options)?;
        let (spec, _given) = given(names, bytes)?;
        answer(load(&spec, &options)).map(Self::from)
    }

    /// Reads files as a model reads them, for its evaluation and further training.
    ///
    /// # Errors
    /// Throws what is wrong with a file, or that the model reads others.
    pub fn for_model(model: &[u8], names: Vec<String>, bytes: Vec<js_sys::Uint8Array>) -> Answer<Self> {
        let model = answer(Model::from_bytes("the model", model))?;
        let (spec, _given) = given(names, bytes)?;
        let metadata = model.metadata();
        answer(match &metadata.preprocessing {
            Some(preprocessing) => data::load_again(&spec, preprocessing, metadata.seed),
            None => load(&spec, &json!({})),
        })
        .map(Self::from)
    }

    /// Shares the data set with another run.
    pub fn share(&self) -> Self {
        Self { data: self.data.clone() }
    }

    /// Builds a data set of numbers, which is its own test part: `columns` features for each example, and its class or
    /// its value as `kind`, `classes` or `values`, says.
    ///
    /// # Errors
    /// Throws if the numbers do not fit together, or there is nothing to learn.
    pub fn from_values(features: Vec<f32>, columns: usize, targets: Vec<f32>, kind: &str) -> Answer<Self> {
        let examples = match kind {
            "classes" => {
                let classes: Vec<u32> = targets.iter().map(|&class| class as u32).collect();
                let count = classes.iter().max().map_or(2, |&highest| highest as usize + 1).max(2);
                Examples::new(features, classes, columns, count)
            }
            "values" => Examples::new(features, targets, columns, 1),
            other => return throw(format!("targets {other:?}: they are classes or values")),
        };
        let examples = answer(examples)?;
        answer(Data::new("numbers", examples.clone(), examples)).map(Self::from)
    }

    /// Describes the data set: `{name, rows: {train, test}, features, shape, targets, classes, class_names, target,
    /// notices, rule, sha256}`.
    ///
    /// # Errors
    /// Throws if the description cannot be converted.
    pub fn describe(&self) -> Answer<JsValue> {
        let Data { name, train, test, preprocessing, notices, target_rule, .. } = &*self.data;
        let preprocessing = preprocessing.as_ref();
        let shape = match self.data.shape() {
            Shape::Image { height, width, channels } => Some([height, width, channels]),
            Shape::Flat(_) => None,
        };
        let is_classes = matches!(*train.targets, Targets::Classes(_));
        object(&json!({
            "name": name,
            "rows": { "train": train.len(), "test": test.len() },
            "features": train.features,
            "shape": shape,
            "targets": if is_classes { "classes" } else { "values" },
            "classes": if is_classes { train.outputs } else { 0 },
            "outputs": train.outputs,
            "class_names": preprocessing.and_then(Preprocessing::class_names),
            "target": preprocessing.and_then(Preprocessing::target),
            "preprocessing": preprocessing,
            "notices": notices.iter().map(|notice| crate::words::of_page(notice)).collect::<Vec<_>>(),
            "rule": target_rule.as_deref().map(crate::words::of_page),
        }))
    }

    /// Returns an example of a part, `train` or `test`, as a model sees it: `{features, label}` or `{features, values}`,
    /// the values in the units of the target.
    ///
    /// # Errors
    /// Throws if there is no such part or example.
    pub fn example(&self, part: &str, index: usize) -> Answer<JsValue> {
        let examples = part_of(&self.data, part)?;
        if index >= examples.len() {
            return throw(format!("example {index}: there are {}, counted from 0", examples.len()));
        }
        let result: JsValue = js_sys::Object::new().into();
        set(&result, "features", &floats(examples.input(index)))?;
        match &*examples.targets {
            Targets::Classes(labels) => set(&result, "label", &labels[index].into())?,
            Targets::Values(values) => {
                let values = &values[index * examples.outputs..][..examples.outputs];
                set(&result, "values", &floats(in_own_units(self.data.preprocessing.as_ref(), values)))?;
            }
        }
        Ok(result)
    }

    /// Returns the features of every example of a part, `[examples, features]`, as a model sees them.
    ///
    /// # Errors
    /// Throws if there is no such part.
    pub fn features(&self, part: &str) -> Answer<Float32Array> {
        let examples = part_of(&self.data, part)?;
        Ok(floats((0..examples.len()).flat_map(|example| examples.input(example))))
    }

    /// Returns the labels, or the values, of every example of a part.
    ///
    /// # Errors
    /// Throws if there is no such part.
    pub fn targets(&self, part: &str) -> Answer<Float32Array> {
        Ok(match &*part_of(&self.data, part)?.targets {
            Targets::Classes(labels) => floats(labels.iter().map(|&label| f64::from(label))),
            Targets::Values(values) => Float32Array::from(&values[..]),
        })
    }
}

/// The form that a data set or a model has its pictures in. A page decodes pictures, and brings each to it before the next.
#[wasm_bindgen]
pub struct PictureForm(ImageFormat);

#[wasm_bindgen]
impl PictureForm {
    /// The form that the options of [`Data.from_files`](WebData::from_files) ask for.
    ///
    /// # Errors
    /// Throws what is wrong with an option.
    pub fn of_options(options: &str) -> Answer<Self> {
        let ImageOptions { width, height, color, .. } = answer(image_options(&parsed(options)?))?;
        Ok(Self(ImageFormat { width, height, color, classes: Vec::new(), test: TestPart::default() }))
    }

    /// The form that a model reads, if it reads pictures.
    ///
    /// # Errors
    /// Throws if it is no model.
    pub fn of_model(model: &[u8]) -> Answer<Self> {
        match &answer(Model::from_bytes("the model", model))?.metadata().preprocessing {
            Some(Preprocessing::Images(format)) => Ok(Self(format.clone())),
            _ => Self::of_options("{}"),
        }
    }

    /// Returns true if a file is a picture for the page to decode, by its first 32 bytes.
    pub fn is_picture(start: &[u8]) -> bool {
        of_page::is_to_decode(start)
    }

    /// Brings a picture of pixels, row by row, each of red, green, blue and alpha, to this form: a file for
    /// [`Data.from_files`](WebData::from_files) in place of the picture's.
    ///
    /// # Errors
    /// Throws if there are too few pixels.
    pub fn file(&self, pixels: Vec<u8>, width: u32, height: u32) -> Answer<Vec<u8>> {
        match RgbaImage::from_raw(width, height, pixels) {
            Some(picture) => Ok(of_page::file(&self.0, picture)),
            None => throw("a picture with too few pixels"),
        }
    }
}

/// The part of a data set with this name.
pub(super) fn part_of<'a>(data: &'a Data, part: &str) -> Answer<&'a Examples> {
    match part {
        "train" => Ok(&data.train),
        "test" => Ok(&data.test),
        other => throw(format!("part {other:?}: it is train or test")),
    }
}

/// Folder of files that were given without one.
const LOOSE: &str = "files";

/// Gives files to the readers; returns the path of the file or folder that holds all of them.
fn given(names: Vec<String>, bytes: Vec<js_sys::Uint8Array>) -> Answer<(String, Given)> {
    if names.is_empty() || names.len() != bytes.len() {
        return throw(format!("{} names for {} files", names.len(), bytes.len()));
    }
    let is_one = names.len() == 1;
    let path = |name: &String| match name.trim_matches('/') {
        name if is_one || name.contains('/') => PathBuf::from(name),
        name => Path::new(LOOSE).join(name),
    };
    let paths: Vec<PathBuf> = names.iter().map(path).collect();
    let mut common = if is_one { paths[0].clone() } else { paths[0].parent().unwrap_or(Path::new("")).to_path_buf() };
    while !paths.iter().all(|path| path.starts_with(&common)) {
        common.pop();
    }
    // An array alone, or a picture, is looked for in its folder.
    let spec = match common.to_string_lossy() {
        empty if empty.is_empty() => {
            return throw("these files lie in several folders: drop the one that holds all of them");
        }
        spec => spec.into_owned(),
    };
    Ok((spec, Given::new(paths.into_iter().zip(bytes.iter().map(js_sys::Uint8Array::to_vec)))))
}

/// Loads given files with the options of a page.
fn load(spec: &str, options: &Value) -> Result<Data> {
    const KNOWN: [&str; 12] = [
        "target",
        "task",
        "categorical",
        "ignore",
        "use",
        "missing",
        "no_header",
        "image_size",
        "color",
        "strict",
        "test",
        "seed",
    ];
    let invalid = |problem: String| Err(Error::Invalid(problem));
    if let Some(unknown) = options.as_object().into_iter().flatten().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
        return invalid(format!("there is no option {:?} of data: leave it out", unknown.0));
    }
    let text = |name: &str| options[name].as_str().filter(|text| !text.is_empty());
    let list = |name: &str| match &options[name] {
        Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        Value::String(name) if !name.is_empty() => vec![name.clone()],
        _ => Vec::new(),
    };
    let is = |name: &str| options[name].as_bool().unwrap_or(false);
    let task = match text("task") {
        None => None,
        Some("classification") => Some(Task::Classification),
        Some("regression") => Some(Task::Regression),
        Some(other) => return invalid(format!("`task` {other}: it is classification or regression")),
    };
    let test = options["test"].as_f64().map(TestPart::Share);
    let seed = options["seed"].as_u64().unwrap_or(0);
    let path = Path::new(spec);
    match Kind::of(spec) {
        Kind::Idx => data::load_idx(spec),
        Kind::Table => {
            let Some(target) = text("target") else {
                return invalid(format!("{spec} is a table: choose the column to learn"));
            };
            let missing = match text("missing") {
                None | Some("fill") => Missing::Fill,
                Some("drop") => Missing::Drop,
                Some("refuse") => Missing::Refuse,
                Some(other) => return invalid(format!("`missing` {other}: it is fill, drop or refuse")),
            };
            let options = TableOptions {
                target: target.into(),
                task,
                categorical: list("categorical"),
                ignore: list("ignore"),
                used: list("use"),
                missing,
                no_header: is("no_header"),
                test: test.unwrap_or_default(),
            };
            csv::load(path, &options, seed)
        }
        Kind::Images => {
            images::load(path, &ImageOptions { test, strict: is("strict"), ..image_options(options)? }, seed)
        }
        Kind::Arrays => npy::load(path, test.as_ref(), task, seed),
    }
}

/// Size and colour of pictures in the options of a page.
fn image_options(options: &Value) -> Result<ImageOptions> {
    let side = |value: &Value| value.as_u64().and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0);
    let sides = match &options["image_size"] {
        Value::Null => Some((32, 32)),
        Value::Array(sides) if sides.len() == 2 => side(&sides[0]).zip(side(&sides[1])),
        one => side(one).map(|side| (side, side)),
    };
    let problem = || Error::Invalid("`image_size`: it is a number of pixels, or width and height".into());
    let (width, height) = sides.ok_or_else(problem)?;
    let color = if options["color"] == "grey" { Color::Grey } else { Color::Rgb };
    Ok(ImageOptions { width, height, color, test: None, strict: false })
}
