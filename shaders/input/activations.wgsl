// Inputs of a later layer: the activations of the layer before, followed by the constant 1 of the bias.
//
// Provides: INPUT_BLOCKS, input, input_rows.
override INPUT_BLOCKS: u32; // blocks of 4 features in a row

@group(0) @binding(1) var<storage, read> activations: array<vec4<f32>>; // [batch, INPUT_BLOCKS]

// Starts of the four rows of a block.
fn input_rows(block: u32) -> vec4<u32> {
    return (4u * block + vec4<u32>(0u, 1u, 2u, 3u)) * INPUT_BLOCKS;
}

fn input(row: u32, block: u32) -> vec4<f32> {
    return activations[row + block];
}
