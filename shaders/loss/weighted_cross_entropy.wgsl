// Cross-entropy as in cross_entropy.wgsl, with label smoothing and class weights as in torch.nn.CrossEntropyLoss: every
// class is a target of size
//
//   t[c] = weight[c] * ((1 - LABEL_SMOOTHING) * onehot[c] + LABEL_SMOOTHING / OUTPUTS)
//
// and the loss of a row is the sum of -t[c] * log softmax(z)[c]. The loss of the batch is the sum of these divided by
// the sum of the labels' weights, so d_logits = (sum(t) * softmax(z) - t) / step.weight.
//
// Provides: train_row.
// Needs: OUTPUTS, OUTPUT_BLOCKS, batch_size, block_exp, example_of_row, is_class, output_numbers, outputs, row_max,
//     row_sum_exp, step.
override LABEL_SMOOTHING: f32;

@group(0) @binding(6) var<storage, read> labels: array<u32>; // [examples]
@group(0) @binding(7) var<storage, read_write> losses: array<f32>; // one per row, starting at step.first_row
@group(0) @binding(10) var<storage, read> class_weights: array<vec4<f32>>; // [OUTPUTS], then zeros

fn train_row(row: u32) {
    let start = row * OUTPUT_BLOCKS;
    let label = labels[example_of_row(row)];
    let largest = row_max(row);
    let sum = row_sum_exp(row, largest);
    let inside = row < step.batch;
    var target_sum = 0.0;
    var loss = 0.0;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let targets = block_targets(block, label);
        let surprise = select(vec4<f32>(0.0), log(sum) + (largest - outputs[start + block]), is_class(block));
        target_sum += dot(targets, vec4<f32>(1.0));
        loss += dot(targets, surprise);
    }
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let probabilities = block_exp(row, block, largest) / sum;
        let d_logits = (target_sum * probabilities - block_targets(block, label)) / step.weight;
        // Rows of the last block beyond the batch must not contribute to the weight gradient.
        outputs[start + block] = select(vec4<f32>(0.0), d_logits, inside);
    }
    if inside {
        // The host computes the mean over the rows.
        losses[step.first_row + row] = loss * (f32(batch_size()) / step.weight);
    }
}

fn block_targets(block: u32, label: u32) -> vec4<f32> {
    let onehot = select(vec4<f32>(0.0), vec4<f32>(1.0), output_numbers(block) == vec4<u32>(label));
    return class_weights[block] * ((1.0 - LABEL_SMOOTHING) * onehot + LABEL_SMOOTHING / f32(OUTPUTS));
}
