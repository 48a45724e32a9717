// The uniforms of a dispatch, which describe its rows: the batch of a training step, or a chunk of an evaluation.
//
// Provides: batch_blocks, step.
struct Step {
    first_block: u32,   // start of the examples in the order, in blocks of 4
    batch: u32,         // number of examples
    first_row: u32,     // start of the results: losses, predictions, probabilities
    learning_rate: f32,
    weight: f32,        // total sample weight: without class weights the number of examples
    first_tile: u32,    // row of workgroups that this dispatch of a matrix product starts with
    moment_scales: vec2<f32>, // bias corrections of the moments, for AdamW
    key: u32,           // key of the random numbers of this step
    first_part: u32,    // part of the depth that this dispatch of a matrix product starts with
}

@group(0) @binding(0) var<uniform> step: Step;

// Matrices are stored in blocks of 4 x 4, with zeros beyond their edges.
fn batch_blocks() -> u32 {
    return (step.batch + 3u) / 4u;
}
