// Single values of the examples of a batch; a feature is a float.
//
// Provides: value_of_example.
override INPUT_BLOCKS: u32; // blocks of 4 features in an example

@group(0) @binding(1) var<storage, read> examples: array<f32>; // [examples, 4 INPUT_BLOCKS]

fn value_of_example(example: u32, element: u32) -> f32 {
    return examples[example * 4u * INPUT_BLOCKS + element];
}
