//! Runs of a page: training in slices, evaluation and prediction in between.

mod paced;
mod settings;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use js_sys::Float32Array;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::data::{WebData, part_of};
use super::{Answer, answer, device, floats, object, parsed, set, throw};
use crate::any_backend::Device;
use crate::backend::{AnyModel, AnySet, Backend, DeviceInfo, Evaluation, Inference, Readback, Step};
use crate::cpu::CpuModel;
use crate::data::predict_inputs::{Fit, NO_DIGIT, Reading, is_no_digit};
use crate::data::{Data, Examples, Features, Preprocessing, Targets, in_own_units};
use crate::error::{Error, Result};
use crate::loss::{Link, example_weights};
use crate::metrics::{Confusion, interval};
use crate::model::Parameters;
use crate::model_file::{self, Metadata, pytorch_weights};
use crate::plan::{Operation, Plan};
use crate::reference::{attribution, widen};
use crate::trained::Model;
use crate::trainer::{self, Event, RunOptions, Summary, TrainingConfig, epoch_order};

use paced::{Paced, Shared};

/// Most mistakes that an evaluation lists.
const MISTAKES: usize = 24;
/// Most pairs of real values that an evaluation lists.
const PAIRS: usize = 800;

/// The training loop, which goes on as long as the page gives it steps.
type Loop = Pin<Box<dyn Future<Output = Result<Option<Summary>>>>>;

/// A model in training, or one that was trained.
#[wasm_bindgen(js_name = Run)]
pub struct WebRun {
    device: Device,
    config: TrainingConfig,
    data: Option<Rc<Data>>,
    metadata: Metadata,
    /// The model on the device.
    engine: Engine,
    /// Uploaded parts of the data, by name.
    sets: RefCell<Vec<(String, AnySet)>>,
    /// The last parameters that were read, with the number of steps before.
    parameters: RefCell<Option<(usize, Rc<Parameters>)>>,
}

/// A model on a device.
enum Engine {
    /// In training.
    Training(Training),
    /// For evaluation and prediction alone; `None` while it works.
    Trained(Box<RefCell<Option<AnyModel>>>),
}

/// A training run under way.
struct Training {
    shared: Rc<Shared>,
    /// `None` once it is over.
    run: RefCell<Option<Loop>>,
    /// Evaluations at the ends of epochs that the page has not seen.
    epochs: Rc<RefCell<Vec<Value>>>,
    /// Steps whose losses the page has seen.
    seen: Cell<usize>,
    /// Steps of the whole run.
    steps: usize,
    validation: usize,
}

#[wasm_bindgen(js_class = Run)]
impl WebRun {
    /// Prepares the training of a new model on `data`. The settings are a JSON object with the names of `config.json`;
    /// those that are missing are chosen by the data, as `softstep train` does. The backend is `gpu` or `cpu`.
    ///
    /// # Errors
    /// Throws if settings and data do not fit together; errors of the device.
    pub async fn create(data: &WebData, settings: &str, backend: &str) -> Answer<WebRun> {
        let (data, settings) = (data.data.clone(), parsed(settings)?);
        let device = device(backend).await?;
        answer(Self::training(&data, &settings, None, device).await)
    }

    /// Reads a model, `model.safetensors`: to predict, or with `data` also to evaluate, or with `settings` to train it
    /// further.
    ///
    /// # Errors
    /// Throws if it is no model of softstep's, or does not fit the data; errors of the device.
    pub async fn from_model(
        name: &str,
        bytes: &[u8],
        data: Option<WebData>,
        settings: Option<String>,
        backend: &str,
    ) -> Answer<WebRun> {
        let model = answer(Model::from_bytes(name, bytes))?;
        let settings = settings.map(|settings| parsed(&settings)).transpose()?;
        let device = device(backend).await?;
        let data = data.map(|data| data.data.clone());
        answer(match (&data, settings) {
            (Some(data), Some(settings)) => Self::training(data, &settings, Some(&model), device).await,
            _ => Self::trained(model, data, device).await,
        })
    }

