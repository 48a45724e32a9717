// Forward pass of max pooling.
//
// Provides: max_pool.
// Needs: CHANNEL_BLOCKS, PLACES_X, PLACES_Y, batch_blocks, largest_of_window, output_at, window_at.
@group(0) @binding(4) var<storage, read_write> outputs: array<vec4<f32>>;

@compute @workgroup_size(64)
fn max_pool(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let count = 4u * batch_blocks() * PLACES_Y * PLACES_X * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let place = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        outputs[output_at(place) + block] = largest_of_window(window_at(place) + block).values;
    }
}
