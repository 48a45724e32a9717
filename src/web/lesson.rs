//! The numbers of the lesson: each by the f64 reference, on its own.

use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::{Answer, answer, floats, object, parsed, set, throw};
use crate::any_backend::Device;
use crate::backend::{Backend, Readback, Step, Training};
use crate::data::{self, Examples, Targets};
use crate::error::{Error, Result};
use crate::loss::Objective;
use crate::model::{Activation, Architecture, Parameters, parse_layers};
use crate::optimizer::{Optimizer, Sgd};
use crate::reference::{self, Bounded, Mode, Network, widen};
use crate::trainer::epoch_order;
use crate::verify::Verified;

/// Computes softmax, cross-entropy and p − onehot of one example's scores, by the f64 reference:
/// `{probabilities, loss, gradient}`.
///
/// # Errors
/// Throws if no score belongs to the label.
#[wasm_bindgen]
pub fn softmax_of(scores: &[f32], label: u32) -> Answer<JsValue> {
    if label as usize >= scores.len() {
        return throw(format!("label {label}: there are {} scores, counted from 0", scores.len()));
    }
    let (logits, classes) = (widen(scores), scores.len());
    let result = js_sys::Object::new().into();
    set(&result, "probabilities", &floats(reference::softmax(&logits, classes)))?;
    set(&result, "loss", &reference::cross_entropy(&logits, &[label], classes).into())?;
    set(&result, "gradient", &floats(reference::cross_entropy_backward(&logits, &[label], classes)))?;
    Ok(result)
}

/// Computes sigmoid, binary cross-entropy and p − label of one score, by the f64 reference:
/// `{probability, loss, gradient}`. The label may be a share, as 0.5.
///
/// # Errors
/// Throws if the label is not in 0..1.
#[wasm_bindgen]
pub fn sigmoid_of(score: f64, label: f64) -> Answer<JsValue> {
    if !(0.0..=1.0).contains(&label) {
        return throw(format!("label {label}: it is 0, 1 or between them"));
    }
    let probability = reference::sigmoid(score);
    let loss = reference::softplus(score) - label * score;
    object(&json!({ "probability": probability, "loss": loss, "gradient": probability - label }))
}

/// Performs one training step on one example by hand, and returns every number of it as JSON: `inputs`, for each layer
/// `weights`, `bias`, `sums`, `outputs` and their gradients, `probabilities`, `loss`, the updated weights, and `after`,
/// the loss and the probabilities with them.
///
/// The settings are `inputs` and `hidden` (sizes), `outputs` (number of classes), `activation`, `label`, `learning_rate`,
/// `seed`, and `weights`, which are random without it: for each layer `[inputs + 1, outputs]`, the last row the bias.
///
/// # Errors
/// Throws if the settings do not fit together.
#[wasm_bindgen]
pub fn step_by_hand(settings: &str) -> Answer<JsValue> {
    object(&answer(by_hand(&parsed(settings)?))?)
}

