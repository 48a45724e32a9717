// The part of the data that one dispatch works on: the batch of a training step, or a chunk of an evaluation.
struct Step {
    first_block: u32,   // where its examples start in the order, in blocks of 4
    batch: u32,         // examples in it
    first_row: u32,     // where its results start: losses, predictions, probabilities
    learning_rate: f32,
    weight: f32,        // sum of the weights of its labels' classes; without class weights as many as examples
    first_tile: u32,    // row of workgroups that this dispatch of a matrix product starts with
    moment_scales: vec2<f32>, // what AdamW corrects the bias of its moments with
    key: u32,           // of the random numbers of this step
    first_part: u32,    // part of the depth that this dispatch of a matrix product starts with
}

@group(0) @binding(0) var<uniform> step: Step;

// Matrices are kept in blocks of 4 x 4, with zeros beyond their edge.
fn batch_blocks() -> u32 {
    return (step.batch + 3u) / 4u;
}
