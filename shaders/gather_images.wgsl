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
    // Blocks that overlap are written four at a time, which have seven values.
    let turns = select(blocks_of_row(), (blocks_of_row() + 3u) / 4u, OVERLAPPING);
    let count = 4u * batch_blocks() * HEIGHT * turns;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let row = index / (HEIGHT * turns);
        let y = index / turns % HEIGHT;
        let turn = index % turns;
        let at = TO_FIRST + row * TO_EXAMPLE + y * TO_ROW;
        let source = source_of_row(row);
        if OVERLAPPING {
            // An index before the row wraps around and is out of range.
            let first = 4u * turn - BORDER * CHANNELS;
            let values = values_in_row(source, y, first, WIDTH * CHANNELS);
            let more = values_in_row(source, y, first + 4u, WIDTH * CHANNELS);
            let rest = blocks_of_row() - 4u * turn;
            tensor[at + 4u * turn] = values;
            if rest > 1u { tensor[at + 4u * turn + 1u] = vec4<f32>(values.yzw, more.x); }
            if rest > 2u { tensor[at + 4u * turn + 2u] = vec4<f32>(values.zw, more.xy); }
            if rest > 3u { tensor[at + 4u * turn + 3u] = vec4<f32>(values.w, more.xyz); }
        } else {
            let pixel_blocks = (CHANNELS + 3u) / 4u;
            let pixel = turn / pixel_blocks;
            let block = turn % pixel_blocks;
            var values = values_in_row(source, y, pixel * CHANNELS + 4u * block, (pixel + 1u) * CHANNELS);
            if ONES {
                values = select(values, vec4<f32>(1.0), 4u * turn + vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(CHANNELS));
            }
            tensor[at + pixel * TO_COLUMN + block] = values;
        }
    }
}

// Four values of a row of pixels from the first one on, with zeros from the end on.
fn values_in_row(source: Source, y: u32, first: u32, end: u32) -> vec4<f32> {
    return vec4<f32>(
        value_in_row(source, y, first, end),
        value_in_row(source, y, first + 1u, end),
        value_in_row(source, y, first + 2u, end),
        value_in_row(source, y, first + 3u, end),
    );
}

fn value_in_row(source: Source, y: u32, value: u32, end: u32) -> f32 {
    let element = y * WIDTH * CHANNELS + min(value, end - 1u);
    return select(0.0, value_of(source, element), value < end);
}
