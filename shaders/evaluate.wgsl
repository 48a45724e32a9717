// What a model makes of labelled examples: the loss of each, its most probable class (the lowest of equals), and
// how many are right.
@group(0) @binding(6) var<storage, read> labels: array<u32>; // [examples]
@group(0) @binding(7) var<storage, read_write> losses: array<f32>; // one a row, from step.first_row
@group(0) @binding(8) var<storage, read_write> predictions: array<u32>; // likewise
@group(0) @binding(9) var<storage, read_write> correct: atomic<u32>;

fn argmax(row: u32) -> u32 {
    var best = 0u;
    var largest = outputs[row * OUTPUT_BLOCKS].x;
    for (var candidate = 1u; candidate < OUTPUTS; candidate++) {
        let logit = outputs[row * OUTPUT_BLOCKS + candidate / 4u][candidate % 4u];
        if logit > largest {
            largest = logit;
            best = candidate;
        }
    }
    return best;
}

// One invocation a row.
@compute @workgroup_size(64)
fn evaluate(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let row = invocation.x;
    if row < step.batch {
        let label = labels[example_of_row(row)];
        let largest = row_max(row);
        let logit = outputs[row * OUTPUT_BLOCKS + label / 4u][label % 4u];
        losses[step.first_row + row] = log(row_sum_exp(row, largest)) + (largest - logit);
        let prediction = argmax(row);
        predictions[step.first_row + row] = prediction;
        if prediction == label {
            atomicAdd(&correct, 1u);
        }
    }
}