    /// Describes the run: `{layers, parameters, device, loss, steps, settings, …}`.
    ///
    /// # Errors
    /// Throws if the description cannot be converted.
    pub fn describe(&self) -> Answer<JsValue> {
        let DeviceInfo { backend, name, device_type, driver } = self.device.info();
        let architecture = &self.metadata.architecture;
        let plan = Plan::new(architecture);
        let layers: Vec<Value> = plan
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "layer": architecture.layers()[node.layer - 1].to_string(),
                    "activation": node.activation.map(|activation| activation.name()),
                    "output": node.output.to_string(),
                    "parameters": node.parameters(),
                    "operations": 2 * node.products(),
                })
            })
            .collect();
        let is_software = ["software", "cpu"].contains(&device_type);
        let preprocessing = self.metadata.preprocessing.as_ref();
        let (steps, validation, settings) = match &self.engine {
            Engine::Training(Training { steps, validation, .. }) => (*steps, *validation, Some(&self.config)),
            Engine::Trained(_) => (0, 0, None),
        };
        object(&json!({
            "backend": backend,
            "device": name,
            "software": is_software,
            "driver": driver,
            "layers": layers,
            "model": architecture.to_string(),
            "parameters": plan.parameters(),
            "operations": plan.forward_operations(),
            "features": architecture.input().len(),
            "outputs": architecture.output().len(),
            "loss": self.metadata.loss.name(),
            "targets": if self.has_classes() { "classes" } else { "values" },
            "class_names": preprocessing.and_then(Preprocessing::class_names),
            "target": preprocessing.and_then(Preprocessing::target),
            "image": self.metadata.image,
            "preprocessing": preprocessing,
            "data": self.metadata.data,
            "steps": steps,
            "validation": validation,
            "settings": settings,
        }))
    }

    /// Takes up to `count` steps, and returns those whose losses arrived: `{first_step, losses, step, epoch, epochs,
    /// done}`. `first_step` is the step of the first loss, from 1; a GPU delivers losses up to 40 steps late, and
    /// [`flush`](Self::flush) waits for them. `epochs` lists the evaluations of the epochs that ended.
    ///
    /// # Errors
    /// Throws if training diverged; errors of the device.
    pub async fn step(&self, count: usize) -> Answer<JsValue> {
        let training = self.in_training()?;
        answer(training.advance(count).await)?;
        training.news()
    }

    /// Waits for the losses of every step so far, and returns what [`step`](Self::step) does.
    ///
    /// # Errors
    /// Throws the errors of the device.
    pub async fn flush(&self) -> Answer<JsValue> {
        let training = self.in_training()?;
        answer(training.shared.flush().await)?;
        training.news()
    }

    /// Evaluates the model as it is now on a part of the data, `train` or `test`: `{examples, loss, accuracy, interval,
    /// confusion, mistakes}`, or for real values `{examples, loss, r_squared, rmse, pairs}`.
    ///
    /// # Errors
    /// Throws if there is no such part; errors of the device.
    pub async fn evaluate(&self, part: &str) -> Answer<JsValue> {
        let Some(data) = &self.data else { return throw("there is no data to evaluate the model on: add some") };
        let examples = part_of(data, part)?;
        let evaluation = answer(self.evaluation(part, examples).await)?;
        object(&answer(self.judged(data, examples, &evaluation).await)?)
    }

    /// Predicts one example from its features, as [`Data.example`](WebData::example) gives them: `{probabilities,
    /// predicted}`, or `{value}` in the units of the target.
    ///
    /// # Errors
    /// Throws if the number of features is another; errors of the device.
    pub async fn predict(&self, features: Vec<f32>) -> Answer<JsValue> {
        let outputs = answer(self.computed(features.into()).await)?;
        self.prediction(&outputs)
    }

    /// Computes the outputs for examples from their features, one after the other: `[examples, classes]` probabilities,
    /// or `[examples, outputs]` values as the model gives them.
    ///
    /// # Errors
    /// Throws if the features are not those of whole examples; errors of the device.
    pub async fn outputs(&self, features: Vec<f32>) -> Answer<Float32Array> {
        Ok(Float32Array::from(&answer(self.computed(features.into()).await)?[..]))
    }

    /// Predicts a picture of pixels, row by row, each of red, green, blue and alpha: `{seen, probabilities, predicted,
    /// digit, attribution}`. `seen` is what the model read of it; `digit` is false where a model of digits sees none, and
    /// `attribution` is for each feature the gradient of the predicted class's score times the feature.
    ///
    /// # Errors
    /// Throws if the model reads no pictures; errors of the device.
    pub async fn predict_picture(&self, pixels: Vec<u8>, width: u32, height: u32) -> Answer<JsValue> {
        let Metadata { architecture, preprocessing, image, data, loss, shapes, .. } = &self.metadata;
        let fit = match Fit::default_for(preprocessing.as_ref(), *image, data) {
            Fit::Digits => Fit::Digit,
            fit => fit,
        };
        let reading = Reading {
            features: architecture.input().len(),
            image: *image,
            preprocessing: preprocessing.as_ref(),
            fit,
            shapes: shapes.as_ref(),
            strict: false,
        };
        let inputs = match reading.read_pixels(pixels, width, height) {
            Err(Error::Format { problem, .. }) if problem == NO_DIGIT => return object(&json!({ "digit": false })),
            inputs => answer(inputs)?,
        };
        let place = inputs.places.first().copied().flatten();
        let one = answer(Examples::new(inputs.features.clone(), vec![0u32], inputs.features.len(), 2))?;
        let seen: Vec<f32> = one.input(0).map(|value| value as f32).collect();
        let outputs = answer(self.computed(inputs.features).await)?;
        let result = self.prediction(&outputs)?;
        let is_none = place.is_some_and(|place| is_no_digit(&place, &outputs, *loss));
        set(&result, "digit", &(!is_none).into())?;
        set(&result, "attribution", &floats(answer(self.attribution(&seen).await)?))?;
        set(&result, "seen", &Float32Array::from(&seen[..]))?;
        Ok(result)
    }

    /// Predicts a row of a table from the texts of its fields, by the names of the columns, as [`predict`](Self::predict)
    /// does.
    ///
    /// # Errors
    /// Throws if a field is missing or no number where the model wants one; errors of the device.
    pub async fn predict_fields(&self, names: Vec<String>, texts: Vec<String>) -> Answer<JsValue> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let written =
            table.write_record(&names).and_then(|()| table.write_record(&texts)).map_err(|error| error.to_string());
        let bytes = written.and_then(|()| table.into_inner().map_err(|error| error.to_string()));
        let bytes = bytes.or_else(throw)?;
        let reading = Reading {
            features: self.metadata.architecture.input().len(),
            image: None,
            preprocessing: self.metadata.preprocessing.as_ref(),
            fit: Fit::Whole,
            shapes: None,
            strict: false,
        };
        let inputs = answer(reading.read("these fields", &bytes))?;
        if let Some(problem) = inputs.problems.first() {
            return throw(problem);
        }
        let outputs = answer(self.computed(inputs.features).await)?;
        self.prediction(&outputs)
    }

    /// Reads the weights of every layer that has any: `[{name, kind, shape, values, bias}]`, in PyTorch's order and shape.
    ///
    /// # Errors
    /// Throws the errors of the device.
    pub async fn weights(&self) -> Answer<JsValue> {
        let parameters = answer(self.current().await)?;
        let plan = Plan::new(&parameters.architecture);
        let list = js_sys::Array::new();
        for node in &plan.nodes {
            let Some(index) = node.weights else { continue };
            let layer = &parameters.layers[index];
            let (kind, shape) = match node.operation {
                Operation::Conv2d(window) => {
                    ("conv", vec![layer.outputs, node.input.channels(), window.size, window.size])
                }
                Operation::BatchNorm => ("batchnorm", vec![layer.outputs]),
                _ => ("linear", vec![layer.outputs, layer.inputs]),
            };
            let item: JsValue = js_sys::Object::new().into();
            let name = parameters.architecture.layers()[node.layer - 1].to_string();
            set(&item, "name", &name.into())?;
            set(&item, "kind", &kind.into())?;
            set(&item, "shape", &object(&shape)?)?;
            set(&item, "values", &Float32Array::from(&pytorch_weights(node, layer)[..]))?;
            set(&item, "bias", &Float32Array::from(&layer.values[layer.inputs * layer.outputs..]))?;
            list.push(&item);
        }
        Ok(list.into())
    }

    /// Returns the SHA-256 of the parameters, which `softstep train` records.
    ///
    /// # Errors
    /// Throws the errors of the device.
    pub async fn parameters_sha256(&self) -> Answer<String> {
        Ok(answer(self.current().await)?.sha256())
    }

    /// Times `steps` training steps kernel by kernel, on a copy of the model: `[{name, dispatches, seconds}]`; null where
    /// there are no timestamps.
    ///
    /// # Errors
    /// Throws the errors of the device.
    pub async fn profile(&self, steps: usize) -> Answer<JsValue> {
        let (Some(gpu), Some(data)) = (self.device.gpu(), &self.data) else { return Ok(JsValue::NULL) };
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(JsValue::NULL);
        }
        object(&answer(self.profiled(data, steps).await)?)
    }

    /// Saves the model as it is now, as the bytes of a `model.safetensors`.
    ///
    /// # Errors
    /// Throws if a parameter is not finite; errors of the device.
    pub async fn save(&self) -> Answer<Vec<u8>> {
        let parameters = answer(self.current().await)?;
        answer(model_file::to_safetensors(&parameters, &self.metadata))
    }
}

