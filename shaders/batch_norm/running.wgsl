// The statistics of a batch in training, and the running ones that they become a share of.
//
// Provides: keep_statistics, running, statistics.
// Needs: CHANNEL_BLOCKS.
override MOMENTUM: f32; // share of the newest batch in the running statistics

@group(0) @binding(4) var<storage, read_write> statistics: array<vec4<f32>>; // [2, channels]: means, variances
@group(0) @binding(5) var<storage, read_write> running: array<vec4<f32>>; // [2, channels]: running means, variances

// Stores the statistics of four channels of `count` pixels, from their means and the sums of squares around these.
fn keep_statistics(block: u32, mean: vec4<f32>, squares: vec4<f32>, count: f32) {
    statistics[block] = mean;
    statistics[CHANNEL_BLOCKS + block] = squares / count;
    // The running variance is the unbiased estimate, divided by n - 1.
    let unbiased = squares / max(count - 1.0, 1.0);
    running[block] = (1.0 - MOMENTUM) * running[block] + MOMENTUM * mean;
    let variance = running[CHANNEL_BLOCKS + block];
    running[CHANNEL_BLOCKS + block] = (1.0 - MOMENTUM) * variance + MOMENTUM * unbiased;
}
