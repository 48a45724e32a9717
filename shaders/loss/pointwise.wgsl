// A loss that compares each output with its target: the mean over the outputs of a function of the error, output -
// target, averaged over the batch. The gradient overwrites the outputs: d_outputs = slope of the function / (OUTPUTS *
// batch).
//
// Provides: loss_of_row, losses, squared_error_of_row, train_row.
// Needs: OUTPUTS, OUTPUT_BLOCKS, batch_size, block_targets, error_loss, error_slope, example_of_row, output_numbers,
//     outputs, step.
@group(0) @binding(7) var<storage, read_write> losses: array<f32>; // one per row, starting at step.first_row

// Difference between a block of outputs and its targets; 0 for padding.
fn block_error(row: u32, block: u32, example: u32) -> vec4<f32> {
    let error = outputs[row * OUTPUT_BLOCKS + block] - block_targets(block, example);
    return select(vec4<f32>(0.0), error, output_numbers(block) < vec4<u32>(OUTPUTS));
}

fn train_row(row: u32) {
    let example = example_of_row(row);
    let loss = loss_of_row(row);
    let inside = row < step.batch;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let d_outputs = error_slope(block_error(row, block, example)) * (1.0 / (f32(OUTPUTS) * f32(batch_size())));
        // Rows of the last block beyond the batch must not contribute to the weight gradient.
        outputs[row * OUTPUT_BLOCKS + block] = select(vec4<f32>(0.0), d_outputs, inside);
    }
    if inside {
        losses[step.first_row + row] = loss;
    }
}

fn loss_of_row(row: u32) -> f32 {
    let example = example_of_row(row);
    var sum = 0.0;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        sum += error_loss(block_error(row, block, example));
    }
    return sum / f32(OUTPUTS);
}

// Mean squared error of a row's outputs, whatever the loss.
fn squared_error_of_row(row: u32) -> f32 {
    let example = example_of_row(row);
    var sum = 0.0;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let error = block_error(row, block, example);
        sum += dot(error, error);
    }
    return sum / f32(OUTPUTS);
}
