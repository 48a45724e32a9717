//! Models as [safetensors](https://github.com/huggingface/safetensors) files: bytes in, bytes out.
//!
//! Names and shapes of the tensors are those of PyTorch's `nn.Sequential`: `{i}.weight` and `{i}.bias` for the layer at
//! index `i` (from 0), and `{i}.running_mean` and `{i}.running_var` for batch normalisation, all f32. Weights that read
//! an image are in PyTorch's order, channels first. So a file loads without renaming:
//!
//! ```python
//! model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
//! model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
//! logits = model(torch.from_numpy(pixels).float() / 255)
//! ```
//!
//! The other activations are `nn.Sigmoid()`, `nn.Tanh()`, `nn.GELU(approximate="tanh")` and `nn.LeakyReLU()`.
//!
//! The file's metadata has one entry, `softstep`: a JSON object with the fields of [`Metadata`]. Safetensors writes
//! several entries in random order; with one entry, equal models make equal files.

pub mod import;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::marker::PhantomData;

use safetensors::tensor::{Dtype, SafeTensors, TensorInfo, TensorView};
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::data::{ArrayFormat, Elements, Preprocessing, Shapes};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::model::{Activation, Architecture, Parameters, Statistics, Weights};
use crate::plan::{Node, Operation, Plan};

/// Version of the format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// Name of the metadata entry.
const ENTRY: &str = "softstep";
/// Possible values of [`Metadata::normalization`].
const BYTES: &str = "byte/255";
const COLUMNS: &str = "columns";
const SCALES: &str = "scales";
const NONE: &str = "none";

/// Largest file that is read: 4 GiB.
pub const MAX_BYTES: u64 = 4 << 30;
/// Largest header that is read: 16 MiB, more than the most layers and the longest preprocessing, with escaped quotes,
/// need.
const MAX_HEADER_BYTES: usize = 16 << 20;

/// Metadata of a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of the format, now 1.
    pub format: u32,
    /// Name of the file that the weights were imported from; `None` for trained ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<String>,
    /// The model's layers and shapes.
    pub architecture: Architecture,
    /// Normalisation of the features: `byte/255`, `columns` or `scales` for those of `preprocessing`, or `none`.
    pub normalization: String,
    /// Preprocessing of tables, images or arrays, and of their targets; `None` for IDX files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// Height and width of an example, if it is an image with one or three bytes per pixel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 2]>,
    /// Name of the data set that the model was trained on.
    pub data: String,
    /// [SHA-256](crate::data::Examples::sha256) of the examples outside the test part, if the data is a table, images
    /// or arrays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_sha256: Option<String>,
    /// Shapes of the training pictures of each class, if pictures are read as digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shapes: Option<Shapes>,
    /// Seed of the run.
    pub seed: u64,
    /// Loss that the model was trained with, which defines the meaning of its outputs.
    #[serde(default)]
    pub loss: Loss,
    /// Version of softstep that wrote the file.
    pub version: String,
}

