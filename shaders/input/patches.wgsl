// Inputs of a convolution: the window at each position, kernel row by kernel row, then the constant 1 of the bias. The
// padding is part of the tensor, in which a kernel row is contiguous: KERNEL_ROW_BLOCKS blocks.
//
// Provides: INPUT_BLOCKS, WINDOW_COLUMN, WINDOW_WIDTH, input, input_rows, load_window, window_at.
// Needs: Layout, pixel_at, pixels_at.
override INPUT_BLOCKS: u32; // blocks of 4 in a row of the matrix; the last holds the 1
override KERNEL_ROW_BLOCKS: u32;
override KERNEL_ROW: u32; // blocks of the tensor from a kernel row to the next
override KERNEL_COLUMN: u32; // blocks of the tensor from a block of a kernel row to the next
// The layout of the windows' starts, one pixel for each.
override WINDOW_PIXELS: u32;
override WINDOW_WIDTH: u32;
override WINDOW_EXAMPLE: u32;
override WINDOW_FIRST: u32;
override WINDOW_ROW: u32;
override WINDOW_COLUMN: u32;

@group(0) @binding(1) var<storage, read> tensor: array<vec4<f32>>;

fn windows() -> Layout {
    return Layout(WINDOW_PIXELS, WINDOW_WIDTH, WINDOW_EXAMPLE, WINDOW_FIRST, WINDOW_ROW, WINDOW_COLUMN);
}

// Starts of the four rows of a block.
fn input_rows(block: u32) -> vec4<u32> {
    return pixels_at(windows(), 4u * block + vec4<u32>(0u, 1u, 2u, 3u));
}

fn window_at(pixel: u32) -> u32 {
    return pixel_at(windows(), pixel);
}

fn load_window(at: u32) -> vec4<f32> {
    return tensor[at];
}

fn input(row: u32, block: u32) -> vec4<f32> {
    let is_one = block == INPUT_BLOCKS - 1u;
    let k = min(block, INPUT_BLOCKS - 2u);
    let values = load_window(row + k / KERNEL_ROW_BLOCKS * KERNEL_ROW + k % KERNEL_ROW_BLOCKS * KERNEL_COLUMN);
    return select(values, vec4<f32>(1.0, 0.0, 0.0, 0.0), is_one);
}
