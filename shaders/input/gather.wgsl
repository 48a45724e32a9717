// Inputs of the first layer: the examples of a batch, gathered from the data set in the order of order.wgsl. A feature
// is a byte; after the last feature follow 255, the constant 1 of the bias, and zeros.
//
// Provides: INPUT_BLOCKS, input, input_rows.
// Needs: order, step.
override INPUT_BLOCKS: u32; // words of 4 features in an example

@group(0) @binding(1) var<storage, read> examples: array<u32>; // [examples, INPUT_BLOCKS]

// Starts of the four rows of a block.
fn input_rows(block: u32) -> vec4<u32> {
    return order[step.first_block + block] * INPUT_BLOCKS;
}

fn input(row: u32, block: u32) -> vec4<f32> {
    return unpack4x8unorm(examples[row + block]);
}
