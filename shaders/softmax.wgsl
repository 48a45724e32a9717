// Row-wise softmax: scores become probabilities in 0..1 that sum to 1. The row's maximum is subtracted first, so
// that no exp overflows: softmax(z) = exp(z - max) / sum(exp(z - max)).
//
// Provides: block_exp, is_class, row_max, row_sum_exp, softmax.
// Needs: OUTPUTS, OUTPUT_BLOCKS, output_numbers, outputs, step.

// Marks the numbers of a block that are classes and not padding.
fn is_class(block: u32) -> vec4<bool> {
    return output_numbers(block) < vec4<u32>(OUTPUTS);
}

fn row_max(row: u32) -> f32 {
    var largest = vec4<f32>(outputs[row * OUTPUT_BLOCKS].x);
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        largest = max(largest, select(largest, outputs[row * OUTPUT_BLOCKS + block], is_class(block)));
    }
    return max(max(largest.x, largest.y), max(largest.z, largest.w));
}

// exp(z - max) of a block's classes, 0 for padding.
fn block_exp(row: u32, block: u32, largest: f32) -> vec4<f32> {
    return select(vec4<f32>(0.0), exp(outputs[row * OUTPUT_BLOCKS + block] - largest), is_class(block));
}

fn row_sum_exp(row: u32, largest: f32) -> f32 {
    var sum = vec4<f32>(0.0);
    for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
        sum += block_exp(row, block, largest);
    }
    return sum.x + sum.y + sum.z + sum.w;
}

// One invocation per row: logits become probabilities in place.
@compute @workgroup_size(64)
fn softmax(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let row = invocation.x;
    if row < step.batch {
        let largest = row_max(row);
        let sum = row_sum_exp(row, largest);
        for (var block = 0u; block < OUTPUT_BLOCKS; block++) {
            outputs[row * OUTPUT_BLOCKS + block] = block_exp(row, block, largest) / sum;
        }
    }
}