/// The numbers in a JSON list.
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn by_hand(settings: &Value) -> Result<Value> {
    let whole = |name: &str, default: u64| settings[name].as_u64().unwrap_or(default);
    let inputs = numbers(&settings["inputs"]);
    let classes = whole("outputs", 2) as usize;
    let label = whole("label", 0) as u32;
    let learning_rate = settings["learning_rate"].as_f64().unwrap_or(0.5);
    if label as usize >= classes {
        return Err(Error::Invalid(format!("label {label}: there are {classes} classes, counted from 0")));
    }
    let activation = settings["activation"].as_str().and_then(Activation::from_name).unwrap_or_default();
    let hidden = numbers(&settings["hidden"]).into_iter().map(|size| size as usize);
    let sizes: Vec<usize> = [inputs.len()].into_iter().chain(hidden).chain([classes]).collect();
    let architecture = Architecture::dense(&sizes, activation)?;
    let given: Vec<Vec<f32>> = settings["weights"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|layer| numbers(layer).into_iter().map(|value| value as f32).collect())
        .collect();
    let parameters = match given.is_empty() {
        true => Parameters::initialize(&architecture, whole("seed", 0))?,
        false => Parameters::from_values(&architecture, given)?,
    };
    let too_large = || Error::Invalid("these numbers are too large for a step".into());
    let network = Network::new(&parameters);
    let input = || Bounded::exact(inputs.clone());
    let pass = network.forward(input(), Mode::Evaluation).ok_or_else(too_large)?;
    let (objective, targets) = (Objective::default(), Targets::Classes(vec![label]));
    let d_outputs = reference::loss_backward(&objective, &pass.outputs.values, &targets, classes);
    let gradients = network.backward(&pass, Bounded::exact(d_outputs.clone())).ok_or_else(too_large)?;
    let d_sums = network.gradients(&pass, Bounded::exact(d_outputs.clone()));
    let mut updated = parameters.clone();
    let mut layers = Vec::new();
    for (index, (layer, gradient)) in parameters.layers.iter().zip(&gradients).enumerate() {
        let mut values = widen(&layer.values);
        let mut velocity = vec![0.0; values.len()];
        reference::sgd_update(&Sgd::default(), learning_rate, &mut values, &gradient.values, &mut velocity);
        updated.layers[index].values = values.iter().map(|&value| value as f32).collect();
        let is_last = index + 1 == parameters.layers.len();
        let sums = &pass.sums[index].values;
        let outputs = if is_last { sums } else { &pass.inputs[index + 1].values };
        layers.push(json!({
            "inputs": layer.inputs,
            "outputs": layer.outputs,
            "activation": if is_last { None } else { Some(activation.name()) },
            "input": pass.inputs[index].values,
            "weights": layer.values,
            "sums": sums,
            "output": outputs,
            "d_sums": d_sums[index + 1].values,
            "d_weights": gradient.values,
            "updated": values,
        }));
    }
    let probabilities = reference::softmax(&pass.outputs.values, classes);
    let after = Network::new(&updated).forward(input(), Mode::Evaluation).ok_or_else(too_large)?.outputs.values;
    Ok(json!({
        "inputs": inputs,
        "label": label,
        "learning_rate": learning_rate,
        "layers": layers,
        "scores": pass.outputs.values,
        "probabilities": probabilities,
        "loss": reference::cross_entropy(&pass.outputs.values, &[label], classes),
        "d_scores": d_outputs,
        "after": {
            "probabilities": reference::softmax(&after, classes),
            "loss": reference::cross_entropy(&after, &[label], classes),
        },
    }))
}

/// Networks that the CPU backend is verified with: every kind of layer, before and behind a linear one.
const NETWORKS: [&str; 4] = [
    "linear:10",
    "linear:32,relu,linear:10",
    "conv:8x3,relu,pool:2,linear:16,tanh,linear:10",
    "conv:4x3,batchnorm,gelu,pool:2,dropout:0.25,linear:10",
];

/// Tests the CPU backend: a few steps of each network with each optimizer, each verified in f64.
pub(super) async fn cpu_tests() -> Result<Vec<Value>> {
    let digits = data::digits()?;
    let mut tests = Vec::new();
    for layers in NETWORKS {
        let parsed = parse_layers(layers)?;
        let is_image = layers.contains("conv");
        let input = if is_image { digits.shape() } else { crate::model::Shape::Flat(digits.train.features) };
        let architecture = Architecture::new(input, parsed)?;
        for optimizer in Optimizer::all() {
            let tested = verified(&digits.train, &architecture, optimizer).await;
            let (ok, message) = match tested {
                Ok(worst) => (true, worst),
                Err(error) => (false, error.to_string()),
            };
            tests.push(json!({ "name": format!("{layers}, {}", optimizer.name()), "ok": ok, "message": message }));
        }
    }
    Ok(tests)
}

async fn verified(examples: &Examples, architecture: &Architecture, optimizer: Optimizer) -> Result<String> {
    const BATCH: usize = 32;
    let parameters = Parameters::initialize(architecture, 0)?;
    let training = Training { optimizer, ..Training::new(examples, BATCH) };
    let backend = Device::Cpu.for_training(&parameters, &training, Readback::Blocking).await?;
    let mut backend = Verified::new(backend, training, 1, 0);
    backend.begin_epoch(&epoch_order(0, 1, examples.len()))?;
    let mut losses = Vec::new();
    for step in 0..3 {
        let learning_rate = optimizer.learning_rate();
        backend.step(Step { first: BATCH * step, batch: BATCH, learning_rate }, &mut losses).await?;
    }
    backend.flush(&mut losses).await?;
    let verification = backend.verification().cloned().unwrap_or_default();
    let worst = verification.worst.iter().max_by(|a, b| a.1.excess().total_cmp(&b.1.excess()));
    Ok(worst.map_or_else(String::new, |(step, worst)| format!("step {step}: {worst}")))
}
