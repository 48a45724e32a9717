// Cross-entropy of softmax(logits) with the one-hot label, and its gradient. By log-sum-exp, finite for any finite
// logits: loss = log(sum(exp(z - max))) + max - z[label]. Gradient of the batch's mean loss with respect to the logits:
// d_logits = (softmax(z) - onehot) / batch. The gradient overwrites the logits.
//
// Provides: labels, loss_of_row, losses, train_row.
// Needs: OUTPUT_BLOCKS, batch_size, block_exp, example_of_row, output_numbers, outputs, row_max, row_sum_exp, step.
@group(0) @binding(6) var<storage, read> labels: array<u32>; // [examples]
@group(0) @binding(7) var<storage, read_write> losses: array<f32>; // one per row, starting at step.first_row

fn train_row(row: u32) {
    let start = row * OUTPUT_BLOCKS;
    let label = labels[example_of_row(row)];
    let largest = row_max(row);
    let sum = row_sum_exp(row, largest);
    let logit = outputs[start + label / 4u][label % 4u];
    let inside = row < step.batch;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let onehot = select(vec4<f32>(0.0), vec4<f32>(1.0), output_numbers(block) == vec4<u32>(label));
        let d_logits = (block_exp(row, block, largest) / sum - onehot) / f32(batch_size());
        // Rows of the last block beyond the batch must not contribute to the weight gradient.
        outputs[start + block] = select(vec4<f32>(0.0), d_logits, inside);
    }
    if inside {
        losses[step.first_row + row] = log(sum) + (largest - logit);
    }
}

fn loss_of_row(row: u32) -> f32 {
    let label = labels[example_of_row(row)];
    let largest = row_max(row);
    let logit = outputs[row * OUTPUT_BLOCKS + label / 4u][label % 4u];
    return log(row_sum_exp(row, largest)) + (largest - logit);
}
