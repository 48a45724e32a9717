// Copies the examples of a batch from the data set to the tensor that a layer reads, if they are augmented or the first
// layer is not linear. For a convolution over few channels, every value gets a block of its own, together with the next
// three values of its row of pixels (OVERLAPPING), so that a kernel row is contiguous in full blocks.
//
// Provides: gather_images.
// Needs: Source, batch_blocks, source_of_row, value_of.
override CHANNELS: u32;
override HEIGHT: u32;
override WIDTH: u32;
override OVERLAPPING: bool;
override BORDER: u32; // pixels around an image
override ONES: bool; // appends the constant 1 of the next layer's bias to the features
override TO_EXAMPLE: u32; // the layout of the tensor
override TO_FIRST: u32;
override TO_ROW: u32;
override TO_COLUMN: u32;

@group(0) @binding(4) var<storage, read_write> tensor: array<vec4<f32>>;

// Number of blocks written for a row of pixels.
fn blocks_of_row() -> u32 {
    return select(WIDTH * ((CHANNELS + 3u) / 4u), (WIDTH + 2u * BORDER) * CHANNELS, OVERLAPPING);
}

@compute @workgroup_size(64)
fn gather_images(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let pixel_blocks = (CHANNELS + 3u) / 4u;
    let count = 4u * batch_blocks() * HEIGHT * blocks_of_row();
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let row = index / (HEIGHT * blocks_of_row());
        let y = index / blocks_of_row() % HEIGHT;
        let block = index % blocks_of_row();
        let at = TO_FIRST + row * TO_EXAMPLE + y * TO_ROW;
        // The index of the block's first value in its row of pixels, and the end of the values that may be read. An
        // index before the row wraps around and is out of range.
        let first = select(block / pixel_blocks * CHANNELS + block % pixel_blocks * 4u, block - BORDER * CHANNELS, OVERLAPPING);
        let end = select((block / pixel_blocks + 1u) * CHANNELS, WIDTH * CHANNELS, OVERLAPPING);
        let source = source_of_row(row);
        var values = vec4<f32>(0.0);
        values.x = value_in_row(source, y, first, end);
        values.y = value_in_row(source, y, first + 1u, end);
        values.z = value_in_row(source, y, first + 2u, end);
        values.w = value_in_row(source, y, first + 3u, end);
        if ONES {
            values = select(values, vec4<f32>(1.0), 4u * block + vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(CHANNELS));
        }
        let to = select(block / pixel_blocks * TO_COLUMN + block % pixel_blocks, block, OVERLAPPING);
        tensor[at + to] = values;
    }
}

fn value_in_row(source: Source, y: u32, value: u32, end: u32) -> f32 {
    let element = y * WIDTH * CHANNELS + min(value, end - 1u);
    return select(0.0, value_of(source, element), value < end);
}
