//! PyTorch modules: Python source that builds the same network, prepares inputs as softstep does, and loads the weights
//! from the safetensors file beside it. It needs nothing but PyTorch.

use softstep::data::{ArrayFormat, Column, Encoding, Form, Scale, TableFormat, csv};
use softstep::error::printable;
use softstep::model::{Activation, Layer, Shape};

use super::exported::{Export, Output};
use crate::run::model::Input;

/// Writes the module of a model.
pub fn to_torch(export: &Export<'_>) -> String {
    let Export { model, input, output, plan, .. } = export;
    let architecture = &model.parameters.architecture;
    let mut layers = String::new();
    for (layer, input, output) in architecture.shapes() {
        layers += &format!("            {},\n", module(layer, input, output));
    }
    let image = matches!(plan.input, Shape::Image { .. });
    let (constants, doc, features) = match input {
        Input::Image([height, width, channels]) => (
            format!("IMAGE = ({height}, {width}, {channels})\n"),
            "images of bytes, [batch, height, width, channels]".to_string(),
            format!(
                "    bytes = torch.as_tensor(inputs).reshape(-1, *IMAGE)\n    pixels = bytes.to(torch.float32) / 255\n    \
                 return pixels.{}\n",
                if image { "permute(0, 3, 1, 2)" } else { "flatten(1)" }
            ),
        ),
        Input::Bytes(features) => (
            format!("FEATURES = {features}\n"),
            "bytes, [batch, features]".into(),
            "    return torch.as_tensor(inputs).reshape(-1, FEATURES).to(torch.float32) / 255\n".into(),
        ),
        Input::Numbers(ArrayFormat { features, scales, .. }) => {
            let reshaped = match plan.input {
                Shape::Image { height, width, channels } => {
                    format!(".reshape(-1, {height}, {width}, {channels}).permute(0, 3, 1, 2)")
                }
                Shape::Flat(_) => String::new(),
            };
            let numbers = "torch.as_tensor(inputs).reshape(-1, FEATURES).to(torch.float32)";
            let (constants, features_of) = if scales.is_empty() {
                (String::new(), format!("    return {numbers}{reshaped}\n"))
            } else {
                let standardised = "((numbers - FEATURE_MEAN) / FEATURE_DEVIATION).to(torch.float32)";
                (
                    scales_as_constants("FEATURE_", scales),
                    format!("    numbers = {numbers}.to(torch.float64)\n    return {standardised}{reshaped}\n"),
                )
            };
            (format!("FEATURES = {features}\n{constants}"), "numbers, [batch, features]".into(), features_of)
        }
        Input::Table(table) => (columns(table), "the columns of a table by their names".into(), TABLE.into()),
    };
    let (classes, result, predict) = match output {
        Output::Probabilities(classes) => {
            (Some(classes), "names of classes, and probabilities [batch, classes]", SOFTMAX)
        }
        Output::Binary(classes) => (Some(classes), "names of classes, and probabilities [batch, classes]", SIGMOID),
        Output::Scores(classes) => (Some(classes), "names of classes, and scores [batch, classes]", SCORES),
        Output::Values { scales, .. } if scales.is_empty() => (None, "values [batch, values]", VALUES),
        Output::Values { .. } => (None, "values [batch, values] in the units of the targets", SCALED),
    };
    let mut constants = constants;
    if let Some(classes) = classes {
        constants += &format!("CLASSES = {}\n", list(classes));
    }
    if let Output::Values { scales, .. } = output {
        constants += &scales_as_constants("", scales);
    }
    let facts: String = export
        .facts()
        .into_iter()
        .filter(|(key, _)| *key != "classes")
        .map(|(key, value)| format!("{key}: {}\n", comment(&value)))
        .collect();
    let title = comment(&export.title());
    let math = if matches!(input, Input::Table(_)) { "import json\nimport math\n" } else { "import json\n" };
    format!(
        "\"\"\"{title}\n\n{facts}\n    model = load()\n    model.predict(inputs)  # {result}\n\"\"\"\n\n\
         {math}from pathlib import Path\n\nimport torch\nfrom torch import nn\n\n{constants}\n\n\
         def features(inputs):\n    \"\"\"Features of {doc}.\"\"\"\n{features}\n\n\
         class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        \
         self.layers = nn.Sequential(\n{layers}        )\n\n    \
         def forward(self, features):\n        \"\"\"Outputs of the last layer.\"\"\"\n        \
         return self.layers(features)\n\n    \
         @torch.no_grad()\n    def predict(self, inputs):\n        \"\"\"Returns {result}.\"\"\"\n        \
         outputs = self(features(inputs))\n{predict}\n\n{LOAD}"
    )
}

