//! C headers: weights and a forward function in plain C99, without allocation and without a library but `math.h`.
//!
//! Layers have softstep's own order: images with channels last, weights `[inputs][outputs]`. Two static buffers take
//! turns as input and output of a layer; activations and normalisations work in place.

use std::fmt::{self, Display, Write as _};

use anyhow::{Result, bail};
use softstep::data::{Encoding, Form, Scale, TableFormat};
use softstep::error::printable;
use softstep::model::{Activation, Parameters, Weights};
use softstep::plan::{Node, Operation, Plan};
use softstep::reference::BATCH_NORM_EPSILON;

use super::exported::{Export, Output, own_units};
use crate::format::counted;
use crate::run::model::Input;

/// Most weights of a header: compilers take long over larger ones.
const MAX_WEIGHTS: usize = 1 << 24;
/// Most characters of a line of numbers.
const WIDTH: usize = 110;
/// Start of such a line.
const LINE: &str = "\n    ";

/// Weights of a layer in 8 bits: `weight ≈ scale · value`, with a scale for each output.
pub struct Quantised {
    /// `[inputs, outputs]`, in −127..=127.
    pub values: Vec<i8>,
    /// `[outputs]`.
    pub scales: Vec<f32>,
}

impl Quantised {
    fn new(Weights { inputs, outputs, values }: &Weights) -> Self {
        let weights = &values[..inputs * outputs];
        let mut scales = vec![0f32; *outputs];
        for row in weights.chunks_exact(*outputs) {
            scales.iter_mut().zip(row).for_each(|(most, weight)| *most = most.max(weight.abs()));
        }
        scales.iter_mut().for_each(|scale| *scale /= 127.0);
        let value = |(&weight, &scale): (&f32, &f32)| if scale > 0.0 { (weight / scale).round() as i8 } else { 0 };
        let values = weights.chunks_exact(*outputs).flat_map(|row| row.iter().zip(&scales).map(value)).collect();
        Self { values, scales }
    }
}

/// Quantises the weights of linear layers and convolutions, in the order of [`Parameters::layers`]; `None` for a batch
/// normalisation. Biases stay in f32.
pub fn quantise(parameters: &Parameters) -> Vec<Option<Quantised>> {
    let nodes = Plan::new(&parameters.architecture).nodes;
    let weighted = nodes.iter().filter_map(|node| Some((node, &parameters.layers[node.weights?])));
    weighted.map(|(node, weights)| (node.operation != Operation::BatchNorm).then(|| Quantised::new(weights))).collect()
}

/// The parameters that a header with quantised weights computes with.
pub fn dequantised(parameters: &Parameters, quantised: &[Option<Quantised>]) -> Parameters {
    let mut parameters = parameters.clone();
    for (weights, quantised) in parameters.layers.iter_mut().zip(quantised) {
        let Some(Quantised { values, scales }) = quantised else { continue };
        let rows = weights.values.chunks_exact_mut(weights.outputs).zip(values.chunks_exact(weights.outputs));
        for (row, values) in rows {
            for ((weight, &value), scale) in row.iter_mut().zip(values).zip(scales) {
                *weight = f32::from(value) * scale;
            }
        }
    }
    parameters
}

/// Bytes of all weights and biases of a header.
pub fn weight_bytes(parameters: &Parameters, quantised: Option<&[Option<Quantised>]>) -> usize {
    let saved = |quantised: &Option<Quantised>| {
        quantised.as_ref().map_or(0, |quantised| 3 * quantised.values.len() as i64 - 4 * quantised.scales.len() as i64)
    };
    let saved: i64 = quantised.into_iter().flatten().map(saved).sum();
    (4 * parameters.count() as i64 - saved) as usize
}

/// Writes a model as a C header whose names start with `name`.
///
/// # Errors
/// A model with more weights than a compiler takes well.
pub fn to_c(export: &Export<'_>, name: &str, quantised: Option<&[Option<Quantised>]>) -> Result<String> {
    let count = export.model.parameters.count();
    if count > MAX_WEIGHTS {
        bail!("the model has {count} weights, and a C header at most {MAX_WEIGHTS}: --onnx takes any model");
    }
    let mut header = Header { export, name, quantised, text: String::new() };
    header.write();
    Ok(header.text)
}

