//! Parameters from safetensors files that other frameworks wrote.
//!
//! Tensors are grouped by the names before `.weight`, `.bias`, `.running_mean` and the like, and every group becomes a
//! layer: a weight with four axes a convolution, with two a linear layer, with one a batch normalisation. The groups of a
//! kind belong to the layers of that kind in the order of the numbers in their names (`fc1`, `fc2`; `0`, `2`; `dense`,
//! `dense_1`), or else by their shapes, where only one order fits. Nothing is guessed: what fits in two ways is an error.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{Dtype, TensorView};

use super::{finite, open, row_of, to_bytes, weight_shape};
use crate::error::{Error, Result, printable};
use crate::model::{Architecture, Parameters, Statistics, Weights};
use crate::plan::{Node, Operation, Plan};
use crate::reference::BATCH_NORM_EPSILON;

/// Longest name of a tensor that is shown in full, in characters.
const LONGEST_NAME: usize = 80;
/// Upper limit of the problems in an error.
const MAX_PROBLEMS: usize = 20;

/// Conventions of a framework for the order of axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Weights `[outputs, inputs]` and `[outputs, channels, height, width]`; images are flattened with channels first.
    PyTorch,
    /// Kernels `[inputs, outputs]` and `[height, width, channels, outputs]`; images are flattened with channels last.
    /// Flax has the same.
    Keras,
}

impl Layout {
    /// Name for readers.
    pub fn name(self) -> &'static str {
        match self {
            Self::PyTorch => "PyTorch",
            Self::Keras => "Keras",
        }
    }

    /// Epsilon of batch normalisation unless it is set: 0.00001 in PyTorch, 0.001 in Keras.
    fn epsilon(self) -> f64 {
        match self {
            Self::PyTorch => 1e-5,
            Self::Keras => 1e-3,
        }
    }

    /// Shape of a node's weight in a file of this layout.
    fn shape(self, node: &Node) -> Vec<usize> {
        let [inputs, outputs] = node.weights_shape().unwrap_or_default();
        match (self, node.operation) {
            (Self::Keras, Operation::Conv2d(window)) => {
                vec![window.size, window.size, node.input.channels(), outputs]
            }
            (Self::Keras, Operation::Linear) => vec![inputs, outputs],
            _ => weight_shape(node, inputs, outputs),
        }
    }
}

/// Settings of an import.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Order of the axes; `None` to tell it by the shapes.
    pub layout: Option<Layout>,
    /// Layers of tensors by the names before `.weight` and `.bias`; the index of a layer counts from 0, with activations
    /// and the implied `flatten`, as in `nn.Sequential`. Other tensors are assigned by names and shapes.
    pub map: Vec<(String, usize)>,
    /// Epsilon that the batch normalisations were trained with; `None` for the default of the framework.
    pub epsilon: Option<f64>,
}

/// Parameters from a file, and how they were read.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The parameters.
    pub parameters: Parameters,
    /// Order of the axes in the file.
    pub layout: Layout,
    /// Index of each layer with weights, and the name of its tensors.
    pub sources: Vec<(usize, String)>,
    /// Decisions that a person should know of, a line each.
    pub notices: Vec<String>,
}