/// Means and deviations as constants whose names begin with `of`: a number each, or tensors.
fn scales_as_constants(of: &str, scales: &[Scale]) -> String {
    let numbers = |part: fn(&Scale) -> f64| {
        let numbers: Vec<String> = scales.iter().map(|scale| format!("{:?}", part(scale))).collect();
        match &numbers[..] {
            [one] => one.clone(),
            all => format!("torch.tensor([{}], dtype=torch.float64)", all.join(", ")),
        }
    };
    if scales.is_empty() {
        return String::new();
    }
    let (means, deviations) = (numbers(|scale| scale.mean), numbers(|scale| scale.deviation));
    format!("{of}MEAN = {means}\n{of}DEVIATION = {deviations}\n")
}

/// Constructor of a layer in PyTorch.
fn module(layer: Layer, input: Shape, output: Shape) -> String {
    match layer {
        Layer::Linear { outputs } => format!("nn.Linear({}, {outputs})", input.len()),
        Layer::Conv2d { window, .. } => format!(
            "nn.Conv2d({}, {}, {}, stride={}, padding={})",
            input.channels(),
            output.channels(),
            window.size,
            window.stride,
            window.padding
        ),
        Layer::MaxPool2d { window } => format!("nn.MaxPool2d({}, stride={})", window.size, window.stride),
        Layer::BatchNorm => match input {
            Shape::Image { channels, .. } => format!("nn.BatchNorm2d({channels})"),
            Shape::Flat(features) => format!("nn.BatchNorm1d({features})"),
        },
        Layer::Dropout { p } => format!("nn.Dropout({p:?})"),
        Layer::Flatten => "nn.Flatten()".into(),
        Layer::Activation(Activation::Relu) => "nn.ReLU()".into(),
        Layer::Activation(Activation::Sigmoid) => "nn.Sigmoid()".into(),
        Layer::Activation(Activation::Tanh) => "nn.Tanh()".into(),
        Layer::Activation(Activation::Gelu) => "nn.GELU(approximate=\"tanh\")".into(),
        Layer::Activation(Activation::LeakyRelu) => "nn.LeakyReLU()".into(),
    }
}

/// The columns of a table as a list.
fn columns(table: &TableFormat) -> String {
    let column = |column: &Column| {
        let name = quoted(&column.name);
        match &column.encoding {
            Encoding::Standardised(scale) => {
                let is = match column.form {
                    Form::Boolean => "  # 1 for true, 0 for false",
                    form if form.is_date() => "  # days since 1970-01-01",
                    _ => "",
                };
                let marks = if column.marks_gaps { "True" } else { "False" };
                format!("    ({name}, {:?}, {:?}, {marks}),{is}\n", scale.mean, scale.deviation)
            }
            Encoding::OneHot(categories) => format!("    ({name}, {}),\n", list(categories)),
        }
    };
    let all: String = table.columns.iter().map(column).collect();
    let mut text = format!(
        "# Numbers: name, mean, deviation, whether a feature marks missing ones. Texts: name, categories.\nCOLUMNS = [\n{all}]\n"
    );
    if table.columns.iter().any(|column| matches!(column.encoding, Encoding::OneHot(_))) {
        let mut gaps = csv::gap_texts();
        gaps.push(String::new());
        text += &format!("# Texts that stand for a missing value.\nGAPS = set({})\n", list(&gaps));
    } else {
        text += "GAPS = {\"\"}\n";
    }
    text
}

