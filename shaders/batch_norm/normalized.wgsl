// Normalisation of a batch normalisation's inputs, without scale and shift.
//
// Provides: inverse_deviation, normalized.
// Needs: CHANNEL_BLOCKS, input_at, inputs.
override EPSILON: f32;

@group(0) @binding(2) var<storage, read> statistics: array<vec4<f32>>; // [2, channels]: means, variances

// 1 / sqrt(variance + EPSILON) of four channels.
fn inverse_deviation(block: u32) -> vec4<f32> {
    return 1.0 / sqrt(statistics[CHANNEL_BLOCKS + block] + EPSILON);
}

fn normalized(pixel: u32, block: u32) -> vec4<f32> {
    return (inputs[input_at(pixel) + block] - statistics[block]) * inverse_deviation(block);
}
