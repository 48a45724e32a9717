// Gradient of max pooling, passed back through the activation that its inputs come from. Each pixel gathers the
// gradients of the windows in which it is the maximum, in order.
//
// Provides: max_pool_backward.
// Needs: CHANNEL_BLOCKS, PIXELS, PLACES_X, PLACES_Y, SIZE, STRIDE, WIDTH, batch_blocks, d_input_at, d_inputs,
//     largest_of_window, output_at, passed_back, window_at.
@group(0) @binding(3) var<storage, read> d_outputs: array<vec4<f32>>;

// First position along a side whose window covers a pixel.
fn first_place(at: u32) -> u32 {
    return select(0u, (max(at, SIZE) - SIZE) / STRIDE + 1u, at >= SIZE);
}

@compute @workgroup_size(64)
fn max_pool_backward(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let example = pixel / PIXELS;
        let y = pixel % PIXELS / WIDTH;
        let x = pixel % WIDTH;
        var d_input = vec4<f32>(0.0);
        for (var place_y = first_place(y); place_y <= min(y / STRIDE, PLACES_Y - 1u); place_y++) {
            for (var place_x = first_place(x); place_x <= min(x / STRIDE, PLACES_X - 1u); place_x++) {
                let place = (example * PLACES_Y + place_y) * PLACES_X + place_x;
                let tap = (y - place_y * STRIDE) * SIZE + x - place_x * STRIDE;
                let is_largest = largest_of_window(window_at(place) + block).taps == vec4<u32>(tap);
                d_input += select(vec4<f32>(0.0), d_outputs[output_at(place) + block], is_largest);
            }
        }
        d_inputs[d_input_at(pixel) + block] = passed_back(d_input, pixel, block);
    }
}
