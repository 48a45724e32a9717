// Inputs of the first layer, as in gather.wgsl, for features that are floats. After the last feature follow 1, the
// constant of the bias, and zeros.
//
// Provides: INPUT_BLOCKS, input, input_rows.
// Needs: order, step.
override INPUT_BLOCKS: u32; // blocks of 4 features in an example

@group(0) @binding(1) var<storage, read> examples: array<vec4<f32>>; // [examples, INPUT_BLOCKS]

// Starts of the four rows of a block.
fn input_rows(block: u32) -> vec4<u32> {
    return order[step.first_block + block] * INPUT_BLOCKS;
}

fn input(row: u32, block: u32) -> vec4<f32> {
    return examples[row + block];
}