impl WebRun {
    /// Prepares the training of a model, or of a new one.
    async fn training(data: &Data, settings: &Value, model: Option<&Model>, device: Device) -> Result<Self> {
        let config = settings::of(settings, data, model)?;
        config.check()?;
        let whole = data;
        let mut data = data.clone();
        data.refit(config.validation, config.seed)?;
        let train_sha256 = data.train_sha256();
        let (data, validation) = data.hold_out(config.validation, config.seed)?;
        let class_weights = config.class_weights_of(&data.train)?;
        let architecture = config.architecture(data.shape(), config.loss.outputs(&data.train)?)?;
        let parameters = match model {
            None => Parameters::initialize(&architecture, config.seed)?,
            Some(model) if *model.architecture() != architecture => {
                return Err(Error::Invalid(format!(
                    "the model is {}, and these settings and data make {architecture}: choose the layers and the data that \
                     it was trained on",
                    model.architecture()
                )));
            }
            Some(model) => model.parameters().clone(),
        };
        let steps = config.steps(data.train.len());
        let epochs = Rc::<RefCell<Vec<Value>>>::default();
        let (shared, test) = {
            let training = config.training(&data.train, &class_weights, data.shape())?;
            let mut backend = device.for_training(&parameters, &training, Readback::default()).await?;
            let test = backend.upload(&data.test)?;
            let validation = validation.as_ref().map(|examples| backend.upload(examples)).transpose()?;
            (Rc::new(Shared::new(backend)), (validation, test))
        };
        let metadata = Metadata::new(&parameters, &whole.name, config.seed, config.loss)
            .with_preprocessing(data.preprocessing.clone())
            .with_image(data.image)
            .with_train_sha256(train_sha256)
            .with_shapes(data.shapes());
        let examples = data.train.len();
        let weights = example_weights(&data.train, &class_weights)?;
        let (of_loop, seen) = (shared.clone(), epochs.clone());
        let settings = config.clone();
        let info = device.info();
        let run = async move {
            let mut backend = Paced::new(of_loop, info);
            let (validation, test) = test;
            let observe = |event: Event<'_>| {
                if let Event::EpochEvaluated { epoch, train_loss, validation, test } = event {
                    let of = |evaluation: &Evaluation| {
                        json!({
                            "loss": evaluation.loss,
                            "accuracy": evaluation.accuracy(),
                            "r_squared": evaluation.r_squared,
                        })
                    };
                    let validation = validation.map(of);
                    seen.borrow_mut().push(json!({
                        "epoch": epoch, "train_loss": train_loss, "validation": validation, "test": of(test),
                    }));
                }
                Ok(())
            };
            let options = RunOptions { weights: &weights, ..RunOptions::default() };
            trainer::train(&mut backend, &settings, examples, validation.as_ref(), &test, &options, observe).await
        };
        let training = Training {
            shared,
            run: RefCell::new(Some(Box::pin(run))),
            epochs,
            seen: Cell::new(0),
            steps,
            validation: validation.as_ref().map_or(0, Examples::len),
        };
        Ok(Self {
            device,
            config,
            data: Some(Rc::new(data)),
            metadata,
            engine: Engine::Training(training),
            sets: RefCell::default(),
            parameters: RefCell::new(Some((0, Rc::new(parameters)))),
        })
    }

    /// Prepares a trained model for evaluation and prediction.
    async fn trained(model: Model, data: Option<Rc<Data>>, device: Device) -> Result<Self> {
        let (parameters, metadata) = model.into_parts();
        let on_device = device.for_inference(&parameters, metadata.loss).await?;
        Ok(Self {
            device,
            config: TrainingConfig::default(),
            data,
            metadata,
            engine: Engine::Trained(Box::new(RefCell::new(Some(on_device)))),
            sets: RefCell::default(),
            parameters: RefCell::new(Some((0, Rc::new(parameters)))),
        })
    }

    fn in_training(&self) -> Answer<&Training> {
        match &self.engine {
            Engine::Training(training) => Ok(training),
            Engine::Trained(_) => throw("this model is not in training: choose data and settings to train it further"),
        }
    }

    fn has_classes(&self) -> bool {
        match &self.data {
            Some(data) => matches!(*data.train.targets, Targets::Classes(_)),
            None => self.metadata.preprocessing.as_ref().is_none_or(Preprocessing::has_classes),
        }
    }

    /// The parameters after the steps so far.
    async fn current(&self) -> Result<Rc<Parameters>> {
        let Engine::Training(training) = &self.engine else {
            let known = self.parameters.borrow().as_ref().map(|(_, parameters)| parameters.clone());
            return known.ok_or_else(|| Error::Invalid("the model has no parameters".into()));
        };
        let taken = training.shared.version();
        if let Some((at, parameters)) = &*self.parameters.borrow()
            && *at == taken
        {
            return Ok(parameters.clone());
        }
        training.shared.flush().await?;
        let parameters = training.shared.with(async |backend| backend.parameters().await).await?;
        let parameters = Rc::new(parameters);
        *self.parameters.borrow_mut() = Some((taken, parameters.clone()));
        Ok(parameters)
    }

    /// Evaluates the model on examples, which are uploaded once by this name.
    async fn evaluation(&self, name: &str, examples: &Examples) -> Result<Evaluation> {
        let place = self.sets.borrow().iter().position(|(known, _)| known == name);
        let set = place.map(|place| self.sets.borrow_mut().swap_remove(place).1);
        let (set, evaluation) = match &self.engine {
            Engine::Training(training) => {
                training.shared.flush().await?;
                let work = async |backend: &mut crate::backend::AnyBackend| {
                    let set = set.map_or_else(|| backend.upload(examples), Ok)?;
                    let evaluation = backend.evaluate(&set).await?;
                    Ok((set, evaluation))
                };
                training.shared.with(work).await?
            }
            Engine::Trained(model) => {
                let mut working = model.take().ok_or_else(paced::busy)?;
                let evaluated = async {
                    let set = set.map_or_else(|| working.upload(examples), Ok)?;
                    let evaluation = working.evaluate(&set).await?;
                    Result::Ok((set, evaluation))
                };
                let evaluated = evaluated.await;
                *model.borrow_mut() = Some(working);
                evaluated?
            }
        };
        self.sets.borrow_mut().push((name.to_owned(), set));
        Ok(evaluation)
    }

    /// What an evaluation shows a page.
    async fn judged(&self, data: &Data, examples: &Examples, evaluation: &Evaluation) -> Result<Value> {
        let mut shown = json!({ "examples": examples.len(), "loss": evaluation.loss });
        let parameters = self.current().await?;
        let mut model = CpuModel::new(&parameters, self.metadata.loss)?;
        let preprocessing = data.preprocessing.as_ref();
        match &*examples.targets {
            Targets::Classes(labels) => {
                let classes = examples.outputs;
                let confusion = Confusion::new(labels, &evaluation.predictions, classes)?;
                let wrong = (0..).zip(labels.iter().zip(&evaluation.predictions));
                let wrong: Vec<u32> = wrong.filter(|(_, (a, b))| a != b).map(|(index, _)| index).collect();
                let mut mistakes: Vec<(f32, Value)> = Vec::new();
                if !wrong.is_empty() {
                    let outputs = model.outputs(&examples.select(&wrong))?;
                    for (&index, outputs) in wrong.iter().zip(outputs.chunks_exact(outputs.len() / wrong.len())) {
                        let (label, predicted) =
                            (labels[index as usize] as usize, evaluation.predictions[index as usize] as usize);
                        let of = |class: usize| outputs.get(class).copied().unwrap_or(0.0);
                        let mistake = json!({
                            "index": index,
                            "label": label,
                            "predicted": predicted,
                            "probability": of(predicted),
                            "probability_of_label": of(label),
                        });
                        mistakes.push((of(predicted) - of(label), mistake));
                    }
                }
                mistakes.sort_by(|(a, _), (b, _)| b.total_cmp(a));
                shown["accuracy"] = json!(evaluation.accuracy());
                shown["interval"] = json!(interval(evaluation.correct, examples.len()));
                shown["confusion"] = json!(confusion.rows().collect::<Vec<_>>());
                shown["classes"] = json!(confusion.per_class());
                shown["wrong"] = json!(wrong.len());
                shown["mistakes"] = mistakes.into_iter().take(MISTAKES).map(|(_, mistake)| mistake).collect();
            }
            Targets::Values(values) => {
                shown["r_squared"] = json!(evaluation.r_squared);
                let unit = preprocessing.map_or(1.0, Preprocessing::error_unit);
                shown["rmse"] = json!(evaluation.squared_error.map(|square| square.sqrt() * unit));
                if examples.outputs == 1 {
                    let unit = |value: f32| in_own_units(preprocessing, &[value])[0];
                    let every = examples.len().div_ceil(PAIRS);
                    let sample: Vec<u32> = (0..examples.len() as u32).step_by(every).collect();
                    let outputs = model.outputs(&examples.select(&sample))?;
                    let pairs = sample.iter().zip(&outputs);
                    let pairs = pairs.map(|(&index, &output)| [unit(values[index as usize]), unit(output)]);
                    shown["pairs"] = json!(pairs.collect::<Vec<_>>());
                }
            }
        }
        Ok(shown)
    }

    /// Outputs of the model for examples, as [`Inference::probabilities`] has them. The CPU computes them, which takes
    /// less time than a GPU's answer.
    async fn computed(&self, features: Features) -> Result<Vec<f32>> {
        let parameters = self.current().await?;
        let (width, outputs) = (parameters.features(), parameters.outputs());
        let count = features.len() / width;
        let (targets, outputs) = match (self.has_classes(), self.metadata.loss.link()) {
            (true, Link::Sigmoid) => (Targets::Classes(vec![0; count]), 2),
            (true, _) => (Targets::Classes(vec![0; count]), outputs),
            (false, _) => (Targets::Values(vec![0.0; count * outputs]), outputs),
        };
        let example = Examples::new(features, targets, width, outputs)?;
        CpuModel::new(&parameters, self.metadata.loss)?.outputs(&example)
    }

    /// Gradient of the predicted class's score, or of the first value, times each feature.
    async fn attribution(&self, seen: &[f32]) -> Result<Vec<f64>> {
        let parameters = self.current().await?;
        let attribution = attribution(&parameters, self.metadata.loss.link(), &widen(seen));
        Ok(attribution.unwrap_or_else(|| vec![0.0; seen.len()]))
    }

    /// What outputs mean: `{probabilities, predicted}` or `{value}`.
    fn prediction(&self, outputs: &[f32]) -> Answer<JsValue> {
        let result: JsValue = js_sys::Object::new().into();
        if self.has_classes() {
            let largest =
                (0..outputs.len()).reduce(|best, class| if outputs[class] > outputs[best] { class } else { best });
            set(&result, "probabilities", &Float32Array::from(outputs))?;
            set(&result, "predicted", &largest.into())?;
        } else {
            let values = in_own_units(self.metadata.preprocessing.as_ref(), outputs);
            set(&result, "value", &values.first().copied().into())?;
            set(&result, "values", &floats(values))?;
        }
        Ok(result)
    }

    /// Steps of a copy of the model, timed kernel by kernel.
    async fn profiled(&self, data: &Data, steps: usize) -> Result<Vec<Value>> {
        let parameters = self.current().await?;
        let class_weights = self.config.class_weights_of(&data.train)?;
        let training = self.config.training(&data.train, &class_weights, data.shape())?;
        let backend = self.device.for_training(&parameters, &training, Readback::Blocking).await?;
        let mut backend = backend.with_profile()?;
        let batch = training.batch_size;
        let per_epoch = (data.train.len() / batch).max(1);
        let mut losses = Vec::new();
        for index in 0..steps {
            if index % per_epoch == 0 {
                backend.begin_epoch(&epoch_order(self.config.seed, 1, data.train.len()))?;
            }
            let first = index % per_epoch * batch;
            backend.step(Step { first, batch, learning_rate: self.config.learning_rate }, &mut losses).await?;
        }
        backend.flush(&mut losses).await?;
        let time = |time: &crate::backend::KernelTime| json!({ "name": time.name, "dispatches": time.dispatches, "seconds": time.seconds });
        Ok(backend.profile().iter().map(time).collect())
    }
}

