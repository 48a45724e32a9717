// The uniforms of a dispatch, which describe its rows: the batch of a training step, or a chunk of an evaluation.
//
// Provides: batch_blocks, batch_size, step.
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
    others: u32,        // number of examples in the other shards of the batch
    batch_row: u32,     // place in the batch of the first row
}

@group(0) @binding(0) var<uniform> step: Step;

// Number of examples of the batch, of which the rows may be a shard.
fn batch_size() -> u32 {
    return step.batch + step.others;
}

// Matrices are stored in blocks of 4 x 4, with zeros beyond their edges.
fn batch_blocks() -> u32 {
    return (step.batch + 3u) / 4u;
}