impl Metadata {
    /// Metadata of a model trained on the data set named `data`, with this loss.
    pub fn new(parameters: &Parameters, data: &str, seed: u64, loss: Loss) -> Self {
        Self {
            format: FORMAT,
            imported_from: None,
            architecture: parameters.architecture.clone(),
            normalization: BYTES.into(),
            preprocessing: None,
            image: None,
            data: data.into(),
            train_sha256: None,
            shapes: None,
            seed,
            loss,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Sets the name of the file that the weights were imported from.
    pub fn with_imported_from(mut self, file: &str) -> Self {
        self.imported_from = Some(file.into());
        self
    }

    /// Sets the preprocessing, and the normalisation that follows from it.
    pub fn with_preprocessing(mut self, preprocessing: Option<Preprocessing>) -> Self {
        self.normalization = normalization_of(preprocessing.as_ref()).into();
        self.preprocessing = preprocessing;
        self
    }

    /// Sets height and width of the examples, if they are images.
    pub fn with_image(mut self, image: Option<[usize; 2]>) -> Self {
        self.image = image;
        self
    }

    /// Sets the [SHA-256](crate::data::Examples::sha256) of the training examples, if it is recorded.
    pub fn with_train_sha256(mut self, train_sha256: Option<String>) -> Self {
        self.train_sha256 = train_sha256;
        self
    }

    /// Sets the shapes of the training pictures, if they are known.
    pub fn with_shapes(mut self, shapes: Option<Shapes>) -> Self {
        self.shapes = shapes;
        self
    }

    fn check(&self) -> std::result::Result<(), String> {
        let Self { format, architecture, normalization, .. } = self;
        let (features, outputs) = (architecture.input().len(), architecture.output().len());
        if *format != FORMAT {
            let version = &self.version;
            return Err(format!(
                "its format version is {format}, written by softstep {version:?}; this softstep reads {FORMAT}"
            ));
        }
        let expected = normalization_of(self.preprocessing.as_ref());
        if normalization != expected {
            return Err(format!("its model has normalization {normalization:?}: softstep knows {expected:?}"));
        }
        if let Some([rows, columns]) = self.image {
            let pixels = rows.checked_mul(columns);
            if !pixels.is_some_and(|pixels| pixels == features || pixels.checked_mul(3) == Some(features)) {
                return Err(format!("its images have {rows} rows and {columns} columns, its model is {architecture}"));
            }
        }
        if let Some(shapes) = &self.shapes {
            shapes.check()?;
        }
        let Some(preprocessing) = &self.preprocessing else { return Ok(()) };
        preprocessing.check().map_err(|error| format!("its preprocessing is not sound: {error}"))?;
        let needed = self.loss.outputs_for(preprocessing.has_classes(), preprocessing.outputs());
        let needed = needed.map_err(|error| format!("its loss is not for its preprocessing: {error}"))?;
        let made = [preprocessing.features(), needed];
        if made != [features, outputs] {
            return Err(format!("its preprocessing makes {made:?} features and outputs, its model is {architecture}"));
        }
        Ok(())
    }
}

fn normalization_of(preprocessing: Option<&Preprocessing>) -> &'static str {
    match preprocessing {
        Some(Preprocessing::Table(_)) => COLUMNS,
        Some(Preprocessing::Arrays(ArrayFormat { scales, .. })) if !scales.is_empty() => SCALES,
        Some(Preprocessing::Arrays(ArrayFormat { elements: Elements::Numbers, .. })) => NONE,
        Some(Preprocessing::Images(_) | Preprocessing::Arrays(_)) | None => BYTES,
    }
}

/// Serialises a model file; equal arguments give equal bytes.
///
/// # Errors
/// [`Error::Invalid`] if a parameter is infinite or not a number, or if the architecture of the metadata is not that of
/// the parameters.
pub fn to_safetensors(parameters: &Parameters, metadata: &Metadata) -> Result<Vec<u8>> {
    if metadata.architecture != parameters.architecture {
        return Err(Error::Invalid(format!(
            "metadata for the model {} do not describe the model {}",
            metadata.architecture, parameters.architecture
        )));
    }
    serialize(&parameter_tensors("", parameters)?, ENTRY, metadata)
}

/// Reads the bytes of a model file; `file` is the name in error messages.
///
/// Nothing is guessed: the tensors must be exactly those that the metadata's architecture needs.
///
/// # Errors
/// [`Error::Format`] with the file, the tensor and the problem.
pub fn from_safetensors(file: &str, bytes: &[u8]) -> Result<(Parameters, Metadata)> {
    read(bytes).map_err(|problem| Error::format(file, problem))
}

fn read(bytes: &[u8]) -> std::result::Result<(Parameters, Metadata), String> {
    let (mut tensors, metadata): (_, Metadata) = deserialize(bytes, "model", ENTRY)?;
    metadata.check()?;
    let parameters = tensors.parameters("", &metadata.architecture)?;
    match tensors.unread() {
        Some(name) => Err(format!("tensor {name} does not belong to the model {}", metadata.architecture)),
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

/// Tensors of the weights, biases and running statistics of each layer, named as the module docs say, after `prefix`.
pub(crate) fn parameter_tensors(prefix: &str, parameters: &Parameters) -> Result<Vec<Tensor>> {
    let mut tensors = weight_tensors(prefix, parameters)?;
    for node in Plan::new(&parameters.architecture).nodes {
        let Some(index) = node.statistics else { continue };
        let Statistics { mean, variance } = &parameters.statistics[index];
        tensors.push(Tensor::new(name(prefix, &node, "running_mean"), vec![mean.len()], mean.iter())?);
        tensors.push(Tensor::new(name(prefix, &node, "running_var"), vec![variance.len()], variance.iter())?);
    }
    Ok(tensors)
}

/// Tensors of the weights and biases only.
pub(crate) fn weight_tensors(prefix: &str, parameters: &Parameters) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    for node in Plan::new(&parameters.architecture).nodes {
        let Some(index) = node.weights else { continue };
        let layer = &parameters.layers[index];
        let values = pytorch_weights(&node, layer);
        let bias = &layer.values[layer.inputs * layer.outputs..];
        tensors.push(Tensor::new(
            name(prefix, &node, "weight"),
            weight_shape(&node, layer.inputs, layer.outputs),
            values.iter(),
        )?);
        tensors.push(Tensor::new(name(prefix, &node, "bias"), vec![layer.outputs], bias.iter())?);
    }
    Ok(tensors)
}

/// Weights of a node without the bias, in the order and shape that PyTorch has them: `[outputs, inputs]` for linear,
/// `[outputs, channels, height, width]` for conv2d, `[channels]` for batch normalisation. The inputs of a linear layer
/// that reads an image are ordered with channels first.
pub fn pytorch_weights(node: &Node, weights: &Weights) -> Vec<f32> {
    let Weights { inputs, outputs, values } = weights;
    (0..outputs * inputs).map(|at| values[row_of(node, at % inputs) * outputs + at / inputs]).collect()
}

/// Shape of a weight in PyTorch: `[outputs, inputs]` for linear, `[outputs, channels, height, width]` for conv2d,
/// `[channels]` for batch normalisation.
fn weight_shape(node: &Node, inputs: usize, outputs: usize) -> Vec<usize> {
    match node.operation {
        Operation::Conv2d(window) => vec![outputs, node.input.channels(), window.size, window.size],
        Operation::BatchNorm => vec![outputs],
        _ => vec![outputs, inputs],
    }
}

/// Row of the weights for PyTorch's input `input`. PyTorch orders an image or a kernel with channels first, softstep
/// with channels last.
fn row_of(node: &Node, input: usize) -> usize {
    let (positions, channels) = match node.operation {
        Operation::Conv2d(window) => (window.size * window.size, node.input.channels()),
        Operation::Linear => (node.input.positions(), node.input.channels()),
        _ => (1, 1),
    };
    input % positions * channels + input / positions
}

/// Name of a tensor in `nn.Sequential`: the index of the layer, and the parameter of the layer.
fn name(prefix: &str, node: &Node, what: &str) -> String {
    format!("{prefix}{}.{what}", node.layer - 1)
}

impl Tensor {
    /// Builds a tensor of f32 values, which must be finite.
    fn new<'a>(name: String, shape: Vec<usize>, values: impl Iterator<Item = &'a f32>) -> Result<Self> {
        let bytes = to_bytes(values);
        finite(&name, &bytes).map_err(Error::Invalid)?;
        Ok(Self { name, dtype: Dtype::F32, shape, bytes })
    }
}

/// Serialises a safetensors file with one metadata entry.
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

/// Opens the tensors of a file, and its metadata entry; `what` names the expected kind of file in error messages.
pub(crate) fn deserialize<'a, M: DeserializeOwned>(
    bytes: &'a [u8],
    what: &str,
    entry: &str,
) -> std::result::Result<(Tensors<'a>, M), String> {
    let (file, entries) = open(bytes)?;
    let text = entries.get(entry).ok_or_else(|| format!("no softstep {what}: its metadata have no entry {entry:?}"))?;
    let damaged = |error| format!("its metadata entry {entry:?} is damaged: {error}");
    let mut metadata: Value = serde_json::from_str(text).map_err(damaged)?;
    with_architecture(&mut metadata)?;
    let metadata = serde_json::from_value(metadata).map_err(damaged)?;
    Ok((Tensors { file, read: BTreeSet::new() }, metadata))
}