impl Training {
    /// Lets the loop take `count` steps, or as many as are left.
    async fn advance(&self, count: usize) -> Result<()> {
        let Some(mut run) = self.run.take() else { return Ok(()) };
        self.shared.allow(count);
        let ended = std::future::poll_fn(|context| match run.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if self.shared.waits_for_steps() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        match ended {
            None => *self.run.borrow_mut() = Some(run),
            Some(ended) => {
                self.shared.changed(); // the best epoch's parameters may be back
                ended?;
            }
        }
        Ok(())
    }

    /// The losses and evaluations that the page has not seen.
    fn news(&self) -> Answer<JsValue> {
        let losses = self.shared.take_losses();
        let first = self.seen.get() + 1;
        self.seen.set(self.seen.get() + losses.len());
        let result: JsValue = js_sys::Object::new().into();
        set(&result, "first_step", &first.into())?;
        set(&result, "losses", &Float32Array::from(&losses[..]))?;
        set(&result, "step", &self.shared.steps().into())?;
        set(&result, "steps", &self.steps.into())?;
        set(&result, "epoch", &self.shared.epoch().into())?;
        set(&result, "epochs", &object(&self.epochs.take())?)?;
        set(&result, "done", &self.run.borrow().is_none().into())?;
        Ok(result)
    }
}
