// Gradient of max pooling, passed back through the activation that its inputs come from. Each pixel gathers the
// gradients of the windows in which it is the maximum, in order.
override ACTIVATION_EXAMPLE: u32; // the layout of the activations: the inputs, or gelu's z
override ACTIVATION_FIRST: u32;
override ACTIVATION_ROW: u32;
override ACTIVATION_COLUMN: u32;
override D_INPUT_EXAMPLE: u32; // the layout of d_inputs
override D_INPUT_FIRST: u32;
override D_INPUT_ROW: u32;
override D_INPUT_COLUMN: u32;

@group(0) @binding(3) var<storage, read> d_outputs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> d_inputs: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> activations: array<vec4<f32>>;

// First position along a side whose window covers a pixel.
fn first_place(at: u32) -> u32 {
    return select(0u, (max(at, SIZE) - SIZE) / STRIDE + 1u, at >= SIZE);
}

@compute @workgroup_size(64)
fn max_pool_backward(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let strides = Layout(
        HEIGHT * WIDTH, WIDTH, ACTIVATION_EXAMPLE, ACTIVATION_FIRST, ACTIVATION_ROW, ACTIVATION_COLUMN,
    );
    let d_strides = Layout(HEIGHT * WIDTH, WIDTH, D_INPUT_EXAMPLE, D_INPUT_FIRST, D_INPUT_ROW, D_INPUT_COLUMN);
    let count = 4u * batch_blocks() * HEIGHT * WIDTH * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let example = pixel / (HEIGHT * WIDTH);
        let y = pixel % (HEIGHT * WIDTH) / WIDTH;
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
        let activation = activations[pixel_at(strides, pixel) + block];
        d_inputs[pixel_at(d_strides, pixel) + block] = activate_backward(d_input, activation);
    }
}
