//! ONNX files: protobuf messages as `onnx/onnx.proto` declares them, with the fields that a model needs.
//!
//! The graph takes what `softstep predict` reads (bytes of an image, the columns of a table, the numbers of an array) and
//! gives what it prints. Operators are of opset 13, so that ONNX Runtime, tract and OpenCV read them; texts need two of
//! `ai.onnx.ml`. Images come with channels last and are transposed once, at the entrance.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use prost::Message;
use softstep::data::{ArrayFormat, Column, Encoding, Form, Scale, TableFormat, csv};
use softstep::model::{Activation, Shape, Window};
use softstep::model_file::pytorch_weights;
use softstep::plan::{Node, Operation};
use softstep::reference::BATCH_NORM_EPSILON;

use super::exported::{Export, Output, own_units};
use crate::format::counted;
use crate::run::model::Input;

/// Version of the file format: that of ONNX 1.10 to 1.12.
const IR_VERSION: i64 = 8;
/// Start of the files that are written here: the version of the format and the producer.
pub const MARK: &str = "\u{8}\u{8}\u{12}\u{8}softstep";
/// Version of the operators.
const OPSET: i64 = 13;
/// Version of the operators of `ai.onnx.ml`.
const ML_OPSET: i64 = 2;
/// Domain of operators on texts.
const ML: &str = "ai.onnx.ml";
/// Most bytes of a protobuf message.
const MAX_BYTES: usize = (1 << 31) - 1;
/// Name of the dynamic axis.
const BATCH: &str = "batch";

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(string, tag = "6")]
    doc_string: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<StringString>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StringString {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(string, tag = "10")]
    doc_string: String,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, tag = "6")]
    doc_string: String,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    strings: Vec<Vec<u8>>,
    /// 1 is a float, 2 an integer, 7 integers, 8 strings.
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(bytes = "vec", repeated, tag = "6")]
    string_data: Vec<Vec<u8>>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
    #[prost(string, tag = "3")]
    doc_string: String,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

/// A dimension: a number, or a name for one that each call chooses.
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// Type of a tensor's elements, with its number in the format.
#[derive(Clone, Copy)]
enum Element {
    Float = 1,
    Byte = 2,
    Int64 = 7,
    Text = 8,
    Double = 11,
}

