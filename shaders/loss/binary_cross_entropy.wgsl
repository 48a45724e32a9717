// Cross-entropy of sigmoid(z) with a label of 0 or 1, and its gradient: one output, whose sigmoid is the probability of
// class 1. Computed from the logit, finite for any finite one: loss = max(z, 0) - z * label + log(1 + exp(-|z|)). The
// loss of the batch is the mean weighted by the weights of the labels' classes: d_logit = weight * (sigmoid(z) - label)
// / step.weight. The gradient overwrites the logit.
//
// Provides: class_of_row, labels, loss_of_row, losses, train_row.
// Needs: batch_size, example_of_row, outputs, step.
@group(0) @binding(6) var<storage, read> labels: array<u32>; // [examples]
@group(0) @binding(7) var<storage, read_write> losses: array<f32>; // one per row, starting at step.first_row
@group(0) @binding(10) var<storage, read> class_weights: array<vec4<f32>>; // [2]: weights of class 0 and class 1

fn train_row(row: u32) {
    let label = labels[example_of_row(row)];
    let weight = class_weights[0][label % 4u];
    let loss = loss_of_row(row);
    let logit = outputs[row].x;
    // The argument of exp is not above 0, so it does not overflow.
    let small = exp(-abs(logit));
    let sigmoid = select(small, 1.0, logit >= 0.0) / (1.0 + small);
    let d_logit = weight * (sigmoid - f32(label)) / step.weight;
    // Rows of the last block beyond the batch must not contribute to the weight gradient.
    let inside = row < step.batch;
    outputs[row] = select(vec4<f32>(0.0), vec4<f32>(d_logit, 0.0, 0.0, 0.0), inside);
    if inside {
        // The host computes the mean over the rows.
        losses[step.first_row + row] = loss * weight * (f32(batch_size()) / step.weight);
    }
}

fn loss_of_row(row: u32) -> f32 {
    let logit = outputs[row].x;
    let label = f32(labels[example_of_row(row)]);
    // Not max(), which would turn a NaN into 0 and hide it.
    return select(logit, 0.0, logit < 0.0) - logit * label + log(1.0 + exp(-abs(logit)));
}

fn class_of_row(row: u32) -> u32 {
    return select(0u, 1u, outputs[row].x > 0.0);
}
