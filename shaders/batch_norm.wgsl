// Batch normalisation of each channel, x -> activate(scale (x - mean) / sqrt(variance + EPSILON) + shift), with the
// statistics of the batch in training and the running ones in evaluation.
//
// Provides: batch_norm.
// Needs: CHANNEL_BLOCKS, Layout, PIXELS, WIDTH, activate, batch_blocks, normalized, only_channels, pixel_at.
override OUTPUT_EXAMPLE: u32; // the layout of the outputs
override OUTPUT_FIRST: u32;
override OUTPUT_ROW: u32;
override OUTPUT_COLUMN: u32;

@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>; // [2, CHANNELS]: scales, shifts
@group(0) @binding(4) var<storage, read_write> outputs: array<vec4<f32>>;

@compute @workgroup_size(64)
fn batch_norm(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let strides = Layout(PIXELS, WIDTH, OUTPUT_EXAMPLE, OUTPUT_FIRST, OUTPUT_ROW, OUTPUT_COLUMN);
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let at = pixel_at(strides, pixel) + block;
        let sums = weights[block] * normalized(pixel, block) + weights[CHANNEL_BLOCKS + block];
        outputs[at] = only_channels(block, activate(sums, at));
    }
}