/// The start of all names in a header, from the name of its file.
pub fn identifier(stem: &str) -> String {
    let mut name: String = stem.chars().map(|at| if at.is_ascii_alphanumeric() { at } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) || name.is_empty() {
        name.insert_str(0, "model_");
    }
    name
}

struct Header<'a> {
    export: &'a Export<'a>,
    name: &'a str,
    quantised: Option<&'a [Option<Quantised>]>,
    text: String,
}

impl Header<'_> {
    /// Appends lines in which `@` stands for the name and `$` for its upper case.
    fn lines(&mut self, text: &str) {
        let text = text.replace('@', self.name).replace('$', &self.name.to_ascii_uppercase());
        self.text.push_str(&text);
    }

    fn write(&mut self) {
        let Export { model, plan, input, output, .. } = self.export;
        self.head();
        let (inputs, of_input) = match input {
            Input::Image([height, width, channels]) => (height * width * channels, "unsigned char"),
            Input::Bytes(features) => (*features, "unsigned char"),
            Input::Numbers(arrays) => (arrays.features, "float"),
            Input::Table(table) => (table.columns.len(), "double"),
        };
        let (outputs, of_output) = match output {
            Output::Values { count, scales, .. } => (*count, if scales.is_empty() { "float" } else { "double" }),
            Output::Probabilities(classes) | Output::Binary(classes) | Output::Scores(classes) => {
                (classes.len(), "float")
            }
        };
        let _ = write!(self.text, "#define {}_INPUTS {inputs}\n#define {0}_OUTPUTS {outputs}\n", self.upper());
        if let Some(classes) = self.export.classes() {
            self.array("const char *const", "classes", classes.iter().map(|class| literal(class)));
        }
        match input {
            Input::Table(table) => self.columns(table),
            Input::Numbers(arrays) => self.scales("", &arrays.scales),
            Input::Image(_) | Input::Bytes(_) => {}
        }
        if let Output::Values { scales, .. } = output {
            self.scales("output_", scales);
        }
        for node in &plan.nodes {
            self.weights(node);
        }
        self.functions();
        let returned = if self.export.classes().is_some() { "int" } else { "void" };
        self.lines(&format!(
            "\nstatic inline {returned} @_predict(const {of_input} input[$_INPUTS], {of_output} output[$_OUTPUTS])\n{{\n"
        ));
        self.forward();
        self.lines("}\n\n#endif\n");
        debug_assert_eq!(plan.outputs, model.parameters.outputs());
    }

    fn upper(&self) -> String {
        self.name.to_ascii_uppercase()
    }

    /// The comment at the head, and what is included.
    fn head(&mut self) {
        let Export { model, plan, input, output, .. } = self.export;
        let parameters = &model.parameters;
        let [first, second] = buffers(plan);
        let mut lines = vec![self.export.title(), String::new()];
        let kind = if self.quantised.is_some() { "int8 with a scale for each output" } else { "f32" };
        lines.push(format!("layers    {}", parameters.architecture));
        lines.push(format!("weights   {kind}: {} bytes", weight_bytes(parameters, self.quantised)));
        lines.push(format!("memory    {} bytes of static buffers", 4 * (first + second)));
        lines.extend(
            self.export
                .facts()
                .into_iter()
                .filter(|(key, _)| *key != "classes")
                .map(|(key, value)| format!("{key:9} {value}")),
        );
        lines.push(String::new());
        lines.push(format!(
            "input     {}",
            match input {
                Input::Image([height, width, channels]) => {
                    format!("{height} rows of {width} pixels of {}, from the top left", counted(*channels, "byte"))
                }
                Input::Bytes(features) => format!("{features} bytes"),
                Input::Numbers(arrays) => format!("{} numbers", arrays.features),
                Input::Table(_) => "a number for each column:".into(),
            }
        ));
        if let Input::Table(table) = input {
            lines.extend(table.columns.iter().enumerate().map(|(index, column)| {
                let is = match (&column.encoding, column.form) {
                    (Encoding::OneHot(_), _) => {
                        format!("text, as {}_category({index}, text) numbers it; empty where it is missing", self.name)
                    }
                    (_, Form::Boolean) => "1 for true, 0 for false; NAN where it is missing".into(),
                    (_, form) if form.is_date() => "days since 1970-01-01; NAN where it is missing".into(),
                    _ => "number; NAN where it is missing".into(),
                };
                format!("  [{index}] {}: {is}", column.name)
            }));
        }
        lines.push(format!(
            "output    {}",
            match output {
                Output::Probabilities(_) | Output::Binary(_) => {
                    "probability of each class; the index of the most probable one is returned".into()
                }
                Output::Scores(_) => {
                    "score of each class, trained with mean squared error; the index of the largest is returned".into()
                }
                Output::Values { count: 1, target: Some(target), .. } => format!("{target}, in its own unit"),
                Output::Values { count, scales, .. } if scales.is_empty() => format!("{count} values"),
                Output::Values { count, .. } => format!("{}, in {}", counted(*count, "value"), own_units(*count)),
            }
        ));
        lines.push(String::new());
        lines.push(
            "Include it in one file of a C99 program, and link with -lm. Calls share the buffers: one at a time."
                .into(),
        );
        let comment: String =
            lines.iter().map(|line| format!(" * {}", comment(line)).trim_end().to_owned() + "\n").collect();
        let _ = writeln!(self.text, "/* {} */", comment.trim_start_matches(" * "));
        self.lines("#ifndef $_H\n#define $_H\n\n#include <math.h>\n#include <stdint.h>\n\n");
    }

    /// Writes a constant array.
    fn array(&mut self, of: &str, name: &str, values: impl ExactSizeIterator<Item = impl Display>) {
        let of = of.strip_suffix("const").map_or(format!("const {of}"), |of| format!("{of}const"));
        let _ = write!(self.text, "static {of} {}_{name}[{}] = {{", self.name, values.len());
        let mut column = WIDTH;
        for value in values {
            let start = self.text.len();
            let _ = write!(self.text, "{value}, ");
            column += self.text.len() - start;
            if column > WIDTH {
                self.text.insert_str(start, LINE);
                column = self.text.len() - start - 1;
            }
        }
        self.text.truncate(self.text.trim_end().len());
        self.text.push_str("\n};\n");
    }

    fn floats(&mut self, name: &str, values: &[f32]) {
        self.array("float", name, values.iter().map(|&value| Float(value)));
    }

    /// Means and deviations where there are several.
    fn scales(&mut self, of: &str, scales: &[Scale]) {
        if scales.len() > 1 {
            self.array("double", &format!("{of}mean"), scales.iter().map(|scale| format!("{:?}", scale.mean)));
            self.array(
                "double",
                &format!("{of}deviation"),
                scales.iter().map(|scale| format!("{:?}", scale.deviation)),
            );
        }
    }

    /// Mean and deviation of the number at `at`, as constants or elements of the arrays that [`scales`](Self::scales) writes.
    fn scale(of: &str, scales: &[Scale]) -> [String; 2] {
        match scales {
            [Scale { mean, deviation }] => [format!("({mean:?})"), format!("{deviation:?}")],
            _ => ["mean", "deviation"].map(|name| format!("@_{of}{name}[at]")),
        }
    }

    /// The encoding of a table's columns, and the texts that are categories.
    fn columns(&mut self, table: &TableFormat) {
        self.lines(
            "\n/* A number has no categories; a text has those from `first` on. */\n\
             typedef struct { double mean, deviation; int32_t marks_gaps, first, categories; } @_column;\n",
        );
        let mut texts: Vec<String> = Vec::new();
        let mut columns = Vec::new();
        for column in &table.columns {
            columns.push(match &column.encoding {
                Encoding::Standardised(scale) => {
                    format!("{{{:?}, {:?}, {}, 0, -1}}", scale.mean, scale.deviation, u8::from(column.marks_gaps))
                }
                Encoding::OneHot(categories) => format!("{{0.0, 1.0, 0, {}, {}}}", texts.len(), categories.len()),
            });
            if let Encoding::OneHot(categories) = &column.encoding {
                texts.extend(categories.iter().map(|text| literal(text)));
            }
        }
        let of = format!("{}_column", self.name);
        self.array(&of, "columns", columns.iter());
        if texts.is_empty() {
            return;
        }
        self.array("const char *const", "categories", texts.iter());
        self.lines(
            "\n/* Number of a text in a column; -1 for one that was not there in training. A missing one is \"\". */\n\
             static inline double @_category(int32_t column, const char *text)\n\
             {\n    \
                 for (int32_t at = 0; at < @_columns[column].categories; at++) {\n        \
                     const char *known = @_categories[@_columns[column].first + at], *given = text;\n        \
                     while (*known && *known == *given) {\n            known++;\n            given++;\n        }\n        \
                     if (*known == *given) {\n            return (double)at;\n        }\n    \
                 }\n    \
                 return -1.0;\n\
             }\n",
        );
    }

    /// The weights of a node.
    fn weights(&mut self, node: &Node) {
        let Some(at) = node.weights else { return };
        let parameters = &self.export.model.parameters;
        let (layer, index) = (&parameters.layers[at], node.layer - 1);
        let (weights, bias) = layer.values.split_at(layer.inputs * layer.outputs);
        let _ = write!(self.text, "\n/* Layer {index}: {} */\n", parameters.architecture.layers()[index]);
        if let Some(statistics) = node.statistics.map(|at| &parameters.statistics[at]) {
            let channels = weights.iter().zip(bias).zip(statistics.mean.iter().zip(&statistics.variance));
            let (scales, shifts): (Vec<f32>, Vec<f32>) = channels
                .map(|((&scale, &shift), (&mean, &variance))| {
                    let scale = f64::from(scale) / (f64::from(variance) + BATCH_NORM_EPSILON).sqrt();
                    (scale as f32, (f64::from(shift) - f64::from(mean) * scale) as f32)
                })
                .unzip();
            self.floats(&format!("scale_{index}"), &scales);
            self.floats(&format!("shift_{index}"), &shifts);
            return;
        }
        match self.quantised.and_then(|layers| layers[at].as_ref()) {
            Some(Quantised { values, scales }) => {
                self.array("int8_t", &format!("weight_{index}"), values.iter());
                self.floats(&format!("scale_{index}"), scales);
            }
            None => self.floats(&format!("weight_{index}"), weights),
        }
        self.floats(&format!("bias_{index}"), bias);
    }

    /// The functions of the layers that the model has.
    fn functions(&mut self) {
        let nodes = &self.export.plan.nodes;
        let has = |wanted: fn(&Operation) -> bool| nodes.iter().any(|node| wanted(&node.operation));
        let int8 = self.quantised.is_some();
        let (of_weight, scale, finish) = if int8 {
            ("int8_t", "const float *scale, ", "output[o] = output[o] * scale[o] + bias[o];")
        } else {
            ("float", "", "output[o] += bias[o];")
        };
        if has(|operation| matches!(operation, Operation::Linear)) {
            self.lines(&format!(
                "\n/* output = input · weights + bias, weights [inputs][outputs]. */\n\
                 static inline void @_linear(const {of_weight} *weights, {scale}const float *bias,\n                            \
                 const float *input, int32_t inputs, float *output, int32_t outputs)\n\
                 {{\n    \
                     for (int32_t o = 0; o < outputs; o++) {{\n        output[o] = 0.0f;\n    }}\n    \
                     for (int32_t i = 0; i < inputs; i++) {{\n        \
                         for (int32_t o = 0; o < outputs; o++) {{\n            \
                             output[o] += input[i] * weights[i * outputs + o];\n        }}\n    }}\n    \
                     for (int32_t o = 0; o < outputs; o++) {{\n        {finish}\n    }}\n\
                 }}\n"
            ));
        }
        if has(|operation| matches!(operation, Operation::Conv2d(_))) {
            self.lines(&format!(
                "\n/* Weights [size][size][channels][outputs]; images [height][width][channels], with a border of zeros. */\n\
                 static inline void @_conv(const {of_weight} *weights, {scale}const float *bias, const float *input,\n                          \
                 int32_t height, int32_t width, int32_t channels, float *output, int32_t rows,\n                          \
                 int32_t columns, int32_t outputs, int32_t size, int32_t stride, int32_t padding)\n\
                 {{\n    \
                     for (int32_t place = 0; place < rows * columns; place++, output += outputs) {{\n        \
                         for (int32_t o = 0; o < outputs; o++) {{\n            output[o] = 0.0f;\n        }}\n        \
                         for (int32_t k = 0; k < size * size; k++) {{\n            \
                             const int32_t y = place / columns * stride + k / size - padding;\n            \
                             const int32_t x = place % columns * stride + k % size - padding;\n            \
                             if (y < 0 || y >= height || x < 0 || x >= width) {{\n                continue;\n            }}\n            \
                             for (int32_t c = 0; c < channels; c++) {{\n                \
                                 const float value = input[(y * width + x) * channels + c];\n                \
                                 for (int32_t o = 0; o < outputs; o++) {{\n                    \
                                     output[o] += value * weights[(k * channels + c) * outputs + o];\n                }}\n            }}\n        }}\n        \
                         for (int32_t o = 0; o < outputs; o++) {{\n            {finish}\n        }}\n    \
                     }}\n\
                 }}\n"
            ));
        }
        if has(|operation| matches!(operation, Operation::MaxPool2d(_))) {
            self.lines(
                "\n/* Maximum of each window and channel. */\n\
                 static inline void @_pool(const float *input, int32_t width, int32_t channels, float *output,\n                          \
                 int32_t rows, int32_t columns, int32_t size, int32_t stride)\n\
                 {\n    \
                     for (int32_t place = 0; place < rows * columns; place++) {\n        \
                         const float *corner = input + (place / columns * width + place % columns) * stride * channels;\n        \
                         for (int32_t c = 0; c < channels; c++) {\n            \
                             float most = corner[c];\n            \
                             for (int32_t k = 1; k < size * size; k++) {\n                \
                                 const float value = corner[(k / size * width + k % size) * channels + c];\n                \
                                 most = value > most ? value : most;\n            }\n            \
                             output[place * channels + c] = most;\n        }\n    \
                     }\n\
                 }\n",
            );
        }
        if has(|operation| matches!(operation, Operation::BatchNorm)) {
            self.lines(
                "\n/* Batch normalisation by the running statistics. */\n\
                 static inline void @_batchnorm(const float *scale, const float *shift, float *values, int32_t places,\n                               \
                 int32_t channels)\n\
                 {\n    \
                     for (int32_t at = 0; at < places * channels; at++) {\n        \
                         values[at] = values[at] * scale[at % channels] + shift[at % channels];\n    }\n\
                 }\n",
            );
        }
        for activation in Activation::ALL {
            let used = |node: &Node| {
                node.activation == Some(activation) || node.operation == Operation::Activation(activation)
            };
            if !nodes.iter().any(used) {
                continue;
            }
            let formula = match activation {
                Activation::Relu => "z > 0.0f ? z : 0.0f",
                Activation::Sigmoid => "1.0f / (1.0f + expf(-z))",
                Activation::Tanh => "tanhf(z)",
                Activation::Gelu => "z / (1.0f + expf(-1.5957692f * (z + 0.044715f * z * z * z)))",
                Activation::LeakyRelu => "z < 0.0f ? 0.01f * z : z",
            };
            self.lines(&format!(
                "\nstatic inline void @_{}(float *values, int32_t count)\n\
                 {{\n    \
                     for (int32_t at = 0; at < count; at++) {{\n        \
                         const float z = values[at];\n        values[at] = {formula};\n    }}\n\
                 }}\n",
                activation.name()
            ));
        }
    }

    /// The body of the forward function.
    fn forward(&mut self) {
        let Export { plan, input, .. } = self.export;
        let [first, second] = buffers(plan);
        let _ = write!(self.text, "    static float a[{first}]");
        if second > 0 {
            let _ = write!(self.text, ", b[{second}]");
        }
        self.text.push_str(";\n");
        match input {
            Input::Image(_) | Input::Bytes(_) => self.lines(
                "    for (int32_t at = 0; at < $_INPUTS; at++) {\n        a[at] = input[at] * (1.0f / 255.0f);\n    }\n",
            ),
            Input::Numbers(arrays) => {
                let value = match &arrays.scales[..] {
                    [] => "input[at]".into(),
                    scales => {
                        let [mean, deviation] = Self::scale("", scales);
                        format!("(float)((input[at] - {mean}) / {deviation})")
                    }
                };
                self.lines(&format!(
                    "    for (int32_t at = 0; at < $_INPUTS; at++) {{\n        a[at] = {value};\n    }}\n"
                ));
            }
            Input::Table(_) => self.lines(
                "    float *feature = a;\n    \
                 for (int32_t at = 0; at < $_INPUTS; at++) {\n        \
                     const @_column column = @_columns[at];\n        \
                     const double value = input[at];\n        \
                     if (column.categories < 0) {\n            \
                         const int missing = value != value;\n            \
                         *feature++ = missing ? 0.0f : (float)((value - column.mean) / column.deviation);\n            \
                         if (column.marks_gaps) {\n                *feature++ = (float)missing;\n            }\n        \
                     }\n        \
                     for (int32_t known = 0; known < column.categories; known++) {\n            \
                         *feature++ = value == known ? 1.0f : 0.0f;\n        }\n    \
                 }\n",
            ),
        }
        let (mut from, mut to) = ("a", "b");
        for node in &plan.nodes {
            let index = node.layer - 1;
            let scale = if self.quantised.is_some() { format!("@_scale_{index}, ") } else { String::new() };
            let (input, output) = (node.input, node.output);
            let (channels, columns) = (input.channels(), output.width());
            match node.operation {
                Operation::Linear => self.lines(&format!(
                    "    @_linear(@_weight_{index}, {scale}@_bias_{index}, {from}, {}, {to}, {});\n",
                    input.len(),
                    output.len()
                )),
                Operation::Conv2d(window) => self.lines(&format!(
                    "    @_conv(@_weight_{index}, {scale}@_bias_{index}, {from}, {}, {}, {channels}, {to}, {}, {columns}, {}, \
                     {}, {}, {});\n",
                    input.height(),
                    input.width(),
                    output.height(),
                    output.channels(),
                    window.size,
                    window.stride,
                    window.padding
                )),
                Operation::MaxPool2d(window) => self.lines(&format!(
                    "    @_pool({from}, {}, {channels}, {to}, {}, {columns}, {}, {});\n",
                    input.width(),
                    output.height(),
                    window.size,
                    window.stride
                )),
                Operation::BatchNorm => self.lines(&format!(
                    "    @_batchnorm(@_scale_{index}, @_shift_{index}, {from}, {}, {channels});\n",
                    input.positions()
                )),
                Operation::Activation(activation) => {
                    self.lines(&format!("    @_{}({from}, {});\n", activation.name(), output.len()));
                }
                Operation::Dropout(_) => {}
            }
            if moves(node) {
                (from, to) = (to, from);
            }
            if let Some(activation) = node.activation {
                self.lines(&format!("    @_{}({from}, {});\n", activation.name(), output.len()));
            }
        }
        self.exit(from);
    }

    /// Writes the step from the outputs of the last layer to those of the function.
    fn exit(&mut self, from: &str) {
        let each = |body: &str| format!("    for (int32_t at = 0; at < $_OUTPUTS; at++) {{\n        {body}\n    }}\n");
        let most =
            format!("    int32_t most = 0;\n{}", each(&format!("most = {from}[at] > {from}[most] ? at : most;")));
        match &self.export.output {
            Output::Probabilities(_) => self.lines(&format!(
                "{most}    float sum = 0.0f;\n{}{}    return (int)most;\n",
                each(&format!("output[at] = expf({from}[at] - {from}[most]);\n        sum += output[at];")),
                each("output[at] /= sum;")
            )),
            Output::Binary(_) => self.lines(&format!(
                "    output[0] = 1.0f / (1.0f + expf({from}[0]));\n    output[1] = 1.0f / (1.0f + expf(-{from}[0]));\n    \
                 return {from}[0] > 0.0f;\n"
            )),
            Output::Scores(_) => {
                let scores = each(&format!("output[at] = {from}[at];"));
                self.lines(&format!("{most}{scores}    return (int)most;\n"));
            }
            Output::Values { scales, .. } if scales.is_empty() => {
                self.lines(&each(&format!("output[at] = {from}[at];")));
            }
            Output::Values { scales, .. } => {
                let [mean, deviation] = Self::scale("output_", scales);
                self.lines(&each(&format!("output[at] = {from}[at] * {deviation} + {mean};")));
            }
        }
    }
}