/// A text as a Python string: JSON's escapes are Python's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// A text inside a docstring, which it must not end.
fn comment(text: &str) -> String {
    printable(text, 1000).replace('\\', "/").replace('"', "'")
}

const TABLE: &str = r#"    features = []
    for name, *encoding in COLUMNS:
        values = list(inputs[name])
        if len(encoding) == 3:
            mean, deviation, marks_gaps = encoding
            numbers = [math.nan if value is None or value == "" else float(value) for value in values]
            numbers = torch.tensor(numbers, dtype=torch.float64)
            missing = numbers.isnan()
            features.append(torch.where(missing, 0.0, (numbers - mean) / deviation).to(torch.float32))
            if marks_gaps:
                features.append(missing.to(torch.float32))
        else:
            (categories,) = encoding
            texts = ["" if value is None else str(value).strip() for value in values]
            known = set(categories) | ({"-"} if "+" in categories else set())
            texts = ["" if text in GAPS and text not in known else text for text in texts]
            features += [torch.tensor([float(text == category) for text in texts]) for category in categories]
    return torch.stack(features, dim=1)
"#;

const SOFTMAX: &str = "        return [CLASSES[index] for index in outputs.argmax(dim=1)], outputs.softmax(dim=1)\n";

const SIGMOID: &str = "        return [CLASSES[int(output > 0)] for output in outputs], torch.cat([-outputs, outputs], dim=1).sigmoid()\n";

const SCORES: &str = "        return [CLASSES[index] for index in outputs.argmax(dim=1)], outputs\n";

const VALUES: &str = "        return outputs\n";

const SCALED: &str = "        return outputs.to(torch.float64) * DEVIATION + MEAN\n";

const LOAD: &str = r#"def load(path=Path(__file__).with_suffix(".safetensors")):
    """The model with the weights of a safetensors file, ready to predict."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8:start])
    tensors.pop("__metadata__")
    model = Model()
    state = model.layers.state_dict()
    for name, tensor in tensors.items():
        begin, end = tensor["data_offsets"]
        values = torch.frombuffer(data[start + begin : start + end], dtype=torch.float32)
        state[name] = values.reshape(tensor["shape"])
    model.layers.load_state_dict(state)
    return model.eval()
"#;

#[cfg(test)]
mod tests {
    use super::super::tests::{model_of, table_model};
    use super::*;

    #[test]
    fn the_network_is_that_of_pytorch() {
        let model = model_of([6, 6, 2], "conv:3x3s2,batchnorm,leaky_relu,pool:2,dropout:0.5,gelu,linear:4");
        let module = to_torch(&Export::new(&model, None));
        for text in [
            "            nn.Conv2d(2, 3, 3, stride=2, padding=1),\n            nn.BatchNorm2d(3),\n            nn.LeakyReLU(),\n",
            "            nn.MaxPool2d(2, stride=2),\n            nn.Dropout(0.5),\n            nn.GELU(approximate=\"tanh\"),\n",
            "            nn.Flatten(),\n            nn.Linear(3, 4),\n        )\n",
            "IMAGE = (6, 6, 2)\n",
            "    return pixels.permute(0, 3, 1, 2)\n",
        ] {
            assert!(module.contains(text), "{text:?} is not in {module}");
        }
        let module = to_torch(&Export::new(&table_model(), None));
        assert!(module.contains("    (\"colour\", [\"\", \"red\"]),\n"), "{module}");
        assert!(module.contains("    (\"born\", 100.0, 50.0, False),  # days since 1970-01-01\n"), "{module}");
        assert_eq!(comment("a\"\"\"\\\nb"), "a'''/ b");
    }
}
