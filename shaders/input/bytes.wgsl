// Single values of the examples of a batch; a feature is a byte.
//
// Provides: value_of_example.
override INPUT_BLOCKS: u32; // words of 4 features in an example

@group(0) @binding(1) var<storage, read> examples: array<u32>; // [examples, INPUT_BLOCKS]

fn value_of_example(example: u32, element: u32) -> f32 {
    return unpack4x8unorm(examples[example * INPUT_BLOCKS + element / 4u] >> (8u * (element % 4u))).x;
}