/// Adds the architecture to metadata of version 0.1.0, which only knew stacks of linear layers.
fn with_architecture(metadata: &mut Value) -> std::result::Result<(), String> {
    let Value::Object(entries) = metadata else { return Ok(()) };
    if entries.contains_key("architecture") {
        return Ok(());
    }
    let Some(sizes) = entries.remove("sizes") else { return Ok(()) };
    // A model file states the activation itself, a checkpoint in its settings; the first checkpoints had only ReLU.
    let activation = entries.remove("activation").or_else(|| entries.get("config")?.get("activation").cloned());
    let no_model = |problem: String| format!("its metadata make no model: {problem}");
    let sizes: Vec<usize> = serde_json::from_value(sizes).map_err(|error| no_model(error.to_string()))?;
    let activation: Activation = serde_json::from_value(activation.unwrap_or_else(|| "relu".into()))
        .map_err(|error| no_model(error.to_string()))?;
    let architecture = Architecture::dense(&sizes, activation).map_err(|error| no_model(error.to_string()))?;
    let architecture = serde_json::to_value(architecture).map_err(|error| no_model(error.to_string()))?;
    entries.insert("architecture".into(), architecture);
    Ok(())
}

/// Opens the tensors and the metadata entries of a safetensors file.
///
/// Stricter than the `safetensors` crate: refuses headers above [`MAX_HEADER_BYTES`], duplicate names, which readers
/// may resolve differently, and sizes beyond the file, at which the sums of the crate overflow.
fn open(bytes: &[u8]) -> std::result::Result<(SafeTensors<'_>, BTreeMap<String, String>), String> {
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

/// A JSON object without duplicate names; serde's own maps keep the last duplicate.
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

/// The tensors of a file, with a record of which were read.
pub(crate) struct Tensors<'a> {
    file: SafeTensors<'a>,
    read: BTreeSet<String>,
}