/// Reads the parameters of an architecture from a safetensors file of another framework; `file` is its name in error
/// messages.
///
/// Values may be of 16, 32 or 64 bits. A bias that is missing is 0, a scale of a batch normalisation 1. Batch
/// normalisations with another epsilon than softstep's get it added to their variances, which computes the same.
///
/// # Errors
/// [`Error::Format`] for a damaged file; [`Error::Invalid`] with everything that does not fit, tensor by tensor.
pub fn import(file: &str, bytes: &[u8], architecture: &Architecture, options: &Options) -> Result<Imported> {
    let (tensors, _) = open(bytes).map_err(|problem| Error::format(file, problem))?;
    let tensors: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    let told = |problems: Vec<String>| {
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        let mut text = problems.into_iter().take(MAX_PROBLEMS).collect::<Vec<_>>().join("; ");
        if more > 0 {
            text += &format!("; and {more} more");
        }
        Error::Invalid(format!("{} does not fit the model {architecture}: {text}", printable(file, 4096)))
    };
    let named = tensors.keys().any(|name| split(name).1 == "kernel").then_some(Layout::Keras);
    if let Some(layout) = options.layout.or(named) {
        return Import::new(&tensors, architecture, options, layout).run().map_err(told);
    }
    let by_pytorch = Import::new(&tensors, architecture, options, Layout::PyTorch).run();
    let by_keras = Import::new(&tensors, architecture, options, Layout::Keras).run();
    match (by_pytorch, by_keras) {
        (Ok(one), Ok(other)) if one.parameters != other.parameters => {
            let names: Vec<String> = one.sources.iter().map(|(_, name)| shown(name)).collect();
            Err(told(vec![format!(
                "{} could be [outputs, inputs] as in PyTorch or [inputs, outputs] as in Keras: say which",
                names.join(", ")
            )]))
        }
        (Ok(imported), _) | (Err(_), Ok(imported)) => Ok(imported),
        (Err(problems), Err(others)) => Err(told(if others.len() < problems.len() { others } else { problems })),
    }
}

/// Role of a tensor in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Weight,
    Bias,
    Mean,
    Variance,
}

impl Role {
    /// Role of a tensor by the last part of its name in PyTorch, Keras or Flax.
    fn of(name: &str) -> Option<Self> {
        match name {
            "weight" | "kernel" | "gamma" | "scale" => Some(Self::Weight),
            "bias" | "beta" => Some(Self::Bias),
            "running_mean" | "moving_mean" | "mean" => Some(Self::Mean),
            "running_var" | "moving_variance" | "moving_var" | "var" | "variance" => Some(Self::Variance),
            _ => None,
        }
    }
}

/// Splits the name of a tensor into that of its layer and the rest: `model.0` and `weight`, `dense` and `kernel`.
fn split(name: &str) -> (&str, &str) {
    let whole = name.strip_suffix(":0").unwrap_or(name);
    whole.rfind(['.', '/']).map_or(("", whole), |at| (&whole[..at], &whole[at + 1..]))
}

fn shown(name: &str) -> String {
    printable(name, LONGEST_NAME)
}

/// Kind of a layer with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Conv2d,
    Linear,
    BatchNorm,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Conv2d, Self::Linear, Self::BatchNorm];

    fn name(self) -> &'static str {
        match self {
            Self::Conv2d => "convolution",
            Self::Linear => "linear layer",
            Self::BatchNorm => "batch normalisation",
        }
    }

    fn of_node(node: &Node) -> Option<Self> {
        match node.operation {
            Operation::Conv2d(_) => Some(Self::Conv2d),
            Operation::Linear => Some(Self::Linear),
            Operation::BatchNorm => Some(Self::BatchNorm),
            _ => None,
        }
    }
}

/// The tensors of a layer, with their full names.
#[derive(Debug, Default)]
struct Group<'a> {
    tensors: BTreeMap<Role, (&'a str, &'a TensorView<'a>)>,
}

impl Group<'_> {
    fn shape(&self) -> &[usize] {
        self.tensors.get(&Role::Weight).map_or(&[], |(_, tensor)| tensor.shape())
    }

    fn kind(&self) -> Option<Kind> {
        match self.tensors.get(&Role::Weight).map(|(_, tensor)| tensor.shape().len()) {
            Some(4) => Some(Kind::Conv2d),
            Some(2) => Some(Kind::Linear),
            Some(1) => Some(Kind::BatchNorm),
            None if self.tensors.contains_key(&Role::Mean) => Some(Kind::BatchNorm),
            _ => None,
        }
    }

    /// Returns true if the group has the weight of this node. A batch normalisation may have none; its statistics then
    /// tell the shape.
    fn fits(&self, node: &Node, layout: Layout) -> bool {
        let tensor = self.tensors.get(&Role::Weight).or_else(|| self.tensors.get(&Role::Mean));
        tensor.is_some_and(|(_, tensor)| tensor.shape() == layout.shape(node))
    }
}

