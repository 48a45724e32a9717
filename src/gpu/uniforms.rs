//! The uniforms of a step: what changes from step to step and every kernel may read.

use bytemuck::{Pod, Zeroable};

/// `Step` of `shaders/step.wgsl`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct StepUniforms {
    /// Start of the batch in the shuffled indices, in blocks of 4.
    pub first_block: u32,
    /// Examples in it.
    pub batch: u32,
    /// Start of the results: losses, predictions.
    pub first_row: u32,
    /// Learning rate of its update.
    pub learning_rate: f32,
    /// Sum of the weights of its labels' classes; without class weights as many as there are examples.
    pub weight: f32,
    /// Row of workgroups that a dispatch of a matrix product starts with; 0 but where a product is split.
    pub first_tile: u32,
    /// Bias corrections of AdamW's moments: [`AdamW::moment_scales`](crate::optimizer::AdamW::moment_scales).
    pub moment_scales: [f32; 2],
    /// Key of its random numbers: [`step_key`](crate::random::step_key).
    pub key: u32,
    /// Part of the depth that a dispatch of a matrix product starts with; 0 but where a product is split.
    pub first_part: u32,
    /// Number of examples in the other shards of the batch; 0 for a whole batch.
    pub others: u32,
    /// Place in the batch of the first example.
    pub batch_row: u32,
}
