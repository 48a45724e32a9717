// Backward to a layer's weights, and their update: d_weights = inputs^T . d_outputs, a product A^T . B, given to
// sgd.wgsl or adamw.wgsl as it is computed, or to store_gradient.wgsl where it is to be clipped. The inputs' constant
// 1 makes its last row the bias gradient, the column sums of d_outputs.
override OUTPUT_BLOCKS: u32; // blocks of 4 in a row of d_outputs and of the weights

@group(0) @binding(4) var<storage, read> d_outputs: array<vec4<f32>>; // [batch, outputs]

fn row_blocks() -> u32 {
    return INPUT_BLOCKS;
}

fn column_blocks() -> u32 {
    return OUTPUT_BLOCKS;
}

fn depth_blocks() -> u32 {
    return batch_blocks();
}

fn locate_a(row_block: u32) -> vec4<u32> {
    return vec4<u32>(row_block);
}

fn load_a(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = input_rows(k);
    return transpose(mat4x4<f32>(input(row.x, at.x), input(row.y, at.y), input(row.z, at.z), input(row.w, at.w)));
}

fn locate_b(column_block: u32) -> vec4<u32> {
    return vec4<u32>(0u, 1u, 2u, 3u) * OUTPUT_BLOCKS + column_block;
}

fn load_b(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    let row = at + 4u * k * OUTPUT_BLOCKS;
    return mat4x4<f32>(d_outputs[row.x], d_outputs[row.y], d_outputs[row.z], d_outputs[row.w]);
}

fn store(row_block: u32, column_block: u32, sums: mat4x4<f32>) {
    let at = 4u * row_block * OUTPUT_BLOCKS + column_block;
    update(at, sums[0]);
    update(at + OUTPUT_BLOCKS, sums[1]);
    update(at + 2u * OUTPUT_BLOCKS, sums[2]);
    update(at + 3u * OUTPUT_BLOCKS, sums[3]);
}
