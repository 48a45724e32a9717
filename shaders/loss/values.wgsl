// Real targets of mean_squared_error.wgsl.
//
// Provides: block_targets.
// Needs: OUTPUT_BLOCKS.
@group(0) @binding(6) var<storage, read> values: array<vec4<f32>>; // [examples, OUTPUT_BLOCKS]

fn block_targets(block: u32, example: u32) -> vec4<f32> {
    return values[example * OUTPUT_BLOCKS + block];
}
