// Gradient of a layer's inputs, passed back through the activation that they come from: d_inputs =
// activate_backward(d_outputs . weights^T), a product A . B^T.
//
// For a convolution, a row of A is a pixel of the input: d_outputs at the positions whose windows cover it, kernel row
// by kernel row from the last to the first. d_outputs has zeros between its positions, so that they are one pixel
// apart, and around them.
//
// Provides: WINDOW_COLUMN, WINDOW_WIDTH, b_of_weights, column_blocks, depth_blocks, initial, load_a, load_b,
//     load_window, locate_a, locate_b, locate_pixel, row_blocks, store, store_pixel, weights, weights_offset,
//     window_at.
// Needs: Layout, activate_backward, batch_blocks, pixel_at, pixels_at.
override INPUTS: u32; // number of features, or channels of an image
override INPUT_BLOCKS: u32; // blocks of 4 from an example to the next in the activations
override OUTPUT_BLOCKS: u32; // blocks of 4 in a row of d_outputs and of the weights
override KERNEL: u32; // kernel size; 1 for a linear layer
// Start and strides of a row of A, by the pixels of the input.
override WINDOW_PIXELS: u32;
override WINDOW_WIDTH: u32;
override WINDOW_EXAMPLE: u32;
override WINDOW_FIRST: u32;
override WINDOW_ROW: u32;
override WINDOW_COLUMN: u32;
// The layouts of the activations and of d_inputs. A linear layer reads all pixels of an image as its features.
override IMAGE_PIXELS: u32;
override IMAGE_WIDTH: u32;
override IMAGE_BLOCKS: u32; // blocks of a pixel
override INPUT_FIRST: u32;
override INPUT_ROW: u32;
override INPUT_COLUMN: u32;
override D_INPUT_EXAMPLE: u32;
override D_INPUT_FIRST: u32;
override D_INPUT_ROW: u32;
override D_INPUT_COLUMN: u32;

@group(0) @binding(1) var<storage, read> activations: array<vec4<f32>>; // the inputs, or gelu's z
@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(4) var<storage, read> d_outputs: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> d_inputs: array<vec4<f32>>;

fn row_blocks() -> u32 {
    return batch_blocks() * WINDOW_PIXELS;
}

fn column_blocks() -> u32 {
    return IMAGE_BLOCKS * (IMAGE_PIXELS / WINDOW_PIXELS);
}

fn depth_blocks(part: u32) -> vec2<u32> {
    return vec2<u32>(0u, KERNEL * KERNEL * OUTPUT_BLOCKS);
}

fn windows() -> Layout {
    return Layout(WINDOW_PIXELS, WINDOW_WIDTH, WINDOW_EXAMPLE, WINDOW_FIRST, WINDOW_ROW, WINDOW_COLUMN);
}

fn locate_a(row_block: u32) -> vec4<u32> {
    return pixels_at(windows(), 4u * row_block + vec4<u32>(0u, 1u, 2u, 3u));
}

fn window_at(pixel: u32) -> u32 {
    return pixel_at(windows(), pixel);
}

fn load_window(at: u32) -> vec4<f32> {
    return d_outputs[at];
}

fn initial(column_block: u32) -> vec4<f32> {
    return vec4<f32>(0.0);
}

fn load_a(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = at + kernel_offset(k);
    return mat4x4<f32>(d_outputs[row.x], d_outputs[row.y], d_outputs[row.z], d_outputs[row.w]);
}

fn kernel_offset(k: u32) -> u32 {
    if KERNEL == 1u {
        return k;
    }
    let tap = k / OUTPUT_BLOCKS;
    return tap / KERNEL * WINDOW_ROW + tap % KERNEL * WINDOW_COLUMN + k % OUTPUT_BLOCKS;
}

fn locate_b(column_block: u32) -> vec4<u32> {
    return (4u * column_block + vec4<u32>(0u, 1u, 2u, 3u)) * OUTPUT_BLOCKS;
}

fn load_b(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = at + weights_offset(k);
    return b_of_weights(mat4x4<f32>(weights[row.x], weights[row.y], weights[row.z], weights[row.w]));
}

fn b_of_weights(rows: mat4x4<f32>) -> mat4x4<f32> {
    return transpose(rows);
}

fn weights_offset(k: u32) -> u32 {
    if KERNEL == 1u {
        return k;
    }
    let tap = KERNEL * KERNEL - 1u - k / OUTPUT_BLOCKS;
    return tap * 4u * IMAGE_BLOCKS * OUTPUT_BLOCKS + k % OUTPUT_BLOCKS;
}

fn store(part: u32, row_block: u32, column_block: u32, sums: mat4x4<f32>) {
    store_row(4u * row_block, column_block, sums[0]);
    store_row(4u * row_block + 1u, column_block, sums[1]);
    store_row(4u * row_block + 2u, column_block, sums[2]);
    store_row(4u * row_block + 3u, column_block, sums[3]);
}

fn store_row(row: u32, column_block: u32, sums: vec4<f32>) {
    let pixel = row * (IMAGE_PIXELS / WINDOW_PIXELS) + column_block / IMAGE_BLOCKS;
    store_pixel(locate_pixel(pixel), 0u, column_block % IMAGE_BLOCKS, sums);
}

// Starts of a pixel in d_inputs and in the activations.
fn locate_pixel(pixel: u32) -> vec2<u32> {
    let d_strides = Layout(IMAGE_PIXELS, IMAGE_WIDTH, D_INPUT_EXAMPLE, D_INPUT_FIRST, D_INPUT_ROW, D_INPUT_COLUMN);
    let strides = Layout(IMAGE_PIXELS, IMAGE_WIDTH, INPUT_BLOCKS, INPUT_FIRST, INPUT_ROW, INPUT_COLUMN);
    return vec2<u32>(pixel_at(d_strides, pixel), pixel_at(strides, pixel));
}

// Stores a block of the i-th pixel after the one that starts there, in the same row of pixels.
fn store_pixel(start: vec2<u32>, i: u32, block: u32, sums: vec4<f32>) {
    // The constant 1 is not an input: its column gets no gradient.
    let is_input = 4u * block + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(INPUTS);
    let d_input = activate_backward(sums, activations[start.y + i * INPUT_COLUMN + block]);
    d_inputs[start.x + i * D_INPUT_COLUMN + block] = select(vec4<f32>(0.0), d_input, is_input);
}