/// One try to read a file by a layout.
struct Import<'a> {
    architecture: &'a Architecture,
    options: &'a Options,
    layout: Layout,
    /// The nodes with weights.
    nodes: Vec<Node>,
    groups: BTreeMap<&'a str, Group<'a>>,
    problems: Vec<String>,
    notices: Vec<String>,
}

impl<'a> Import<'a> {
    fn new(
        tensors: &'a BTreeMap<String, TensorView<'a>>,
        architecture: &'a Architecture,
        options: &'a Options,
        layout: Layout,
    ) -> Self {
        let nodes = Plan::new(architecture).nodes.into_iter().filter(|node| node.weights.is_some()).collect();
        let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, tensor) in tensors {
            let (layer, what) = split(name);
            match Role::of(what) {
                // PyTorch counts the batches of a batch normalisation, which evaluation does not need.
                None if what == "num_batches_tracked" => {}
                None => {
                    problems.push(format!("tensor {} has a name that is not a weight, bias or statistic", shown(name)))
                }
                Some(role) => {
                    if groups.entry(layer).or_default().tensors.insert(role, (name, tensor)).is_some() {
                        problems.push(format!("tensor {} is there under two names", shown(name)));
                    }
                }
            }
        }
        Self { architecture, options, layout, nodes, groups, problems, notices: Vec::new() }
    }

    fn run(mut self) -> std::result::Result<Imported, Vec<String>> {
        let mut assigned: BTreeMap<usize, &str> = self.mapped();
        for kind in Kind::ALL {
            self.assign(kind, &mut assigned);
        }
        let named = self.groups.iter().filter(|(_, group)| group.kind().is_none());
        let without: Vec<String> = named
            .map(|(name, group)| match group.tensors.get(&Role::Weight) {
                Some((tensor, _)) => {
                    format!("tensor {} is {:?}: a weight has 4, 2 or 1 axes", shown(tensor), group.shape())
                }
                None => format!("the tensors of {} have no weight among them", shown(name)),
            })
            .collect();
        self.problems.extend(without);
        let mut parameters =
            Parameters { architecture: self.architecture.clone(), layers: Vec::new(), statistics: Vec::new() };
        let mut sources = Vec::new();
        for at in 0..self.nodes.len() {
            let (Some(&name), node) = (assigned.get(&at), self.nodes[at]) else { continue };
            parameters.layers.push(self.weights(name, &node));
            if node.statistics.is_some() {
                parameters.statistics.push(self.statistics(name, &node));
            }
            sources.push((node.layer - 1, name.to_string()));
        }
        if self.problems.is_empty() {
            Ok(Imported { parameters, layout: self.layout, sources, notices: self.notices })
        } else {
            Err(self.problems)
        }
    }

    /// Names a layer with its index and what it wants.
    fn layer(&self, node: &Node) -> String {
        let index = node.layer - 1;
        format!("layer {index}, {}, wants {:?}", self.architecture.layers()[index], self.layout.shape(node))
    }

    /// The groups that the options give to a node, by the index of the node.
    fn mapped(&mut self) -> BTreeMap<usize, &'a str> {
        let mut assigned = BTreeMap::new();
        let mut used = BTreeSet::new();
        for (name, layer) in &self.options.map {
            let found = self.groups.get_key_value(name.as_str()).map(|(name, group)| (*name, group));
            let node = self.nodes.iter().position(|node| node.layer == layer + 1);
            match (found, node) {
                (None, _) => {
                    let names: Vec<String> = self.groups.keys().map(|name| shown(name)).collect();
                    self.problems.push(format!(
                        "no tensors are called {}: there are {}",
                        shown(name),
                        names.join(", ")
                    ));
                }
                (_, None) => {
                    let layers: Vec<String> = self.nodes.iter().map(|node| self.layer(node)).collect();
                    self.problems.push(format!("layer {layer} has no weights: {}", layers.join(", ")));
                }
                (Some((name, group)), Some(at)) => {
                    let node = self.nodes[at];
                    if !used.insert(name) || assigned.insert(at, name).is_some() {
                        self.problems.push(format!("{} and layer {layer} are mapped twice", shown(name)));
                    } else if !group.fits(&node, self.layout) {
                        let problem = self.misfit(name, &node);
                        self.problems.push(problem);
                        assigned.remove(&at);
                    }
                }
            }
        }
        assigned
    }

    fn misfit(&self, name: &str, node: &Node) -> String {
        let tensor = self.groups[name].tensors.values().next().map_or(name, |(tensor, _)| tensor);
        format!("tensor {} is {:?}: {}", shown(tensor), self.groups[name].shape(), self.layer(node))
    }

    /// Gives the groups of a kind to the nodes of that kind.
    fn assign(&mut self, kind: Kind, assigned: &mut BTreeMap<usize, &'a str>) {
        let mapped: BTreeSet<&str> = self.options.map.iter().map(|(name, _)| name.as_str()).collect();
        let layers: BTreeSet<usize> = self.options.map.iter().map(|(_, layer)| *layer).collect();
        let mut names: Vec<&'a str> = self
            .groups
            .iter()
            .filter(|(name, group)| group.kind() == Some(kind) && !mapped.contains(*name))
            .map(|(name, _)| *name)
            .collect();
        names.sort_by_cached_key(|name| natural(name));
        let free = |(at, node): (usize, &Node)| {
            (Kind::of_node(node) == Some(kind) && !layers.contains(&(node.layer - 1))).then_some(at)
        };
        let mut nodes: Vec<usize> = self.nodes.iter().enumerate().filter_map(free).collect();
        if names.len() != nodes.len() {
            let tensors = names.iter().map(|name| format!("{} {:?}", shown(name), self.groups[name].shape()));
            let tensors = tensors.collect::<Vec<_>>().join(", ");
            let wanted = nodes.iter().map(|&at| self.layer(&self.nodes[at])).collect::<Vec<_>>().join(", ");
            let problem = match (names.is_empty(), nodes.is_empty()) {
                (true, _) => format!("no tensors for {}: {wanted}", plural(kind, nodes.len())),
                (_, true) => {
                    format!("tensors of {} that the model does not have: {tensors}", plural(kind, names.len()))
                }
                _ => format!(
                    "tensors of {} ({tensors}) for {} ({wanted})",
                    plural(kind, names.len()),
                    plural(kind, nodes.len())
                ),
            };
            self.problems.push(problem);
            return;
        }
        if !numbered(&names) {
            // What fits one layer only, until nothing more follows.
            while let Some((at, name)) = self.only_choice(&nodes, &names) {
                assigned.insert(at, name);
                nodes.retain(|&other| other != at);
                names.retain(|&other| other != name);
            }
            if names.len() > 1 && !numbered(&names) {
                let fits = |name: &&str| nodes.iter().any(|&at| self.groups[name].fits(&self.nodes[at], self.layout));
                let (these, wanted): (Vec<String>, Vec<String>) = (
                    names.iter().map(|name| format!("{} {:?}", shown(name), self.groups[name].shape())).collect(),
                    nodes.iter().map(|&at| self.layer(&self.nodes[at])).collect(),
                );
                let problem = if names.iter().all(fits) { "may belong to several layers" } else { "do not fit" };
                self.problems.push(format!("the tensors of {} {problem}: {}", these.join(", "), wanted.join(", ")));
                return;
            }
        }
        for (at, name) in nodes.into_iter().zip(names) {
            if self.groups[name].fits(&self.nodes[at], self.layout) {
                assigned.insert(at, name);
            } else {
                let problem = self.misfit(name, &self.nodes[at]);
                self.problems.push(problem);
            }
        }
    }

    /// A node that only one group fits, or a group that fits one node only.
    fn only_choice(&self, nodes: &[usize], names: &[&'a str]) -> Option<(usize, &'a str)> {
        let fits = |at: usize, name: &str| self.groups[name].fits(&self.nodes[at], self.layout);
        let by_node = nodes.iter().find_map(|&at| {
            let mut fitting = names.iter().filter(|name| fits(at, name));
            fitting.next().filter(|_| fitting.next().is_none()).map(|name| (at, *name))
        });
        by_node.or_else(|| {
            names.iter().find_map(|&name| {
                let mut fitting = nodes.iter().filter(|&&at| fits(at, name));
                fitting.next().filter(|_| fitting.next().is_none()).map(|&at| (at, name))
            })
        })
    }

    /// Weights and bias of a node.
    fn weights(&mut self, name: &str, node: &Node) -> Weights {
        let [inputs, outputs] = node.weights_shape().unwrap_or_default();
        let shape = self.layout.shape(node);
        let missing = if node.operation == Operation::BatchNorm { 1.0 } else { 0.0 };
        let weight = self.values(name, Role::Weight, &shape, missing);
        let mut values = vec![0.0; inputs * outputs];
        for (at, value) in weight.into_iter().enumerate() {
            let place = match self.layout {
                Layout::PyTorch => row_of(node, at % inputs) * outputs + at / inputs,
                // Rows in the order of softstep: of a kernel by its row, column and channel, of an image likewise.
                Layout::Keras => at,
            };
            values[place] = value;
        }
        values.extend(self.values(name, Role::Bias, &[outputs], 0.0));
        Weights { inputs, outputs, values }
    }

    /// Running statistics of a batch normalisation.
    fn statistics(&mut self, name: &str, node: &Node) -> Statistics {
        let shape = [node.output.channels()];
        for (role, what) in [(Role::Mean, "mean"), (Role::Variance, "variance")] {
            if !self.groups[name].tensors.contains_key(&role) {
                self.problems.push(format!("the tensors of {} have no running {what}", shown(name)));
            }
        }
        let mean = self.values(name, Role::Mean, &shape, 0.0);
        let mut variance = self.values(name, Role::Variance, &shape, 1.0);
        let more = self.options.epsilon.unwrap_or(self.layout.epsilon()) - BATCH_NORM_EPSILON;
        if more != 0.0 {
            variance.iter_mut().for_each(|value| *value = (f64::from(*value) + more) as f32);
        }
        if let Some(value) = variance.iter().find(|value| **value < 0.0) {
            self.problems.push(format!("the tensors of {} have the variance {value}", shown(name)));
        }
        Statistics { mean, variance }
    }

    /// Values of a tensor, or `missing` where the layer has none.
    fn values(&mut self, name: &str, role: Role, shape: &[usize], missing: f32) -> Vec<f32> {
        let count = shape.iter().product();
        let Some(&(tensor, view)) = self.groups[name].tensors.get(&role) else {
            if matches!(role, Role::Weight | Role::Bias) {
                let what = if role == Role::Bias { "bias" } else { "scale" };
                self.notices.push(format!("{} has no {what}: it is {missing}", shown(name)));
            }
            return vec![missing; count];
        };
        if view.shape() != shape {
            self.problems.push(format!("tensor {} is {:?}, not {shape:?}", shown(tensor), view.shape()));
            return vec![missing; count];
        }
        match decoded(view) {
            Some(values) => {
                self.problems.extend(finite(&shown(tensor), &to_bytes(values.iter())).err());
                values
            }
            None => {
                let problem =
                    format!("tensor {} has values of type {}: they must be floats", shown(tensor), view.dtype());
                self.problems.push(problem);
                vec![missing; count]
            }
        }
    }
}