/// Returns true if a node writes into the other buffer.
fn moves(node: &Node) -> bool {
    matches!(node.operation, Operation::Linear | Operation::Conv2d(_) | Operation::MaxPool2d(_))
}

/// Numbers of floats in the two buffers.
fn buffers(plan: &Plan) -> [usize; 2] {
    let mut sizes = [plan.input.len(), 0];
    let mut current = 0;
    for node in plan.nodes.iter().filter(|node| moves(node)) {
        current = 1 - current;
        sizes[current] = sizes[current].max(node.output.len());
    }
    sizes
}

/// A number as a C constant. serde_json writes the shortest digits several times as fast as the standard library.
struct Float(f32);

impl Display for Float {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        let mut rest = &mut digits[..];
        serde_json::to_writer(&mut rest, &self.0).map_err(|_| fmt::Error)?;
        let left = rest.len();
        let text = str::from_utf8(&digits[..32 - left]).map_err(|_| fmt::Error)?;
        formatter.write_str(text)?;
        formatter.write_char('f')
    }
}

/// A text as a C string; characters beyond plain ones are written in octal.
fn literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'?' => literal.extend(['\\', byte as char]),
            b' '..=b'~' => literal.push(byte as char),
            _ => {
                let _ = write!(literal, "\\{byte:03o}");
            }
        }
    }
    literal + "\""
}

