// Outputs of a layer; those of the last one are the logits. Rows are padded to blocks of 4.
//
// Provides: OUTPUTS, OUTPUT_BLOCKS, output_numbers, outputs.
override OUTPUTS: u32;
override OUTPUT_BLOCKS: u32; // blocks in a row

@group(0) @binding(4) var<storage, read_write> outputs: array<vec4<f32>>; // [batch, OUTPUT_BLOCKS]

// The four output numbers of a block.
fn output_numbers(block: u32) -> vec4<u32> {
    return 4u * block + vec4<u32>(0u, 1u, 2u, 3u);
}