/// Formats a count with its noun: `1 convolution`, `2 convolutions`.
fn plural(kind: Kind, count: usize) -> String {
    format!("{count} {}{}", kind.name(), if count == 1 { "" } else { "s" })
}

/// Values as f32; `None` for other types than floats of 16, 32 or 64 bits.
fn decoded(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    let halves = || bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair));
    match view.dtype() {
        Dtype::F32 => Some(super::from_bytes(bytes).collect()),
        Dtype::F64 => Some(bytes.as_chunks().0.iter().map(|&chunk| f64::from_le_bytes(chunk) as f32).collect()),
        Dtype::BF16 => Some(halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect()),
        Dtype::F16 => Some(halves().map(of_half).collect()),
        _ => None,
    }
}

/// Value of a half-precision float.
fn of_half(half: u16) -> f32 {
    let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 1023));
    match (exponent, fraction) {
        (0, fraction) => sign * fraction * 2f32.powi(-24),
        (31, 0.0) => sign * f32::INFINITY,
        (31, _) => f32::NAN,
        (exponent, fraction) => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

/// A name as texts and numbers, so that `fc10` comes after `fc9`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let start = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let end = rest[start..].find(|character: char| !character.is_ascii_digit()).map_or(rest.len(), |at| start + at);
        parts.push((rest[..start].to_string(), rest[start..end].parse().unwrap_or(0)));
        rest = &rest[end..];
    }
    parts
}

