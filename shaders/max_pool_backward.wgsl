// Gradient of max pooling, passed back through the activation that its inputs come from.
//
// Provides: max_pool_backward, max_pool_backward_apart.
// Needs: ACTIVATION_COLUMN, ACTIVATION_ROW, CHANNEL_BLOCKS, D_INPUT_COLUMN, D_INPUT_ROW, PIXELS, PLACES_X, PLACES_Y, SIZE,
//     STRIDE, WIDTH, activate_backward, activation_at, activations, batch_blocks, d_input_at, d_inputs,
//     largest_of_window, output_at, passed_back, window_at.
override OUTPUTS_OF_ACTIVATION: bool; // the activations are the inputs

@group(0) @binding(3) var<storage, read> d_outputs: array<vec4<f32>>;

// Each pixel gathers the gradients of the windows in which it is the maximum, in order.
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

// First position along a side whose window covers a pixel.
fn first_place(at: u32) -> u32 {
    return select(0u, (max(at, SIZE) - SIZE) / STRIDE + 1u, at >= SIZE);
}

// The same where no windows overlap: the pixels fall into cells of STRIDE by STRIDE, in whose corner lies the window, if
// it is not cut off by the edge of the image. A window is read once, not once for each of its pixels.
@compute @workgroup_size(64)
fn max_pool_backward_apart(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let height = PIXELS / WIDTH;
    let cells_y = (height + STRIDE - 1u) / STRIDE;
    let cells_x = (WIDTH + STRIDE - 1u) / STRIDE;
    let count = 4u * batch_blocks() * cells_y * cells_x * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let block = index % CHANNEL_BLOCKS;
        let cell_x = index / CHANNEL_BLOCKS % cells_x;
        let cell_y = index / (CHANNEL_BLOCKS * cells_x) % cells_y;
        let example = index / (CHANNEL_BLOCKS * cells_x * cells_y);
        // Cells without a window read another one, and ignore it.
        let place_y = min(cell_y, PLACES_Y - 1u);
        let place_x = min(cell_x, PLACES_X - 1u);
        let has_window = cell_y < PLACES_Y && cell_x < PLACES_X;
        let place = (example * PLACES_Y + place_y) * PLACES_X + place_x;
        let largest = largest_of_window(window_at(place) + block);
        let d_output = select(vec4<f32>(0.0), d_outputs[output_at(place) + block], has_window);
        let pixel = (example * height + cell_y * STRIDE) * WIDTH + cell_x * STRIDE;
        let destination = d_input_at(pixel) + block;
        let source = activation_at(pixel) + block;
        let d_largest = activate_backward(d_output, largest.values);
        // Loops of a constant length can be unrolled.
        var rows = STRIDE;
        var columns = STRIDE;
        if height % STRIDE != 0u { rows = min(STRIDE, height - cell_y * STRIDE); }
        if WIDTH % STRIDE != 0u { columns = min(STRIDE, WIDTH - cell_x * STRIDE); }
        for (var y = 0u; y < rows; y++) {
            for (var x = 0u; x < columns; x++) {
                let is_covered = x < SIZE && y < SIZE;
                let is_largest = (largest.taps == vec4<u32>(y * SIZE + x)) & vec4<bool>(is_covered);
                var d_input = select(vec4<f32>(0.0), d_largest, is_largest);
                if !OUTPUTS_OF_ACTIVATION {
                    let activation = activations[source + y * ACTIVATION_ROW + x * ACTIVATION_COLUMN];
                    d_input = activate_backward(select(vec4<f32>(0.0), d_output, is_largest), activation);
                }
                d_inputs[destination + y * D_INPUT_ROW + x * D_INPUT_COLUMN] = d_input;
            }
        }
    }
}
