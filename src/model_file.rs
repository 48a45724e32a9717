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

use std::collections::{BTreeSet, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
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
    serialize(&layer_tensors("", parameters)?, ENTRY, metadata)
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
    let (mut tensors, metadata): (_, Metadata) = deserialize(bytes, "model", ENTRY)?;
    metadata.check()?;
    let parameters = tensors.layers("", &metadata.sizes)?;
    match tensors.unread() {
        Some(name) => Err(format!("tensor {name} is none of a model with layer sizes {:?}", metadata.sizes)),
        None => Ok((parameters, metadata)),
    }
}

/// A tensor to write.
pub(crate) struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Weights and biases of each layer, as the module says, their names behind `prefix`.
pub(crate) fn layer_tensors(prefix: &str, parameters: &Parameters) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    for (index, layer) in parameters.layers.iter().enumerate() {
        let (weights, bias) = layer.values.split_at(layer.inputs * layer.outputs);
        let transposed = (0..layer.outputs).flat_map(|output| weights[output..].iter().step_by(layer.outputs));
        for (name, shape, bytes) in [
            (weight_name(prefix, index), vec![layer.outputs, layer.inputs], to_bytes(transposed)),
            (bias_name(prefix, index), vec![layer.outputs], to_bytes(bias.iter())),
        ] {
            finite(&name, &bytes).map_err(Error::Invalid)?;
            tensors.push(Tensor { name, dtype: Dtype::F32, shape, bytes });
        }
    }
    Ok(tensors)
}

/// A safetensors file with one metadata entry.
pub(crate) fn serialize(tensors: &[Tensor], entry: &str, metadata: &impl Serialize) -> Result<Vec<u8>> {
    let views = tensors.iter().map(|Tensor { name, dtype, shape, bytes }| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok((name.as_str(), view))
    });
    let json = serde_json::to_string(metadata).map_err(|error| Error::Invalid(error.to_string()))?;
    let entries = HashMap::from([(entry.to_string(), json)]);
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(entries))
        .map_err(|error| Error::Invalid(error.to_string()))
}

/// The tensors of a file, and its metadata entry; `what` it should be is for messages.
pub(crate) fn deserialize<'a, M: DeserializeOwned>(
    bytes: &'a [u8],
    what: &str,
    entry: &str,
) -> std::result::Result<(Tensors<'a>, M), String> {
    let not_safetensors = |error| format!("not a whole safetensors file: {error}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
    let text = header.metadata().as_ref().and_then(|entries| entries.get(entry));
    let text = text.ok_or_else(|| format!("no softstep {what}: its metadata have no entry {entry:?}"))?;
    let metadata =
        serde_json::from_str(text).map_err(|error| format!("its metadata entry {entry:?} is damaged: {error}"))?;
    Ok((Tensors { file: tensors, read: BTreeSet::new() }, metadata))
}

/// The tensors of a file, and which of them were read.
pub(crate) struct Tensors<'a> {
    file: SafeTensors<'a>,
    read: BTreeSet<String>,
}

impl Tensors<'_> {
    /// Reads what [`layer_tensors`] wrote.
    pub fn layers(&mut self, prefix: &str, sizes: &[usize]) -> std::result::Result<Parameters, String> {
        let layers = sizes.windows(2).enumerate().map(|(index, pair)| {
            let (inputs, outputs) = (pair[0], pair[1]);
            let weights = self.values(weight_name(prefix, index), &[outputs, inputs])?;
            let bias = self.values(bias_name(prefix, index), &[outputs])?;
            let mut values: Vec<f32> =
                (0..inputs).flat_map(|input| weights[input..].iter().step_by(inputs)).copied().collect();
            values.extend(bias);
            Ok(Layer { inputs, outputs, values })
        });
        Ok(Parameters { layers: layers.collect::<std::result::Result<_, String>>()? })
    }

    /// The bytes of a tensor that must have this type and shape.
    pub fn bytes(&mut self, name: String, dtype: Dtype, shape: &[usize]) -> std::result::Result<Vec<u8>, String> {
        let view = self.file.tensor(&name).map_err(|_| format!("tensor {name} is missing"))?;
        if view.dtype() != dtype || view.shape() != shape {
            return Err(format!(
                "tensor {name} is {} {:?}: its layer sizes want {dtype} {shape:?}",
                view.dtype(),
                view.shape()
            ));
        }
        let bytes = view.data().to_vec();
        self.read.insert(name);
        Ok(bytes)
    }

    /// The values of a tensor that must be f32, finite and of this shape.
    fn values(&mut self, name: String, shape: &[usize]) -> std::result::Result<Vec<f32>, String> {
        let bytes = self.bytes(name.clone(), Dtype::F32, shape)?;
        finite(&name, &bytes)?;
        Ok(from_bytes(&bytes).collect())
    }

    /// The first tensor by name that was not read.
    pub fn unread(&self) -> Option<&str> {
        self.file.names().into_iter().filter(|&name| !self.read.contains(name)).min()
    }
}

fn finite(name: &str, bytes: &[u8]) -> std::result::Result<(), String> {
    match from_bytes(bytes).enumerate().find(|(_, value)| !value.is_finite()) {
        Some((at, value)) => Err(format!("tensor {name} has the value {value} at {at}: parameters must be finite")),
        None => Ok(()),
    }
}

/// Position of layer `index` in `nn.Sequential(Linear, ReLU, Linear, …)`.
fn weight_name(prefix: &str, index: usize) -> String {
    format!("{prefix}{}.weight", 2 * index)
}

fn bias_name(prefix: &str, index: usize) -> String {
    format!("{prefix}{}.bias", 2 * index)
}

fn to_bytes<'a>(values: impl Iterator<Item = &'a f32>) -> Vec<u8> {
    values.flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk))
}
