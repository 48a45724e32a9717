// Values that an element-wise node reads, after its dropout.
//
// Provides: passed_on.
// Needs: Layout, PIXELS, WIDTH, pass_on, pixel_at.
override FROM_EXAMPLE: u32; // the layout of the tensor that is read: the inputs, or d_outputs
override FROM_FIRST: u32;
override FROM_ROW: u32;
override FROM_COLUMN: u32;

@group(0) @binding(1) var<storage, read> read_from: array<vec4<f32>>;

fn passed_on(pixel: u32, block: u32) -> vec4<f32> {
    let strides = Layout(PIXELS, WIDTH, FROM_EXAMPLE, FROM_FIRST, FROM_ROW, FROM_COLUMN);
    return pass_on(read_from[pixel_at(strides, pixel) + block], pixel, block);
}
