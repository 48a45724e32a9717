// Forward pass of a linear layer or a convolution: outputs = activate(inputs . weights), a product A . B. The bias is
// the last row of the weights. A row of A is an example or, for a convolution, the window at one position.
//
// Provides: b_of_weights, column_blocks, depth_blocks, initial, load_a, load_b, locate_a, locate_b, locate_pixel,
//     row_blocks, store, store_pixel, weights, weights_offset.
// Needs: INPUT_BLOCKS, Layout, OUTPUTS, OUTPUT_BLOCKS, activate, batch_blocks, input, input_rows, output_numbers,
//     outputs, pixel_at.
override ONES: bool; // appends the constant 1 of the next layer's bias to the outputs
// The layout of the outputs; OUTPUT_BLOCKS is the distance between two examples.
override OUTPUT_PIXELS: u32;
override OUTPUT_WIDTH: u32;
override OUTPUT_FIRST: u32;
override OUTPUT_ROW: u32;
override OUTPUT_COLUMN: u32;

@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>; // [inputs + 1, OUTPUTS]

fn row_blocks() -> u32 {
    return batch_blocks() * OUTPUT_PIXELS;
}

fn column_blocks() -> u32 {
    return (OUTPUTS + 3u) / 4u;
}

fn depth_blocks(part: u32) -> vec2<u32> {
    return vec2<u32>(0u, INPUT_BLOCKS);
}

fn locate_a(row_block: u32) -> vec4<u32> {
    return input_rows(row_block);
}

fn load_a(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(input(at.x, k), input(at.y, k), input(at.z, k), input(at.w, k));
}

fn locate_b(column_block: u32) -> vec4<u32> {
    return vec4<u32>(0u, 1u, 2u, 3u) * column_blocks() + column_block;
}

fn load_b(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = at + weights_offset(k);
    return mat4x4<f32>(weights[row.x], weights[row.y], weights[row.z], weights[row.w]);
}

fn weights_offset(k: u32) -> u32 {
    return 4u * k * column_blocks();
}

fn b_of_weights(rows: mat4x4<f32>) -> mat4x4<f32> {
    return rows;
}

// The bias.
fn initial(column_block: u32) -> vec4<f32> {
    return weights[weights_offset(INPUT_BLOCKS - 1u) + column_block];
}

fn store(part: u32, row_block: u32, column_block: u32, sums: mat4x4<f32>) {
    store_row(4u * row_block, column_block, sums[0]);
    store_row(4u * row_block + 1u, column_block, sums[1]);
    store_row(4u * row_block + 2u, column_block, sums[2]);
    store_row(4u * row_block + 3u, column_block, sums[3]);
}

fn store_row(row: u32, column_block: u32, sums: vec4<f32>) {
    store_pixel(locate_pixel(row), 0u, column_block, sums);
}

// Start of a pixel in the outputs.
fn locate_pixel(pixel: u32) -> vec2<u32> {
    let strides = Layout(OUTPUT_PIXELS, OUTPUT_WIDTH, OUTPUT_BLOCKS, OUTPUT_FIRST, OUTPUT_ROW, OUTPUT_COLUMN);
    return vec2<u32>(pixel_at(strides, pixel), 0u);
}

// Stores a block of the i-th pixel after the one that starts there, in the same row of pixels.
fn store_pixel(start: vec2<u32>, i: u32, column_block: u32, sums: vec4<f32>) {
    let at = start.x + i * OUTPUT_COLUMN + column_block;
    // Zeros after the outputs, which no activation may change, with the constant 1 first if ONES is set.
    let numbers = output_numbers(column_block);
    let one = vec4<bool>(ONES) & (numbers == vec4<u32>(OUTPUTS));
    let rest = select(vec4<f32>(0.0), vec4<f32>(1.0), one);
    let output = select(rest, activate(sums, at), numbers < vec4<u32>(OUTPUTS));
    outputs[at] = output;
}
