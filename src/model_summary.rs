//! A model as text: its short name, and a table of its layers.

use indicatif::HumanCount;
use softstep::loss::{Link, Loss};
use softstep::model::{Architecture, Layer};
use softstep::plan::Plan;

use crate::format::{UNDEFINED, count};
use crate::terminal::field;

/// Formats a short name of a model: its sizes, as in `784-128-10`; `16x5-pool2-32x5-pool2-128-10` where layers are convolutional.
pub fn model_name(architecture: &Architecture) -> String {
    let mut parts: Vec<String> = Vec::new();
    let layers = architecture.layers();
    if !layers.iter().any(|layer| matches!(layer, Layer::Conv2d { .. } | Layer::MaxPool2d { .. })) {
        parts.push(architecture.input().len().to_string());
    }
    parts.extend(layers.iter().filter_map(|layer| match layer {
        Layer::Linear { outputs } => Some(outputs.to_string()),
        Layer::Conv2d { .. } => Some(layer.to_string().replace("conv:", "")),
        Layer::MaxPool2d { .. } => Some(layer.to_string().replace(':', "")),
        Layer::BatchNorm => Some("bn".into()),
        Layer::Activation(_) | Layer::Dropout { .. } | Layer::Flatten => None,
    }));
    // A deep model is shortened to its two ends.
    let left_out = parts.len().saturating_sub(NAMED_LAYERS);
    if left_out > 1 {
        let from = NAMED_LAYERS - 3;
        parts.splice(from..from + left_out, [format!("({left_out} more)")]);
    }
    parts.join("-")
}

/// Upper limit of the layers in a name.
const NAMED_LAYERS: usize = 12;

/// Upper limit of the layers in a table.
const SHOWN_LAYERS: usize = 20;

/// Formats the layers of a model: a line for each operation, with its output shape, its parameters and the floating-point
/// operations of its product in a forward pass of one example; and their sums.
pub fn model_lines(architecture: &Architecture, loss: Loss) -> Vec<String> {
    let plan = Plan::new(architecture);
    let row = |[layer, output, parameters, operations]: [&str; 4]| {
        format!("{layer:26} {output:>12} {parameters:>13} {operations:>15}")
    };
    let some = |number: u64| if number == 0 { UNDEFINED.to_string() } else { HumanCount(number).to_string() };
    let mut rows = vec![row(["layer", "output", "parameters", "operations"])];
    for (index, node) in plan.nodes.iter().enumerate() {
        let mut name = architecture.layers()[node.layer - 1].to_string();
        let activation = node.activation.map(|activation| activation.name());
        let of_loss = match loss.link() {
            Link::Softmax => Some("softmax"),
            Link::Sigmoid => Some("sigmoid"),
            Link::Identity => None,
        };
        if let Some(activation) = if index + 1 == plan.nodes.len() { of_loss } else { activation } {
            name += &format!(", {activation}");
        }
        let (parameters, operations) = (node.parameters() as u64, 2 * node.products());
        rows.push(row([&name, &node.output.to_string(), &some(parameters), &some(operations)]));
    }
    let left_out = plan.nodes.len().saturating_sub(SHOWN_LAYERS);
    if left_out > 1 {
        let from = 1 + SHOWN_LAYERS - 5;
        rows.splice(from..from + left_out, [format!("… {} more", count(left_out))]);
    }
    let (parameters, operations) = (plan.parameters() as u64, plan.forward_operations());
    rows.push(row(["in total, per example", "", &some(parameters), &some(operations)]));
    rows.iter().enumerate().map(|(index, row)| field(if index == 0 { "model" } else { "" }, row)).collect()
}
