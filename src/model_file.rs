//! Models as [safetensors](https://github.com/huggingface/safetensors) files: bytes in, bytes out.
//!
//! Layer `i` (from 0) is stored as `torch.nn.Linear` keeps it: `{2i}.weight`, `[outputs, inputs]`, and `{2i}.bias`,
//! `[outputs]`, both f32. With a ReLU between the layers these are the names that `torch.nn.Sequential` gives them,
//! so a file loads without renaming:
//!
//! ```python
//! model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
//! model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
//! logits = model(torch.from_numpy(pixels).float() / 255)
//! ```
//!
//! The file's metadata has one entry, `softstep`: a JSON object with the fields of [`Metadata`]. (One entry, because
//! safetensors writes several in random order; so equal models make equal files.)

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Layer, Parameters};

/// The version of this format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// The metadata entry.
const ENTRY: &str = "softstep";

/// What a model file says about its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of the format, now 1.
    pub format: u32,
    /// Layer sizes `[features, hidden…, classes]`.
    pub sizes: Vec<usize>,
    /// What lies between the layers: `relu`.
    pub activation: String,
    /// How a feature becomes an input: `byte/255`.
    pub normalization: String,
    /// Name of the data set it was trained on.
    pub data: String,
    /// Seed of the run.
    pub seed: u64,
    /// The version of softstep that wrote it.
    pub version: String,
}

impl Metadata {
    /// For a model trained on the data set named `data`.
    pub fn new(parameters: &Parameters, data: &str, seed: u64) -> Self {
        Self {
            format: FORMAT,
            sizes: parameters.sizes(),
            activation: "relu".into(),
            normalization: "byte/255".into(),
            data: data.into(),
            seed,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        let Self { format, sizes, activation, normalization, .. } = self;
        if *format != FORMAT {
            return Err(format!("its format version is {format}, and softstep {} reads {FORMAT}", self.version));
        }
        if (activation.as_str(), normalization.as_str()) != ("relu", "byte/255") {
            return Err(format!(
                "its model has activation {activation:?} and normalization {normalization:?}: \
                 softstep knows \"relu\" and \"byte/255\""
            ));
        }
        if sizes.len() < 2 || sizes.contains(&0) {
            return Err(format!("its layer sizes {sizes:?} make no model: need at least two, none of them 0"));
        }
        Ok(())
    }
}

/// The bytes of a model file; equal arguments give equal bytes.
///
/// # Errors
/// [`Error::Invalid`] if a parameter is infinite or not a number, or the metadata's sizes are not the parameters'.
pub fn to_safetensors(parameters: &Parameters, metadata: &Metadata) -> Result<Vec<u8>> {
    if metadata.sizes != parameters.sizes() {
        return Err(Error::Invalid(format!(
            "metadata for layer sizes {:?} do not describe a model with {:?}",
            metadata.sizes,
            parameters.sizes()
        )));
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .layers
        .iter()
        .enumerate()
        .flat_map(|(index, layer)| {
            let (weights, bias) = layer.values.split_at(layer.inputs * layer.outputs);
            let transposed = (0..layer.outputs).flat_map(|output| weights[output..].iter().step_by(layer.outputs));
            [
                (weight_name(index), vec![layer.outputs, layer.inputs], to_bytes(transposed)),
                (bias_name(index), vec![layer.outputs], to_bytes(bias.iter())),
            ]
        })
        .collect();
    for (name, _, bytes) in &tensors {
        finite(name, bytes).map_err(Error::Invalid)?;
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok((name.as_str(), view))
    });
    let json = serde_json::to_string(metadata).map_err(|error| Error::Invalid(error.to_string()))?;
    let entries = HashMap::from([(ENTRY.to_string(), json)]);
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(entries))
        .map_err(|error| Error::Invalid(error.to_string()))
}

/// Reads the bytes of a model file; `file` is its name for messages.
///
/// Nothing is guessed: the tensors must be those, and only those, that the metadata's layer sizes ask for.
///
/// # Errors
/// [`Error::Format`] naming the file, the tensor and what is wrong with it.
pub fn from_safetensors(file: &str, bytes: &[u8]) -> Result<(Parameters, Metadata)> {
    read(bytes).map_err(|problem| Error::format(file, problem))
}

fn read(bytes: &[u8]) -> std::result::Result<(Parameters, Metadata), String> {
    let not_safetensors = |error| format!("not a whole safetensors file: {error}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
    let entry = header.metadata().as_ref().and_then(|entries| entries.get(ENTRY));
    let entry = entry.ok_or("no softstep model: its metadata have no entry \"softstep\"")?;
    let metadata: Metadata =
        serde_json::from_str(entry).map_err(|error| format!("its metadata entry \"softstep\" is damaged: {error}"))?;
    metadata.check()?;

    let layers = metadata.sizes.windows(2).enumerate().map(|(index, pair)| {
        let (inputs, outputs) = (pair[0], pair[1]);
        let weights = tensor(&tensors, &weight_name(index), &[outputs, inputs])?;
        let bias = tensor(&tensors, &bias_name(index), &[outputs])?;
        let mut values: Vec<f32> =
            (0..inputs).flat_map(|input| weights[input..].iter().step_by(inputs)).copied().collect();
        values.extend(bias);
        Ok(Layer { inputs, outputs, values })
    });
    let layers = layers.collect::<std::result::Result<Vec<_>, String>>()?;
    let known = |name: &str| (0..layers.len()).any(|index| name == weight_name(index) || name == bias_name(index));
    let mut unknown: Vec<_> = tensors.names().into_iter().filter(|name| !known(name)).collect();
    unknown.sort_unstable();
    match unknown.first() {
        Some(name) => Err(format!("tensor {name} is none of a model with layer sizes {:?}", metadata.sizes)),
        None => Ok((Parameters { layers }, metadata)),
    }
}

/// The values of a tensor that must be f32, finite and of this shape.
fn tensor(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> std::result::Result<Vec<f32>, String> {
    let view = tensors.tensor(name).map_err(|_| format!("tensor {name} is missing"))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(format!(
            "tensor {name} is {} {:?}: its layer sizes want F32 {shape:?}",
            view.dtype(),
            view.shape()
        ));
    }
    finite(name, view.data())?;
    Ok(from_bytes(view.data()).collect())
}

fn finite(name: &str, bytes: &[u8]) -> std::result::Result<(), String> {
    match from_bytes(bytes).enumerate().find(|(_, value)| !value.is_finite()) {
        Some((at, value)) => Err(format!("tensor {name} has the value {value} at {at}: parameters must be finite")),
        None => Ok(()),
    }
}

/// Position of layer `index` in `nn.Sequential(Linear, ReLU, Linear, …)`.
fn weight_name(index: usize) -> String {
    format!("{}.weight", 2 * index)
}

fn bias_name(index: usize) -> String {
    format!("{}.bias", 2 * index)
}

fn to_bytes<'a>(values: impl Iterator<Item = &'a f32>) -> Vec<u8> {
    values.flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk))
}
