// Inputs of a batch normalisation.
//
// Provides: input_at, inputs.
// Needs: Layout, PIXELS, WIDTH, pixel_at.
override INPUT_EXAMPLE: u32; // the layout of the inputs
override INPUT_FIRST: u32;
override INPUT_ROW: u32;
override INPUT_COLUMN: u32;

@group(0) @binding(1) var<storage, read> inputs: array<vec4<f32>>;

fn input_at(pixel: u32) -> u32 {
    return pixel_at(Layout(PIXELS, WIDTH, INPUT_EXAMPLE, INPUT_FIRST, INPUT_ROW, INPUT_COLUMN), pixel);
}