/// Returns true if names differ in their numbers alone, which then tell their order; the first of Keras has none.
fn numbered(names: &[&str]) -> bool {
    let texts = |name: &&str| {
        let digits = |character: char| character.is_ascii_digit();
        let bare = name.trim_end_matches(digits);
        let base = bare.strip_suffix('_').filter(|_| bare != *name).unwrap_or(name);
        natural(base).into_iter().map(|(text, _)| text).collect::<Vec<_>>()
    };
    names.windows(2).all(|pair| texts(&pair[0]) == texts(&pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Shape, parse_layers};
    use crate::model_file::Tensor;

    fn architecture(input: Shape, layers: &str) -> Architecture {
        Architecture::new(input, parse_layers(layers).unwrap()).unwrap()
    }

    /// A file of tensors that count up from `first`.
    fn file(tensors: &[(&str, &[usize], f32)]) -> Vec<u8> {
        let tensors: Vec<Tensor> = tensors
            .iter()
            .map(|&(name, shape, first)| Tensor {
                name: name.into(),
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                bytes: (0..shape.iter().product::<usize>()).flat_map(|at| (first + at as f32).to_le_bytes()).collect(),
            })
            .collect();
        super::super::serialize(&tensors, "format", &"pt").unwrap()
    }

    fn read(file: &[u8], architecture: &Architecture, options: &Options) -> Result<Imported> {
        import("w.safetensors", file, architecture, options)
    }

    #[test]
    fn names_of_both_frameworks_give_the_same_layers() {
        let flat = architecture(Shape::Flat(2), "linear:3,relu,linear:1");
        let expected = vec![vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 10.0, 11.0, 12.0], vec![20.0, 21.0, 22.0, 30.0]];
        let names = [["0", "2"], ["fc1", "fc2"], ["net.layers.0", "net.layers.2"], ["fc1", "head"], ["l1", "out"]];
        for [first, second] in names {
            let [w1, b1, w2, b2] = [(first, "weight"), (first, "bias"), (second, "weight"), (second, "bias")]
                .map(|(layer, what)| format!("{layer}.{what}"));
            let file = file(&[(&w1, &[3, 2], 0.0), (&b1, &[3], 10.0), (&w2, &[1, 3], 20.0), (&b2, &[1], 30.0)]);
            let imported = read(&file, &flat, &Options::default()).unwrap();
            let values: Vec<_> = imported.parameters.layers.iter().map(|layer| layer.values.clone()).collect();
            assert_eq!((values, imported.layout), (expected.clone(), Layout::PyTorch), "{first}");
        }
        let keras = file(&[
            ("sequential/dense/kernel:0", &[2, 3], 0.0),
            ("sequential/dense/bias:0", &[3], 10.0),
            ("sequential/dense_1/kernel:0", &[3, 1], 20.0),
        ]);
        let imported = read(&keras, &flat, &Options::default()).unwrap();
        assert_eq!(imported.parameters.layers[0].values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0]);
        assert_eq!(imported.parameters.layers[1].values, [20.0, 21.0, 22.0, 0.0]);
        assert_eq!(imported.notices, ["sequential/dense_1 has no bias: it is 0"]);
        assert_eq!(imported.sources, [(0, "sequential/dense".into()), (2, "sequential/dense_1".into())]);
    }

    #[test]
    fn images_are_reordered_and_epsilons_added_to_the_variance() {
        let image = Shape::Image { height: 2, width: 1, channels: 2 };
        let network = architecture(image, "conv:1x1,batchnorm,linear:1");
        let tensors: [(&str, &[usize], f32); 8] = [
            ("conv1.weight", &[1, 2, 1, 1], 1.0),
            ("conv1.bias", &[1], 3.0),
            ("bn1.weight", &[1], 4.0),
            ("bn1.bias", &[1], 5.0),
            ("bn1.running_mean", &[1], 6.0),
            ("bn1.running_var", &[1], 7.0),
            ("fc.weight", &[1, 2], 8.0),
            ("fc.bias", &[1], 9.0),
        ];
        let imported = read(&file(&tensors), &network, &Options::default()).unwrap();
        let values: Vec<_> = imported.parameters.layers.iter().map(|layer| layer.values.clone()).collect();
        assert_eq!(values, [vec![1.0, 2.0, 3.0], vec![4.0, 5.0], vec![8.0, 9.0, 9.0]]);
        assert_eq!(imported.parameters.statistics, [Statistics { mean: vec![6.0], variance: vec![7.0] }]);
        let options = Options { epsilon: Some(0.5), ..Options::default() };
        let imported = read(&file(&tensors), &network, &options).unwrap();
        assert!((imported.parameters.statistics[0].variance[0] - 7.49999).abs() < 1e-6);
        // Keras has 0.001 where PyTorch and softstep have 0.00001.
        let tensors: [(&str, &[usize], f32); 7] = [
            ("conv2d/kernel", &[1, 1, 2, 1], 1.0),
            ("batch_normalization/gamma", &[1], 4.0),
            ("batch_normalization/beta", &[1], 5.0),
            ("batch_normalization/moving_mean", &[1], 6.0),
            ("batch_normalization/moving_variance", &[1], 7.0),
            ("dense/kernel", &[2, 1], 8.0),
            ("dense/bias", &[1], 9.0),
        ];
        let imported = read(&file(&tensors), &network, &Options::default()).unwrap();
        assert_eq!(imported.layout, Layout::Keras);
        assert!((imported.parameters.statistics[0].variance[0] - 7.00099).abs() < 1e-6);

        // Channels come last in softstep, first in PyTorch.
        let network = architecture(image, "pool:1,linear:1");
        let imported = read(&file(&[("0.weight", &[1, 4], 0.0)]), &network, &Options::default()).unwrap();
        assert_eq!(imported.parameters.layers[0].values, [0.0, 2.0, 1.0, 3.0, 0.0]);
        let options = Options { layout: Some(Layout::Keras), ..Options::default() };
        let imported = read(&file(&[("0.weight", &[4, 1], 0.0)]), &network, &options).unwrap();
        assert_eq!(imported.parameters.layers[0].values, [0.0, 1.0, 2.0, 3.0, 0.0]);
    }

    #[test]
    fn what_fits_in_two_ways_needs_a_word_and_a_map_is_followed() {
        let square = architecture(Shape::Flat(2), "linear:2");
        let weights = file(&[("fc.weight", &[2, 2], 0.0)]);
        let error = read(&weights, &square, &Options::default()).unwrap_err().to_string();
        assert!(
            error.contains("fc could be [outputs, inputs] as in PyTorch or [inputs, outputs] as in Keras"),
            "{error}"
        );
        for (layout, expected) in [(Layout::PyTorch, [0.0, 2.0, 1.0, 3.0]), (Layout::Keras, [0.0, 1.0, 2.0, 3.0])] {
            let options = Options { layout: Some(layout), ..Options::default() };
            let imported = read(&weights, &square, &options).unwrap();
            assert_eq!(imported.parameters.layers[0].values[..4], expected);
        }
        let kernel = file(&[("fc.kernel", &[2, 2], 0.0)]);
        assert_eq!(read(&kernel, &square, &Options::default()).unwrap().layout, Layout::Keras);

        let deep = architecture(Shape::Flat(3), "linear:2,linear:2,linear:2");
        let weights = file(&[("a.weight", &[2, 2], 0.0), ("b.weight", &[2, 2], 4.0), ("c.weight", &[2, 3], 8.0)]);
        let error = read(&weights, &deep, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("the tensors of a [2, 2], b [2, 2] may belong to several layers"), "{error}");
        let options = Options { map: vec![("b".into(), 1)], ..Options::default() };
        let imported = read(&weights, &deep, &options).unwrap();
        assert_eq!(imported.sources, [(0, "c".into()), (1, "b".into()), (2, "a".into())]);
    }

    #[test]
    fn everything_that_does_not_fit_is_told_in_one_message() {
        let network = architecture(Shape::Flat(2), "linear:3,relu,linear:4");
        let weights = file(&[
            ("fc1.weight", &[5, 2], 0.0),
            ("fc1.bias", &[5], 0.0),
            ("fc2.weight", &[4, 3], f32::NAN),
            ("bn.weight", &[3], 0.0),
            ("rnn.weight_ih_l0", &[3], 0.0),
        ]);
        let error = read(&weights, &network, &Options::default()).unwrap_err().to_string();
        for told in [
            "w.safetensors does not fit the model 2: linear:3,relu,linear:4: ",
            "tensor rnn.weight_ih_l0 has a name that is not a weight, bias or statistic",
            "layer 0, linear:3, wants [3, 2]",
            "tensor fc2.weight has the value NaN at 0",
            "tensors of 1 batch normalisation that the model does not have: bn [3]",
        ] {
            assert!(error.contains(told), "{told:?} is not in {error}");
        }
        let options = Options { map: vec![("fc9".into(), 0), ("fc1".into(), 1)], ..Options::default() };
        let error = read(&weights, &network, &options).unwrap_err().to_string();
        assert!(error.contains("no tensors are called fc9: there are bn, fc1, fc2"), "{error}");
        assert!(error.contains("layer 1 has no weights: layer 0, linear:3, wants [3, 2], layer 2"), "{error}");
        let error = import("x", b"no file", &network, &Options::default()).unwrap_err().to_string();
        assert!(error.starts_with("x: not a whole safetensors file"), "{error}");
    }

    #[test]
    fn halves_and_doubles_are_read() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 2f32.powi(-24)), (0x7bff, 65504.0)] {
            assert_eq!(of_half(bits), value);
        }
        assert!(of_half(0x7e00).is_nan() && of_half(0xfc00) == f32::NEG_INFINITY);
        let tensors = [(Dtype::F64, 1.5f64.to_le_bytes().to_vec()), (Dtype::BF16, vec![0xc0, 0x3f])];
        for (dtype, bytes) in tensors {
            let view = TensorView::new(dtype, vec![1], &bytes).unwrap();
            assert_eq!(decoded(&view), Some(vec![1.5]), "{dtype}");
        }
        let numbers = 7i64.to_le_bytes();
        assert_eq!(decoded(&TensorView::new(Dtype::I64, vec![1], &numbers).unwrap()), None);
    }
}