impl<'a> Tensors<'a> {
    /// Reads the tensors of [`parameter_tensors`].
    pub fn parameters(&mut self, prefix: &str, architecture: &Architecture) -> std::result::Result<Parameters, String> {
        let mut parameters = self.weights(prefix, architecture)?;
        for node in Plan::new(architecture).nodes.iter().filter(|node| node.statistics.is_some()) {
            let shape = [node.output.channels()];
            let mean = self.values(name(prefix, node, "running_mean"), &shape)?;
            let variance = self.values(name(prefix, node, "running_var"), &shape)?;
            if let Some(value) = variance.iter().find(|value| **value < 0.0) {
                return Err(format!("tensor {} has the variance {value}", name(prefix, node, "running_var")));
            }
            parameters.statistics.push(Statistics { mean, variance });
        }
        Ok(parameters)
    }

    /// Reads the tensors of [`weight_tensors`]. Memory is only used for tensors that exist with the right shape.
    pub fn weights(&mut self, prefix: &str, architecture: &Architecture) -> std::result::Result<Parameters, String> {
        let mut layers = Vec::new();
        for node in &Plan::new(architecture).nodes {
            let Some([inputs, outputs]) = node.weights_shape() else { continue };
            let weights = self.values(name(prefix, node, "weight"), &weight_shape(node, inputs, outputs))?;
            let bias = self.values(name(prefix, node, "bias"), &[outputs])?;
            let mut values = vec![0.0; inputs * outputs];
            for (at, &value) in weights.iter().enumerate() {
                values[row_of(node, at % inputs) * outputs + at / inputs] = value;
            }
            values.extend(bias);
            layers.push(Weights { inputs, outputs, values });
        }
        Ok(Parameters { architecture: architecture.clone(), layers, statistics: Vec::new() })
    }

    /// Bytes of a tensor, which must have this type and shape.
    pub fn bytes(&mut self, name: String, dtype: Dtype, shape: &[usize]) -> std::result::Result<&'a [u8], String> {
        let view = self.file.tensor(&name).map_err(|_| format!("tensor {name} is missing"))?;
        if view.dtype() != dtype || view.shape() != shape {
            return Err(format!(
                "tensor {name} is {} {:?}: its model wants {dtype} {shape:?}",
                view.dtype(),
                view.shape()
            ));
        }
        self.read.insert(name);
        Ok(view.data())
    }

    /// Values of a tensor, which must be finite f32 and have this shape.
    fn values(&mut self, name: String, shape: &[usize]) -> std::result::Result<Vec<f32>, String> {
        let bytes = self.bytes(name.clone(), Dtype::F32, shape)?;
        finite(&name, bytes)?;
        Ok(from_bytes(bytes).collect())
    }

    /// First tensor, by name, that was not read.
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

fn to_bytes<'a>(values: impl Iterator<Item = &'a f32>) -> Vec<u8> {
    values.flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk))
}
