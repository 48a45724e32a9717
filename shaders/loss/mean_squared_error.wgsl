// Mean squared error of the outputs, and its gradient: loss = sum((z - t)^2) / OUTPUTS, averaged over the batch, as
// torch.nn.MSELoss does. d_outputs = 2 (z - t) / (OUTPUTS * batch) overwrites the outputs. The targets t come from
// one_hot.wgsl or values.wgsl.
@group(0) @binding(7) var<storage, read_write> losses: array<f32>; // one per row, starting at step.first_row

// Difference between a block of outputs and its targets; 0 for padding.
fn block_error(row: u32, block: u32, example: u32) -> vec4<f32> {
    let error = outputs[row * OUTPUT_BLOCKS + block] - block_targets(block, example);
    return select(vec4<f32>(0.0), error, output_numbers(block) < vec4<u32>(OUTPUTS));
}

fn mean_squared_error_row(row: u32) {
    let example = example_of_row(row);
    let loss = loss_of_row(row);
    let inside = row < step.batch;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let d_outputs = block_error(row, block, example) * (2.0 / (f32(OUTPUTS) * f32(step.batch)));
        // Rows of the last block beyond the batch must not contribute to the weight gradient.
        outputs[row * OUTPUT_BLOCKS + block] = select(vec4<f32>(0.0), d_outputs, inside);
    }
    if inside {
        losses[step.first_row + row] = loss;
    }
}

// One invocation per row.
@compute @workgroup_size(64)
fn mean_squared_error(@builtin(global_invocation_id) invocation: vec3<u32>) {
    if invocation.x < 4u * batch_blocks() {
        mean_squared_error_row(invocation.x);
    }
}

// As in cross_entropy.wgsl.
fn finish(row_block: u32) {
    for (var row = 4u * row_block; row < min(4u * row_block + 4u, 4u * batch_blocks()); row++) {
        mean_squared_error_row(row);
    }
}

// For evaluate.wgsl and evaluate_values.wgsl.
fn loss_of_row(row: u32) -> f32 {
    let example = example_of_row(row);
    var sum = 0.0;
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        let error = block_error(row, block, example);
        sum += dot(error, error);
    }
    return sum / f32(OUTPUTS);
}
