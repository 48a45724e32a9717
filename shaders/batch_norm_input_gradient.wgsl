// Gradient of a batch normalisation's inputs, passed back through the activation that they come from: with n pixels in
// the whole batch,
// d_inputs = scale / sqrt(variance + EPSILON) (d_outputs - d_shift / n - normalized d_scale / n).
//
// Provides: batch_norm_input_gradient.
// Needs: CHANNEL_BLOCKS, Layout, PIXELS, WIDTH, batch_blocks, batch_size, d_input_at, d_inputs, inverse_deviation,
//     normalized, passed_back, pixel_at, step.
override D_OUTPUT_EXAMPLE: u32; // the layout of d_outputs
override D_OUTPUT_FIRST: u32;
override D_OUTPUT_ROW: u32;
override D_OUTPUT_COLUMN: u32;

@group(0) @binding(3) var<storage, read> d_outputs: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> weights: array<vec4<f32>>; // [2, channels]: scales, shifts
@group(0) @binding(7) var<storage, read> d_weights: array<vec4<f32>>; // [2, channels]: their gradients

@compute @workgroup_size(64)
fn batch_norm_input_gradient(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let d_strides = Layout(PIXELS, WIDTH, D_OUTPUT_EXAMPLE, D_OUTPUT_FIRST, D_OUTPUT_ROW, D_OUTPUT_COLUMN);
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let pixels = f32(batch_size() * PIXELS);
        let along = normalized(pixel, block) * (d_weights[block] / pixels);
        let d_output = d_outputs[pixel_at(d_strides, pixel) + block];
        let centered = d_output - d_weights[CHANNEL_BLOCKS + block] / pixels - along;
        let d_input = weights[block] * inverse_deviation(block) * centered;
        let passed = passed_back(d_input, pixel, block);
        // Examples of the last block beyond the batch must not contribute to any weight gradient.
        d_inputs[d_input_at(pixel) + block] = select(vec4<f32>(0.0), passed, pixel < step.batch * PIXELS);
    }
}
