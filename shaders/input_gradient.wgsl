// Backward to a layer's inputs, and on through the activation they come from:
// d_inputs = activate_backward(d_outputs . weights^T), a product A . B^T.
override INPUTS: u32;
override INPUT_BLOCKS: u32; // blocks of 4 in a row of the activations
override OUTPUT_BLOCKS: u32; // blocks of 4 in a row of d_outputs

@group(0) @binding(1) var<storage, read> activations: array<vec4<f32>>; // [batch, INPUTS + 1]; gelu's z
@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>; // [INPUTS + 1, outputs]
@group(0) @binding(4) var<storage, read> d_outputs: array<vec4<f32>>; // [batch, outputs]
@group(0) @binding(5) var<storage, read_write> d_inputs: array<vec4<f32>>; // [batch, INPUTS]

fn row_blocks() -> u32 {
    return batch_blocks();
}

fn column_blocks() -> u32 {
    return (INPUTS + 3u) / 4u;
}

fn depth_blocks() -> u32 {
    return OUTPUT_BLOCKS;
}

fn locate_a(row_block: u32) -> vec4<u32> {
    return (4u * row_block + vec4<u32>(0u, 1u, 2u, 3u)) * OUTPUT_BLOCKS;
}

fn load_a(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(d_outputs[at.x + k], d_outputs[at.y + k], d_outputs[at.z + k], d_outputs[at.w + k]);
}

fn locate_b(column_block: u32) -> vec4<u32> {
    return (4u * column_block + vec4<u32>(0u, 1u, 2u, 3u)) * OUTPUT_BLOCKS;
}

fn load_b(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(weights[at.x + k], weights[at.y + k], weights[at.z + k], weights[at.w + k]));
}

fn store(row_block: u32, column_block: u32, sums: mat4x4<f32>) {
    store_row(4u * row_block, column_block, sums[0]);
    store_row(4u * row_block + 1u, column_block, sums[1]);
    store_row(4u * row_block + 2u, column_block, sums[2]);
    store_row(4u * row_block + 3u, column_block, sums[3]);
}

fn store_row(row: u32, column_block: u32, sums: vec4<f32>) {
    // The constant 1 is no input: its column gets no gradient.
    let is_input = 4u * column_block + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(INPUTS);
    let d_input = activate_backward(sums, activations[row * INPUT_BLOCKS + column_block]);
    d_inputs[row * column_blocks() + column_block] = select(vec4<f32>(0.0), d_input, is_input);
}
