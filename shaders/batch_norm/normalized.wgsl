// Inputs of a batch normalisation, and their normalisation without scale and shift.
override CHANNEL_BLOCKS: u32;
override PIXELS: u32; // pixels of an example
override WIDTH: u32;
override EPSILON: f32;
override INPUT_EXAMPLE: u32; // the layout of the inputs
override INPUT_FIRST: u32;
override INPUT_ROW: u32;
override INPUT_COLUMN: u32;

@group(0) @binding(1) var<storage, read> inputs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> statistics: array<vec4<f32>>; // [2, channels]: means, variances

fn input_at(pixel: u32) -> u32 {
    return pixel_at(Layout(PIXELS, WIDTH, INPUT_EXAMPLE, INPUT_FIRST, INPUT_ROW, INPUT_COLUMN), pixel);
}

// 1 / sqrt(variance + EPSILON) of four channels.
fn inverse_deviation(block: u32) -> vec4<f32> {
    return 1.0 / sqrt(statistics[CHANNEL_BLOCKS + block] + EPSILON);
}

fn normalized(pixel: u32, block: u32) -> vec4<f32> {
    return (inputs[input_at(pixel) + block] - statistics[block]) * inverse_deviation(block);
}
