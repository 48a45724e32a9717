//! Data sets of a page.

use std::rc::Rc;

use js_sys::Float32Array;
use serde_json::json;
use wasm_bindgen::prelude::*;

use super::{Answer, answer, floats, object, set, throw};
use crate::data::{self, Data, Examples, Preprocessing, Targets};
use crate::model::Shape;

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
            "notices": notices.iter().map(|notice| super::words::of_page(notice)).collect::<Vec<_>>(),
            "rule": target_rule.as_deref().map(super::words::of_page),
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
                let scale = self.data.preprocessing.as_ref().and_then(Preprocessing::target_scale);
                let unit = |&value: &f32| scale.map_or(f64::from(value), |scale| scale.undo(value));
                let values = &values[index * examples.outputs..][..examples.outputs];
                set(&result, "values", &floats(values.iter().map(unit)))?;
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

/// The part of a data set with this name.
pub(super) fn part_of<'a>(data: &'a Data, part: &str) -> Answer<&'a Examples> {
    match part {
        "train" => Ok(&data.train),
        "test" => Ok(&data.test),
        other => throw(format!("part {other:?}: it is train or test")),
    }
}
