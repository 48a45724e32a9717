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

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use safetensors::tensor::{Dtype, SafeTensors, TensorInfo, TensorView};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::model::{Layer, Parameters, check_sizes};

/// The version of this format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// The metadata entry.
const ENTRY: &str = "softstep";

/// The longest file that is read: 4 GiB.
pub const MAX_BYTES: u64 = 4 << 30;
/// The longest header that is read: 1 MiB, several times what the most layers need.
const MAX_HEADER_BYTES: usize = 1 << 20;

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
            let version = &self.version;
            return Err(format!(
                "its format version is {format}, written by softstep {version:?}; this softstep reads {FORMAT}"
            ));
        }
        if (activation.as_str(), normalization.as_str()) != ("relu", "byte/255") {
            return Err(format!(
                "its model has activation {activation:?} and normalization {normalization:?}: \
                 softstep knows \"relu\" and \"byte/255\""
            ));
        }
        check_sizes(sizes).map_err(|error| format!("its metadata make no model: {error}"))
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
    let (tensors, entries) = open(bytes)?;
    let entry = entries.get(ENTRY).ok_or("no softstep model: its metadata have no entry \"softstep\"")?;
    let metadata: Metadata =
        serde_json::from_str(entry).map_err(|error| format!("its metadata entry \"softstep\" is damaged: {error}"))?;
    metadata.check()?;

    // Only tensors that are there, in the right shape, take memory.
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
    let known: HashSet<_> = (0..layers.len()).flat_map(|index| [weight_name(index), bias_name(index)]).collect();
    match tensors.names().into_iter().filter(|&name| !known.contains(name)).min() {
        Some(name) => Err(format!("tensor {name} is none of a model with layer sizes {:?}", metadata.sizes)),
        None => Ok((Parameters { layers }, metadata)),
    }
}

/// The tensors and the metadata entries of a safetensors file.
///
/// Stricter than the `safetensors` crate: no header beyond [`MAX_HEADER_BYTES`], and no name twice, of which each
/// reader might take another. And no sizes beyond the file, at which the crate's sums overflow.
pub(crate) fn open(bytes: &[u8]) -> std::result::Result<(SafeTensors<'_>, BTreeMap<String, String>), String> {
    let not_safetensors = |problem: String| format!("not a whole safetensors file: {problem}");
    let length = bytes.first_chunk().map_or(0, |&length| u64::from_le_bytes(length));
    if length > MAX_HEADER_BYTES as u64 {
        let problem = format!("it announces a header of {length} bytes, and the limit is {MAX_HEADER_BYTES}");
        return Err(not_safetensors(problem));
    }
    let Some(header) = bytes.get(8..8 + length as usize) else {
        return Err(not_safetensors("it ends inside its header".into()));
    };
    let in_header = |error| not_safetensors(format!("invalid header: {error}"));
    let mut header: Distinct<&RawValue> = serde_json::from_slice(header).map_err(in_header)?;
    let entries = match header.0.remove("__metadata__") {
        Some(entries) => serde_json::from_str::<Distinct<String>>(entries.get()).map_err(in_header)?.0,
        None => BTreeMap::new(),
    };
    for (name, info) in header.0 {
        let TensorInfo { data_offsets: (_, end), .. } = serde_json::from_str(info.get())
            .map_err(|error| not_safetensors(format!("invalid header: tensor {name}: {error}")))?;
        if end > bytes.len() {
            return Err(not_safetensors(format!("the data of tensor {name} would end at {end}, beyond the file")));
        }
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| not_safetensors(error.to_string()))?;
    Ok((tensors, entries))
}

/// A JSON object that has no name twice; serde's own maps take the last.
struct Distinct<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Distinct<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Distinct<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Distinct<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if entries.contains_key(&name) {
                        return Err(de::Error::custom(format!("{name} is there twice")));
                    }
                    entries.insert(name, value);
                }
                Ok(Distinct(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
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