impl Attribute {
    fn int(name: &str, value: i64) -> Self {
        Self { name: name.into(), i: Some(value), r#type: 2, ..Self::default() }
    }

    fn float(name: &str, value: f32) -> Self {
        Self { name: name.into(), f: Some(value), r#type: 1, ..Self::default() }
    }

    fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> Self {
        Self { name: name.into(), ints: values.into_iter().collect(), r#type: 7, ..Self::default() }
    }

    fn texts<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let strings = values.into_iter().map(|value| value.as_bytes().to_vec()).collect();
        Self { name: name.into(), strings, r#type: 8, ..Self::default() }
    }
}

/// Serialises a model as an ONNX file. Without `labels` the name of the class is not among the outputs, for readers
/// without texts.
///
/// # Errors
/// A model that is larger than the format allows.
pub fn to_onnx(export: &Export<'_>, labels: bool) -> Result<Vec<u8>> {
    let bytes = model(export, labels).encode_to_vec();
    if bytes.len() > MAX_BYTES {
        bail!("the model has {} bytes, and an ONNX file at most {MAX_BYTES}", bytes.len());
    }
    Ok(bytes)
}

fn model(export: &Export<'_>, labels: bool) -> ModelProto {
    let mut builder = Builder::default();
    let entrance = builder.entrance(export);
    let outputs = export.plan.nodes.iter().fold(entrance, |input, node| builder.layer(export, node, input));
    builder.exit(export, outputs, labels);
    let Builder { mut graph, is_ml, .. } = builder;
    graph.name = "softstep".into();
    graph.doc_string = export.model.parameters.architecture.to_string();
    let mut opset_import = vec![OperatorSetId { domain: String::new(), version: OPSET }];
    if is_ml {
        opset_import.push(OperatorSetId { domain: ML.into(), version: ML_OPSET });
    }
    let metadata_props =
        export.facts().into_iter().map(|(key, value)| StringString { key: key.into(), value }).collect();
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "softstep".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: export.title(),
        graph: Some(graph),
        opset_import,
        metadata_props,
    }
}

/// A graph that is being built. Every method that adds an operator returns the name of its output.
#[derive(Default)]
struct Builder {
    graph: GraphProto,
    /// Names of tensors and operators that are taken.
    names: BTreeSet<String>,
    /// Group of the next operators: the prefix of their names, and a text for readers.
    place: (String, String),
    is_ml: bool,
}

impl Builder {
    /// A name that is not taken yet: `wanted`, or with underscores behind it.
    fn name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn op(&mut self, kind: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        let output = self.name(&format!("{}.{}", self.place.0, kind.to_lowercase()));
        self.push(kind, inputs, attributes, output)
    }

    /// An operator whose output is an output of the model.
    fn last(&mut self, kind: &str, inputs: &[&str], attributes: Vec<Attribute>, output: &str) -> String {
        let output = self.name(output);
        self.push(kind, inputs, attributes, output)
    }

    fn push(&mut self, kind: &str, inputs: &[&str], attribute: Vec<Attribute>, output: String) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.clone()],
            name: output.clone(),
            op_type: kind.into(),
            attribute,
            doc_string: self.place.1.clone(),
            domain: if kind == "LabelEncoder" { ML.into() } else { String::new() },
        });
        self.is_ml |= kind == "LabelEncoder";
        output
    }

    fn tensor(&mut self, name: &str, dims: &[usize], element: Element, bytes: Vec<u8>) -> String {
        let name = self.name(name);
        self.graph.initializer.push(TensorProto {
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type: element as i32,
            name: name.clone(),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        name
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.tensor(name, dims, Element::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn doubles(&mut self, name: &str, values: &[f64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, &[values.len()], Element::Double, bytes)
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, &[values.len()], Element::Int64, bytes)
    }

    fn texts(&mut self, name: &str, values: &[String]) -> String {
        let name = self.name(name);
        self.graph.initializer.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: Element::Text as i32,
            string_data: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
            name: name.clone(),
            raw_data: None,
        });
        name
    }

    fn scalar(&mut self, name: &str, value: f32) -> String {
        self.floats(name, &[], &[value])
    }

    fn cast(&mut self, input: &str, to: Element) -> String {
        self.op("Cast", &[input], vec![Attribute::int("to", to as i64)])
    }

    fn input(&mut self, name: &str, dims: &[usize], element: Element, doc: String) -> String {
        let name = self.name(name);
        self.graph.input.push(value_info(&name, dims, element, doc));
        name
    }

    fn output(&mut self, name: &str, dims: &[usize], element: Element, doc: &str) {
        self.graph.output.push(value_info(name, dims, element, doc.into()));
    }

    /// Adds the nodes from the inputs of the model to the features of the first layer, images with channels first.
    fn entrance(&mut self, export: &Export<'_>) -> String {
        self.place = ("input".into(), "preprocessing".into());
        let (features, shape) = match export.input {
            Input::Image([height, width, channels]) => {
                let order = if channels == 3 { ": red, green and blue" } else { "" };
                let doc = format!("bytes of images of {height} rows and {width} columns, {channels} per pixel{order}");
                let image = self.input("image", &[height, width, channels], Element::Byte, doc);
                (self.scaled(&image), Shape::Image { height, width, channels })
            }
            Input::Bytes(features) => {
                let doc = format!("{features} bytes of each example");
                let bytes = self.input("features", &[features], Element::Byte, doc);
                (self.scaled(&bytes), Shape::Flat(features))
            }
            Input::Numbers(ArrayFormat { features, scales, .. }) => {
                let doc = format!("{features} numbers of each example");
                let name = self.input("features", &[*features], Element::Float, doc);
                let name = if scales.is_empty() {
                    name
                } else {
                    let doubles = self.cast(&name, Element::Double);
                    self.standardised(&doubles, scales.iter().copied())
                };
                (name, Shape::Flat(*features))
            }
            Input::Table(table) => (self.table(table), Shape::Flat(table.features())),
        };
        match (shape, export.plan.input) {
            (Shape::Image { .. }, Shape::Flat(_)) => self.flatten(&features),
            (Shape::Image { .. }, Shape::Image { .. }) => self.channels_first(&features),
            (Shape::Flat(_), Shape::Image { height, width, channels }) => {
                // 0 keeps the axis of the batch.
                let sizes = self.integers("input.shape", &[0, height as i64, width as i64, channels as i64]);
                let image = self.op("Reshape", &[&features, &sizes], Vec::new());
                self.channels_first(&image)
            }
            (Shape::Flat(_), Shape::Flat(_)) => features,
        }
    }

    fn scaled(&mut self, bytes: &str) -> String {
        let floats = self.cast(bytes, Element::Float);
        let scale = self.scalar("input.scale", 1.0 / 255.0);
        self.op("Mul", &[&floats, &scale], Vec::new())
    }

    /// Standardises numbers, in 64 bits as softstep does.
    fn standardised(&mut self, doubles: &str, scales: impl Iterator<Item = Scale> + Clone) -> String {
        let [means, deviations] = self.scales("input", scales);
        let centred = self.op("Sub", &[doubles, &means], Vec::new());
        let scaled = self.op("Div", &[&centred, &deviations], Vec::new());
        self.cast(&scaled, Element::Float)
    }

    /// The means and the deviations of scales.
    fn scales(&mut self, of: &str, scales: impl Iterator<Item = Scale> + Clone) -> [String; 2] {
        let means: Vec<f64> = scales.clone().map(|scale| scale.mean).collect();
        let deviations: Vec<f64> = scales.map(|scale| scale.deviation).collect();
        [self.doubles(&format!("{of}.mean"), &means), self.doubles(&format!("{of}.deviation"), &deviations)]
    }

    fn flatten(&mut self, input: &str) -> String {
        self.op("Flatten", &[input], vec![Attribute::int("axis", 1)])
    }

    fn channels_first(&mut self, input: &str) -> String {
        self.op("Transpose", &[input], vec![Attribute::ints("perm", [0, 3, 1, 2])])
    }

    /// The features of a table: standardised numbers, marks of missing ones, and one-hot texts.
    fn table(&mut self, table: &TableFormat) -> String {
        // The features of each block below, by their places in the order of the model.
        let mut places: Vec<i64> = Vec::new();
        let mut blocks: Vec<String> = Vec::new();
        let columns: Vec<(&Column, String, usize)> = {
            let mut first = 0;
            let mut columns = Vec::new();
            for column in &table.columns {
                let element = match column.encoding {
                    Encoding::Standardised(_) => Element::Double,
                    Encoding::OneHot(_) => Element::Text,
                };
                let name = self.input(&column.name, &[1], element, described(column));
                columns.push((column, name, first));
                first += column.features();
            }
            columns
        };
        let numbers: Vec<_> = columns
            .iter()
            .filter_map(|(column, name, first)| match column.encoding {
                Encoding::Standardised(scale) => Some((scale, column.marks_gaps, name.as_str(), *first as i64)),
                Encoding::OneHot(_) => None,
            })
            .collect();
        if !numbers.is_empty() {
            let names: Vec<&str> = numbers.iter().map(|(_, _, name, _)| *name).collect();
            let all = self.op("Concat", &names, vec![Attribute::int("axis", 1)]);
            // Only NaN differs from itself. Unlike IsNaN, every reader knows this for 64 bits.
            let present = self.op("Equal", &[&all, &all], Vec::new());
            let standardised = self.standardised(&all, numbers.iter().map(|(scale, ..)| *scale));
            let zero = self.scalar("input.missing", 0.0);
            blocks.push(self.op("Where", &[&present, &standardised, &zero], Vec::new()));
            places.extend(numbers.iter().map(|(.., first)| first));
            let marked: Vec<i64> =
                (0..numbers.len()).filter(|&number| numbers[number].1).map(|number| number as i64).collect();
            if !marked.is_empty() {
                places.extend(marked.iter().map(|&number| numbers[number as usize].3 + 1));
                let missing = self.op("Not", &[&present], Vec::new());
                let marks = self.cast(&missing, Element::Float);
                let marked = self.integers("input.marked", &marked);
                blocks.push(self.op("Gather", &[&marks, &marked], vec![Attribute::int("axis", 1)]));
            }
        }
        for (column, name, first) in &columns {
            let Encoding::OneHot(categories) = &column.encoding else { continue };
            if categories.is_empty() {
                continue;
            }
            let index = self.category(name, categories);
            let known = self.integers("input.categories", &(0..categories.len() as i64).collect::<Vec<_>>());
            let hot = self.op("Equal", &[&index, &known], Vec::new());
            blocks.push(self.cast(&hot, Element::Float));
            places.extend((0..categories.len()).map(|at| (first + at) as i64));
        }
        let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
        let features = self.op("Concat", &blocks, vec![Attribute::int("axis", 1)]);
        if places.is_sorted() {
            return features;
        }
        let mut order: Vec<i64> = (0..places.len() as i64).collect();
        order.sort_by_key(|&at| places[at as usize]);
        let order = self.integers("input.order", &order);
        self.op("Gather", &[&features, &order], vec![Attribute::int("axis", 1)])
    }

    /// Index of a text among these categories, -1 for any other.
    fn category(&mut self, input: &str, categories: &[String]) -> String {
        let mut keys: Vec<(String, i64)> = categories.iter().cloned().zip(0..).collect();
        // Any marker of a missing value is the empty text; beside a plus, a minus is a value.
        if let Some(gap) = categories.iter().position(String::is_empty) {
            let is_signed = categories.iter().any(|text| text == "+");
            let others = csv::gap_texts().into_iter().filter(|text| !categories.contains(text));
            keys.extend(others.filter(|text| !(is_signed && text == "-")).map(|text| (text, gap as i64)));
        }
        let attributes = vec![
            Attribute::texts("keys_strings", keys.iter().map(|(text, _)| text.as_str())),
            Attribute::ints("values_int64s", keys.iter().map(|&(_, index)| index)),
            Attribute::int("default_int64", -1),
        ];
        self.op("LabelEncoder", &[input], attributes)
    }

    /// A node of the plan, with its activation.
    fn layer(&mut self, export: &Export<'_>, node: &Node, input: String) -> String {
        let parameters = &export.model.parameters;
        let index = node.layer - 1;
        let layer = parameters.architecture.layers()[index];
        let activation = node.activation.map(|activation| format!(", {}", activation.name())).unwrap_or_default();
        self.place = (index.to_string(), format!("{layer}{activation}"));
        let weights = node.weights.map(|weights| &parameters.layers[weights]);
        let (mut weight, mut bias) = (Vec::new(), &[][..]);
        if let Some(weights) = weights {
            weight = pytorch_weights(node, weights);
            bias = &weights.values[weights.inputs * weights.outputs..];
        }
        let output = match node.operation {
            Operation::Linear => {
                let input = if matches!(node.input, Shape::Image { .. }) { self.flatten(&input) } else { input };
                let weight = self.floats(&format!("{index}.weight"), &[bias.len(), node.input.len()], &weight);
                let bias = self.floats(&format!("{index}.bias"), &[bias.len()], bias);
                self.op("Gemm", &[&input, &weight, &bias], vec![Attribute::int("transB", 1)])
            }
            Operation::Conv2d(window) => {
                let dims = [bias.len(), node.input.channels(), window.size, window.size];
                let weight = self.floats(&format!("{index}.weight"), &dims, &weight);
                let bias = self.floats(&format!("{index}.bias"), &[bias.len()], bias);
                self.op("Conv", &[&input, &weight, &bias], sliding(window))
            }
            Operation::MaxPool2d(window) => self.op("MaxPool", &[&input], sliding(window)),
            Operation::BatchNorm => {
                let mut tensors = vec![input];
                tensors.push(self.floats(&format!("{index}.weight"), &[bias.len()], &weight));
                tensors.push(self.floats(&format!("{index}.bias"), &[bias.len()], bias));
                if let Some(statistics) = node.statistics.map(|index| &parameters.statistics[index]) {
                    tensors.push(self.floats(&format!("{index}.running_mean"), &[bias.len()], &statistics.mean));
                    tensors.push(self.floats(&format!("{index}.running_var"), &[bias.len()], &statistics.variance));
                }
                let tensors: Vec<&str> = tensors.iter().map(String::as_str).collect();
                let epsilon = Attribute::float("epsilon", BATCH_NORM_EPSILON as f32);
                self.op("BatchNormalization", &tensors, vec![epsilon])
            }
            Operation::Activation(activation) => self.activation(activation, &input),
            Operation::Dropout(_) => input,
        };
        match node.activation {
            Some(activation) => self.activation(activation, &output),
            None => output,
        }
    }

    fn activation(&mut self, activation: Activation, input: &str) -> String {
        match activation {
            Activation::Relu => self.op("Relu", &[input], Vec::new()),
            Activation::Sigmoid => self.op("Sigmoid", &[input], Vec::new()),
            Activation::Tanh => self.op("Tanh", &[input], Vec::new()),
            Activation::LeakyRelu => self.op("LeakyRelu", &[input], vec![Attribute::float("alpha", 0.01)]),
            // z · logistic(√(8/π) (z + 0.044715 z³)): the operators of this version have no GELU.
            Activation::Gelu => {
                let slope = self.scalar("gelu.slope", 1.595_769_2);
                let cubic = self.scalar("gelu.cubic", 0.044_715 * 1.595_769_2);
                let square = self.op("Mul", &[input, input], Vec::new());
                let scaled = self.op("Mul", &[&square, &cubic], Vec::new());
                let factor = self.op("Add", &[&scaled, &slope], Vec::new());
                let inner = self.op("Mul", &[input, &factor], Vec::new());
                let gate = self.op("Sigmoid", &[&inner], Vec::new());
                self.op("Mul", &[input, &gate], Vec::new())
            }
        }
    }

    /// Adds the nodes from the outputs of the last layer to probabilities, classes or values.
    fn exit(&mut self, export: &Export<'_>, outputs: String, labels: bool) {
        self.place = ("output".into(), "what the outputs mean".into());
        let axis = || vec![Attribute::int("axis", 1)];
        let (values, classes) = match &export.output {
            Output::Probabilities(classes) => {
                let name = self.last("Softmax", &[&outputs], axis(), "probabilities");
                self.output(&name, &[classes.len()], Element::Float, "probability of each class");
                (outputs, classes)
            }
            Output::Binary(classes) => {
                let opposite = self.op("Neg", &[&outputs], Vec::new());
                let both = self.op("Concat", &[&opposite, &outputs], axis());
                let name = self.last("Sigmoid", &[&both], Vec::new(), "probabilities");
                self.output(&name, &[classes.len()], Element::Float, "probability of each class");
                (both, classes)
            }
            Output::Scores(classes) => {
                let name = self.last("Identity", &[&outputs], Vec::new(), "scores");
                let doc = "output for each class of a model that was trained with mean squared error";
                self.output(&name, &[classes.len()], Element::Float, doc);
                (outputs, classes)
            }
            Output::Values { count, scales, .. } if scales.is_empty() => {
                let name = self.last("Identity", &[&outputs], Vec::new(), "value");
                self.output(&name, &[*count], Element::Float, "predicted values");
                return;
            }
            Output::Values { count, scales, target } => {
                let wide = self.cast(&outputs, Element::Double);
                let [means, deviations] = self.scales("output", scales.iter().copied());
                let scaled = self.op("Mul", &[&wide, &deviations], Vec::new());
                let name = self.last("Add", &[&scaled, &means], Vec::new(), "value");
                let doc = match target {
                    Some(target) => format!("predicted {target}, in its own unit"),
                    None => format!("{}, in {}", counted(*count, "predicted value"), own_units(*count)),
                };
                self.output(&name, &[*count], Element::Double, &doc);
                return;
            }
        };
        if labels {
            let attributes = vec![Attribute::int("axis", 1), Attribute::int("keepdims", 0)];
            let index = self.op("ArgMax", &[&values], attributes);
            let names = self.texts("output.classes", classes);
            let name = self.last("Gather", &[&names, &index], vec![Attribute::int("axis", 0)], "label");
            self.output(&name, &[], Element::Text, "name of the most probable class");
        }
    }
}

