// The gradient of a node's inputs, passed back through the activation that they come from.
//
// Provides: ACTIVATION_COLUMN, ACTIVATION_ROW, D_INPUT_COLUMN, D_INPUT_ROW, activation_at, activations, d_input_at, d_inputs,
//     passed_back.
// Needs: Layout, PIXELS, WIDTH, activate_backward, pixel_at.
override ACTIVATION_EXAMPLE: u32; // the layout of the activations: the inputs, or gelu's z
override ACTIVATION_FIRST: u32;
override ACTIVATION_ROW: u32;
override ACTIVATION_COLUMN: u32;
override D_INPUT_EXAMPLE: u32; // the layout of d_inputs
override D_INPUT_FIRST: u32;
override D_INPUT_ROW: u32;
override D_INPUT_COLUMN: u32;

@group(0) @binding(4) var<storage, read_write> d_inputs: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> activations: array<vec4<f32>>;

// Gradient of the activation's input at a pixel, from the gradient of its output.
fn passed_back(d_output: vec4<f32>, pixel: u32, block: u32) -> vec4<f32> {
    return activate_backward(d_output, activations[activation_at(pixel) + block]);
}

fn activation_at(pixel: u32) -> u32 {
    let strides = Layout(PIXELS, WIDTH, ACTIVATION_EXAMPLE, ACTIVATION_FIRST, ACTIVATION_ROW, ACTIVATION_COLUMN);
    return pixel_at(strides, pixel);
}

fn d_input_at(pixel: u32) -> u32 {
    return pixel_at(Layout(PIXELS, WIDTH, D_INPUT_EXAMPLE, D_INPUT_FIRST, D_INPUT_ROW, D_INPUT_COLUMN), pixel);
}