/// A text inside a comment, which it must not end.
fn comment(text: &str) -> String {
    let text = printable(text, 1000).replace("*/", "* /").replace("/*", "/ *");
    text.replace("??", "? ?")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{model_of, table_model};
    use super::*;

    #[test]
    fn text_from_data_ends_neither_a_comment_nor_a_string() {
        assert_eq!(literal("a\"\\?é\n"), r#""a\"\\\?\303\251\012""#);
        assert_eq!(comment("a */ b /* c ??/ d\n"), "a * / b / * c ? ?/ d ");
        assert_eq!([identifier("my-model 2"), identifier("3d")], ["my_model_2", "model_3d"]);
    }

    #[test]
    fn numbers_are_constants_of_c_with_all_their_bits() {
        for value in [0.0, -0.0, 1.0, 0.1, -2.5e-8, 1e-45, 16777216.0, f32::MAX, f32::MIN_POSITIVE, 1.0 / 3.0] {
            let text = Float(value).to_string();
            let digits = text.strip_suffix('f').unwrap();
            assert_eq!(digits.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{text}");
            assert!(digits.contains(['.', 'e']), "{text}");
        }
    }

    #[test]
    fn int8_is_within_half_a_scale_and_keeps_the_largest() {
        let model = model_of([6, 6, 2], "conv:3x3,batchnorm,relu,linear:4");
        let quantised = quantise(&model.parameters);
        assert!(quantised[1].is_none());
        let rounded = dequantised(&model.parameters, &quantised);
        for ((exact, rounded), quantised) in model.parameters.layers.iter().zip(&rounded.layers).zip(&quantised) {
            let Some(Quantised { values, scales }) = quantised else {
                assert_eq!(exact, rounded);
                continue;
            };
            assert_eq!(values.iter().map(|value| value.unsigned_abs()).max(), Some(127));
            let count = exact.inputs * exact.outputs;
            for (at, (exact, rounded)) in exact.values.iter().zip(&rounded.values).enumerate() {
                let bound = if at < count { 0.501 * scales[at % scales.len()] } else { 0.0 };
                assert!((exact - rounded).abs() <= bound, "{at}: {exact} {rounded}");
            }
        }
        let bytes = [None, Some(&quantised[..])].map(|quantised| weight_bytes(&model.parameters, quantised));
        assert_eq!(bytes, [4 * (57 + 6 + 436), 54 + 12 + 12 + 24 + 432 + 16 + 16]);
    }

    #[test]
    fn a_header_names_its_columns_and_has_only_the_functions_it_needs() {
        let model = table_model();
        let header = to_c(&Export::new(&model, None), "plants", None).unwrap();
        for text in [
            "[1] colour: text, as plants_category(1, text) numbers it",
            "#define PLANTS_INPUTS 3",
            "static const char *const plants_categories[2] = {\n    \"\", \"red\",\n};",
            "static inline int plants_predict(const double input[PLANTS_INPUTS], float output[PLANTS_OUTPUTS])",
        ] {
            assert!(header.contains(text), "{text:?} is not in {header}");
        }
        assert!(!header.contains("plants_conv") && !header.contains("plants_tanh"), "{header}");
    }
}