/// Attributes of a sliding window.
fn sliding(window: Window) -> Vec<Attribute> {
    let Window { size, stride, padding } = window;
    let [size, stride, padding] = [size, stride, padding].map(|number| number as i64);
    vec![
        Attribute::ints("kernel_shape", [size; 2]),
        Attribute::ints("strides", [stride; 2]),
        Attribute::ints("pads", [padding; 4]),
    ]
}

/// A tensor of any batch.
fn value_info(name: &str, dims: &[usize], element: Element, doc_string: String) -> ValueInfo {
    let batch = Dimension { dim_param: Some(BATCH.into()), dim_value: None };
    let others = dims.iter().map(|&dim| Dimension { dim_value: Some(dim as i64), dim_param: None });
    let shape = TensorShape { dim: std::iter::once(batch).chain(others).collect() };
    let tensor_type = TensorType { elem_type: element as i32, shape: Some(shape) };
    ValueInfo { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }), doc_string }
}

/// Form of a column's input.
fn described(column: &Column) -> String {
    let is = match (&column.encoding, column.form) {
        (Encoding::OneHot(_), _) => "a text without spaces around it; empty where it is missing",
        (Encoding::Standardised(_), Form::Boolean) => "1 for true and 0 for false; NaN where it is missing",
        (Encoding::Standardised(_), form) if form.is_date() => {
            "a date as days since 1970-01-01, with the time of day as a fraction; NaN where it is missing"
        }
        (Encoding::Standardised(_), _) => "a number; NaN where it is missing",
    };
    format!("column {}: {is}", column.name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{model_of, table_model};
    use super::*;

    fn graph(bytes: &[u8]) -> (ModelProto, GraphProto) {
        let model = ModelProto::decode(bytes).unwrap();
        let graph = model.graph.clone().unwrap();
        (model, graph)
    }

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|node| node.op_type.as_str()).collect()
    }

    #[test]
    fn a_network_of_images_is_transposed_once_and_has_the_tensors_of_pytorch() {
        let model = model_of([6, 6, 2], "conv:3x3s2,batchnorm,relu,pool:2,dropout:0.5,gelu,linear:4");
        let export = Export::new(&model, None);
        let (file, graph) = graph(&to_onnx(&export, true).unwrap());
        assert_eq!((file.ir_version, &*file.producer_name), (8, "softstep"));
        assert_eq!(file.opset_import.len(), 1);
        let gelu = ["Mul", "Mul", "Add", "Mul", "Sigmoid", "Mul"];
        let start = ["Cast", "Mul", "Transpose", "Conv", "BatchNormalization", "Relu", "MaxPool"];
        let end = ["Flatten", "Gemm", "Softmax", "ArgMax", "Gather"];
        assert_eq!(operators(&graph), start.into_iter().chain(gelu).chain(end).collect::<Vec<_>>());
        let weight = graph.initializer.iter().find(|tensor| tensor.name == "0.weight").unwrap();
        assert_eq!((&*weight.dims, weight.data_type), (&[3, 2, 3, 3][..], 1));
        assert_eq!(weight.raw_data.as_ref().unwrap().len(), 54 * 4);
        let input = &graph.input[0];
        let dims = &input.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap().dim;
        assert_eq!(dims[0].dim_param.as_deref(), Some("batch"));
        assert_eq!(dims[1..].iter().map(|dim| dim.dim_value.unwrap()).collect::<Vec<_>>(), [6, 6, 2]);
        let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(outputs, ["probabilities", "label"]);
        let without = ModelProto::decode(&*to_onnx(&export, false).unwrap()).unwrap().graph.unwrap();
        assert_eq!(without.output.len(), 1);
    }

    #[test]
    fn a_table_has_an_input_for_each_column_and_no_name_twice() {
        let model = table_model();
        let (file, graph) = graph(&to_onnx(&Export::new(&model, None), true).unwrap());
        let inputs: Vec<(&str, i32)> = graph
            .input
            .iter()
            .map(|input| (input.name.as_str(), input.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type))
            .collect();
        assert_eq!(inputs, [("label", 11), ("colour", 8), ("born", 11)]);
        assert_eq!(file.opset_import[1].domain, ML);
        // A column has the name already.
        assert_eq!(graph.output[1].name, "label_");
        let encoder = graph.node.iter().find(|node| node.op_type == "LabelEncoder").unwrap();
        let keys = &encoder.attribute[0].strings;
        assert_eq!(keys[..2], [b"".to_vec(), b"red".to_vec()]);
        assert!(keys.contains(&b"NaN".to_vec()) && encoder.attribute[1].ints.len() == keys.len());
        let order = graph.initializer.iter().find(|tensor| tensor.name == "input.order").unwrap();
        let order: Vec<i64> =
            order.raw_data.as_ref().unwrap().as_chunks().0.iter().map(|&chunk| i64::from_le_bytes(chunk)).collect();
        // The blocks are numbers 0 and 4, the mark 1, and texts 2 and 3.
        assert_eq!(order, [0, 2, 3, 4, 1]);
        let mut names: Vec<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
        names.extend(graph.input.iter().map(|input| &input.name));
        names.extend(graph.initializer.iter().map(|tensor| &tensor.name));
        let count = names.len();
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>().len(), count);
    }
}
