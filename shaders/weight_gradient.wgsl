// Gradient of a layer's weights, and their update: d_weights = inputs^T . d_outputs, a product A^T . B, whose epilogue
// is a part of optimizer/: the update, or store_gradient.wgsl for clipping. The inputs' constant 1 makes the last row
// the bias gradient, the column sums of d_outputs.
//
// The product of a convolution is deep and narrow, because its depth is all pixels of the batch. So PARTS groups of
// workgroups each compute a part of the depth and store partial sums, for sum_parts.wgsl.
//
// Provides: D_OUTPUT_COLUMN, column_blocks, d_output_at, d_outputs, depth_blocks, depth_rows, load_a, load_b,
//     locate_a, locate_b, row_blocks, store.
// Needs: INPUT_BLOCKS, Layout, batch_blocks, input, input_rows, pixel_at, pixels_at, step, update.
override OUTPUT_BLOCKS: u32; // blocks of 4 in a row of the weights
override PARTS: u32;
// The layout of d_outputs.
override D_OUTPUT_PIXELS: u32;
override D_OUTPUT_WIDTH: u32;
override D_OUTPUT_EXAMPLE: u32;
override D_OUTPUT_FIRST: u32;
override D_OUTPUT_ROW: u32;
override D_OUTPUT_COLUMN: u32;

@group(0) @binding(4) var<storage, read> d_outputs: array<vec4<f32>>; // [batch, outputs]

fn row_blocks() -> u32 {
    return INPUT_BLOCKS;
}

fn column_blocks() -> u32 {
    return OUTPUT_BLOCKS;
}

fn depth_blocks(part: u32) -> vec2<u32> {
    return part_of(batch_blocks() * D_OUTPUT_PIXELS, part);
}

// The same in rows of pixels.
fn depth_rows(part: u32) -> vec2<u32> {
    return part_of(4u * batch_blocks() * (D_OUTPUT_PIXELS / D_OUTPUT_WIDTH), part);
}

fn part_of(depth: u32, part: u32) -> vec2<u32> {
    if PARTS == 1u {
        return vec2<u32>(0u, depth);
    }
    let size = (depth + PARTS - 1u) / PARTS;
    return min((step.first_part + vec2<u32>(part, part + 1u)) * size, vec2<u32>(depth));
}

fn locate_a(row_block: u32) -> vec4<u32> {
    return vec4<u32>(row_block);
}

fn load_a(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = input_rows(k);
    return transpose(mat4x4<f32>(input(row.x, at.x), input(row.y, at.y), input(row.z, at.z), input(row.w, at.w)));
}

fn locate_b(column_block: u32) -> vec4<u32> {
    return vec4<u32>(column_block);
}

fn d_strides() -> Layout {
    return Layout(
        D_OUTPUT_PIXELS, D_OUTPUT_WIDTH, D_OUTPUT_EXAMPLE, D_OUTPUT_FIRST, D_OUTPUT_ROW, D_OUTPUT_COLUMN,
    );
}

fn d_output_at(pixel: u32) -> u32 {
    return pixel_at(d_strides(), pixel);
}

fn load_b(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = at + pixels_at(d_strides(), 4u * k + vec4<u32>(0u, 1u, 2u, 3u));
    return mat4x4<f32>(d_outputs[row.x], d_outputs[row.y], d_outputs[row.z], d_outputs[row.w]);
}

fn store(part: u32, row_block: u32, column_block: u32, sums: mat4x4<f32>) {
    var at = 4u * row_block * OUTPUT_BLOCKS + column_block;
    if PARTS > 1u {
        at += (step.first_part + part) * 4u * INPUT_BLOCKS * OUTPUT_BLOCKS;
    }
    update(at, sums[0]);
    update(at + OUTPUT_BLOCKS, sums[1]);
    update(at + 2u * OUTPUT_BLOCKS, sums[2]);
    update(at + 3u * OUTPUT_BLOCKS, sums[3]);
}
